//! Sizes as they are typed: powers of 1024, any case. How they are shown is the engine's.

pub(crate) use keyhaul_engine::amount::{bytes_text as show, count_text as show_count};

const UNITS: [(&str, u32); 14] = [
    ("", 0),
    ("b", 0),
    ("k", 10),
    ("kb", 10),
    ("kib", 10),
    ("m", 20),
    ("mb", 20),
    ("mib", 20),
    ("g", 30),
    ("gb", 30),
    ("gib", 30),
    ("t", 40),
    ("tb", 40),
    ("tib", 40),
];

/// Bytes of `512`, `64kb`, `512MB`, `1.5gb`, `1g`; `None` if it is no size, or too large for 64 bits.
///
/// A part of a byte is left out: `1.0001kb` is 1024.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit = unit.trim_start().to_ascii_lowercase();
    let (_, shift) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some((_, _)) if shift == 0 => return None,
        Some((whole, fraction)) => (whole, format!("0.{fraction}").parse::<f64>().ok()?),
        None => (number, 0.0),
    };
    let unit_bytes = 1_u64 << shift;
    let whole_bytes = whole.parse::<u64>().ok()?.checked_mul(unit_bytes)?;
    whole_bytes.checked_add((fraction * unit_bytes as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed() {
        let rows = [
            ("0", Some(0)),
            ("512", Some(512)),
            ("512b", Some(512)),
            ("64kb", Some(64 << 10)),
            ("64KiB", Some(64 << 10)),
            ("512MB", Some(512 << 20)),
            ("1.5gb", Some(3 << 29)),
            ("1g", Some(1 << 30)),
            ("1 G", Some(1 << 30)),
            (" 2m ", Some(2 << 20)),
            ("2T", Some(2 << 40)),
            ("0.5k", Some(512)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("16777216t", None),
            ("", None),
            ("mb", None),
            (".5mb", None),
            ("1.", None),
            ("1.mb", None),
            ("1.5", None),
            ("1.5b", None),
            ("1.2.3mb", None),
            ("-1", None),
            ("+1", None),
            ("1e3", None),
            ("1mbit", None),
            ("1,5gb", None),
            ("٣mb", None),
        ];
        for (text, bytes) in rows {
            assert_eq!(parse(text), bytes, "{text:?}");
        }
    }
}

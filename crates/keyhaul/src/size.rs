//! Sizes as they are typed and shown: powers of 1024, any case.

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

/// `512 B`, `1.5 GB`: at most three digits and a half, for people.
pub(crate) fn show(bytes: u64) -> String {
    let mut amount = bytes as f64;
    let mut units = ["B", "KB", "MB", "GB", "TB", "PB", "EB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        // 1023.95 would be shown as 1024.0.
        if amount < 1023.95 {
            break;
        }
        (amount, unit) = (amount / 1024.0, larger);
    }
    if unit == "B" || amount >= 100.0 {
        format!("{amount:.0} {unit}")
    } else {
        format!("{amount:.1} {unit}")
    }
}

/// `1,234,567`: a count, for people.
pub(crate) fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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

    #[test]
    fn what_is_shown() {
        let rows = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KB"),
            (1536, "1.5 KB"),
            (200 << 10, "200 KB"),
            ((1 << 20) - 1, "1.0 MB"),
            (3 << 29, "1.5 GB"),
            (u64::MAX, "16.0 EB"),
        ];
        for (bytes, text) in rows {
            assert_eq!(show(bytes), text, "{bytes}");
        }
        for (count, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(show_count(count), text);
        }
    }
}

//! Lengths of time as they are typed and shown.

use std::time::Duration;

/// `500ms`, `30s`, `2m`, `1h`, `1h30m`; a bare number is seconds. `None` if it is none of these.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let text = text.trim().to_ascii_lowercase();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let mut rest = text.as_str();
    let mut total = Duration::ZERO;
    let mut unit_before = u64::MAX;
    while !rest.is_empty() {
        let (number, behind) = split_where(rest, |c| !c.is_ascii_digit());
        let (unit, behind) = split_where(behind, |c| c.is_ascii_digit());
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        // Large units first, each once: `30m1h` is more likely a slip than meant.
        if unit_ms >= unit_before {
            return None;
        }
        let part_ms = u64::from(number.parse::<u32>().ok()?) * unit_ms;
        total += Duration::from_millis(part_ms);
        (rest, unit_before) = (behind, unit_ms);
    }
    (unit_before != u64::MAX).then_some(total)
}

fn split_where(text: &str, at: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(at).unwrap_or(text.len()))
}

/// `340 ms`, `12.3 s`, `4 m 05 s`, `3 h 07 m`: for people.
pub(crate) fn show(time: Duration) -> String {
    let seconds = time.as_secs();
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else if seconds < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else if seconds < 3600 {
        format!("{} m {:02} s", seconds / 60, seconds % 60)
    } else {
        format!("{} h {:02} m", seconds / 3600, seconds % 3600 / 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed() {
        let rows = [
            ("0", Some(0)),
            ("30", Some(30_000)),
            ("30s", Some(30_000)),
            ("250ms", Some(250)),
            ("2m", Some(120_000)),
            ("2MIN", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("1h30m", Some(5_400_000)),
            ("1d", Some(86_400_000)),
            ("", None),
            ("s", None),
            ("1h30", None),
            ("30m1h", None),
            ("1m1m", None),
            ("1.5h", None),
            ("-1s", None),
            ("1 h", None),
            ("1w", None),
            ("99999999999s", None),
        ];
        for (text, ms) in rows {
            assert_eq!(parse(text), ms.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn what_is_shown() {
        let rows = [
            (340, "340 ms"),
            (12_340, "12.3 s"),
            (245_000, "4 m 05 s"),
            (11_220_000, "3 h 07 m"),
        ];
        for (ms, text) in rows {
            assert_eq!(show(Duration::from_millis(ms)), text);
        }
    }
}

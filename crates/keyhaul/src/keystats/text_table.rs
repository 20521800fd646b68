//! Tables for the terminal: columns as wide as they need, numbers to the right, bars to look at.

use std::io::{self, Write};

/// How wide a full bar is, characters.
const BAR_CHARS: u64 = 24;
/// Parts of a character, an eighth each.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// A field of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    /// Stands at the left.
    Text(String),
    /// Stands at the right.
    Number(String),
}

/// Writes a table, indented, each row below the other; without rows nothing.
pub(super) fn write_table<const COLUMNS: usize>(
    out: &mut impl Write,
    head: [&str; COLUMNS],
    rows: &[[Field; COLUMNS]],
) -> io::Result<()> {
    let Some(first) = rows.first() else {
        return Ok(());
    };
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
        let fields = rows.iter().map(|row| chars(row[column].text()));
        fields.fold(chars(head[column]), usize::max)
    });
    // A title stands where its fields stand.
    let head = std::array::from_fn(|column| match &first[column] {
        Field::Text(_) => Field::Text(head[column].to_owned()),
        Field::Number(_) => Field::Number(head[column].to_owned()),
    });
    for row in [&head].into_iter().chain(rows) {
        let mut line = String::new();
        for (field, width) in row.iter().zip(widths) {
            line.push_str("  ");
            let space = " ".repeat(width - chars(field.text()));
            match field {
                Field::Text(text) => line.extend([text.as_str(), &space]),
                Field::Number(text) => line.extend([space.as_str(), text]),
            }
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

impl Field {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Number(text) => text,
        }
    }
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

/// A bar that is full where `part` is `whole`. Whatever is not zero is seen.
pub(super) fn bar(part: u64, whole: u64) -> Field {
    let eighths = u128::from(part) * u128::from(BAR_CHARS) * 8 / u128::from(whole.max(1));
    let eighths = usize::try_from(eighths)
        .unwrap_or(usize::MAX)
        .min(BAR_CHARS as usize * 8);
    let eighths = if part > 0 { eighths.max(1) } else { 0 };
    Field::Text("█".repeat(eighths / 8) + EIGHTHS[eighths % 8])
}

/// `81.3 %`; a part too small for that is not zero.
pub(super) fn percent(part: u64, whole: u64) -> Field {
    let percent = part as f64 * 100.0 / whole.max(1) as f64;
    Field::Number(match percent {
        _ if part > 0 && percent < 0.1 => "<0.1 %".into(),
        _ => format!("{percent:.1} %"),
    })
}

/// At most so many characters of a text, and `…` where there are more.
pub(super) fn cut(text: &str, most: usize) -> String {
    if chars(text) <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let row = |name: &str, number: &str, bar| {
            [Field::Text(name.into()), Field::Number(number.into()), bar]
        };
        let rows = [row("é", "1,000", bar(1, 4)), row("longer", "7", bar(4, 4))];
        let mut out = Vec::new();
        write_table(&mut out, ["name", "keys", ""], &rows).unwrap();
        let expected =
            "  name     keys\n  é       1,000  ██████\n  longer      7  ████████████████████████\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn bars_and_parts() {
        let text = |text: &str| Field::Text(text.into());
        for (part, whole, expected) in [
            (0, 0, ""),
            (0, 9, ""),
            (1, u64::MAX, "▏"),
            (1, 16, "█▌"),
            (u64::MAX, 1, "████████████████████████"),
        ] {
            assert_eq!(bar(part, whole), text(expected), "{part} of {whole}");
        }
        for (part, whole, expected) in [
            (0, 0, "0.0 %"),
            (1, 3, "33.3 %"),
            (1, 100_000, "<0.1 %"),
            (5, 5, "100.0 %"),
        ] {
            assert_eq!(percent(part, whole), Field::Number(expected.into()));
        }
        assert_eq!(
            (cut("abc", 3), cut("abcd", 3)),
            ("abc".into(), "ab…".into())
        );
    }
}

//! Rows of CSV as RFC 4180 has them, but that lines end with `\n` alone, as everything that reads text on Unix expects.

use std::io::{self, Write};

/// Writes a row. A field with a comma, a quote or the end of a line is quoted, quotes in it are doubled.
pub(crate) fn write_row<'a>(
    out: &mut impl Write,
    fields: impl IntoIterator<Item = &'a str>,
) -> io::Result<()> {
    for (index, field) in fields.into_iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        if field.contains([',', '"', '\n', '\r']) {
            write!(out, "\"{}\"", field.replace('"', "\"\""))?;
        } else {
            out.write_all(field.as_bytes())?;
        }
    }
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted() {
        for (fields, line) in [
            (&["a", "b"][..], "a,b\n"),
            (&["", ""], ",\n"),
            (&["a,b", "c"], "\"a,b\",c\n"),
            (&["say \"hi\""], "\"say \"\"hi\"\"\"\n"),
            (&["a\nb", "c\rd"], "\"a\nb\",\"c\rd\"\n"),
            (&[" a ", "é"], " a ,é\n"),
        ] {
            let mut out = Vec::new();
            write_row(&mut out, fields.iter().copied()).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), line);
        }
    }
}

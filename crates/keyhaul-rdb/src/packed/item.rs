//! One entry of a listpack or a ziplist: text, or an integer that stands for its decimal text.

/// An entry; text is borrowed from the packed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    Text(&'a [u8]),
    Int(i64),
}

impl<'a> Item<'a> {
    /// The bytes that a client sees: integers as decimal text, written into `buffer`.
    pub(crate) fn text<'b>(self, buffer: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Self::Text(text) => text,
            Self::Int(int) => buffer.format(int).as_bytes(),
        }
    }

    /// The integer that this is, or that its text is in the one form in which servers write integers.
    pub(crate) fn to_int(self) -> Option<i64> {
        match self {
            Self::Text(text) => canonical_int(text),
            Self::Int(int) => Some(int),
        }
    }
}

/// Decimal text that comes back the same when the integer is written out: no plus, no spaces, no leading
/// zeros, no "-0", and within 64 bits. Servers pack no other text as an integer.
fn canonical_int(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !is_negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    // Counted below zero, where there is room for one more than above.
    let mut negated: i64 = 0;
    for digit in digits {
        let digit = match digit {
            b'0'..=b'9' => i64::from(digit - b'0'),
            _ => return None,
        };
        negated = negated.checked_mul(10)?.checked_sub(digit)?;
    }
    match is_negative {
        true => Some(negated),
        false => negated.checked_neg(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_as_integer() {
        for (text, int) in [
            ("0", Some(0)),
            ("7", Some(7)),
            ("-1", Some(-1)),
            ("10", Some(10)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("99999999999999999999", None),
            ("100000000000000000000000000000000000000000000", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("00", None),
            ("01", None),
            ("-01", None),
            ("+1", None),
            (" 1", None),
            ("1 ", None),
            ("1.0", None),
            ("1e3", None),
            ("--1", None),
            ("1-", None),
            ("0x1", None),
            ("\u{661}", None),
            ("1\0", None),
        ] {
            assert_eq!(Item::Text(text.as_bytes()).to_int(), int, "{text:?}");
        }
        assert_eq!(Item::Int(-5).to_int(), Some(-5));
    }

    #[test]
    fn integer_as_text() {
        let mut buffer = itoa::Buffer::new();
        for int in [0, 1, -1, i64::MIN, i64::MAX, 1_000_000] {
            let text = int.to_string();
            assert_eq!(Item::Int(int).text(&mut buffer), text.as_bytes());
            assert_eq!(Item::Text(text.as_bytes()).to_int(), Some(int));
        }
        assert_eq!(Item::Text(b"\xff\x00").text(&mut buffer), b"\xff\x00");
    }
}

//! Decimal numbers as RESP writes them.

/// So many digits fit any integer type used here, without a check for overflow at each.
const SHORT_DIGITS_MAX: usize = 18;

/// An integer with an optional sign, all of `text`.
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_i64, |n, &byte| {
        let n = n.checked_mul(10)?;
        let digit = i64::from(digit(byte)?);
        if negative {
            n.checked_sub(digit)
        } else {
            n.checked_add(digit)
        }
    })
}

/// A length, all of `text`: digits without a sign and without leading zeros, as servers write it.
pub(crate) fn length(text: &[u8]) -> Option<u64> {
    match text {
        [] | [b'0', _, ..] => None,
        digits => digits.iter().try_fold(0_u64, |n, &byte| {
            n.checked_mul(10)?.checked_add(u64::from(digit(byte)?))
        }),
    }
}

/// `text` is digits with an optional sign, as many as there are.
pub(crate) fn is_big_number(text: &[u8]) -> bool {
    let digits = match text {
        [b'-' | b'+', digits @ ..] => digits,
        digits => digits,
    };
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// A double: decimal or scientific notation, `inf`, `-inf`, `nan`.
pub(crate) fn double(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A length of few digits with its line end at the begin of `bytes`, and how long both are.
///
/// None says only that this shortcut does not apply.
#[inline]
pub(crate) fn short_length(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut n = 0_u64;
    for (index, &byte) in bytes.iter().take(SHORT_DIGITS_MAX + 1).enumerate() {
        match digit(byte) {
            // A zero that more digits follow is left to the strict way.
            Some(_) if index == 1 && n == 0 => return None,
            Some(digit) => n = n * 10 + u64::from(digit),
            None if byte == b'\r' && index > 0 && bytes.get(index + 1) == Some(&b'\n') => {
                return Some((n, index + 2));
            }
            None => return None,
        }
    }
    None
}

/// As [`short_length`], for an integer that may be negative.
#[inline]
pub(crate) fn short_integer(bytes: &[u8]) -> Option<(i64, usize)> {
    if let [b'-', digits @ ..] = bytes {
        let (n, used) = short_length(digits)?;
        return Some((-i64::try_from(n).ok()?, used + 1));
    }
    let (n, used) = short_length(bytes)?;
    Some((i64::try_from(n).ok()?, used))
}

#[inline]
fn digit(byte: u8) -> Option<u8> {
    let digit = byte.wrapping_sub(b'0');
    (digit < 10).then_some(digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_an_optional_sign_and_fit_64_bits() {
        let check = |text: &str, expected| assert_eq!(integer(text.as_bytes()), expected, "{text}");
        check("0", Some(0));
        check("-0", Some(0));
        check("+7", Some(7));
        check("-12", Some(-12));
        check("007", Some(7));
        check("9223372036854775807", Some(i64::MAX));
        check("9223372036854775808", None);
        check("-9223372036854775808", Some(i64::MIN));
        check("-9223372036854775809", None);
        for bad in ["", "-", "+", "--1", "1 ", " 1", "1.0", "0x1", "1\r"] {
            check(bad, None);
        }
    }

    #[test]
    fn lengths_have_one_form() {
        let check = |text: &str, expected| assert_eq!(length(text.as_bytes()), expected, "{text}");
        check("0", Some(0));
        check("10", Some(10));
        check("18446744073709551615", Some(u64::MAX));
        check("18446744073709551616", None);
        for bad in ["", "+1", "-0", "-1", "00", "01", " 1", "1a", "?"] {
            check(bad, None);
        }
    }

    #[test]
    fn the_shortcut_agrees_with_the_strict_way_or_stands_aside() {
        let check = |bytes: &str, expected| {
            assert_eq!(
                short_integer(bytes.as_bytes()),
                expected,
                "{}",
                bytes.escape_default()
            );
        };
        check("0\r\n", Some((0, 3)));
        check("-1\r\n+OK", Some((-1, 4)));
        check(
            "999999999999999999\r\n",
            Some((999_999_999_999_999_999, 20)),
        );
        for aside in [
            "", "1", "1\r", "1\r\r\n", "\r\n", "-", "-\r\n", "00\r\n", "+1\r\n", "1a\r\n",
        ] {
            check(aside, None);
        }
        check("1000000000000000000\r\n", None);
    }
}

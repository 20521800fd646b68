//! Lengths: the numbers in front of strings and collections.
//!
//! ```text
//! 00xxxxxx                      6 bits
//! 01xxxxxx xxxxxxxx             14 bits, big endian
//! 10000000 + 4 bytes            32 bits, big endian
//! 10000001 + 8 bytes            64 bits, big endian (RDB >= 8)
//! 11xxxxxx                      no length: a string in a special encoding follows
//! ```

use crate::error::Flaw;

/// What stands where a length may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Plain(u64),
    /// The low six bits: how the string that follows is encoded.
    Special(u8),
}

/// Reads one; `None`: not all of it is there. Also gives how many bytes it takes.
pub(crate) fn decode_length(input: &[u8]) -> Result<Option<(Length, usize)>, Flaw> {
    let Some(&first) = input.first() else {
        return Ok(None);
    };
    Ok(match first {
        0..=0x3f => Some((Length::Plain(first.into()), 1)),
        0x40..=0x7f => input.first_chunk::<2>().map(|bytes| {
            (
                Length::Plain(u64::from(u16::from_be_bytes(*bytes) & 0x3fff)),
                2,
            )
        }),
        0x80 => input
            .get(1..)
            .and_then(|rest| rest.first_chunk::<4>())
            .map(|bytes| (Length::Plain(u32::from_be_bytes(*bytes).into()), 5)),
        0x81 => input
            .get(1..)
            .and_then(|rest| rest.first_chunk::<8>())
            .map(|bytes| (Length::Plain(u64::from_be_bytes(*bytes)), 9)),
        0x82..=0xbf => return Err(Flaw::Length(first)),
        0xc0.. => Some((Length::Special(first & 0x3f), 1)),
    })
}

/// Reads a number; a special encoding has no place here.
pub(crate) fn decode_number(input: &[u8]) -> Result<Option<(u64, usize)>, Flaw> {
    match decode_length(input)? {
        None => Ok(None),
        Some((Length::Plain(number), bytes)) => Ok(Some((number, bytes))),
        Some((Length::Special(low), _)) => Err(Flaw::Length(low | 0xc0)),
    }
}

/// Appends a number in its shortest form.
pub(crate) fn encode_length(out: &mut Vec<u8>, number: u64) {
    match number {
        0..=0x3f => out.push(number.to_be_bytes()[7]),
        0x40..=0x3fff => {
            let [high, low] = (u16::try_from(number).unwrap_or(0) | 0x4000).to_be_bytes();
            out.extend([high, low]);
        }
        _ => match u32::try_from(number) {
            Ok(number) => {
                out.push(0x80);
                out.extend(number.to_be_bytes());
            }
            Err(_) => {
                out.push(0x81);
                out.extend(number.to_be_bytes());
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for (number, bytes) in [
            (0, &b"\x00"[..]),
            (63, b"\x3f"),
            (64, b"\x40\x40"),
            (0x3fff, b"\x7f\xff"),
            (0x4000, b"\x80\x00\x00\x40\x00"),
            (0xffff_ffff, b"\x80\xff\xff\xff\xff"),
            (0x1_0000_0000, b"\x81\x00\x00\x00\x01\x00\x00\x00\x00"),
            (u64::MAX, b"\x81\xff\xff\xff\xff\xff\xff\xff\xff"),
        ] {
            let mut out = Vec::new();
            encode_length(&mut out, number);
            assert_eq!(out, bytes, "{number}");
            assert_eq!(decode_number(bytes), Ok(Some((number, bytes.len()))));
            for n in 0..bytes.len() {
                assert_eq!(decode_number(&bytes[..n]), Ok(None), "{number} cut to {n}");
            }
        }
        assert_eq!(decode_length(b"\xc3"), Ok(Some((Length::Special(3), 1))));
        assert_eq!(decode_number(b"\xc3"), Err(Flaw::Length(0xc3)));
        assert_eq!(decode_length(b"\x82"), Err(Flaw::Length(0x82)));
    }
}

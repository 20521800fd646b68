//! Strings: raw, integers, or compressed.
//!
//! ```text
//! length, bytes                          raw
//! 0xc0 i8 | 0xc1 i16 | 0xc2 i32          an integer, little endian: stands for its decimal text
//! 0xc3 length length bytes               LZF: compressed length, length, compressed bytes
//! ```

use std::borrow::Cow;

use crate::error::Flaw;
use crate::length::{Length, decode_length, decode_number, encode_length};
use crate::lzf;

/// The longest string that is held in memory as a whole, bytes: what servers take as one argument
/// by default (`proto-max-bulk-len`).
pub const STRING_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// What stands in front of a string's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TextHead {
    /// Bytes of the head itself.
    pub head_bytes: usize,
    /// Bytes behind the head that belong to the string.
    pub body_bytes: u64,
    pub coding: Coding,
}

/// How a string is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Raw,
    Integer(i32),
    Lzf { text_bytes: u64 },
}

impl TextHead {
    /// Reads the head; `None`: not all of it is there.
    pub(crate) fn decode(input: &[u8]) -> Result<Option<Self>, Flaw> {
        let Some((length, bytes)) = decode_length(input)? else {
            return Ok(None);
        };
        let rest = input.get(bytes..).unwrap_or_default();
        let integer = |integer: i32, bytes| Self {
            head_bytes: bytes,
            body_bytes: 0,
            coding: Coding::Integer(integer),
        };
        Ok(match length {
            Length::Plain(body_bytes) => Some(Self {
                head_bytes: bytes,
                body_bytes,
                coding: Coding::Raw,
            }),
            Length::Special(0) => rest
                .first()
                .map(|byte| integer(i8::from_le_bytes([*byte]).into(), 2)),
            Length::Special(1) => rest
                .first_chunk()
                .map(|bytes| integer(i16::from_le_bytes(*bytes).into(), 3)),
            Length::Special(2) => rest
                .first_chunk()
                .map(|bytes| integer(i32::from_le_bytes(*bytes), 5)),
            Length::Special(3) => {
                let Some((body_bytes, first)) = decode_number(rest)? else {
                    return Ok(None);
                };
                let Some((text_bytes, second)) =
                    decode_number(rest.get(first..).unwrap_or_default())?
                else {
                    return Ok(None);
                };
                // No server compresses so little; Redis 6.0 exits over it (seen), later ones refuse it.
                if text_bytes == 0 {
                    return Err(Flaw::Lzf("it stands for no bytes"));
                }
                Some(Self {
                    head_bytes: 1 + first + second,
                    body_bytes,
                    coding: Coding::Lzf { text_bytes },
                })
            }
            Length::Special(other) => return Err(Flaw::StringCoding(other)),
        })
    }

    /// Length of the string itself, bytes.
    pub(crate) fn text_bytes(&self) -> u64 {
        match self.coding {
            Coding::Raw => self.body_bytes,
            Coding::Integer(integer) => itoa::Buffer::new().format(integer).len() as u64,
            Coding::Lzf { text_bytes } => text_bytes,
        }
    }

    /// Head and body together, bytes.
    pub(crate) fn whole_bytes(&self) -> u64 {
        self.body_bytes.saturating_add(self.head_bytes as u64)
    }
}

/// The string that these bytes, head and body, stand for.
pub(crate) fn decode_text(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Flaw> {
    let head = TextHead::decode(bytes)?.ok_or(Flaw::Truncated)?;
    let body = bytes.get(head.head_bytes..).unwrap_or_default();
    if body.len() as u64 != head.body_bytes {
        return Err(Flaw::Truncated);
    }
    match head.coding {
        Coding::Raw => Ok(Cow::Borrowed(body)),
        Coding::Integer(integer) => Ok(Cow::Owned(itoa::Buffer::new().format(integer).into())),
        Coding::Lzf { text_bytes } => {
            if text_bytes > STRING_BYTES_MAX {
                return Err(Flaw::TooLarge(text_bytes));
            }
            let mut text = Vec::new();
            let text_bytes = usize::try_from(text_bytes).map_err(|_| Flaw::TooLarge(text_bytes))?;
            lzf::decompress(body, text_bytes, &mut text)?;
            Ok(Cow::Owned(text))
        }
    }
}

/// Appends a string, raw.
pub(crate) fn encode_text(out: &mut Vec<u8>, text: &[u8]) {
    encode_length(out, text.len() as u64);
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_coding() {
        for (bytes, text) in [
            (&b"\x00"[..], &b""[..]),
            (b"\x03abc", b"abc"),
            (b"\xc0\x80", b"-128"),
            (b"\xc1\x39\x30", b"12345"),
            (b"\xc2\x15\xcd\x5b\x07", b"123456789"),
        ] {
            assert_eq!(decode_text(bytes).as_deref(), Ok(text));
            let head = TextHead::decode(bytes).unwrap().unwrap();
            assert_eq!(head.text_bytes(), text.len() as u64);
            for n in 0..head.head_bytes {
                assert_eq!(TextHead::decode(&bytes[..n]), Ok(None));
            }
        }
        assert_eq!(decode_text(b"\x04abc"), Err(Flaw::Truncated));
        assert_eq!(decode_text(b"\xc4"), Err(Flaw::StringCoding(4)));
        let huge = b"\xc3\x01\x81\x00\x00\x00\xff\x00\x00\x00\x00x";
        assert_eq!(decode_text(huge), Err(Flaw::TooLarge(0xff_0000_0000)));
    }
}

//! The first bytes of an RDB: whose it is and which version.

use std::fmt;

use crate::error::{Flaw, RdbError};
use crate::form::VALKEY_VERSION_FIRST;

/// Bytes of the longest header.
pub(crate) const HEADER_BYTES_MAX: usize = 9;

/// The newest version that Redis is known to write (8.2; later ones are read as long as they hold
/// nothing unknown, which is unproven).
const REDIS_VERSION_LAST: u16 = 16;
/// The newest version that Valkey is known to write.
const VALKEY_VERSION_LAST: u16 = 81;

/// Magic and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The RDB version: 1 to 16 of Redis and Valkey before 9.0, 80 and 81 of Valkey.
    pub version: u16,
}

impl Header {
    /// Reads `REDIS` and four digits, or `VALKEY` and three (Valkey >= 9.0); `None`: not all of it
    /// is there.
    ///
    /// # Errors
    /// [`Flaw::Magic`], [`Flaw::Version`].
    pub(crate) fn decode(input: &[u8]) -> Result<Option<(Self, usize)>, RdbError> {
        let known = input.get(..HEADER_BYTES_MAX).unwrap_or(input);
        let is_like = |magic: &[u8]| {
            let both = known.iter().zip(magic);
            both.fold(true, |is_like, (byte, wanted)| is_like && byte == wanted)
        };
        let (magic, is_valkey): (&[u8], bool) = match (is_like(b"REDIS"), is_like(b"VALKEY")) {
            (true, _) => (b"REDIS", false),
            (_, true) => (b"VALKEY", true),
            _ => return Err(Flaw::Magic.at(0)),
        };
        let Some(digits) = input.get(magic.len()..HEADER_BYTES_MAX) else {
            return Ok(None);
        };
        let mut version: u16 = 0;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return Err(Flaw::Magic.at(0));
            }
            version = version * 10 + u16::from(digit - b'0');
        }
        let is_known = match is_valkey {
            true => (VALKEY_VERSION_FIRST..=VALKEY_VERSION_LAST).contains(&version),
            false => (1..=REDIS_VERSION_LAST).contains(&version),
        };
        if !is_known {
            return Err(Flaw::Version(version).at(magic.len() as u64));
        }
        Ok(Some((Self { version }, HEADER_BYTES_MAX)))
    }

    /// Whether Valkey wrote it under its own versions.
    pub fn is_valkey(self) -> bool {
        self.version >= VALKEY_VERSION_FIRST
    }
}

impl fmt::Display for Header {
    /// As it stands in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_valkey() {
            true => write!(f, "VALKEY{:03}", self.version),
            false => write!(f, "REDIS{:04}", self.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        for (text, version) in [
            (&b"REDIS0001"[..], 1),
            (b"REDIS0012x", 12),
            (b"VALKEY080", 80),
        ] {
            let (header, bytes) = Header::decode(text).unwrap().unwrap();
            assert_eq!((header.version, bytes), (version, 9));
            assert_eq!(header.to_string().as_bytes(), &text[..9]);
            for n in 0..9 {
                assert_eq!(Header::decode(&text[..n]), Ok(None));
            }
        }
        for (text, flaw) in [
            (&b"REDIX"[..], Flaw::Magic),
            (b"\x1f\x8b", Flaw::Magic),
            (b"REDIS00a1", Flaw::Magic),
            (b"REDIS0000", Flaw::Version(0)),
            (b"REDIS0099", Flaw::Version(99)),
            (b"REDIS0080", Flaw::Version(80)),
            (b"VALKEY012", Flaw::Version(12)),
        ] {
            assert_eq!(Header::decode(text).unwrap_err().flaw, flaw);
        }
    }
}

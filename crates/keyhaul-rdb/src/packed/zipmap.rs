//! Zipmaps: small hashes of Redis 2.4 (RDB 2 and 3).
//!
//! ```text
//! count u8 | pair ... | ff                                   count 254: unknown
//! pair:   length, field, length, free u8, value, free bytes of no meaning
//! length: one byte up to 253, or fe u32, little endian
//! ```
//!
//! Servers before 2.2 marked a long length by 253. They saved no zipmaps, but hashes field by field (RDB 1).

use crate::error::Flaw;

const END: u8 = 0xff;
/// A count that does not fit, and the mark of a length that does not.
const BIG: u8 = 254;

/// A field and its value.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// A zipmap of which every byte was checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Zipmap<'a> {
    /// Between count and end.
    pairs: &'a [u8],
}

impl<'a> Zipmap<'a> {
    /// Checks all of it, so that iterating cannot fail.
    ///
    /// # Errors
    ///
    /// `Flaw::Zipmap` for all that a server refuses, also an empty one, and for short lengths in the
    /// long form, which servers never write and lose their way on.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Flaw> {
        let [told, pairs @ .., END] = bytes else {
            return Err(Flaw::Zipmap("it has no end"));
        };
        let mut count = 0;
        let mut rest = pairs;
        while !rest.is_empty() {
            (_, rest) = pair(rest)?;
            count += 1;
        }
        if count == 0 {
            return Err(Flaw::Zipmap("it is empty"));
        }
        if *told != BIG && usize::from(*told) != count {
            return Err(Flaw::Zipmap("it tells another count"));
        }
        Ok(Self { pairs })
    }

    /// Fields and values, first to last.
    pub(crate) fn iter(self) -> ZipmapIter<'a> {
        ZipmapIter { rest: self.pairs }
    }
}

/// The pairs of a zipmap.
#[derive(Debug, Clone)]
pub(crate) struct ZipmapIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for ZipmapIter<'a> {
    type Item = Pair<'a>;

    fn next(&mut self) -> Option<Pair<'a>> {
        // What is not there has no length either.
        let (pair, rest) = pair(self.rest).ok()?;
        self.rest = rest;
        Some(pair)
    }
}

const CUT: Flaw = Flaw::Zipmap("a field or value reaches over its end");

/// The first pair, and what stands behind it.
fn pair(rest: &[u8]) -> Result<(Pair<'_>, &[u8]), Flaw> {
    let (field_bytes, rest) = length(rest)?;
    let (field, rest) = rest.split_at_checked(field_bytes).ok_or(CUT)?;
    let (value_bytes, rest) = length(rest)?;
    let (free_bytes, rest) = rest.split_first().ok_or(CUT)?;
    let (value, rest) = rest.split_at_checked(value_bytes).ok_or(CUT)?;
    let rest = rest.get(usize::from(*free_bytes)..).ok_or(CUT)?;
    Ok(((field, value), rest))
}

/// A length, and what stands behind it.
fn length(rest: &[u8]) -> Result<(usize, &[u8]), Flaw> {
    match rest {
        [] => Err(CUT),
        [END, ..] => Err(Flaw::Zipmap("it ends before its end")),
        [BIG, rest @ ..] => {
            let (bytes, rest) = rest.split_first_chunk().ok_or(CUT)?;
            let length = u32::from_le_bytes(*bytes);
            if length < u32::from(BIG) {
                return Err(Flaw::Zipmap("a short length in the long form"));
            }
            Ok((usize::try_from(length).map_err(|_| CUT)?, rest))
        }
        [length, rest @ ..] => Ok((usize::from(*length), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{damage, hex, noise};
    use super::*;

    fn pairs(bytes: &[u8]) -> Result<Vec<Pair<'_>>, Flaw> {
        Ok(Zipmap::new(bytes)?.iter().collect())
    }

    fn count(bytes: &[u8]) -> Result<usize, Flaw> {
        let pairs = pairs(bytes)?;
        assert!(!pairs.is_empty());
        let told = usize::from(bytes[0]);
        assert!(told == 254 || told == pairs.len(), "{bytes:02x?}");
        Ok(pairs.len())
    }

    /// From RDB 3 files: the test dumps `zipmap_that_doesnt_compress` and
    /// `zipmap_that_compresses_easily` of redis-rdb-tools.
    fn of_a_server() -> [Vec<u8>; 2] {
        [
            "02064d4b4431473601003205594e4e584b040046375449ff",
            "030161020061610261610400616161610561616161610e006161616161616161616161616161ff",
        ]
        .map(hex)
    }

    #[test]
    fn maps_of_a_server() {
        let [noise, same] = of_a_server();
        let expected: [Pair<'_>; 2] = [(b"MKD1G6", b"2"), (b"YNNXK", b"F7TI")];
        assert_eq!(pairs(&noise), Ok(expected.to_vec()));
        let expected: [Pair<'_>; 3] = [
            (b"a", b"aa"),
            (b"aa", b"aaaa"),
            (b"aaaaa", b"aaaaaaaaaaaaaa"),
        ];
        assert_eq!(pairs(&same), Ok(expected.to_vec()));
    }

    #[test]
    fn free_bytes_lengths_and_counts() {
        let bytes = b"\x02\x01a\x02\x03bc\xff\xff\xff\x00\x00\x00\xff";
        let expected: [Pair<'_>; 2] = [(b"a", b"bc"), (b"", b"")];
        assert_eq!(pairs(bytes), Ok(expected.to_vec()));
        for (bytes, length) in [
            (252, &b"\xfc"[..]),
            (253, b"\xfd"),
            (254, b"\xfe\xfe\0\0\0"),
            (255, b"\xfe\xff\0\0\0"),
            (20_000, b"\xfe\x20\x4e\0\0"),
        ] {
            let text = vec![b'x'; bytes];
            let map = [&[1], length, &text, length, &[0], &text, &[END]].concat();
            assert_eq!(pairs(&map), Ok(vec![(&text[..], &text[..])]), "{bytes}");
        }
        // From 254 pairs on the count is not kept, and it does not come back below.
        for (told, pairs) in [(254, 1), (253, 253), (254, 254), (254, 255), (254, 1000)] {
            let map = [&[told][..], &b"\x01a\x01\x00b".repeat(pairs), &[END]].concat();
            assert_eq!(count(&map), Ok(pairs), "{told}");
        }
    }

    #[test]
    fn what_is_refused() {
        for (bytes, why) in [
            (&b""[..], "it has no end"),
            (b"\xff", "it has no end"),
            (b"\x00\xff", "it is empty"),
            (b"\xfe\xff", "it is empty"),
            (b"\x01\x01a\x01\x00b", "it has no end"),
            (b"\x02\x01a\x01\x00b\xff", "it tells another count"),
            (b"\xff\x01a\x01\x00b\xff", "it tells another count"),
            (b"\x01\x01a\x01\x00b\xff\xff", "it ends before its end"),
            (b"\x01\x01a\xff\x00b\xff", "it ends before its end"),
            (b"\x01\x01a\xff", "a field or value reaches over its end"),
            (
                b"\x01\x01a\x01\xff",
                "a field or value reaches over its end",
            ),
            (
                b"\x01\x01a\x01\x02b\x00\xff",
                "a field or value reaches over its end",
            ),
            (
                b"\x01\xfe\xff\xff\xff\xff\xff",
                "a field or value reaches over its end",
            ),
            (
                b"\x01\xfe\x01\0\0\0a\x01\x00b\xff",
                "a short length in the long form",
            ),
            (
                b"\x01\x01a\xfe\x01\0\0\0\x00b\xff",
                "a short length in the long form",
            ),
        ] {
            assert_eq!(pairs(bytes), Err(Flaw::Zipmap(why)), "{bytes:02x?}");
        }
    }

    #[test]
    fn damaged_and_made_up() {
        for valid in of_a_server() {
            damage(&valid, count);
        }
        noise(|_| vec![BIG], &[END], count);
        noise(|_| Vec::new(), &[], count);
    }
}

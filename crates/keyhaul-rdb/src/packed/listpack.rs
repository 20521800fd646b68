//! Listpacks: the packed form of streams (RDB 9, Redis 5.0) and of all small collections (RDB 10, Redis 7.0).
//!
//! ```text
//! total bytes u32 | count u16 | entry ... | ff               little endian; count 65535: unknown
//! entry: encoding, data | length of these two, to be read from its end
//!
//! 0xxxxxxx                                unsigned, 7 bits
//! 10xxxxxx text                           up to 63 bytes
//! 110xxxxx xxxxxxxx                       signed, 13 bits, big endian
//! 1110xxxx xxxxxxxx text                  up to 4095 bytes, big endian
//! f0 u32 text                             little endian
//! f1 i16 | f2 i24 | f3 i32 | f4 i64       little endian
//!
//! length: groups of 7 bits, highest first, all but the first with the high bit set
//! ```

use super::Item;
use crate::error::Flaw;

const HEADER_BYTES: usize = 6;
const END: u8 = 0xff;
/// A count that does not fit: the entries have to be counted.
const COUNT_UNKNOWN: u16 = u16::MAX;

/// A listpack of which every byte was checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listpack<'a> {
    /// Between header and end.
    entries: &'a [u8],
    count: usize,
}

impl<'a> Listpack<'a> {
    /// Checks all of it, so that iterating cannot fail: header, every entry's encoding and length, the
    /// count, and that nothing stands behind the end.
    ///
    /// # Errors
    ///
    /// `Flaw::Listpack` for all that a server refuses when it looks at every entry, and for lengths
    /// behind entries that are not in the form in which servers write them.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Flaw> {
        let Some(([b0, b1, b2, b3, c0, c1], rest)) = bytes.split_first_chunk::<HEADER_BYTES>()
        else {
            return Err(Flaw::Listpack("it ends within its header"));
        };
        let total_bytes = u32::from_le_bytes([*b0, *b1, *b2, *b3]);
        if usize::try_from(total_bytes) != Ok(bytes.len()) {
            return Err(Flaw::Listpack("its header tells another length"));
        }
        let Some((&END, entries)) = rest.split_last() else {
            return Err(Flaw::Listpack("it has no end"));
        };
        let mut count = 0;
        let mut rest = entries;
        while !rest.is_empty() {
            rest = behind_checked(rest)?;
            count += 1;
        }
        let told = u16::from_le_bytes([*c0, *c1]);
        if told != COUNT_UNKNOWN && usize::from(told) != count {
            return Err(Flaw::Listpack("its header tells another count"));
        }
        Ok(Self { entries, count })
    }

    /// How many entries there are.
    pub(crate) fn len(self) -> usize {
        self.count
    }

    /// The entries, first to last.
    pub(crate) fn iter(self) -> ListpackIter<'a> {
        ListpackIter { rest: self.entries }
    }
}

/// The entries of a listpack.
#[derive(Debug, Clone)]
pub(crate) struct ListpackIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for ListpackIter<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        let bytes = encoded_bytes(self.rest)?;
        let (entry, behind) = self.rest.split_at_checked(bytes)?;
        self.rest = behind.get(length_bytes(bytes)..)?;
        item(entry)
    }
}

/// What stands behind the first entry, which is checked.
#[inline]
fn behind_checked(rest: &[u8]) -> Result<&[u8], Flaw> {
    const CUT: Flaw = Flaw::Listpack("an entry reaches over its end");
    let bytes = encoded_bytes(rest).ok_or(Flaw::Listpack("an entry has no known encoding"))?;
    let behind = rest.get(bytes..).ok_or(CUT)?;
    let (length, behind) = behind.split_at_checked(length_bytes(bytes)).ok_or(CUT)?;
    let is_right = match length {
        // Nearly all entries are short.
        [byte] => usize::from(*byte) == bytes,
        _ => is_length(length, bytes),
    };
    match is_right {
        true => Ok(behind),
        false => Err(Flaw::Listpack("the length behind an entry is another")),
    }
}

/// Encoding and data of the first entry, bytes, which may reach over the end.
#[inline]
fn encoded_bytes(rest: &[u8]) -> Option<usize> {
    let first = *rest.first()?;
    Some(match first {
        0..=0x7f => 1,
        0x80..=0xbf => 1 + usize::from(first & 0x3f),
        0xc0..=0xdf => 2,
        0xe0..=0xef => 2 + usize::from(u16::from_be_bytes([first & 0x0f, *rest.get(1)?])),
        0xf0 => {
            let text_bytes = u32::from_le_bytes(*rest.get(1..)?.first_chunk()?);
            usize::try_from(text_bytes).ok()?.checked_add(5)?
        }
        0xf1 => 3,
        0xf2 => 4,
        0xf3 => 5,
        0xf4 => 9,
        0xf5.. => return None,
    })
}

/// What an entry stands for; `None`: it is not exactly one entry.
#[inline]
fn item(entry: &[u8]) -> Option<Item<'_>> {
    Some(match *entry {
        [int @ 0..=0x7f] => Item::Int(int.into()),
        [0x80..=0xbf, ref text @ ..] => Item::Text(text),
        // Shifted up, which drops the mark, and down again for the sign.
        [high @ 0xc0..=0xdf, low] => Item::Int((i16::from_be_bytes([high, low]) << 3 >> 3).into()),
        [0xe0..=0xef, _, ref text @ ..] => Item::Text(text),
        [0xf0, _, _, _, _, ref text @ ..] => Item::Text(text),
        [0xf1, a, b] => Item::Int(i16::from_le_bytes([a, b]).into()),
        [0xf2, a, b, c] => Item::Int((i32::from_le_bytes([0, a, b, c]) >> 8).into()),
        [0xf3, a, b, c, d] => Item::Int(i32::from_le_bytes([a, b, c, d]).into()),
        [0xf4, a, b, c, d, e, f, g, h] => Item::Int(i64::from_le_bytes([a, b, c, d, e, f, g, h])),
        _ => return None,
    })
}

/// How many bytes the length behind an entry of `bytes` takes. From the third on, servers begin a byte
/// one earlier than they would have to.
#[inline]
fn length_bytes(bytes: usize) -> usize {
    match bytes {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

/// Whether this is the length `bytes`, as servers write it.
fn is_length(length: &[u8], bytes: usize) -> bool {
    let mut rest = bytes;
    for (index, byte) in length.iter().enumerate().rev() {
        let mark = if index == 0 { 0 } else { 0x80 };
        if usize::from(*byte) != rest & 0x7f | mark {
            return false;
        }
        rest >>= 7;
    }
    rest == 0
}

#[cfg(test)]
mod tests {
    use super::super::tests::{damage, hex, noise};
    use super::*;

    const INTS: [i64; 23] = [
        0,
        12,
        13,
        -1,
        127,
        128,
        -128,
        -129,
        32767,
        -32768,
        32768,
        8_388_607,
        -8_388_608,
        8_388_608,
        2_147_483_647,
        -2_147_483_648,
        2_147_483_648,
        i64::MAX,
        i64::MIN,
        4095,
        4096,
        -4096,
        -4097,
    ];

    /// DUMP of Redis 7.0.15, not compressed: RPUSH of these integers.
    fn ints() -> Vec<u8> {
        hex(
            "70000000170000010c010d01dfff027f01c08002df8002df7f02f1ff7f03f1008003f200800004f2ffff\
             7f04f200008004f30000800005f3ffffff7f05f30000008005f4000000800000000009f4ffffffffffffff\
             7f09f4000000000000008009cfff02f1001003d00002f1ffef03ff",
        )
    }

    fn a(count: usize) -> Vec<u8> {
        vec![b'a'; count]
    }

    /// DUMP of Redis 7.0.15: RPUSH of "", a, -0, 01, 2^63, and 63 and 64 times a.
    fn texts() -> Vec<u8> {
        let head = "ad00000007008001816102822d30038230310393393232333337323033363835343737353830\
                    3814bf";
        [hex(head), a(63), hex("40e040"), a(64), hex("42ff")].concat()
    }

    fn items(bytes: &[u8]) -> Result<Vec<Item<'_>>, Flaw> {
        let listpack = Listpack::new(bytes)?;
        let items: Vec<_> = listpack.iter().collect();
        assert_eq!(items.len(), listpack.len(), "{bytes:02x?}");
        Ok(items)
    }

    fn count(bytes: &[u8]) -> Result<usize, Flaw> {
        items(bytes).map(|items| items.len())
    }

    /// A listpack of these entries.
    fn pack(count: u16, entries: &[u8]) -> Vec<u8> {
        let total_bytes = u32::try_from(entries.len() + 7).unwrap().to_le_bytes();
        [&total_bytes, &count.to_le_bytes()[..], entries, &[END]].concat()
    }

    #[test]
    fn integers_of_a_server() {
        assert_eq!(items(&ints()), Ok(INTS.map(Item::Int).to_vec()));
    }

    #[test]
    fn texts_of_a_server() {
        let (short, long) = (a(63), a(64));
        let expected = [
            &b""[..],
            b"a",
            b"-0",
            b"01",
            b"9223372036854775808",
            &short,
            &long,
        ];
        assert_eq!(items(&texts()), Ok(expected.map(Item::Text).to_vec()));
        // ZADD of 1.5 m, -inf n, 3 o: scores are integers where they can be.
        let bytes = hex("1d0000000600816e02842d696e6605816d0283312e3504816f020301ff");
        let texts = [&b"n"[..], b"-inf", b"m", b"1.5", b"o"];
        let all = [&texts.map(Item::Text)[..], &[Item::Int(3)]].concat();
        assert_eq!(items(&bytes), Ok(all));
    }

    /// The length behind an entry takes a further byte from these lengths of its text on: from Redis 7.0.15,
    /// the last four by HSET with hash-max-listpack-value raised.
    #[test]
    fn long_texts_of_a_server() {
        for (head, count, length) in [
            ("e07c", 124, "7e"),
            ("e07d", 125, "7f"),
            ("e07e", 126, "0180"),
            ("efff", 4095, "2081"),
            ("f000100000", 4096, "2085"),
            ("f0f93f0000", 16_377, "7ffe"),
            ("f0fa3f0000", 16_378, "00ffff"),
            ("f0fb3f0000", 16_379, "018080"),
            ("f0f9ff1f00", 2_097_145, "7ffffe"),
            ("f0faff1f00", 2_097_146, "00ffffff"),
        ] {
            let text = a(count);
            let entry = [hex(head), text.clone(), hex(length)].concat();
            assert_eq!(
                items(&pack(1, &entry)),
                Ok(vec![Item::Text(&text)]),
                "{head}"
            );
            // The text's last byte would be taken for the length's first.
            let entry = [hex(head), text.clone(), hex(&length[2..])].concat();
            assert!(items(&pack(1, &entry)).is_err(), "{head}");
        }
        // 268435454 and 268435455: not made here, only measured.
        assert_eq!([268_435_454, 268_435_455].map(length_bytes), [4, 5]);
        assert!(is_length(&hex("7ffffffe"), 268_435_454));
        assert!(is_length(&hex("00ffffffff"), 268_435_455));
    }

    #[test]
    fn unknown_count_and_wide_integers() {
        // More than 65534 entries have no count; servers keep 65535 when some are taken away again.
        let entries = b"\x01\x01".repeat(70_000);
        assert_eq!(count(&pack(u16::MAX, &entries)), Ok(70_000));
        assert_eq!(count(&pack(u16::MAX, b"\x01\x01")), Ok(1));
        assert_eq!(count(&pack(0, b"")), Ok(0));
        for wide in [&b"\xc0\x01\x02"[..], b"\xf1\x01\0\x03", b"\xf2\x01\0\0\x04"] {
            assert_eq!(items(&pack(1, wide)), Ok(vec![Item::Int(1)]));
        }
        let wide = b"\xf4\xff\xff\xff\xff\xff\xff\xff\xff\x09";
        assert_eq!(items(&pack(1, wide)), Ok(vec![Item::Int(-1)]));
        let wide = b"\xf0\x01\0\0\0a\x06";
        assert_eq!(items(&pack(1, wide)), Ok(vec![Item::Text(b"a")]));
    }

    #[test]
    fn what_is_refused() {
        for (bytes, why) in [
            (hex("06000000"), "it ends within its header"),
            (hex("060000000000"), "it has no end"),
            (hex("07000000000000"), "it has no end"),
            (pack(0, b"\x01\x01"), "its header tells another count"),
            (pack(2, b"\x01\x01"), "its header tells another count"),
            (
                pack(1, b"\x01\x02"),
                "the length behind an entry is another",
            ),
            (pack(1, b"\xe0\x7eaaa"), "an entry reaches over its end"),
            (
                pack(1, b"\xf0\xff\xff\xff\xff"),
                "an entry reaches over its end",
            ),
            (pack(1, b"\xf0\xff\xff"), "an entry has no known encoding"),
            (pack(1, b"\x01"), "an entry reaches over its end"),
            (pack(1, b"\xf5\x01"), "an entry has no known encoding"),
            (pack(1, b"\xff\x01"), "an entry has no known encoding"),
            (pack(1, b"\x01\x01\xff"), "an entry has no known encoding"),
        ] {
            assert_eq!(items(&bytes), Err(Flaw::Listpack(why)), "{bytes:02x?}");
        }
        let mut bytes = pack(1, b"\x01\x01");
        bytes[0] += 1;
        let why = "its header tells another length";
        assert_eq!(items(&bytes), Err(Flaw::Listpack(why)));
    }

    #[test]
    fn damaged_and_made_up() {
        for valid in [ints(), texts(), pack(0, b"")] {
            damage(&valid, count);
        }
        let header = |total: u32| [&total.to_le_bytes()[..], &[0xff, 0xff]].concat();
        noise(header, &[END], count);
        noise(|_| Vec::new(), &[], count);
    }
}

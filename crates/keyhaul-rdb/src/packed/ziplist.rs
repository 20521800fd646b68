//! Ziplists: the packed form of small lists, sorted sets and hashes up to Redis 6.2 (RDB 2 to 9).
//!
//! ```text
//! total bytes u32 | offset of the last entry u32 | count u16 | entry ... | ff
//!                                                            little endian; count 65535: unknown
//! entry:    bytes of the entry before it, encoding, data
//! bytes of the entry before it: one byte up to 253, or fe u32, little endian; 0 in the first entry
//!
//! 00xxxxxx text                           up to 63 bytes
//! 01xxxxxx xxxxxxxx text                  up to 16383 bytes, big endian
//! 10...... u32 text                       big endian
//! c0 i16 | d0 i32 | e0 i64 | f0 i24       little endian
//! fe i8
//! f1 to fd                                0 to 12
//! ```

use super::Item;
use crate::error::Flaw;

/// The byte behind the last entry.
pub(crate) const END: u8 = 0xff;

const HEADER_BYTES: usize = 10;
/// A count that does not fit: the entries have to be counted.
const COUNT_UNKNOWN: u16 = u16::MAX;
/// Marks the long form of the bytes of the entry before.
const LONG: u8 = 254;

/// A ziplist of which every byte was checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ziplist<'a> {
    /// Between header and end.
    entries: &'a [u8],
}

impl<'a> Ziplist<'a> {
    /// Checks all of it, so that iterating cannot fail: header, every entry's encoding and what it tells of
    /// the entry before it, the place of the last entry, the count, and that nothing stands behind the end.
    /// The long form for an entry that is short is fine: servers do not shrink it.
    ///
    /// # Errors
    ///
    /// `Flaw::Ziplist` for all that a server refuses when it looks at every entry.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Flaw> {
        let Some(([b0, b1, b2, b3, l0, l1, l2, l3, c0, c1], rest)) =
            bytes.split_first_chunk::<HEADER_BYTES>()
        else {
            return Err(Flaw::Ziplist("it ends within its header"));
        };
        let total_bytes = u32::from_le_bytes([*b0, *b1, *b2, *b3]);
        if usize::try_from(total_bytes) != Ok(bytes.len()) {
            return Err(Flaw::Ziplist("its header tells another length"));
        }
        let Some((&END, entries)) = rest.split_last() else {
            return Err(Flaw::Ziplist("it has no end"));
        };
        let mut count = 0;
        let mut last_bytes = 0;
        let mut rest = entries;
        while !rest.is_empty() {
            let entry = Entry::decode(rest).ok_or(Flaw::Ziplist(
                "an entry has no known encoding or reaches over its end",
            ))?;
            if usize::try_from(entry.before_bytes) != Ok(last_bytes) {
                return Err(Flaw::Ziplist(
                    "an entry tells another length of the one before it",
                ));
            }
            last_bytes = rest.len() - entry.behind.len();
            rest = entry.behind;
            count += 1;
        }
        let last_offset = u32::from_le_bytes([*l0, *l1, *l2, *l3]);
        if usize::try_from(last_offset) != Ok(HEADER_BYTES + entries.len() - last_bytes) {
            return Err(Flaw::Ziplist(
                "its header tells another place of the last entry",
            ));
        }
        let told = u16::from_le_bytes([*c0, *c1]);
        if told != COUNT_UNKNOWN && usize::from(told) != count {
            return Err(Flaw::Ziplist("its header tells another count"));
        }
        Ok(Self { entries })
    }

    /// The entries, first to last.
    pub(crate) fn iter(self) -> ZiplistIter<'a> {
        ZiplistIter { rest: self.entries }
    }
}

/// The entries of a ziplist.
#[derive(Debug, Clone)]
pub(crate) struct ZiplistIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for ZiplistIter<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        let entry = Entry::decode(self.rest)?;
        self.rest = entry.behind;
        Some(entry.item)
    }
}

/// Appends one ziplist that holds these items, a node of a list, as servers would have packed them: text
/// that is a canonical integer becomes one.
///
/// # Errors
///
/// Then nothing is appended. `Flaw::TooLarge` when the ziplist would not fit into the 32 bits of its
/// length; `Flaw::Ziplist` for more than 65535 items, which no server has in a node: it counts them with
/// 16 bits, takes the ziplist all the same, and loses items.
pub(crate) fn encode<'a>(
    items: impl Iterator<Item = Item<'a>>,
    out: &mut Vec<u8>,
) -> Result<(), Flaw> {
    let start = out.len();
    let appended = append(items, start, out);
    if appended.is_err() {
        out.truncate(start);
    }
    appended
}

/// What stands in front of the text of a ziplist that holds nothing else, so that a giant text need not be
/// held: 12, 13 or 16 bytes. Behind the text comes `END`.
///
/// # Errors
///
/// `Flaw::TooLarge` for text of more than 4294967278 bytes: the whole would not fit into the 32 bits of its
/// length.
pub(crate) fn single_head(text_bytes: u32) -> Result<Vec<u8>, Flaw> {
    let mut head = vec![0; HEADER_BYTES];
    append_before_bytes(0, &mut head);
    append_text_encoding(text_bytes, &mut head);
    let total_bytes = head.len() as u64 + u64::from(text_bytes) + 1;
    let header = Header {
        total_bytes: u32::try_from(total_bytes).map_err(|_| Flaw::TooLarge(total_bytes))?,
        last_offset: bytes_u32(HEADER_BYTES)?,
        count: 1,
    };
    header.write(&mut head);
    Ok(head)
}

/// An entry, and what stands behind it.
struct Entry<'a> {
    before_bytes: u32,
    item: Item<'a>,
    behind: &'a [u8],
}

impl<'a> Entry<'a> {
    /// `None`: no known encoding, or not all of it is there.
    #[inline]
    fn decode(rest: &'a [u8]) -> Option<Self> {
        let (before_bytes, rest) = match rest {
            [] | [END, ..] => return None,
            [LONG, rest @ ..] => {
                let (bytes, rest) = rest.split_first_chunk()?;
                (u32::from_le_bytes(*bytes), rest)
            }
            [bytes, rest @ ..] => (u32::from(*bytes), rest),
        };
        let (first, rest) = rest.split_first()?;
        let (item, behind) = match first {
            0..=0x3f => text(rest, usize::from(*first))?,
            0x40..=0x7f => {
                let (low, rest) = rest.split_first()?;
                text(rest, u16::from_be_bytes([first & 0x3f, *low]).into())?
            }
            // Servers write 80, and look at the upper two bits only.
            0x80..=0xbf => {
                let (bytes, rest) = rest.split_first_chunk()?;
                text(rest, usize::try_from(u32::from_be_bytes(*bytes)).ok()?)?
            }
            0xc0 => int(rest, |bytes| i16::from_le_bytes(bytes).into())?,
            0xd0 => int(rest, |bytes| i32::from_le_bytes(bytes).into())?,
            0xe0 => int(rest, i64::from_le_bytes)?,
            // Shifted down again for the sign.
            0xf0 => int(rest, |[a, b, c]| {
                (i32::from_le_bytes([0, a, b, c]) >> 8).into()
            })?,
            0xf1..=0xfd => (Item::Int(i64::from(*first) - 0xf1), rest),
            0xfe => int(rest, |bytes| i8::from_le_bytes(bytes).into())?,
            _ => return None,
        };
        Some(Self {
            before_bytes,
            item,
            behind,
        })
    }
}

#[inline]
fn text(rest: &[u8], text_bytes: usize) -> Option<(Item<'_>, &[u8])> {
    let (text, behind) = rest.split_at_checked(text_bytes)?;
    Some((Item::Text(text), behind))
}

#[inline]
fn int<const WIDTH: usize>(
    rest: &[u8],
    read: impl Fn([u8; WIDTH]) -> i64,
) -> Option<(Item<'_>, &[u8])> {
    let (bytes, behind) = rest.split_first_chunk()?;
    Some((Item::Int(read(*bytes)), behind))
}

/// Appends the ziplist to what ends at `start`; a part of it when it fails.
fn append<'a>(
    items: impl Iterator<Item = Item<'a>>,
    start: usize,
    out: &mut Vec<u8>,
) -> Result<(), Flaw> {
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let mut last = out.len();
    let mut count = 0_u16;
    for item in items {
        count = count
            .checked_add(1)
            .ok_or(Flaw::Ziplist("it holds more entries than a list's node"))?;
        let offset = out.len();
        append_before_bytes(bytes_u32(offset - last)?, out);
        match (item.to_int(), item) {
            (Some(int), _) | (None, Item::Int(int)) => append_int(int, out),
            (None, Item::Text(text)) => {
                // Held against the limit before it is copied.
                bytes_u32((out.len() - start).saturating_add(text.len()))?;
                append_text_encoding(bytes_u32(text.len())?, out);
                out.extend_from_slice(text);
            }
        }
        last = offset;
    }
    out.push(END);
    let header = Header {
        total_bytes: bytes_u32(out.len() - start)?,
        last_offset: bytes_u32(last - start)?,
        // 65535 becomes unknown, and is right again when the entries are counted.
        count,
    };
    header.write(out.get_mut(start..).unwrap_or_default());
    Ok(())
}

/// What the first bytes of a ziplist tell.
struct Header {
    total_bytes: u32,
    last_offset: u32,
    count: u16,
}

impl Header {
    /// Writes over the first bytes of `ziplist`.
    fn write(&self, ziplist: &mut [u8]) {
        let offsets = [self.total_bytes, self.last_offset].map(u32::to_le_bytes);
        let count = self.count.to_le_bytes();
        let bytes = offsets.as_flattened().iter().chain(&count);
        for (place, byte) in ziplist.iter_mut().zip(bytes) {
            *place = *byte;
        }
    }
}

/// A length that has 32 bits in a ziplist.
fn bytes_u32(bytes: usize) -> Result<u32, Flaw> {
    u32::try_from(bytes).map_err(|_| Flaw::TooLarge(bytes as u64))
}

fn append_before_bytes(before_bytes: u32, out: &mut Vec<u8>) {
    match u8::try_from(before_bytes) {
        Ok(bytes) if bytes < LONG => out.push(bytes),
        _ => {
            out.push(LONG);
            out.extend_from_slice(&before_bytes.to_le_bytes());
        }
    }
}

fn append_text_encoding(text_bytes: u32, out: &mut Vec<u8>) {
    let [b3, b2, b1, b0] = text_bytes.to_be_bytes();
    match text_bytes {
        0..=0x3f => out.push(b0),
        0x40..=0x3fff => out.extend_from_slice(&[b1 | 0x40, b0]),
        _ => out.extend_from_slice(&[0x80, b3, b2, b1, b0]),
    }
}

/// Appends an integer in the narrowest form, as servers do.
fn append_int(int: i64, out: &mut Vec<u8>) {
    let [b0, b1, b2, b3, ..] = int.to_le_bytes();
    match int {
        0..=12 => out.push(0xf1 + b0),
        -0x80..=0x7f => out.extend_from_slice(&[0xfe, b0]),
        -0x8000..=0x7fff => out.extend_from_slice(&[0xc0, b0, b1]),
        -0x80_0000..=0x7f_ffff => out.extend_from_slice(&[0xf0, b0, b1, b2]),
        -0x8000_0000..=0x7fff_ffff => out.extend_from_slice(&[0xd0, b0, b1, b2, b3]),
        _ => {
            out.push(0xe0);
            out.extend_from_slice(&int.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{damage, hex, noise};
    use super::*;

    const INTS: [i64; 19] = [
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
    ];

    /// DUMP of Redis 6.0.16, not compressed: RPUSH of these integers.
    fn ints() -> Vec<u8> {
        hex(
            "6a0000005f000000130000f102fd02fe0d03feff03fe7f03c0800004fe8003c07fff04c0ff7f04c00080\
             04f000800005f0ffff7f05f000008005d00000800006d0ffffff7f06d00000008006e000000080000000\
             000ae0ffffffffffffff7f0ae00000000000000080ff",
        )
    }

    fn a(count: usize) -> Vec<u8> {
        vec![b'a'; count]
    }

    /// DUMP of Redis 6.0.16: RPUSH of "", a, -0, 01, 2^63, and 63 and 64 times a.
    fn texts() -> Vec<u8> {
        let head = "b10000006d0000000700000002016103022d30040230310413393232333337323033363835343\
                    73735383038153f";
        [hex(head), a(63), hex("414040"), a(64), hex("ff")].concat()
    }

    /// DUMP of Redis 6.0.16 and 6.2.14: of RPUSH k, 300 times a, 247 times a, x; LPOP k. The last entry
    /// still tells in the long form that there are 250 bytes before it.
    fn kept_long() -> Vec<u8> {
        let (head, last) = ("0c0100000401000002000040f7", "fefa0000000178ff");
        [hex(head), a(247), hex(last)].concat()
    }

    fn items(bytes: &[u8]) -> Result<Vec<Item<'_>>, Flaw> {
        let items: Vec<_> = Ziplist::new(bytes)?.iter().collect();
        let told = u16::from_le_bytes([bytes[8], bytes[9]]);
        assert!(
            told == u16::MAX || usize::from(told) == items.len(),
            "{bytes:02x?}"
        );
        Ok(items)
    }

    fn count(bytes: &[u8]) -> Result<usize, Flaw> {
        items(bytes).map(|items| items.len())
    }

    fn encoded(items: &[Item<'_>]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        encode(items.iter().copied(), &mut out).unwrap();
        out.split_off(6)
    }

    #[test]
    fn integers_of_a_server() {
        assert_eq!(items(&ints()), Ok(INTS.map(Item::Int).to_vec()));
        assert_eq!(encoded(&INTS.map(Item::Int)), ints());
        let texts = INTS.map(|int| int.to_string());
        let texts: Vec<_> = texts
            .iter()
            .map(|text| Item::Text(text.as_bytes()))
            .collect();
        assert_eq!(encoded(&texts), ints());
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
        let expected = expected.map(Item::Text);
        assert_eq!(items(&texts()), Ok(expected.to_vec()));
        assert_eq!(encoded(&expected), texts());
        // ZADD of 1.5 m, -inf n, 3 o: scores are integers where they can be.
        let bytes = hex("210000001e000000060000016e03042d696e6606016d0303312e3505016f03f4ff");
        let all = [&b"n"[..], b"-inf", b"m", b"1.5", b"o", b"3"].map(Item::Text);
        assert_eq!(
            items(&bytes).map(|items| items[..5].to_vec()),
            Ok(all[..5].to_vec())
        );
        assert_eq!(encoded(&all), bytes);
    }

    /// Where the form of a length changes: from Redis 6.0.16.
    #[test]
    fn long_texts_of_a_server() {
        let text = [250, 251, 252, 16_383, 16_384].map(a);
        let [a250, a251, a252, a14, a32] = text.each_ref().map(|text| Item::Text(text));
        let [x, y, z] = [b"x", b"y", b"z"].map(|text| Item::Text(text));
        for (parts, expected) in [
            (
                [
                    hex("160300000e03000006000040fa"),
                    a(250),
                    hex("fd01780340fb"),
                    a(251),
                    hex("fefe00000001790740fc"),
                    a(252),
                    hex("feff000000017aff"),
                ],
                vec![a250, x, a251, y, a252, z],
            ),
            (
                [
                    hex("21800000198000000400007fff"),
                    a(16_383),
                    hex("fe024000000178078000004000"),
                    a(16_384),
                    hex("fe064000000179ff"),
                    vec![],
                    vec![],
                ],
                vec![a14, x, a32, y],
            ),
        ] {
            let bytes = parts.concat();
            assert_eq!(encoded(&expected), bytes);
            assert_eq!(items(&bytes), Ok(expected));
        }
        assert_eq!(items(&kept_long()), Ok(vec![Item::Text(&a(247)), x]));
    }

    #[test]
    fn counts() {
        for number in [0, 1, 65_534, 65_535] {
            let bytes = encoded(&vec![Item::Text(b"x"); number]);
            let told = u16::try_from(number).unwrap();
            assert_eq!(bytes[8..10], told.to_le_bytes());
            assert_eq!(count(&bytes), Ok(number));
        }
        let mut out = b"before".to_vec();
        let refused = encode(vec![Item::Int(1); 65_536].into_iter(), &mut out);
        assert!(matches!(refused, Err(Flaw::Ziplist(_))));
        assert_eq!(out, b"before");
        let mut bytes = texts();
        bytes[8..10].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(count(&bytes), Ok(7));
        assert_eq!(encoded(&[]), hex("0b0000000a0000000000ff"));
        // A hash of 35000 fields, with hash-max-ziplist-entries raised.
        let entries = [&b"\0\xf2"[..], &b"\x02\xf2".repeat(69_999)].concat();
        let total = u32::try_from(entries.len() + 11).unwrap();
        let (total, last) = (total.to_le_bytes(), (total - 3).to_le_bytes());
        let bytes = [&total[..], &last, &[0xff, 0xff], &entries, &[END]].concat();
        assert_eq!(count(&bytes), Ok(70_000));
    }

    #[test]
    fn one_text_alone() {
        for (text_bytes, head_bytes) in [
            (0, 12),
            (63, 12),
            (64, 13),
            (16_383, 13),
            (16_384, 16),
            (100_000, 16),
        ] {
            let text = a(text_bytes);
            let head = single_head(u32::try_from(text_bytes).unwrap()).unwrap();
            assert_eq!(head.len(), head_bytes);
            let bytes = [&head[..], &text, &[END]].concat();
            assert_eq!(bytes, encoded(&[Item::Text(&text)]));
        }
        let last = u32::MAX - 17;
        assert!(single_head(last).is_ok_and(|head| head.starts_with(&[0xff; 4])));
        assert_eq!(single_head(last + 1), Err(Flaw::TooLarge(1 << 32)));
        assert!(single_head(u32::MAX).is_err());
    }

    #[test]
    fn what_is_refused() {
        let pack = |last: u8, entries: &[u8], count: u8| {
            let total = u8::try_from(entries.len() + 11).unwrap();
            [
                &[total, 0, 0, 0, last, 0, 0, 0, count, 0][..],
                entries,
                &[END],
            ]
            .concat()
        };
        let unknown = "an entry has no known encoding or reaches over its end";
        for (bytes, why) in [
            (
                hex("0b0000000a0000000000"),
                "its header tells another length",
            ),
            (hex("0a0000000a00000000"), "it ends within its header"),
            (hex("0a0000000a0000000000"), "it has no end"),
            (hex("0b0000000a000000000000"), "it has no end"),
            (
                hex("0c0000000a0000000000ff"),
                "its header tells another length",
            ),
            (
                pack(9, b"", 0),
                "its header tells another place of the last entry",
            ),
            (
                pack(11, b"", 0),
                "its header tells another place of the last entry",
            ),
            (
                pack(10, b"\0\xf2\x02\xf2", 2),
                "its header tells another place of the last entry",
            ),
            (
                pack(13, b"\0\xf2\x02\xf2", 2),
                "its header tells another place of the last entry",
            ),
            (
                pack(12, b"\0\xf2\x02\xf2", 1),
                "its header tells another count",
            ),
            (
                pack(12, b"\0\xf2\x02\xf2", 3),
                "its header tells another count",
            ),
            (
                pack(12, b"\0\xf2\x03\xf2", 2),
                "an entry tells another length of the one before it",
            ),
            (
                pack(10, b"\x01\xf2", 1),
                "an entry tells another length of the one before it",
            ),
            (pack(10, b"\0", 1), unknown),
            (pack(10, b"\0\xff", 1), unknown),
            (pack(10, b"\0\xc1\0\0\0", 1), unknown),
            (pack(10, b"\0\xc0\0", 1), unknown),
            (pack(10, b"\0\x02a", 1), unknown),
            (pack(10, b"\0\x40", 1), unknown),
            (pack(10, b"\0\x80\xff\xff\xff\xffa", 1), unknown),
            (pack(10, b"\xfe\0\0\0", 1), unknown),
            (pack(10, b"\xff\xf2", 1), unknown),
        ] {
            assert_eq!(items(&bytes), Err(Flaw::Ziplist(why)), "{bytes:02x?}");
        }
        assert_eq!(count(&pack(12, b"\0\xf2\x02\xf2", 2)), Ok(2));
        assert_eq!(count(&pack(10, b"\xfe\0\0\0\0\xf2", 1)), Ok(1));
    }

    #[test]
    fn damaged_and_made_up() {
        for valid in [ints(), texts(), kept_long(), encoded(&[])] {
            damage(&valid, count);
        }
        let header = |total: u32| {
            // With one entry, that is where the last one is.
            [&total.to_le_bytes()[..], &[10, 0, 0, 0, 0xff, 0xff]].concat()
        };
        noise(header, &[END], count);
        noise(|_| Vec::new(), &[], count);
    }
}

//! Intsets: small sets of integers only (RDB >= 2, Redis 2.4).
//!
//! ```text
//! width u32 | count u32 | integers, ascending                little endian; width 2, 4 or 8 bytes
//! ```
//!
//! The width is what the widest integer that ever was in the set needed.

use crate::error::Flaw;

const HEADER_BYTES: usize = 8;

/// An intset that was checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Intset<'a> {
    integers: &'a [u8],
    width_bytes: usize,
}

impl<'a> Intset<'a> {
    /// Checks all of it: width, length, and that the integers ascend, so that none stands there twice.
    ///
    /// # Errors
    ///
    /// `Flaw::Intset` for all that a server refuses, also an empty set.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Flaw> {
        let Some(([w0, w1, w2, w3, c0, c1, c2, c3], integers)) =
            bytes.split_first_chunk::<HEADER_BYTES>()
        else {
            return Err(Flaw::Intset("it ends within its header"));
        };
        let width = u32::from_le_bytes([*w0, *w1, *w2, *w3]);
        let count = u32::from_le_bytes([*c0, *c1, *c2, *c3]);
        if u64::from(count) * u64::from(width) != integers.len() as u64 {
            return Err(Flaw::Intset("its header tells another length"));
        }
        if count == 0 {
            return Err(Flaw::Intset("it is empty"));
        }
        let (width_bytes, is_ascending) = match width {
            2 => (2, is_ascending(integers, i16::from_le_bytes)),
            4 => (4, is_ascending(integers, i32::from_le_bytes)),
            8 => (8, is_ascending(integers, i64::from_le_bytes)),
            _ => return Err(Flaw::Intset("its integers have no known width")),
        };
        match is_ascending {
            true => Ok(Self {
                integers,
                width_bytes,
            }),
            false => Err(Flaw::Intset("its integers do not ascend")),
        }
    }

    /// The integers, ascending.
    pub(crate) fn iter(self) -> impl Iterator<Item = i64> + 'a {
        self.integers.chunks_exact(self.width_bytes).map(integer)
    }
}

/// Whether each integer is above the one before it.
fn is_ascending<const WIDTH: usize, T: PartialOrd>(
    integers: &[u8],
    read: fn([u8; WIDTH]) -> T,
) -> bool {
    let (integers, _) = integers.as_chunks::<WIDTH>();
    integers.is_sorted_by(|one, next| read(*one) < read(*next))
}

fn integer(bytes: &[u8]) -> i64 {
    match *bytes {
        [a, b] => i16::from_le_bytes([a, b]).into(),
        [a, b, c, d] => i32::from_le_bytes([a, b, c, d]).into(),
        [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
        // There is no fourth width.
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{damage, hex, noise};
    use super::*;

    fn integers(bytes: &[u8]) -> Result<Vec<i64>, Flaw> {
        let integers: Vec<_> = Intset::new(bytes)?.iter().collect();
        assert!(
            integers.is_sorted_by(|one, next| one < next),
            "{bytes:02x?}"
        );
        Ok(integers)
    }

    fn count(bytes: &[u8]) -> Result<usize, Flaw> {
        integers(bytes).map(|integers| integers.len())
    }

    /// DUMP of Redis 6.0.16; the last after SREM of the widest.
    fn of_a_server() -> [(Vec<u8>, Vec<i64>); 4] {
        [
            ("0200000003000000fbff01002c01", vec![-5, 1, 300]),
            (
                "0400000003000000fbffffff0100000070110100",
                vec![-5, 1, 70_000],
            ),
            (
                "08000000040000000000000000000080fbffffffffffffff0100000000000000ffffffffffffff7f",
                vec![i64::MIN, -5, 1, i64::MAX],
            ),
            (
                "0800000002000000fbffffffffffffff0100000000000000",
                vec![-5, 1],
            ),
        ]
        .map(|(bytes, integers)| (hex(bytes), integers))
    }

    #[test]
    fn sets_of_a_server() {
        for (bytes, expected) in of_a_server() {
            assert_eq!(integers(&bytes), Ok(expected));
        }
    }

    #[test]
    fn what_is_refused() {
        for (bytes, why) in [
            ("02000000010000", "it ends within its header"),
            ("0200000000000000", "it is empty"),
            ("0200000002000000fbff", "its header tells another length"),
            ("0200000001000000fbff00", "its header tells another length"),
            ("02000000ffffffff", "its header tells another length"),
            ("ffffffffffffffff", "its header tells another length"),
            ("03000000010000000000ff", "its integers have no known width"),
            ("0000000000000000", "it is empty"),
            ("0000000001000000", "its integers have no known width"),
            ("0200000002000000fbfffbff", "its integers do not ascend"),
            ("02000000020000000100fbff", "its integers do not ascend"),
        ] {
            assert_eq!(integers(&hex(bytes)), Err(Flaw::Intset(why)), "{bytes}");
        }
    }

    #[test]
    fn damaged_and_made_up() {
        for (valid, _) in of_a_server() {
            damage(&valid, count);
        }
        for width in [2, 4, 8_u32] {
            let header = |total: u32| {
                let count = total.saturating_sub(8) / width;
                [width.to_le_bytes(), count.to_le_bytes()].concat()
            };
            noise(header, &[], count);
        }
        noise(|_| Vec::new(), &[], count);
    }
}

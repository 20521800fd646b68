//! One command of a stream, where it lies.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use keyhaul_resp::encode;

/// Where an argument lies in the bytes of its command. Commands that are held are shorter than 4 GB.
pub(crate) type ArgRange = Range<u32>;

/// Stands for an argument that is not held; no argument that is held ends before it begins.
#[allow(clippy::reversed_empty_ranges, reason = "that is the mark")]
pub(crate) const CUT: ArgRange = 1..0;

/// The arguments of a command, its name the first. There is always one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Args<'a> {
    bytes: &'a [u8],
    ranges: &'a [ArgRange],
    is_cut_off: bool,
}

impl<'a> Args<'a> {
    /// Arguments at these places of `bytes`; [`CUT`] for one that was too long to be held.
    pub(crate) fn new(bytes: &'a [u8], ranges: &'a [ArgRange]) -> Self {
        Self {
            bytes,
            ranges,
            is_cut_off: false,
        }
    }

    /// The first arguments of a command that has more of them.
    pub(crate) fn cut_off(bytes: &'a [u8], ranges: &'a [ArgRange]) -> Self {
        Self {
            bytes,
            ranges,
            is_cut_off: true,
        }
    }

    /// The name as it came, in any case.
    pub(crate) fn name(&self) -> &'a [u8] {
        self.get(0).unwrap_or_default()
    }

    /// How many there are, the name counted.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// One of them, empty if it is not held; `None`: there are not so many.
    pub(crate) fn get(&self, index: usize) -> Option<&'a [u8]> {
        Some(self.held(self.ranges.get(index)?))
    }

    /// It was too long to be held and reads as empty.
    pub(crate) fn is_cut(&self, index: usize) -> bool {
        self.ranges.get(index) == Some(&CUT)
    }

    /// The command has more arguments than these.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    /// One of them as a number; `None` also where it is none.
    pub(crate) fn integer(&self, index: usize) -> Option<i64> {
        std::str::from_utf8(self.get(index)?).ok()?.parse().ok()
    }

    /// One of them is this word, in any case.
    pub(crate) fn is(&self, index: usize, word: &str) -> bool {
        self.get(index)
            .is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &'a [u8]> + ExactSizeIterator {
        let all = *self;
        self.ranges.iter().map(move |range| all.held(range))
    }

    fn held(&self, range: &ArgRange) -> &'a [u8] {
        let range = range.start as usize..range.end as usize;
        self.bytes.get(range).unwrap_or_default()
    }
}

/// A command that was written here, not received.
#[derive(Debug, Default, Clone)]
pub(crate) struct Written {
    bytes: BytesMut,
    ranges: Vec<ArgRange>,
}

impl Written {
    /// A command of these arguments, its name the first. `None`: it would have 4 GB.
    pub(crate) fn new<'a>(args: impl ExactSizeIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut written = Self::default();
        encode::array_header(&mut written.bytes, args.len());
        for arg in args {
            encode::bulk(&mut written.bytes, arg);
            let end = written.bytes.len() - b"\r\n".len();
            let start = u32::try_from(end - arg.len()).ok()?;
            written.ranges.push(start..u32::try_from(end).ok()?);
        }
        Some(written)
    }

    /// Its arguments.
    pub(crate) fn args(&self) -> Args<'_> {
        Args::new(&self.bytes, &self.ranges)
    }

    /// It, encoded.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_held_reads_as_empty_and_is_told() {
        let bytes = b"GETx12";
        let ranges = [0..3, CUT, 3..3, 4..6];
        let args = Args::new(bytes, &ranges);
        let all: Vec<_> = args.iter().collect();
        assert_eq!(all, [&b"GET"[..], b"", b"", b"12"]);
        let cut: Vec<_> = (0..5).map(|index| args.is_cut(index)).collect();
        assert_eq!(cut, [false, true, false, false, false]);
        assert_eq!((args.get(1), args.get(4)), (Some(&b""[..]), None));
        assert_eq!((args.integer(3), args.integer(0)), (Some(12), None));
        assert!(args.is(0, "get") && !args.is(3, "get") && !args.is(9, "get"));
    }

    #[test]
    fn what_was_written_has_its_arguments() {
        let written = Written::new([&b"SET"[..], b"", b"\r\n"].into_iter()).unwrap();
        let all: Vec<_> = written.args().iter().collect();
        assert_eq!(all, [&b"SET"[..], b"", b"\r\n"]);
        assert_eq!(
            written.into_bytes(),
            &b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$2\r\n\r\n\r\n"[..]
        );
    }
}

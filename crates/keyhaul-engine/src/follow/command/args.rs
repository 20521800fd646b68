//! One command of a stream, where it lies.

use std::ops::Range;

/// The arguments of a command, its name the first. There is always one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Args<'a> {
    bytes: &'a [u8],
    /// Where in the bytes each argument lies. One that was too long to be held is empty and not all of the command's bytes are there.
    ranges: &'a [Range<usize>],
}

impl<'a> Args<'a> {
    pub(crate) fn new(bytes: &'a [u8], ranges: &'a [Range<usize>]) -> Self {
        Self { bytes, ranges }
    }

    /// The name as it came, in any case.
    pub(crate) fn name(&self) -> &'a [u8] {
        self.get(0).unwrap_or_default()
    }

    /// How many there are, the name counted.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// One of them; `None`: there are not so many.
    pub(crate) fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.bytes.get(self.ranges.get(index)?.clone())
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &'a [u8]> + ExactSizeIterator {
        let bytes = self.bytes;
        let ranges = self.ranges.iter();
        ranges.map(move |range| bytes.get(range.clone()).unwrap_or_default())
    }
}

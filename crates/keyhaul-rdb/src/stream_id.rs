//! The id of a stream's entry.

use std::fmt;

/// Milliseconds and a sequence number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Unix time in ms, as whoever added the entry had it.
    pub ms: u64,
    /// Number within the millisecond.
    pub seq: u64,
}

impl StreamId {
    /// From 16 bytes, big endian, as they lie in RDB 9 and later.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (ms, seq) = bytes.split_first_chunk::<8>()?;
        Some(Self {
            ms: u64::from_be_bytes(*ms),
            seq: u64::from_be_bytes(*seq.first_chunk()?),
        })
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

//! Ids of stream entries, in their order.

use std::fmt;

/// `milliseconds-sequence`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StreamId {
    ms: u64,
    seq: u64,
}

impl StreamId {
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (ms, seq) = text.split_once('-')?;
        Some(Self {
            ms: ms.parse().ok()?,
            seq: seq.parse().ok()?,
        })
    }

    /// The id after this one; `None`: there is none.
    pub(super) fn next(self) -> Option<Self> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(Self { seq, ..self }),
            None => Some(Self {
                ms: self.ms.checked_add(1)?,
                seq: 0,
            }),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_an_order_and_successors() {
        let id = |text: &str| StreamId::parse(text.as_bytes());
        assert!(id("9-0") < id("10-0") && id("10-2") < id("10-10"));
        assert_eq!(id("5-3").and_then(StreamId::next), id("5-4"));
        let last = format!("5-{}", u64::MAX);
        assert_eq!(id(&last).and_then(StreamId::next), id("6-0"));
        assert_eq!(
            id(&format!("{0}-{0}", u64::MAX)).and_then(StreamId::next),
            None
        );
        assert_eq!(id("5"), None);
        assert_eq!(id("12-34").map(|id| id.to_string()), Some("12-34".into()));
    }
}

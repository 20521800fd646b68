//! What can be wrong with the bytes of a peer. After any of these the connection is of no further use.

use std::fmt;

/// How many bytes of the peer an error shows.
const EXCERPT_BYTES_MAX: usize = 40;

/// Why bytes could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A value begins with a byte that is no mark of RESP: another protocol, or we lost step.
    #[error("the peer does not speak RESP: it sent {sent}")]
    NotResp {
        /// The byte where a mark should be.
        byte: u8,
        /// This byte and what came behind it.
        sent: Excerpt,
    },
    /// A line does not end where it must.
    #[error("a line of RESP is longer than {limit} bytes")]
    LineTooLong {
        /// [`Limits::line_len_max`](crate::Limits::line_len_max).
        limit: usize,
    },
    /// The length of a bulk string or an aggregate is no plain decimal number.
    #[error("bad length in {sent}")]
    BadLength {
        /// The line.
        sent: Excerpt,
    },
    /// An integer, a double or a big number is none.
    #[error("bad number in {sent}")]
    BadNumber {
        /// The line.
        sent: Excerpt,
    },
    /// A boolean other than `#t` and `#f`, or a null with content.
    #[error("bad boolean or null in {sent}")]
    BadConstant {
        /// The line.
        sent: Excerpt,
    },
    /// A verbatim string that does not begin with a format of three bytes and a colon.
    #[error("bad verbatim string: it begins with {sent}")]
    BadVerbatim {
        /// The begin of the string.
        sent: Excerpt,
    },
    /// A line or a bulk string does not end with `\r\n`.
    #[error("line end missing: found {sent} instead")]
    MissingCrlf {
        /// What is there instead; for a line, all of it.
        sent: Excerpt,
    },
    /// RESP3 defines strings and aggregates of unknown length (`$?`, `*?`); no server sends them.
    #[error("streamed strings and aggregates are not supported: {sent}")]
    Streamed {
        /// The line.
        sent: Excerpt,
    },
    /// A bulk string announces more than is taken.
    #[error("a bulk string of {len} bytes is above the limit of {limit}")]
    BulkTooLong {
        /// What the peer announced, bytes.
        len: u64,
        /// What is taken, bytes.
        limit: u64,
    },
    /// An aggregate announces more elements than are taken.
    #[error("an aggregate of {len} elements is above the limit of {limit}")]
    AggregateTooLong {
        /// What the peer announced: elements, or pairs of a map.
        len: u64,
        /// [`Limits::aggregate_len_max`](crate::Limits::aggregate_len_max).
        limit: u64,
    },
    /// Aggregates inside aggregates.
    #[error("a value is nested deeper than {limit} levels")]
    TooDeep {
        /// [`Limits::depth_max`](crate::Limits::depth_max).
        limit: usize,
    },
    /// A value would take too much memory as a tree.
    #[error("a value is larger than {limit} bytes")]
    TooLarge {
        /// [`Limits::value_bytes_max`](crate::Limits::value_bytes_max).
        limit: usize,
    },
    /// A push inside another value: it may stand only between replies.
    #[error("a push stands inside another value")]
    NestedPush,
    /// Misuse: `value` was called while `token` was giving out a bulk string in parts.
    #[error("a value was asked for in the middle of a bulk string that comes in parts")]
    MidBulk,
}

/// The first bytes of something a peer sent, quoted and escaped when shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Excerpt {
    bytes: Box<[u8]>,
    cut: bool,
}

impl Excerpt {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let (shown, rest) = bytes.split_at(bytes.len().min(EXCERPT_BYTES_MAX));
        Self {
            bytes: shown.into(),
            cut: !rest.is_empty(),
        }
    }

    /// The bytes, at most forty.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.cut { "..." } else { "" };
        write!(f, "\"{}{more}\"", self.bytes.escape_ascii())
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

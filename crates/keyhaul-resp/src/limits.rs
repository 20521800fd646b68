//! The bounds on what a peer may send. All of them, and where each number comes from.

/// Longer bulk strings come in parts. Almost every payload is shorter, and hundreds of connections may
/// hold one of this length at the same time.
const BULK_WHOLE_MAX: usize = 1 << 20;
/// Servers bound arguments by `proto-max-bulk-len` (512 MB unless raised), but not their replies: a DUMP
/// is as long as its key. No memory is taken by it, since such a string comes in parts.
const BULK_LEN_MAX: u64 = 64 << 30;
/// What servers take as a line themselves: `PROTO_INLINE_MAX_SIZE`.
const LINE_LEN_MAX: usize = 64 << 10;
/// Replies nest a few levels deep; COMMAND DOCS, the deepest we know, has 12 levels on Redis 7.0.
const DEPTH_MAX: usize = 32;
/// More than a key holds. It bounds a counter: tokens take no memory for what was announced.
const AGGREGATE_LEN_MAX: u64 = 1 << 32;
/// A whole reply as a tree, such as a page of SCAN or CLUSTER SLOTS. What is larger is read by tokens.
const VALUE_BYTES_MAX: usize = 256 << 20;

/// How much a peer may send before it is refused. Bytes, unless the name says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A bulk string above this comes in parts from [`Decoder::token`](crate::Decoder::token).
    pub bulk_whole_max: usize,
    /// A bulk string that announces more is refused.
    pub bulk_len_max: u64,
    /// A line that is longer, without its mark and its end, is refused.
    pub line_len_max: usize,
    /// A value with more aggregates inside one another is refused. Keep it below a thousand: trees are
    /// dropped by recursion.
    pub depth_max: usize,
    /// An aggregate that announces more elements (a map: pairs) is refused.
    pub aggregate_len_max: u64,
    /// A value that takes more memory as a tree is refused.
    pub value_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bulk_whole_max: BULK_WHOLE_MAX,
            bulk_len_max: BULK_LEN_MAX,
            line_len_max: LINE_LEN_MAX,
            depth_max: DEPTH_MAX,
            aggregate_len_max: AGGREGATE_LEN_MAX,
            value_bytes_max: VALUE_BYTES_MAX,
        }
    }
}

//! Big keys: values that are too large to go over in one piece.
//!
//! ```text
//!            source                                            target
//!   WATCH ─► pages of elements ─► sink ─► chunks ─► builder ─► staging key
//!   EXEC  ─► was it written? ────────────────────────────────► length, expiry, RENAME
//! ```
//!
//! - [`queue`] takes the names of big keys and works on several at once, beside the small ones.
//! - [`job`] copies one key: it tries, waits, tries again, and settles what becomes of it.
//! - [`scan`], [`ranks`], [`list`], [`string`] and [`stream`] read one kind of value each, page by page.
//! - [`sentry`] finds out early that a value is written meanwhile.
//! - [`sink`] cuts elements into chunks. It keeps a digest of all that was read, so that a later try can
//!   prove that what an earlier one built is still the beginning of the value.
//! - [`stored`] takes values apart that lie in RDB files and snapshots.
//! - [`builder`] sends [`chunk`]s into the staging key ([`staging`]); [`finish`] puts it in its place.

pub(crate) mod builder;
mod chunk;
mod finish;
pub(crate) mod job;
mod list;
pub(crate) mod queue;
mod ranks;
mod scan;
mod sentry;
mod sink;
pub(crate) mod staging;
pub(crate) mod stored;
mod stream;
mod string;

use keyhaul_client::{ClientError, ValueKind};

use crate::options::CHUNK_ELEMENTS;

/// Why the copy of a big key did not go on.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The source failed.
    Source(ClientError),
    /// The link to the target failed in the middle of what cannot be sent again: read it again.
    Interrupted,
    /// The staging key is not what was built: begin anew.
    Lost,
    /// The value was written, it may be only behind what is built, or in its expiry: read it again.
    Noticed,
    /// What is built is not how the value begins any more: begin anew.
    Outdated,
    /// The value was written in a way that what is built is of no use: begin anew.
    Written,
    /// It cannot go over; why.
    Refused(String),
    /// The job was halted, or is to stop.
    Stopped,
}

/// How values are cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkLimits {
    /// Bytes in a chunk, unless one element is longer.
    pub bytes: usize,
    /// Elements in a chunk, and in a page of the source, 1...
    pub elements: u64,
    /// The user has chosen that number.
    is_chosen: bool,
}

impl ChunkLimits {
    /// The limits of a job, of which the user may have chosen the number of elements.
    pub(crate) fn new(elements: Option<u32>) -> Self {
        Self {
            bytes: CHUNK_BYTES,
            elements: u64::from(elements.unwrap_or(CHUNK_ELEMENTS)),
            is_chosen: elements.is_some(),
        }
    }

    /// Those of this kind of value. A chunk is one step for the target, and a page one for the source, in which it
    /// serves nobody else: 1000 members of a sorted set take it 2 ms, ten times that while it has to be given memory.
    pub(crate) fn of(self, kind: ValueKind) -> Self {
        let most = match kind {
            ValueKind::SortedSet | ValueKind::Hash | ValueKind::Set => 1000,
            ValueKind::Stream => 2000,
            // It is their bytes that take time.
            ValueKind::List | ValueKind::String => u64::MAX,
        };
        match self.is_chosen {
            true => self,
            false => Self {
                elements: self.elements.min(most),
                ..self
            },
        }
    }
}

/// Bytes in a chunk.
pub(crate) const CHUNK_BYTES: usize = 1024 * 1024;

/// An element above this passes through in parts instead of being held, bytes.
const ELEMENT_HELD_MAX: u64 = 4 * 1024 * 1024;

/// What source and target of a big key are able to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Abilities {
    /// The source's fields may expire (Redis >= 7.4, Valkey >= 9.0).
    pub source_field_expiry: bool,
    /// The target's fields may expire.
    pub target_field_expiry: bool,
    /// The loss of it is accepted.
    pub may_drop_field_expiry: bool,
    /// The target knows how many entries were ever added to a stream and read by a group (>= 7.0).
    pub stream_offsets: bool,
    /// The target knows XGROUP CREATECONSUMER (>= 6.2).
    pub creates_consumers: bool,
}

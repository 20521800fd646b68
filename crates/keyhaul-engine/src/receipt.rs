//! What a finished (or stopped) job has to show for itself.

use std::path::PathBuf;
use std::time::Duration;

use crate::follow::StatusSnapshot;
use crate::stats::NotMoved;

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All keys were moved (and verified, if that was asked for).
    Done,
    /// The verification found differences that are not explained by keys listed as not moved.
    Different,
    /// It came to its end, but some keys were not moved; they are listed.
    NotAllMoved,
    /// It stopped before its end; why. The same command can be given again.
    Stopped(String),
}

/// What the verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyCounts {
    /// Source keys that were looked up.
    pub checked: u64,
    /// Same on both sides.
    pub same: u64,
    /// Not on the target. Those that are listed as not moved are counted here too.
    pub missing: u64,
    /// Of another type.
    pub type_differs: u64,
    /// With another value; only a full verification looks.
    pub value_differs: u64,
    /// With another expiry.
    pub expiry_differs: u64,
    /// Of these, the ones that are listed as not moved.
    pub listed_as_not_moved: u64,
    /// Not checked, for a reason that is said with the difference.
    pub errors: u64,
    /// The first differences, readable: `db 0 "user:1": missing on the target`.
    pub examples: Vec<String>,
}

impl VerifyCounts {
    /// Differences that nothing explains.
    pub fn unexplained(&self) -> u64 {
        (self.missing + self.type_differs + self.value_differs + self.expiry_differs + self.errors)
            .saturating_sub(self.listed_as_not_moved)
    }
}

/// The result of a copy job.
#[derive(Debug)]
pub struct Receipt {
    /// How it ended.
    pub outcome: Outcome,
    /// Keys that SCAN returned and the filters took; a rescan counts a key again.
    pub keys_found: u64,
    /// Keys that the target acknowledged.
    pub keys_copied: u64,
    /// Of those, keys that went over in chunks.
    pub keys_chunked: u64,
    /// Keys left as they were on the target.
    pub keys_skipped: u64,
    /// Keys that vanished or expired on the source during the run.
    pub keys_gone: u64,
    /// Payload bytes that the target acknowledged.
    pub bytes_copied: u64,
    /// Connections opened again and commands repeated.
    pub retries: u64,
    /// Function libraries that went over.
    pub functions_copied: u64,
    /// Length of the RDB file that was written; `None`: the target is a server.
    pub file_bytes: Option<u64>,
    /// Time of the copy without the verification.
    pub copy_time: Duration,
    /// Time of the verification.
    pub verify_time: Duration,
    /// `None`: not asked for, or not reached.
    pub verify: Option<VerifyCounts>,
    /// Keys that were not moved, with db, name and reason; may be long.
    pub not_moved: NotMoved,
    /// Where a job that stopped saved how far it came; `None`: the same command starts over.
    pub saved: Option<PathBuf>,
    /// How far a job came that follows the source; `None`: it does not.
    pub live: Option<StatusSnapshot>,
    /// Things worth a line: a node that was rescanned, a degraded right.
    pub remarks: Vec<String>,
}

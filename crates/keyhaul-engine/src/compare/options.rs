//! What a comparison is asked to do, and what it has to show for itself.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use crate::options::CopyOptions;
use crate::receipt::Outcome;

/// Default of [`CompareOptions::rechecks`].
pub const RECHECKS: u32 = 5;
/// Most rechecks: their waits grow, and the last ones of so many take a minute each.
pub const RECHECKS_MAX: u32 = 20;

/// How closely keys are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// Existence, type and expiry.
    Quick,
    /// Values too, byte by byte.
    #[default]
    Full,
}

/// A comparison.
#[derive(Debug, Clone, Default)]
pub struct CompareOptions {
    /// Filters, dbs, names, connections, memory, rate limit and patience: as those of the copy that made the
    /// target what it is. What is about writing is of use only for a repair.
    pub copy: CopyOptions,
    /// How closely.
    pub depth: Depth,
    /// Expiries that are no further apart are the same, ms. `None`: 0 where both servers tell absolute times
    /// (Redis >= 7.0), else 10.
    pub ttl_tolerance_ms: Option<u64>,
    /// How often a key that differs is looked at again, with growing waits, before it counts as unsettled,
    /// 1..=[`RECHECKS_MAX`].
    pub rechecks: u32,
    /// Tell what differs inside a value.
    pub shows_diffs: bool,
    /// Tell of keys that are the same too.
    pub tells_same: bool,
    /// Only these keys, from an earlier comparison.
    pub only: Option<Vec<NamedKey>>,
    /// Remove the differences.
    pub repair: Option<Repair>,
}

/// One key of an earlier comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedKey {
    /// What it was then; it tells on which side the name is to be looked for.
    pub mark: Mark,
    /// The db.
    pub db: u32,
    /// The name.
    pub key: Bytes,
}

/// What is done about differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Repair {
    /// Keys that only the target has are deleted.
    pub deletes_extra: bool,
    /// Nothing is written; the report says what would be.
    pub is_dry_run: bool,
}

/// What a key turned out to be: the first character of its line in a diff file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// `=`: the same.
    Same,
    /// `-`: on the source only.
    Missing,
    /// `+`: on the target only. Db and name are those of the target.
    Extra,
    /// `*`: on both, and different.
    Different,
    /// `!`: it could not be compared, or was written all the time.
    Unknown,
}

impl Mark {
    /// Its character.
    pub fn char(self) -> char {
        match self {
            Self::Same => '=',
            Self::Missing => '-',
            Self::Extra => '+',
            Self::Different => '*',
            Self::Unknown => '!',
        }
    }

    /// The mark that has this character.
    pub fn of_char(char: char) -> Option<Self> {
        let all = [
            Self::Same,
            Self::Missing,
            Self::Extra,
            Self::Different,
            Self::Unknown,
        ];
        all.into_iter().find(|mark| mark.char() == char)
    }
}

/// One key that was compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDiff {
    /// What it is.
    pub mark: Mark,
    /// The db of the source; of [`Mark::Extra`] that of the target.
    pub db: u32,
    /// The name on the source; of [`Mark::Extra`] that on the target.
    pub key: Bytes,
    /// What differs, or why it is not known, in one line; empty for [`Mark::Same`].
    pub what: String,
    /// The first differences inside the value, a line each; empty unless they were asked for.
    pub inside: Vec<String>,
}

/// Counts of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompareCounts {
    /// Keys that were looked at on either side: the sum of the others.
    pub checked: u64,
    /// The same on both sides.
    pub same: u64,
    /// On the source only.
    pub missing: u64,
    /// On the target only.
    pub extra: u64,
    /// Of another type.
    pub type_differs: u64,
    /// With another value.
    pub value_differs: u64,
    /// With another expiry alone.
    pub expiry_differs: u64,
    /// Written so often that it is not known.
    pub unsettled: u64,
    /// Not compared, for a reason that is said with the key.
    pub errors: u64,
    /// Function libraries that are not the same; they are no keys.
    pub functions_differ: u64,
    /// Function libraries could not be compared; a remark says why.
    pub functions_unknown: bool,
}

impl CompareCounts {
    /// Keys, and libraries, that differ for certain.
    pub fn differences(&self) -> u64 {
        self.missing
            + self.extra
            + self.type_differs
            + self.value_differs
            + self.expiry_differs
            + self.functions_differ
    }

    /// Whether all was seen, and is the same.
    pub fn is_equal(&self) -> bool {
        self.differences() + self.unsettled + self.errors == 0 && !self.functions_unknown
    }
}

/// What a repair did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairCounts {
    /// Keys that were copied again.
    pub copied: u64,
    /// Keys that were deleted on the target.
    pub deleted: u64,
    /// Keys that only the target has and that stay, as deleting was not asked for.
    pub left: u64,
    /// Function libraries that were copied again.
    pub functions_copied: u64,
    /// Function libraries that were deleted on the target.
    pub functions_deleted: u64,
}

/// An earlier run that a comparison goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarlierRun {
    /// Keys that were the same then, about. They were not looked at again.
    pub keys_same: u64,
    /// How long before this run it noted that last, less what the clock was set back meanwhile.
    pub ago: Duration,
}

/// The result of a comparison.
#[derive(Debug)]
pub struct CompareReceipt {
    /// [`Outcome::Done`]: equal, also after a repair. [`Outcome::Different`]: not, or not known.
    pub outcome: Outcome,
    /// What was found; after a repair, what is left.
    pub counts: CompareCounts,
    /// What was found before the repair; `None`: nothing was repaired.
    pub before_repair: Option<CompareCounts>,
    /// What the repair did, or would do.
    pub repaired: Option<RepairCounts>,
    /// What it rests on of an earlier run that stopped; `None`: of none.
    pub earlier: Option<EarlierRun>,
    /// The first differences, readable: `db 0 "user:1": value differs`.
    pub examples: Vec<String>,
    /// Function libraries that differ, readable.
    pub functions: Vec<String>,
    /// Where a comparison that stopped saved how far it came; `None`: the same command starts over.
    pub saved: Option<PathBuf>,
    /// Connections opened again and commands repeated.
    pub retries: u64,
    /// How long it took.
    pub time: Duration,
    /// Things worth a line.
    pub remarks: Vec<String>,
}

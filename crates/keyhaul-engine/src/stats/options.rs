//! What statistics are asked for, and what came of it.

use std::path::PathBuf;
use std::time::Duration;

use crate::options::CopyOptions;
use crate::receipt::Outcome;
use crate::stats::{Kept, NotMoved};

/// What is to be known of each key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Its size.
    Sizes,
    /// Everything that [`KeyFacts`](crate::stats::KeyFacts) has room for.
    Everything,
}

/// A pass over all keys of one end.
#[derive(Debug, Clone)]
pub struct StatsOptions {
    /// Filters, dbs, SCAN's COUNT, patience, where checkpoints lie; all else is not looked at.
    pub copy: CopyOptions,
    /// What is to be known of each key.
    pub wanted: Wanted,
    /// MEMORY USAGE looks at so many elements of a value, 0 at all. `None`: as the server has it.
    pub samples: Option<u32>,
    /// A replica of each primary is read, where one can be.
    pub prefers_replica: bool,
    /// What is made of it, and with which options: an earlier run that differs in that is not gone on from.
    pub output: String,
}

/// What a pass came to.
#[derive(Debug)]
pub struct StatsReceipt {
    /// Never [`Outcome::Different`].
    pub outcome: Outcome,
    /// Keys that were taken in, those of an earlier run included.
    pub keys: u64,
    /// What they take, bytes.
    pub size_bytes: u64,
    /// Keys that vanished or expired before they could be asked about; of a file, those that have expired.
    pub keys_gone: u64,
    /// Keys that the server would not tell about, with the reason.
    pub unread: NotMoved,
    /// Connections opened again and commands repeated.
    pub retries: u64,
    /// How long it took.
    pub time: Duration,
    /// Keys that this run looked at, for a rate.
    pub keys_this_run: u64,
    /// Where a pass that stopped saved how far it came; `None`: the same command starts over.
    pub saved: Option<PathBuf>,
    /// Of a pass that is done: [`StatsReceipt::settle`] removes it.
    pub kept: Option<Kept>,
    /// Keys had to be read again, and what was counted of them before counts as well.
    pub counts_twice: bool,
    /// Things worth a line.
    pub remarks: Vec<String>,
}

impl StatsReceipt {
    /// What was made of the pass is out: the same command begins anew from now on. Until then it would be at its end at once.
    pub fn settle(&mut self) {
        let failed = self.kept.take().and_then(|kept| kept.remove());
        self.remarks.extend(failed);
    }
}

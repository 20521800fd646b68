//! Sees to it that no key vanishes from the target before the source has had its say.

use crate::follow::deadlines::Deadlines;
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::source::records::now_ms;

/// The deadlines of one shard, and the target's clock.
#[derive(Debug)]
pub(crate) struct Guard {
    pub deadlines: Deadlines,
    /// By how much the target's clock was ahead of ours when the job began, ms.
    target_ahead_ms: i64,
}

impl Guard {
    pub(crate) fn new(deadlines: Deadlines, target_ahead_ms: i64) -> Self {
        Self {
            deadlines,
            target_ahead_ms,
        }
    }

    /// What the target's clock shows, Unix ms.
    pub(crate) fn target_now_ms(&self) -> i64 {
        now_ms().saturating_add(self.target_ahead_ms)
    }

    /// What is written to the target for a deadline of this key of it.
    pub(crate) fn admit(&self, db: u32, key: &[u8], at_ms: i64) -> i64 {
        self.deadlines.admit(db, key, at_ms, self.target_now_ms())
    }

    /// What was admitted survives this process. To be called before it is sent.
    ///
    /// # Errors
    /// [`GaveUp`] when it cannot be written; the job is halted.
    pub(crate) fn flush(&self, ledger: &Ledger) -> Result<(), GaveUp> {
        self.deadlines.flush().map_err(|e| {
            halt(ledger, &e);
            GaveUp
        })
    }
}

/// The folder of the deadlines cannot be used.
pub(crate) fn halt(ledger: &Ledger, error: &std::io::Error) {
    ledger.halt(format!(
        "cannot keep the expiry times of keys in the state folder ({error}): free space there, or name another folder by --state-dir"
    ));
}

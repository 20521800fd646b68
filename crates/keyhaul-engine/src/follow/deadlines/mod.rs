//! Deadlines that are written to the target while following: which of them are held, and when each is set to
//! what it is.
//!
//! A target that is a primary deletes a key by its own clock, and does not know that the source has renewed it
//! just before. So a deadline that is near is written later than it is, and set to what it is once all that the
//! source did up to that time is applied.
//!
//! ```text
//!                far away         near                 applied up to there
//!   admit ──► as it is ──► Hold: later than it is ──► Settle: as it is ──► forgotten
//!     └────────────────────────▲
//! ```
//!
//! There may be as many as keys, so they lie on the disk, in buckets by their time: minutes for the next two
//! hours, hours for the next two days, days beyond (`bucket.rs`). A log (`log.rs`) is the truth: a table of the
//! buckets, and behind it all that happened since; what happened is in memory as well until the log is long, then
//! goes to the files of the buckets, and a log with a new table takes the place of the old one (`store.rs`). How much of a
//! bucket's file counts is written in the table, so what an interrupted run appended is of no account.
//! `due.rs` picks what is to be done, `frame.rs` is how things lie on the disk.
//!
//! A process may be killed between any two lines and nothing is lost. A machine that loses power may lose the last
//! seconds: nothing is synced. Here is no I/O with servers.

mod bucket;
mod due;
mod files;
mod frame;
mod log;
mod store;

use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use store::Store;

/// By how much a held deadline is later than it is, ms: a day.
pub(crate) const SHIFT_MS: i64 = 24 * 3600 * 1000;
/// Deadlines that are nearer than this to the target's clock are held, ms.
pub(crate) const HOLD_MS: i64 = 15 * 60 * 1000;
/// Deadlines further away than this are neither noted nor held, ms: 400 days.
pub(crate) const FAR_MS: i64 = 400 * 24 * 3600 * 1000;
/// What is written for a deadline that is held is at least so much later than the target's clock, ms.
const HELD_LEAST_MS: i64 = 3600 * 1000;
/// A deadline that would have to be held so soon is held at once, ms: its command may still be on its way when the others
/// of its minute are held.
const EARLY_MS: i64 = 10 * 60 * 1000;
/// Names of keys that are longer are not noted, bytes.
const KEY_BYTES_MAX: usize = 1024 * 1024;

/// A deadline that was written to the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Number of the db on the target.
    pub db: u32,
    /// Name on the target.
    pub key: Bytes,
    /// What the deadline really is, Unix ms.
    pub at_ms: i64,
    /// What is written while it is held, Unix ms.
    pub held_ms: i64,
}

/// What is to be done on the target. It may be no records at all; it is [`Deadlines::done`] at once then, and the next is
/// asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Work {
    /// Their time has come near: where the target's expiry is exactly `at_ms` it becomes `held_ms`. To be done behind every
    /// command whose deadline was admitted more than nine minutes ago.
    Hold(Vec<Record>),
    /// All that the source did up to their time is applied: where the target's expiry is exactly `held_ms` it becomes
    /// `at_ms`. Some may never have been held.
    Settle(Vec<Record>),
}

/// The deadlines of one target, in a folder of their own. One process at a time.
#[derive(Debug)]
pub(crate) struct Deadlines(Mutex<Store>);

impl Deadlines {
    /// Opens the folder, which is made if it is missing, with what an earlier run left in it.
    ///
    /// # Errors
    /// Those of the disk; [`io::ErrorKind::InvalidData`] if what is there was not written so.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self(Mutex::new(Store::open(folder)?)))
    }

    /// Opens the folder without what an earlier run left in it, whatever that is.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn begin_anew(folder: &Path) -> io::Result<Self> {
        store::remove(folder)?;
        Self::open(folder)
    }

    /// Forgets everything: a new snapshot begins.
    ///
    /// # Errors
    /// Those of the disk; it can be tried again.
    pub(crate) fn clear(&self) -> io::Result<()> {
        self.store().clear()
    }

    /// What is written to the target for this deadline: itself, or later if it is to be held. It is noted in memory;
    /// [`Deadlines::flush`] comes before its command is sent. Deadlines that are more than [`FAR_MS`] away, and those of names
    /// of more than 1 MB, are not noted and not held.
    pub(crate) fn admit(&self, db: u32, key: &[u8], at_ms: i64, target_now_ms: i64) -> i64 {
        self.store().admit(db, key, at_ms, target_now_ms)
    }

    /// What was admitted survives this process when it returns. One write for all that was admitted since; no system call
    /// if there was nothing.
    ///
    /// # Errors
    /// Those of the disk; it can be tried again.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.store().flush()
    }

    /// The next thing to do, at most `count` records; `None`: nothing is due. To be called about twice a second, and again
    /// while it gives something. Gives the same until it is [`Deadlines::done`], a later run too. What is held comes before
    /// what is settled, and that by time, minute by minute.
    ///
    /// `applied_ms`: all that the source did before is applied, by its clock. `None`: not known, nothing is settled.
    ///
    /// # Errors
    /// Those of the disk; it can be tried again.
    pub(crate) fn step(
        &self,
        target_now_ms: i64,
        applied_ms: Option<i64>,
        count: usize,
    ) -> io::Result<Option<Work>> {
        self.store().step(target_now_ms, applied_ms, count)
    }

    /// What was given last is done and does not come again. After an error it still does not come in this run, but
    /// may in a later one.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn done(&self) -> io::Result<()> {
        self.store().done()
    }

    /// At the end of a run that is synced: what may be held, to be set to what it is, as by [`Work::Settle`]; `None`: that
    /// was all. A later run holds again what is still near. No [`Deadlines::step`] in this run any more.
    ///
    /// # Errors
    /// Those of the disk; it can be tried again.
    pub(crate) fn release(&self, count: usize) -> io::Result<Option<Vec<Record>>> {
        self.store().release(count)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

//! Where the tasks of a job write down what happened: counters, keys not moved, remarks, and the
//! first reason to stop.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::checkpoint::Checkpoint;
use crate::progress::Progress;
use crate::stats::{NotMovedList, Tried};

/// How many remarks are kept.
const REMARKS_MAX: usize = 200;

/// Who is told of keys that were not moved.
pub(crate) struct NotMovedListener(pub ToldOfKey);

/// Told the db and the name of a key.
pub(crate) type ToldOfKey = Box<dyn Fn(u32, &[u8]) + Send + Sync>;

impl std::fmt::Debug for NotMovedListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NotMovedListener")
    }
}

/// The books of one job; shared by its tasks.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Live counters.
    pub progress: Arc<Progress>,
    /// Keys that were not moved.
    pub not_moved: NotMovedList,
    /// Where the list is kept for a later run too.
    pub checkpoint: OnceLock<Arc<Checkpoint>>,
    /// Told of each key that is listed.
    pub listener: OnceLock<NotMovedListener>,
    /// Cancelled by the user, or by [`Ledger::halt`].
    pub stop: CancellationToken,
    /// Function libraries, or changes of them, that the target refused while a source was followed.
    pub functions_refused: AtomicU64,
    has_halted: AtomicBool,
    ends_synced: AtomicBool,
    leaves_keys: AtomicBool,
    /// Keys that an earlier run of the same job copied.
    pub copied_before: AtomicU64,
    halted: Mutex<Option<String>>,
    remarks: Mutex<Vec<String>>,
}

impl Ledger {
    pub(crate) fn new(progress: Arc<Progress>, stop: CancellationToken) -> Self {
        let (halted, remarks) = (Mutex::new(None), Mutex::new(Vec::new()));
        Self {
            progress,
            not_moved: NotMovedList::default(),
            checkpoint: OnceLock::new(),
            listener: OnceLock::new(),
            stop,
            functions_refused: AtomicU64::new(0),
            has_halted: AtomicBool::new(false),
            ends_synced: AtomicBool::new(false),
            leaves_keys: AtomicBool::new(false),
            copied_before: AtomicU64::new(0),
            halted,
            remarks,
        }
    }

    /// Ends the job: nothing new is begun. The first reason counts.
    pub(crate) fn halt(&self, reason: String) {
        let mut halted = self.halted.lock().unwrap_or_else(PoisonError::into_inner);
        if halted.is_none() {
            tracing::warn!("stopping: {reason}");
            *halted = Some(reason);
        }
        self.has_halted.store(true, Ordering::Release);
        self.stop.cancel();
    }

    /// Notes that a job which follows its source has applied all that was done there when it was told to stop.
    pub(crate) fn end_synced(&self) {
        self.ends_synced.store(true, Ordering::Release);
    }

    /// Whether the job was ended before it had done what it was to do.
    pub(crate) fn is_interrupted(&self) -> bool {
        let is_synced = self.ends_synced.load(Ordering::Acquire) && !self.has_halted();
        self.stop.is_cancelled() && !is_synced
    }

    /// Notes that keys were found and will not be settled by this run: how far it came proves nothing from
    /// here on.
    pub(crate) fn leave_keys(&self) {
        self.leaves_keys.store(true, Ordering::Release);
    }

    /// Whether keys were found that this run does not settle.
    pub(crate) fn leaves_keys(&self) -> bool {
        self.leaves_keys.load(Ordering::Acquire) || self.has_halted()
    }

    /// Whether the job was ended by itself.
    pub(crate) fn has_halted(&self) -> bool {
        self.has_halted.load(Ordering::Acquire)
    }

    /// Why the job was ended by itself; `None`: it was not.
    pub(crate) fn halted(&self) -> Option<String> {
        self.halted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Keys that the job has copied, in earlier runs too.
    pub(crate) fn keys_copied(&self) -> u64 {
        let before = self.copied_before.load(Ordering::Relaxed);
        before + self.progress.keys_copied.load(Ordering::Relaxed)
    }

    /// Begins a pass that looks at all keys again: what was counted and listed of them holds no more.
    pub(crate) fn begin_anew(&self) {
        self.progress.begin_anew();
        self.not_moved.clear();
        self.copied_before.store(0, Ordering::Relaxed);
        if let Some(checkpoint) = self.checkpoint.get() {
            checkpoint.begin_anew();
        }
    }

    /// Lists a key as not moved.
    pub(crate) fn not_moved(&self, db: u32, key: &[u8], reason: String) {
        if self.stop.is_cancelled() {
            // A later run looks at it again.
            self.leave_keys();
        } else if let Some(checkpoint) = self.checkpoint.get()
            && !self.not_moved.contains(db, key)
        {
            checkpoint.not_moved(db, key, &reason);
        }
        if let Some(listener) = self.listener.get() {
            (listener.0)(db, key);
        }
        if self.not_moved.add(db, key, reason) {
            Progress::add(&self.progress.keys_not_moved, 1);
        }
    }

    /// A key was tried once more, which [`NotMovedList::try_again`] began. Whether it is on the list now.
    pub(crate) fn tried_again(&self, db: u32, key: &[u8]) -> bool {
        let tried = self.not_moved.tried(db, key);
        if tried == Tried::TakenOff {
            self.progress.keys_not_moved.fetch_sub(1, Ordering::Relaxed);
        }
        tried == Tried::Listed
    }

    /// Notes something worth a line; the same line is noted once.
    pub(crate) fn remark(&self, line: String) {
        tracing::info!("{line}");
        let mut remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
        if remarks.len() < REMARKS_MAX && !remarks.contains(&line) {
            remarks.push(line);
        }
    }

    /// All remarks.
    pub(crate) fn remarks(&self) -> Vec<String> {
        self.remarks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

//! How far a job is: counters that the engine fills and anybody may look at.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::follow::LiveStatus;
use crate::stats::key_text;

/// What a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Phase {
    /// Nothing moves yet.
    #[default]
    Starting,
    /// Keys are copied.
    Copying,
    /// The target is compared with the source.
    Verifying,
    /// It came to its end.
    Done,
    /// It was stopped before its end.
    Stopped,
    /// Keys are looked at for statistics.
    Scanning,
    /// Changes of the source are applied.
    Following,
}

/// Live counters of a job; shared, never locked on the hot path.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    /// Keys that the source said it holds at the start; 0: unknown. New keys may come.
    pub keys_expected: AtomicU64,
    /// Keys that SCAN returned and the filters took.
    pub keys_found: AtomicU64,
    /// Keys whose reply from the target was read and good.
    pub keys_copied: AtomicU64,
    /// Of those, keys that went over in chunks.
    pub keys_chunked: AtomicU64,
    /// Keys left as they were on the target (`--on-conflict skip`).
    pub keys_skipped: AtomicU64,
    /// Keys that vanished or expired before they could be read.
    pub keys_gone: AtomicU64,
    /// Keys that were not moved and are listed.
    pub keys_not_moved: AtomicU64,
    /// Payload bytes that the target acknowledged; of statistics, what the keys take that were looked at.
    pub bytes_copied: AtomicU64,
    /// Bytes of RDB files, or of what a source sends as RDB, that there are; 0: unknown.
    pub bytes_expected: AtomicU64,
    /// Bytes of them that were read.
    pub bytes_read: AtomicU64,
    /// Keys that the verification, or statistics, looked at.
    pub keys_verified: AtomicU64,
    /// Times a connection was opened again or a command was repeated.
    pub retries: AtomicU64,
    /// Of a job that follows the source.
    pub live: LiveStatus,
    shards: Mutex<Vec<ShardProgress>>,
    waiting: Mutex<Option<String>>,
    big_keys: Mutex<Vec<Arc<BigKeyProgress>>>,
}

/// A big key on its way, in chunks.
#[derive(Debug, Default)]
pub struct BigKeyProgress {
    /// The db of the source.
    pub db: u32,
    /// The name as text, see [`key_text`].
    pub key: String,
    /// Type, and elements that there are (bytes of a string); filled in when they are known.
    described: OnceLock<(&'static str, u64)>,
    elements: AtomicU64,
    bytes: AtomicU64,
}

impl BigKeyProgress {
    /// Its type; empty while it is not known.
    pub fn key_type(&self) -> &'static str {
        self.described.get().map_or("", |(key_type, _)| key_type)
    }

    /// Elements that the source said it has; 0: not known.
    pub fn elements_expected(&self) -> u64 {
        self.described.get().map_or(0, |(_, elements)| *elements)
    }

    /// Elements that the target acknowledged.
    pub fn elements(&self) -> u64 {
        self.elements.load(Ordering::Relaxed)
    }

    /// Bytes of them.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn describe(&self, key_type: &'static str, elements: u64) {
        // A later try may find another number; the first is good enough for a look.
        let _ = self.described.set((key_type, elements));
    }

    pub(crate) fn set(&self, elements: u64, bytes: u64) {
        self.elements.store(elements, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn passed(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// One source primary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardProgress {
    /// Its address.
    pub node: String,
    /// The db that is being read.
    pub db: u32,
    /// Keys found there so far.
    pub keys_found: u64,
    /// Its scan has come to the end.
    pub done: bool,
}

/// The counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// What the job is doing.
    pub phase: Phase,
    /// See [`Progress`]; the same for all that follow.
    pub keys_expected: u64,
    #[allow(missing_docs, reason = "named and documented in Progress")]
    pub keys_found: u64,
    #[allow(missing_docs, reason = "named and documented in Progress")]
    pub keys_copied: u64,
    #[allow(missing_docs, reason = "named and documented in Progress")]
    pub keys_chunked: u64,
    #[allow(missing_docs, reason = "named and documented in Progress")]
    pub keys_skipped: u64,
    #[allow(missing_docs, reason = "named and documented in Progress")]
    pub keys_gone: u64,
    #[allow(missing_docs, reason = "named and documented in Progress")]
    pub keys_not_moved: u64,
    #[allow(missing_docs, reason = "named and documented in Progress")]
    pub bytes_copied: u64,
    #[allow(missing_docs, reason = "named and documented in Progress")]
    pub bytes_expected: u64,
    #[allow(missing_docs, reason = "named and documented in Progress")]
    pub bytes_read: u64,
    #[allow(missing_docs, reason = "named and documented in Progress")]
    pub keys_verified: u64,
    #[allow(missing_docs, reason = "named and documented in Progress")]
    pub retries: u64,
    /// Per source primary.
    pub shards: Vec<ShardProgress>,
    /// Why nothing moves at present: `target 1.2.3.4:6379 is full`. For one line on the screen.
    pub waiting: Option<String>,
}

impl Progress {
    /// All counters at once; not one atomic moment.
    pub fn snapshot(&self) -> Snapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            phase: self.phase(),
            keys_expected: get(&self.keys_expected),
            keys_found: get(&self.keys_found),
            keys_copied: get(&self.keys_copied),
            keys_chunked: get(&self.keys_chunked),
            keys_skipped: get(&self.keys_skipped),
            keys_gone: get(&self.keys_gone),
            keys_not_moved: get(&self.keys_not_moved),
            bytes_copied: get(&self.bytes_copied),
            bytes_expected: get(&self.bytes_expected),
            bytes_read: get(&self.bytes_read),
            keys_verified: get(&self.keys_verified),
            retries: get(&self.retries),
            shards: self
                .shards
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            waiting: self
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    /// What the job is doing.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            1 => Phase::Copying,
            2 => Phase::Verifying,
            3 => Phase::Done,
            4 => Phase::Stopped,
            5 => Phase::Scanning,
            6 => Phase::Following,
            _ => Phase::Starting,
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        if matches!(phase, Phase::Done | Phase::Stopped) {
            self.wait_for(None);
        }
    }

    /// Counts keys from nothing, for a pass over all of them; what moved and what went wrong is counted on.
    pub(crate) fn begin_anew(&self) {
        let counters = [
            &self.keys_found,
            &self.keys_verified,
            &self.keys_copied,
            &self.keys_chunked,
            &self.keys_skipped,
            &self.keys_gone,
            &self.keys_not_moved,
            &self.bytes_read,
        ];
        for counter in counters {
            counter.store(0, Ordering::Relaxed);
        }
        self.shards
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// Says why nothing moves; `None`: it moves again.
    pub(crate) fn wait_for(&self, reason: Option<String>) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// The big keys that are on their way.
    pub fn big_keys(&self) -> Vec<Arc<BigKeyProgress>> {
        let keys = self.big_keys.lock();
        keys.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn begin_big_key(&self, db: u32, key: &[u8]) -> Arc<BigKeyProgress> {
        let begun = Arc::new(BigKeyProgress {
            db,
            key: key_text(key),
            ..BigKeyProgress::default()
        });
        let mut keys = self.big_keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.push(begun.clone());
        begun
    }

    pub(crate) fn end_big_key(&self, ended: &Arc<BigKeyProgress>) {
        let mut keys = self.big_keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|key| !Arc::ptr_eq(key, ended));
    }

    /// Updates one shard's line.
    pub(crate) fn shard(&self, node: &str, update: impl FnOnce(&mut ShardProgress)) {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let index = shards
            .iter()
            .position(|shard| shard.node == node)
            .unwrap_or_else(|| {
                shards.push(ShardProgress {
                    node: node.to_owned(),
                    ..ShardProgress::default()
                });
                shards.len() - 1
            });
        update(&mut shards[index]);
    }
}

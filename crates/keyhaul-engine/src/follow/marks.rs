//! The keys that are to be read again, and what may be done with commands for them meanwhile.
//!
//! ```text
//! Waiting ──► Reading ──► Writing(R) ──► Frozen(R) ──► forgotten
//!    all sent for it      read at R      written       applied up to R
//!    is settled
//! ```

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::checkpoint::{Checkpoint, OpenKey};

/// A key of the source: db and name.
pub(crate) type SourceKey = (u32, Bytes);

/// Bytes of names that are marked at a time before nothing more of the stream is applied.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// What a mark takes beyond its name, bytes.
const MARK_BYTES: usize = 160;

/// How far a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is to be read once the stream is applied up to there.
    Waiting { since: u64 },
    /// It is being read: the offset of what comes is not known yet.
    Reading,
    /// What was read at this offset is being written.
    Writing { at: u64 },
    /// The target holds it as of this offset.
    Frozen { at: u64 },
}

/// What may be done with a command for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// It is applied.
    Free,
    /// The key holds, or will hold, what it does.
    Skip,
    /// Nobody can say yet.
    Wait,
    /// The target could not hold what the key was: it is to be marked.
    Mark,
}

/// The marked keys of one shard.
#[derive(Debug)]
pub(crate) struct Marks {
    inner: Mutex<Inner>,
    /// How many there are, barred ones counted again, to be looked at without the lock.
    count: AtomicUsize,
    /// The end of the bytes whose commands are being handed out: no command beyond it is on its way.
    composing: AtomicU64,
    /// Nothing is taken to be read meanwhile.
    is_paused: AtomicBool,
    changed: Notify,
    checkpoint: Option<Arc<Checkpoint>>,
}

#[derive(Debug, Default)]
struct Inner {
    stages: HashMap<SourceKey, Stage>,
    /// Those that wait, in the order in which they were marked; some are here no more.
    waiting: VecDeque<(u64, SourceKey)>,
    /// The frozen ones by offset.
    frozen: BTreeMap<u64, Vec<SourceKey>>,
    /// Keys that the target cannot hold as they were when they were read last.
    barred: HashSet<SourceKey>,
    bytes: usize,
    /// Keys that were taken and not given back.
    under_way: usize,
}

impl Marks {
    pub(crate) fn new(checkpoint: Option<Arc<Checkpoint>>) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
            count: AtomicUsize::new(0),
            composing: AtomicU64::new(0),
            is_paused: AtomicBool::new(false),
            changed: Notify::new(),
            checkpoint,
        })
    }

    /// Commands up to there are handed out from now on. To be told before any of them is looked at.
    pub(crate) fn compose(&self, end: u64) {
        self.composing.store(end, Ordering::SeqCst);
    }

    /// Up to there commands are handed out, or being put together.
    pub(crate) fn composed(&self) -> u64 {
        self.composing.load(Ordering::SeqCst)
    }

    /// Whether any key is marked or barred: 0, and all are free.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Marks a key: it will be read once all that may be on its way for it is settled.
    pub(crate) fn mark(&self, key: SourceKey) {
        let mut inner = self.lock();
        // Under the lock: whoever has looked at this key before has told how far it composes.
        let since = self.composing.load(Ordering::SeqCst);
        let is_new = match inner.stages.entry(key.clone()) {
            Entry::Occupied(mut at) => match at.get() {
                Stage::Waiting { .. } => {
                    at.insert(Stage::Waiting { since });
                    false
                }
                // What is under way is of no use any more.
                Stage::Reading | Stage::Writing { .. } | Stage::Frozen { .. } => {
                    at.insert(Stage::Waiting { since });
                    false
                }
            },
            Entry::Vacant(at) => {
                at.insert(Stage::Waiting { since });
                true
            }
        };
        inner.waiting.push_back((since, key.clone()));
        if is_new {
            inner.bytes += key.1.len() + MARK_BYTES;
            self.count.fetch_add(1, Ordering::SeqCst);
            if let Some(checkpoint) = &self.checkpoint {
                checkpoint.open_key(open_key(&key));
            }
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// What is to be done with a command for `key` that ends at `offset`.
    pub(crate) fn look(&self, key: &SourceKey, offset: u64) -> Leave {
        let inner = self.lock();
        match inner.stages.get(key) {
            None if inner.barred.contains(key) => Leave::Mark,
            None => Leave::Free,
            // It will be read later than now, and the command has been executed by then.
            Some(Stage::Waiting { .. }) => Leave::Skip,
            Some(Stage::Reading) => Leave::Wait,
            Some(Stage::Writing { at } | Stage::Frozen { at }) if offset <= *at => Leave::Skip,
            Some(Stage::Writing { .. }) => Leave::Wait,
            Some(Stage::Frozen { .. }) if inner.barred.contains(key) => Leave::Mark,
            Some(Stage::Frozen { .. }) => Leave::Free,
        }
    }

    /// Takes up to `count` keys that may be read, now that the stream is applied up to `reached`. So many are to be given
    /// back, by [`Marks::give_back`], when all that was made of them is settled.
    pub(crate) fn take(&self, reached: u64, count: usize) -> Vec<SourceKey> {
        let mut inner = self.lock();
        let mut taken = Vec::new();
        // Under the lock: who pauses looks what is under way behind it.
        if self.is_paused.load(Ordering::SeqCst) {
            return taken;
        }
        while taken.len() < count {
            match inner.waiting.front() {
                Some((since, _)) if *since <= reached => {}
                _ => break,
            }
            let Some((since, key)) = inner.waiting.pop_front() else {
                break;
            };
            // Else it was marked again since, or is done already.
            if inner.stages.get(&key) == Some(&Stage::Waiting { since }) {
                inner.stages.insert(key.clone(), Stage::Reading);
                taken.push(key);
            }
        }
        inner.under_way += taken.len();
        taken
    }

    /// Sees to it that no key is being read or written, and that none is taken before [`Marks::resume`].
    pub(crate) async fn pause(&self) {
        {
            let _inner = self.lock();
            self.is_paused.store(true, Ordering::SeqCst);
        }
        self.wait_until(|marks| {
            let inner = marks.lock();
            inner.under_way == 0
        })
        .await;
    }

    /// Goes on.
    pub(crate) fn resume(&self) {
        self.is_paused.store(false, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Keys that were taken have come to their end, whatever it was.
    pub(crate) fn give_back(&self, count: usize) {
        let mut inner = self.lock();
        inner.under_way = inner.under_way.saturating_sub(count);
        drop(inner);
        self.changed.notify_waiters();
    }

    /// It was read at this offset and is going to be written. `false`: it was marked again; it must not be written.
    pub(crate) fn read(&self, key: &SourceKey, at: u64) -> bool {
        self.advance(key, |stage| match stage {
            Stage::Reading => Some(Stage::Writing { at }),
            _ => None,
        })
    }

    /// It was written.
    pub(crate) fn written(&self, key: &SourceKey) {
        let mut inner = self.lock();
        if let Some(stage) = inner.stages.get_mut(key)
            && let Stage::Writing { at } = *stage
        {
            *stage = Stage::Frozen { at };
            inner.frozen.entry(at).or_default().push(key.clone());
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// It could not be read, or not at a known offset: it is to be read again.
    pub(crate) fn failed(&self, key: &SourceKey) {
        let mut inner = self.lock();
        let is_under_way = matches!(
            inner.stages.get(key),
            Some(Stage::Reading | Stage::Writing { .. })
        );
        if is_under_way {
            let since = self.composing.load(Ordering::SeqCst);
            inner.stages.insert(key.clone(), Stage::Waiting { since });
            inner.waiting.push_back((since, key.clone()));
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Nobody can read it: nothing more is done about it before the next command for it.
    pub(crate) fn drop_key(&self, key: &SourceKey) {
        let mut inner = self.lock();
        if inner.stages.remove(key).is_some() {
            inner.bytes -= key.1.len() + MARK_BYTES;
            self.count.fetch_sub(1, Ordering::SeqCst);
            if let Some(checkpoint) = &self.checkpoint {
                checkpoint.settled(open_key(key), 0);
            }
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Forgets what is frozen, now that the stream is applied up to `reached`.
    pub(crate) fn forget(&self, reached: u64) {
        if self.count() == 0 {
            return;
        }
        let mut inner = self.lock();
        while let Some(entry) = inner.frozen.first_entry() {
            let at = *entry.key();
            if at > reached {
                break;
            }
            for key in entry.remove() {
                if inner.stages.get(&key) == Some(&Stage::Frozen { at }) {
                    inner.stages.remove(&key);
                    inner.bytes -= key.1.len() + MARK_BYTES;
                    self.count.fetch_sub(1, Ordering::SeqCst);
                    if let Some(checkpoint) = &self.checkpoint {
                        checkpoint.settled(open_key(&key), 0);
                    }
                }
            }
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// What is frozen may have been deleted: it is to be read again.
    pub(crate) fn thaw(&self) {
        let keys: Vec<SourceKey> = {
            let inner = self.lock();
            let is_known = |stage: &Stage| !matches!(stage, Stage::Waiting { .. });
            let known = inner.stages.iter().filter(|(_, stage)| is_known(stage));
            known.map(|(key, _)| key.clone()).collect()
        };
        for key in keys {
            self.mark(key);
        }
    }

    /// Forgets all: the next snapshot holds them.
    pub(crate) fn clear(&self) {
        let mut inner = self.lock();
        if let Some(checkpoint) = &self.checkpoint {
            for key in inner.stages.keys() {
                checkpoint.settled(open_key(key), 0);
            }
        }
        *inner = Inner {
            under_way: inner.under_way,
            ..Inner::default()
        };
        self.count.store(0, Ordering::SeqCst);
        drop(inner);
        self.changed.notify_waiters();
    }

    /// The target cannot hold the key as it is.
    pub(crate) fn bar(&self, key: SourceKey) {
        if self.lock().barred.insert(key) {
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The target can hold it, or it is gone.
    pub(crate) fn unbar(&self, key: &SourceKey) {
        if self.lock().barred.remove(key) {
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Whether the target cannot hold it.
    pub(crate) fn is_barred(&self, key: &SourceKey) -> bool {
        self.lock().barred.contains(key)
    }

    /// How many keys are to be read, or are not applied yet as they were read.
    pub(crate) fn open_count(&self) -> usize {
        self.lock().stages.len()
    }

    /// How many keys are to be read, or are not written yet.
    pub(crate) fn unwritten_count(&self) -> usize {
        let inner = self.lock();
        let frozen: usize = inner.frozen.values().map(Vec::len).sum();
        inner.stages.len().saturating_sub(frozen)
    }

    /// Whether so many are marked that nothing more may be added by the stream.
    pub(crate) fn is_full(&self) -> bool {
        self.count() > 0 && self.lock().bytes > BYTES_MAX
    }

    /// Waits until something has changed and `is_so`.
    pub(crate) async fn wait_until(&self, is_so: impl Fn(&Self) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if is_so(self) {
                return;
            }
            changed.await;
        }
    }

    fn advance(&self, key: &SourceKey, next: impl FnOnce(Stage) -> Option<Stage>) -> bool {
        let mut inner = self.lock();
        let advanced = inner.stages.get_mut(key).and_then(|stage| {
            *stage = next(*stage)?;
            Some(())
        });
        drop(inner);
        self.changed.notify_waiters();
        advanced.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open_key(key: &SourceKey) -> OpenKey {
    OpenKey {
        of_target: false,
        db: key.0,
        key: key.1.clone(),
    }
}

//! The keys that are to be read again, and what may be done with commands for them meanwhile.
//!
//! ```text
//! Waiting ──► Reading ──► Writing(R) ──► Frozen(R) ──► forgotten
//!    all sent for it      read at R      written       applied up to R
//!    is settled
//! ```

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use xxhash_rust::xxh3::Xxh3;

use crate::checkpoint::{Checkpoint, OpenKey};

/// A key of the source: db and name.
pub(crate) type SourceKey = (u32, Bytes);

/// Bytes of names that are to be read, or written, before nothing more of the stream is applied.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// Hashes with expiring fields that are known by name; beyond, every hash is taken for one.
const FIELDS_MAX: usize = 500_000;
/// What a mark takes beyond its name, bytes.
const MARK_BYTES: usize = 160;

/// How far a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is to be read once the stream is applied up to there.
    Waiting { since: u64 },
    /// It is being read: the offset of what comes is not known yet; it must not be before this.
    Reading { since: u64 },
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
    /// How many there are, barred ones and hashes with expiring fields counted again, to be looked at without the lock.
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
    /// The frozen ones by offset; some are frozen no more.
    frozen: BTreeMap<u64, Vec<SourceKey>>,
    /// Keys that the target cannot hold as they were when they were read last.
    barred: HashSet<SourceKey>,
    /// Digests of hashes with fields that expire.
    fields: HashSet<u64>,
    /// Where they are for a later run, 8 bytes each; and why they are not all there.
    fields_file: Option<File>,
    fields_failure: Option<String>,
    /// Those of all keys that are not frozen, and what they take.
    unwritten: usize,
    unwritten_bytes: usize,
    /// Keys that were taken and not given back.
    under_way: usize,
}

impl Inner {
    /// The only way in which a stage changes. Returns whether the key was marked before.
    fn set(&mut self, key: &SourceKey, stage: Option<Stage>) -> bool {
        let was = match stage {
            Some(stage) => self.stages.insert(key.clone(), stage),
            None => self.stages.remove(key),
        };
        let is_unwritten = |stage: Option<Stage>| {
            stage.is_some_and(|stage| !matches!(stage, Stage::Frozen { .. }))
        };
        let bytes = key.1.len() + MARK_BYTES;
        match (is_unwritten(was), is_unwritten(stage)) {
            (false, true) => {
                self.unwritten += 1;
                self.unwritten_bytes += bytes;
            }
            (true, false) => {
                self.unwritten -= 1;
                self.unwritten_bytes -= bytes;
            }
            _ => {}
        }
        was.is_some()
    }

    fn wait(&mut self, key: &SourceKey, since: u64) -> bool {
        // The same again, as a command after the other in one chunk marks it.
        if self.stages.get(key) == Some(&Stage::Waiting { since }) {
            return true;
        }
        self.waiting.push_back((since, key.clone()));
        self.set(key, Some(Stage::Waiting { since }))
    }
}

impl Marks {
    /// `fields_file`: the hashes with expiring fields that an earlier run has noted; others are noted there.
    ///
    /// # Errors
    /// Those of the file.
    pub(crate) fn new(
        checkpoint: Option<Arc<Checkpoint>>,
        mut fields_file: Option<File>,
    ) -> io::Result<Arc<Self>> {
        let mut noted = Vec::new();
        if let Some(file) = &mut fields_file {
            file.seek(SeekFrom::Start(0))?;
            file.read_to_end(&mut noted)?;
        }
        let digests = noted.as_chunks::<8>().0.iter();
        let fields: HashSet<u64> = digests.map(|digest| u64::from_le_bytes(*digest)).collect();
        let known = fields.len();
        let inner = Inner {
            fields,
            fields_file,
            ..Inner::default()
        };
        Ok(Arc::new(Self {
            inner: Mutex::new(inner),
            count: AtomicUsize::new(known),
            composing: AtomicU64::new(0),
            is_paused: AtomicBool::new(false),
            changed: Notify::new(),
            checkpoint,
        }))
    }

    /// Commands up to there are handed out from now on. To be told before any of them is looked at.
    pub(crate) fn compose(&self, end: u64) {
        self.composing.store(end, Ordering::SeqCst);
    }

    /// Up to there commands are handed out, or being put together.
    pub(crate) fn composed(&self) -> u64 {
        self.composing.load(Ordering::SeqCst)
    }

    /// Whether any key is marked, barred or a hash with expiring fields: 0, and all are free.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Marks a key: it will be read once all that may be on its way for it is settled. What is under way of it is of no use
    /// any more.
    pub(crate) fn mark(&self, key: SourceKey) {
        let mut inner = self.lock();
        // Under the lock: whoever has looked at this key before has told how far it composes.
        let since = self.composing.load(Ordering::SeqCst);
        if !inner.wait(&key, since) {
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
        let is_to_mark = || inner.barred.contains(key) || inner.fields.contains(&digest(key));
        match inner.stages.get(key) {
            // It will be read later than now, and the command has been executed by then.
            Some(Stage::Waiting { .. }) => Leave::Skip,
            Some(Stage::Reading { .. }) => Leave::Wait,
            Some(Stage::Writing { at } | Stage::Frozen { at }) if offset <= *at => Leave::Skip,
            Some(Stage::Writing { .. }) => Leave::Wait,
            Some(Stage::Frozen { .. }) | None if is_to_mark() => Leave::Mark,
            Some(Stage::Frozen { .. }) | None => Leave::Free,
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
                inner.set(&key, Some(Stage::Reading { since }));
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
        self.wait_until(|marks| marks.lock().under_way == 0).await;
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

    /// It was read at this offset and is going to be written. `false`: it was marked again, or what was read is older than
    /// what the target was given already; it must not be written.
    pub(crate) fn read(&self, key: &SourceKey, at: u64) -> bool {
        let mut inner = self.lock();
        let is_good = match inner.stages.get(key) {
            // A node that lags behind the one that is followed may tell something older.
            Some(Stage::Reading { since }) => at >= *since,
            _ => false,
        };
        if is_good {
            inner.set(key, Some(Stage::Writing { at }));
        }
        drop(inner);
        self.changed.notify_waiters();
        is_good
    }

    /// It was written.
    pub(crate) fn written(&self, key: &SourceKey) {
        let mut inner = self.lock();
        if let Some(Stage::Writing { at }) = inner.stages.get(key).copied() {
            inner.set(key, Some(Stage::Frozen { at }));
            inner.frozen.entry(at).or_default().push(key.clone());
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// It could not be read, or not at a known offset: it is to be read again.
    pub(crate) fn failed(&self, key: &SourceKey) {
        let mut inner = self.lock();
        let stage = inner.stages.get(key).copied();
        if let Some(Stage::Reading { .. } | Stage::Writing { .. }) = stage {
            let since = self.composing.load(Ordering::SeqCst);
            inner.wait(key, since);
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Nobody can read it: nothing more is done about it before the next command for it.
    pub(crate) fn drop_key(&self, key: &SourceKey) {
        let mut inner = self.lock();
        self.forget_key(&mut inner, key);
        drop(inner);
        self.changed.notify_waiters();
    }

    fn forget_key(&self, inner: &mut Inner, key: &SourceKey) {
        if inner.set(key, None) {
            self.count.fetch_sub(1, Ordering::SeqCst);
            if let Some(checkpoint) = &self.checkpoint {
                checkpoint.settled(open_key(key), 0);
            }
        }
    }

    /// Forgets what is frozen. To be told what is *noted* as applied, and not what is applied: a later run begins there, and
    /// must know what not to apply once more.
    pub(crate) fn forget(&self, noted: u64) {
        if self.count() == 0 {
            return;
        }
        let mut inner = self.lock();
        while let Some(entry) = inner.frozen.first_entry() {
            let at = *entry.key();
            if at > noted {
                break;
            }
            for key in entry.remove() {
                if inner.stages.get(&key) == Some(&Stage::Frozen { at }) {
                    self.forget_key(&mut inner, &key);
                }
            }
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// What is known of keys may hold no more: they are to be read again.
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
        let mut fields_file = inner.fields_file.take();
        let emptied = fields_file.as_mut().map_or(Ok(()), |file| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0)).map(drop)
        });
        *inner = Inner {
            under_way: inner.under_way,
            fields_file,
            // One that is noted too much does no harm.
            fields_failure: emptied.err().map(|e| e.to_string()),
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

    /// Notes whether the key is a hash with fields that expire. The target lets them expire by its own clock, whatever the
    /// source has done to them meanwhile: such a key is read again with each command for it.
    pub(crate) fn note_fields(&self, key: &SourceKey, has_expiring: bool) {
        let mut inner = self.lock();
        let digest = digest(key);
        // None is taken out of a full set: it does not know all.
        let is_full = inner.fields.len() >= FIELDS_MAX;
        if has_expiring && !is_full && inner.fields.insert(digest) {
            self.count.fetch_add(1, Ordering::SeqCst);
            let written = inner.fields_file.as_mut();
            let written = written.map_or(Ok(()), |file| file.write_all(&digest.to_le_bytes()));
            if let Err(e) = written {
                inner.fields_failure = Some(e.to_string());
            }
        } else if !has_expiring && !is_full && inner.fields.remove(&digest) {
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Why a later run would not know all hashes with expiring fields.
    pub(crate) fn fields_failure(&self) -> Option<String> {
        self.lock().fields_failure.clone()
    }

    /// Whether there are too many hashes with expiring fields to know them by name.
    pub(crate) fn has_too_many_fields(&self) -> bool {
        self.count() >= FIELDS_MAX && self.lock().fields.len() >= FIELDS_MAX
    }

    /// How many keys are to be read, or are not applied yet as they were read.
    pub(crate) fn open_count(&self) -> usize {
        self.lock().stages.len()
    }

    /// How many keys are to be read, or are not written yet.
    pub(crate) fn unwritten_count(&self) -> usize {
        self.lock().unwritten
    }

    /// Whether so many are to be read, or written, that nothing more may be added by the stream. Those that are frozen do not
    /// count: only the stream itself frees them. Nor does it hold the stream up where nothing can be read before it goes on.
    pub(crate) fn is_full(&self, reached: u64) -> bool {
        if self.count() == 0 {
            return false;
        }
        let inner = self.lock();
        let mut waiting = inner.waiting.front().into_iter();
        let is_stuck = inner.under_way == 0 && waiting.all(|(since, _)| *since > reached);
        inner.unwritten_bytes > BYTES_MAX && !is_stuck
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

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(key: &SourceKey) -> u64 {
    let mut digest = Xxh3::new();
    digest.update(&key.0.to_le_bytes());
    digest.update(&key.1);
    digest.digest()
}

fn open_key(key: &SourceKey) -> OpenKey {
    OpenKey {
        of_target: false,
        db: key.0,
        key: key.1.clone(),
    }
}

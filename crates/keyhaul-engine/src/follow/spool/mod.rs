//! The bytes of a replication stream that were received and are not applied, in order and with their offsets: in memory, and
//! beyond 1 MB in packed files.
//!
//! One task puts in (`push`), another takes out (`next`) and says how far the stream is applied (`applied`). Once
//! memory is full, all of it that is not applied goes to the disk too, so that a run that was killed finds there what
//! it had received. A file is gone when it is applied to its end. When what is not applied fits into half of the
//! memory, there are no files any more.
//!
//! When the disk takes no more (the limit is reached, it is full, it fails) `push` waits until something was applied or the disk
//! takes it. What was read already and is not applied is then given up, as the reader may need more to apply it.

mod block;
mod found;
mod segment;
mod state;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::disk_limit::DiskLimit;
use crate::follow::status::ShardStatus;
use crate::ledger::Ledger;
use crate::source::overflow::blocking;
use block::{HEAD_BYTES, Head, pack};
use segment::{Folder, Segment, read_block};
use state::{Look, State, Write};

/// Bytes in memory before the disk is used.
const MEMORY_BYTES_MAX: usize = 1024 * 1024;
/// Bytes in a file after which another one is begun.
const SEGMENT_BYTES: u64 = if cfg!(test) { 2 } else { 32 } * 1024 * 1024;
/// Chunks below this are copied: each would hold the whole buffer that it was read into.
const COPY_BYTES_MAX: usize = 64 * 1024;

/// What comes out. `B` is what is told at the begin of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<B> {
    /// Another stream begins; what was told of the one before is void.
    Begin(B),
    /// The next bytes and the offset of the first of them.
    Bytes { first: u64, bytes: Bytes },
    /// The history goes by this name from here on.
    Replid(String),
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Spool<B> {
    state: Mutex<State<B>>,
    /// There is something to read.
    came: Notify,
    /// Something was read or applied, for a push that waits.
    went: Notify,
    /// What is on the disk cannot be read.
    damaged: Notify,
    folder: Arc<Folder>,
    limit: Arc<DiskLimit>,
    next_number: AtomicU64,
    runtime: Handle,
    status: Arc<ShardStatus>,
    ledger: Arc<Ledger>,
}

/// What a spool is made with.
pub(crate) struct SpoolOptions {
    /// Where the files lie; `None`: in a temporary folder.
    pub folder: Option<PathBuf>,
    pub limit: Arc<DiskLimit>,
    pub status: Arc<ShardStatus>,
    pub ledger: Arc<Ledger>,
}

/// Why a block was not written.
enum Refusal {
    Limit,
    Disk(io::Error),
}

impl<B: Send + 'static> Spool<B> {
    /// An empty one, to be opened; in a runtime.
    pub(crate) fn new(options: SpoolOptions) -> Self {
        Self {
            state: Mutex::new(State::new(None, VecDeque::new())),
            came: Notify::new(),
            went: Notify::new(),
            damaged: Notify::new(),
            folder: Arc::new(Folder::new(options.folder)),
            limit: options.limit,
            next_number: AtomicU64::new(0),
            runtime: Handle::current(),
            status: options.status,
            ledger: options.ledger,
        }
    }

    /// Opens the folder, before anything is put in. What an earlier run has left there is gone on with if it holds the
    /// wanted byte, of a history and at an offset; else it is removed.
    pub(crate) async fn open(&self, wanted: Option<(String, u64)>) {
        let folder = self.folder.clone();
        let looked = blocking(move || {
            let named = wanted.as_ref();
            let named = named.map(|(replid, next)| (replid.as_str(), *next));
            let found = found::find(&folder, named);
            Ok((found, wanted))
        });
        let (found, wanted) = match looked.await {
            Ok((Ok(found), wanted)) => (found, wanted),
            Ok((Err(e), wanted)) => {
                self.ledger.remark(format!(
                    "what an earlier run left in its spool cannot be used: {e}"
                ));
                (found::Found::default(), wanted)
            }
            Err(e) => return self.ledger.halt(format!("a task failed: {e}")),
        };
        for segment in &found.segments {
            self.limit.count(segment.file_bytes);
        }
        self.next_number.store(found.next_number, Ordering::Relaxed);
        let wanted = wanted
            .as_ref()
            .map(|(replid, next)| (replid.as_str(), *next));
        let mut state = self.lock();
        *state = State::new(wanted, found.segments);
        self.show(&state);
        drop(state);
        self.came.notify_one();
    }

    /// Where the stream is to be gone on with: a name of its history, and the offset of the next byte. `None`: there
    /// is no stream yet.
    pub(crate) fn position(&self) -> Option<(String, u64)> {
        self.lock().position()
    }

    /// Another stream begins with this byte; all of the one before is void.
    pub(crate) fn begin(&self, begin: B, replid: &str, first: u64) {
        let mut state = self.lock();
        let useless = state.begin(begin, replid, first);
        self.show(&state);
        drop(state);
        self.remove(useless);
        self.came.notify_one();
    }

    /// Whatever was not read is void, and the stream goes on with [`Spool::position`].
    pub(crate) fn forget_unread(&self) {
        let mut state = self.lock();
        let useless = state.forget_unread();
        self.show(&state);
        drop(state);
        self.remove(useless);
    }

    /// The history goes by this name from here on.
    pub(crate) fn rename(&self, replid: &str) {
        self.lock().rename(replid);
        self.came.notify_one();
    }

    /// The next bytes. They are in at once; what is waited for, while memory is full, is the disk, and room on it. Not to
    /// be given up while it waits, and called by one task.
    pub(crate) async fn push(&self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let bytes = match bytes.len() < COPY_BYTES_MAX {
            true => Bytes::copy_from_slice(&bytes),
            false => bytes,
        };
        let fits = {
            let mut state = self.lock();
            state.push(bytes);
            self.show(&state);
            state.fits()
        };
        self.came.notify_one();
        if !fits {
            self.relieve_memory().await;
        }
    }

    /// Writes to the disk all that is not there; waits until memory holds no more than it may.
    async fn relieve_memory(&self) {
        let mut has_waited = false;
        while let Some(write) = self.next_write() {
            let Err(refusal) = self.write(write).await else {
                continue;
            };
            if self.fits_without_read() {
                break;
            }
            self.say(&refusal, has_waited);
            has_waited = true;
            // What is read and applied makes room as well.
            loop {
                tokio::select! {
                    () = self.limit.wait() => break,
                    () = self.went.notified() => {}
                }
                if self.fits_without_read() {
                    break;
                }
            }
        }
        if has_waited {
            self.status.wait_for(None);
        }
    }

    /// What is to be written; `None`: memory holds no more than it may, or nobody wants it.
    fn next_write(&self) -> Option<Write> {
        let mut state = self.lock();
        let is_void = state.damage.is_some() || state.is_closed;
        let write = if is_void { None } else { state.next_write() };
        // Once it is begun all goes to the disk: memory is small, and then it has to be done less often.
        if write.is_none() {
            state.fits();
        }
        write
    }

    fn fits_without_read(&self) -> bool {
        let mut state = self.lock();
        state.fits() || state.fits_without_read() || state.is_closed || state.damage.is_some()
    }

    fn say(&self, refusal: &Refusal, is_known: bool) {
        let limit = self.limit.bytes_max();
        let (now, remark) = match refusal {
            Refusal::Limit => (
                format!("the spool has reached its limit of {limit} bytes on the disk"),
                format!(
                    "the spool has reached its limit of {limit} bytes: the source was read no faster than the target takes it (--spool-limit)"
                ),
            ),
            Refusal::Disk(e) => (
                format!("the spool cannot be written: {e}"),
                format!(
                    "the spool could not be written ({e}): the source was read no faster than the target takes it"
                ),
            ),
        };
        self.status.wait_for(Some(now));
        if !is_known {
            self.ledger.remark(remark);
        }
    }

    /// Writes a block.
    async fn write(&self, write: Write) -> Result<(), Refusal> {
        let (folder, limit) = (self.folder.clone(), self.limit.clone());
        let number = match &write.to {
            Some(segment) => segment.number,
            None => self.next_number.fetch_add(1, Ordering::Relaxed),
        };
        let writing = self
            .runtime
            .spawn_blocking(move || write_block(write, number, &folder, &limit));
        let written = writing.await;
        let written = written.unwrap_or_else(|e| Err(Refusal::Disk(io::Error::other(e))));
        let mut state = self.lock();
        match written {
            Ok(segment) => {
                state.was_written(segment);
                self.show(&state);
                Ok(())
            }
            Err(refusal) => {
                state.writing = None;
                Err(refusal)
            }
        }
    }

    /// The next piece; waits for it. `None`: nothing will come any more. Loses nothing when the future is
    /// dropped; called by one task.
    pub(crate) async fn next(&self) -> Option<Piece<B>> {
        loop {
            let look = {
                let mut state = self.lock();
                if state.is_closed {
                    return None;
                }
                state.look()
            };
            match look {
                Look::Piece(piece) => {
                    self.went.notify_one();
                    return Some(piece);
                }
                Look::OnDisk(place) => {
                    let (file, at, offset) = (place.segment.file.clone(), place.at, place.offset);
                    let read = blocking(move || read_block(&file, at, offset)).await;
                    let mut state = self.lock();
                    match read {
                        Ok((first, raw, next)) => {
                            let piece = state.was_read(&place, first, raw, next);
                            drop(state);
                            if piece.is_some() {
                                self.went.notify_one();
                                return piece;
                            }
                        }
                        Err(e) if place.generation == state.generation => {
                            let path = place.segment.path.display();
                            state.damage = Some(format!("{path}: {e}"));
                            drop(state);
                            self.damaged.notify_one();
                            self.went.notify_one();
                        }
                        Err(_) => {}
                    }
                }
                Look::Nothing => self.came.notified().await,
            }
        }
    }

    /// Waits until what is on the disk cannot be read, and says why. [`Spool::forget_unread`] is the way on. Loses nothing when
    /// the future is dropped.
    pub(crate) async fn damage(&self) -> String {
        loop {
            if let Some(damage) = self.lock().damage.clone() {
                return damage;
            }
            self.damaged.notified().await;
        }
    }

    /// All up to this byte is applied. `false`: it is of a stream that is void, or it was known.
    pub(crate) fn applied(&self, offset: u64) -> bool {
        let mut state = self.lock();
        let Some(useless) = state.applied(offset) else {
            return false;
        };
        self.show(&state);
        drop(state);
        self.went.notify_one();
        if !useless.is_empty() {
            self.remove(useless);
        }
        true
    }

    /// Nothing will come any more, and nothing goes out. The files stay for a later run.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.came.notify_one();
        self.went.notify_one();
    }

    /// Removes files, whenever that may be done.
    fn remove(&self, segments: impl IntoIterator<Item = Segment> + Send + 'static) {
        let limit = self.limit.clone();
        drop(self.runtime.spawn_blocking(move || {
            for segment in segments {
                if let Err(e) = segment::remove(&segment.path) {
                    tracing::warn!("{} stays: {e}", segment.path.display());
                }
                limit.give_back(segment.file_bytes);
            }
        }));
    }

    fn show(&self, state: &State<B>) {
        let status = &self.status;
        let on_disk = state.segments.iter().map(|part| part.file_bytes).sum();
        let waiting = state.end.saturating_sub(state.applied.saturating_add(1));
        status.spool_bytes.store(waiting, Ordering::Relaxed);
        status.spool_disk_bytes.store(on_disk, Ordering::Relaxed);
        let received = state.end.saturating_sub(1);
        status.received_offset.store(received, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a block behind the last one, or at the begin of a new file; what the file is then. A block that was written in part
/// is written over by the next one.
fn write_block(
    write: Write,
    number: u64,
    folder: &Folder,
    limit: &DiskLimit,
) -> Result<Segment, Refusal> {
    use std::os::unix::fs::FileExt;

    let raw = write.raw();
    let block = pack(write.first, &raw);
    let end = write.first + raw.len() as u64;
    let head_bytes = if write.to.is_none() { HEAD_BYTES } else { 0 };
    let bytes = (block.len() + head_bytes) as u64;
    if !limit.take(bytes) {
        return Err(Refusal::Limit);
    }
    let written = match &write.to {
        Some(segment) => {
            let written = segment.file.write_all_at(&block, segment.file_bytes);
            written.map(|()| Segment {
                end,
                file_bytes: segment.file_bytes + bytes,
                ..segment.clone()
            })
        }
        None => {
            let head = Head {
                replid: write.replid.to_string(),
                first: write.first,
            };
            Segment::create(folder, number, &head, &block).map(|(path, file)| Segment {
                number,
                path,
                file,
                replid: write.replid.clone(),
                first: write.first,
                end,
                file_bytes: bytes,
            })
        }
    };
    written.map_err(|e| {
        limit.give_back(bytes);
        Refusal::Disk(e)
    })
}

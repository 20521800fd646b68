//! Bytes that a source sends and that are not used yet: a few in memory, the rest in nameless temporary files.
//!
//! A primary cuts off a replica that does not read for a minute (`repl-timeout`). While a large value is built on
//! the target nobody asks for more of a snapshot, so its link is read by a task of its own, the pump. It puts in at
//! one end; whoever uses the snapshot takes out at the other.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use keyhaul_client::{ClientError, ReplicaLink};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::disk_limit::DiskLimit;

/// Bytes in memory before a file is used.
const MEMORY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes that are read from a file at a time.
const PORTION_BYTES: u64 = 512 * 1024;
/// Bytes after which another file is begun: one that was read to its end is gone.
const FILE_BYTES: u64 = 32 * 1024 * 1024;

/// The end at which bytes come out, in order.
#[derive(Debug)]
pub(crate) struct Overflow {
    shared: Arc<Shared>,
    /// Reads the link, where nobody else does; ends with this.
    _pump: JoinSet<()>,
}

/// The end at which they are put in.
#[derive(Debug)]
pub(crate) struct OverflowSender {
    shared: Arc<Shared>,
    files: Files,
}

/// Where the files lie and how much they may hold.
#[derive(Debug, Default, Clone)]
pub(crate) struct Files {
    /// `None`: where the system keeps temporary files.
    pub folder: Option<PathBuf>,
    /// `None`: as much as there is room for. Else a full disk is waited for too. Room for two files at least: one is given back
    /// when it is read to its end, but for the one that is written.
    pub limit: Option<Arc<DiskLimit>>,
}

/// Why there are no more bytes.
#[derive(Debug)]
pub(crate) enum OverflowError {
    Link(ClientError),
    File(io::Error),
    /// Whoever put in has ended without a word.
    Abandoned,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

/// What is in memory comes before what is in the files.
#[derive(Debug, Default)]
struct Waiting {
    memory: VecDeque<Bytes>,
    memory_bytes: usize,
    parts: VecDeque<Part>,
    end: Option<Result<(), OverflowError>>,
    was_ended: bool,
    /// Nobody takes out any more.
    is_unwanted: bool,
}

/// One file.
#[derive(Debug)]
struct Part {
    file: Arc<File>,
    written: u64,
    read: u64,
    /// More is written to it at this moment.
    is_growing: bool,
    limit: Option<Arc<DiskLimit>>,
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(limit) = &self.limit {
            limit.give_back(self.written);
        }
    }
}

/// The two ends.
pub(crate) fn overflow(files: Files) -> (OverflowSender, Overflow) {
    let shared = Arc::new(Shared::default());
    let sender = OverflowSender {
        shared: shared.clone(),
        files,
    };
    let receiver = Overflow {
        shared,
        _pump: JoinSet::new(),
    };
    (sender, receiver)
}

impl Overflow {
    /// Begins to read the RDB of a link.
    pub(crate) fn of_link(mut link: Box<ReplicaLink>) -> Self {
        let (mut sender, mut receiver) = overflow(Files::default());
        receiver._pump.spawn(async move {
            let end = loop {
                match link.rdb_part().await {
                    Ok(Some(part)) => {
                        if let Err(e) = sender.push(part).await {
                            break Err(OverflowError::File(e));
                        }
                    }
                    Ok(None) => break Ok(()),
                    Err(e) => break Err(OverflowError::Link(e)),
                }
            };
            sender.end(end);
        });
        receiver
    }

    /// The next bytes; `None`: that was all.
    ///
    /// # Errors
    /// [`OverflowError`], once all that came before it was given.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, OverflowError> {
        loop {
            if let Some(next) = self.shared.pull().await? {
                return Ok(Some(next));
            }
            if let Some(end) = self.shared.take_end() {
                return end.map(|()| None);
            }
            self.shared.changed.notified().await;
        }
    }
}

impl Drop for Overflow {
    fn drop(&mut self) {
        let mut waiting = self.shared.lock();
        waiting.is_unwanted = true;
        waiting.clear();
    }
}

impl OverflowSender {
    /// Puts in. Waits for the disk, and for room on it where there is a limit. Not to be given up half way. What
    /// nobody wants any more is thrown away.
    ///
    /// # Errors
    /// Those of a file, where there is no limit.
    pub(crate) async fn push(&mut self, part: Bytes) -> io::Result<()> {
        let last = {
            let mut waiting = self.shared.lock();
            if waiting.is_unwanted {
                return Ok(());
            }
            let is_in_memory =
                waiting.parts.is_empty() && waiting.memory_bytes + part.len() <= MEMORY_BYTES_MAX;
            if is_in_memory {
                waiting.memory_bytes += part.len();
                waiting.memory.push_back(part);
                drop(waiting);
                self.shared.changed.notify_one();
                return Ok(());
            }
            let last = waiting.parts.back_mut();
            last.filter(|last| last.written < FILE_BYTES).map(|last| {
                last.is_growing = true;
                (last.file.clone(), last.written)
            })
        };
        let bytes = part.len() as u64;
        let written = self.write(part, last).await;
        let mut waiting = self.shared.lock();
        if let Some(last) = waiting.parts.back_mut() {
            last.is_growing = false;
        }
        match written? {
            Some(Written::More) => {
                if let Some(last) = waiting.parts.back_mut() {
                    last.written += bytes;
                }
            }
            Some(Written::First(file)) => waiting.parts.push_back(Part {
                file,
                written: bytes,
                read: 0,
                is_growing: false,
                limit: self.files.limit.clone(),
            }),
            None => {}
        }
        if waiting.is_unwanted {
            waiting.clear();
        }
        drop(waiting);
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Writes at a place of a file, or at the begin of a new one. `None`: nobody wants it any more.
    async fn write(
        &self,
        part: Bytes,
        last: Option<(Arc<File>, u64)>,
    ) -> io::Result<Option<Written>> {
        let bytes = part.len() as u64;
        loop {
            if self.shared.lock().is_unwanted {
                return Ok(None);
            }
            let limit = self.files.limit.as_ref();
            if let Some(limit) = limit.filter(|limit| !limit.take(bytes)) {
                limit.wait().await;
                continue;
            }
            let (last, part, folder) = (last.clone(), part.clone(), self.files.folder.clone());
            let written = blocking(move || match last {
                Some((file, at)) => file.write_all_at(&part, at).map(|()| Written::More),
                None => {
                    let file = temporary_file(folder)?;
                    file.write_all_at(&part, 0)?;
                    Ok(Written::First(Arc::new(file)))
                }
            });
            match (written.await, limit) {
                (Ok(written), _) => return Ok(Some(written)),
                (Err(e), None) => return Err(e),
                (Err(e), Some(limit)) => {
                    tracing::warn!("waiting: the disk takes no more of a snapshot: {e}");
                    limit.give_back(bytes);
                    limit.wait().await;
                }
            }
        }
    }

    /// Nothing more will come.
    pub(crate) fn end(&mut self, end: Result<(), OverflowError>) {
        self.shared.lock().finish(end);
        self.shared.changed.notify_one();
    }

    /// What was put in is worth nothing, whether it was taken out or not.
    pub(crate) fn void(mut self, reason: ClientError) {
        self.shared.lock().clear();
        self.end(Err(OverflowError::Link(reason)));
    }

    /// Whether all was taken out, or nobody takes any more.
    pub(crate) fn is_done(&self) -> bool {
        let waiting = self.shared.lock();
        waiting.is_unwanted || (waiting.was_ended && waiting.is_empty())
    }
}

impl Drop for OverflowSender {
    fn drop(&mut self) {
        let mut waiting = self.shared.lock();
        if !waiting.was_ended {
            waiting.finish(Err(OverflowError::Abandoned));
        }
        drop(waiting);
        self.shared.changed.notify_one();
    }
}

/// Where bytes went.
enum Written {
    More,
    First(Arc<File>),
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.memory.is_empty() && self.parts.iter().all(|part| part.read == part.written)
    }

    fn clear(&mut self) {
        self.memory.clear();
        self.memory_bytes = 0;
        self.parts.clear();
    }

    fn finish(&mut self, end: Result<(), OverflowError>) {
        self.was_ended = true;
        self.end = Some(end);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The end, if nothing is left before it.
    fn take_end(&self) -> Option<Result<(), OverflowError>> {
        let mut waiting = self.lock();
        if waiting.is_empty() {
            waiting.end.take()
        } else {
            None
        }
    }

    async fn pull(&self) -> Result<Option<Bytes>, OverflowError> {
        let (file, at, bytes) = {
            let mut waiting = self.lock();
            if let Some(part) = waiting.memory.pop_front() {
                waiting.memory_bytes -= part.len();
                return Ok(Some(part));
            }
            while let Some(first) = waiting.parts.front()
                && first.read == first.written
                && !first.is_growing
            {
                waiting.parts.pop_front();
            }
            match waiting.parts.front() {
                Some(first) if first.read < first.written => {
                    let bytes = (first.written - first.read).min(PORTION_BYTES);
                    (first.file.clone(), first.read, bytes)
                }
                _ => return Ok(None),
            }
        };
        let part = blocking(move || {
            let mut part = BytesMut::zeroed(usize::try_from(bytes).unwrap_or(0));
            file.read_exact_at(&mut part, at)?;
            Ok(part.freeze())
        });
        let part = part.await.map_err(OverflowError::File)?;
        // Nothing is there any more when it was voided meanwhile, and why comes next.
        match self.lock().parts.front_mut() {
            Some(first) => first.read += bytes,
            None => return Ok(None),
        }
        Ok(Some(part))
    }
}

/// A file that is gone when it is closed.
fn temporary_file(folder: Option<PathBuf>) -> io::Result<File> {
    match folder {
        Some(folder) => {
            std::fs::create_dir_all(&folder)?;
            tempfile::tempfile_in(folder)
        }
        None => tempfile::tempfile(),
    }
}

/// Does what waits for the disk on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(io::Error::other(e)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyhaul_client::Address;

    fn part(n: u8) -> Bytes {
        Bytes::from(vec![n; 1024 * 1024])
    }

    /// All that is left.
    async fn rest(receiver: &mut Overflow) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(part) = receiver.next().await.unwrap() {
            all.extend_from_slice(&part);
        }
        all
    }

    #[tokio::test]
    async fn what_is_put_in_comes_out_in_its_order() {
        let (mut sender, mut receiver) = overflow(Files::default());
        for n in 0..50 {
            sender.push(part(n)).await.unwrap();
        }
        assert!(receiver.shared.lock().memory_bytes <= MEMORY_BYTES_MAX);
        let mut all = Vec::new();
        for n in 50..80 {
            // Read and write in turns, from memory, then from the files.
            all.extend_from_slice(&receiver.next().await.unwrap().unwrap());
            sender.push(part(n)).await.unwrap();
        }
        sender.end(Ok(()));
        assert!(!sender.is_done(), "there is something before the end");
        all.extend(rest(&mut receiver).await);
        assert!(sender.is_done());
        let expected: Vec<u8> = (0..80).flat_map(|n| vec![n; 1024 * 1024]).collect();
        assert!(all == expected);
    }

    #[tokio::test]
    async fn once_all_is_read_memory_is_used_again() {
        let (mut sender, mut receiver) = overflow(Files::default());
        for n in 0..10 {
            sender.push(part(n)).await.unwrap();
        }
        for _ in 0..12 {
            receiver.next().await.unwrap().unwrap();
        }
        assert!(receiver.shared.pull().await.unwrap().is_none());
        sender.push(part(9)).await.unwrap();
        assert_eq!(receiver.shared.lock().memory_bytes, 1024 * 1024);
    }

    #[tokio::test]
    async fn a_limit_is_waited_for_and_kept() {
        const MB: u64 = 1024 * 1024;
        let limit = Arc::new(DiskLimit::new(40 * MB));
        let files = Files {
            folder: None,
            limit: Some(limit.clone()),
        };
        let (mut sender, mut receiver) = overflow(files);
        let pump = tokio::spawn(async move {
            for n in 0..100 {
                sender.push(part(n)).await.unwrap();
            }
            sender.end(Ok(()));
            sender
        });
        while limit.used() < 40 * MB {
            tokio::task::yield_now().await;
        }
        let all = rest(&mut receiver).await;
        let expected: Vec<u8> = (0..100).flat_map(|n| vec![n; 1024 * 1024]).collect();
        assert!(all == expected);
        assert!(pump.await.unwrap().is_done());
        assert_eq!(limit.used(), 0);
    }

    #[tokio::test]
    async fn what_is_void_is_gone() {
        let limit = Arc::new(DiskLimit::new(u64::MAX));
        let files = Files {
            folder: None,
            limit: Some(limit.clone()),
        };
        let (mut sender, mut receiver) = overflow(files.clone());
        for n in 0..20 {
            sender.push(part(n)).await.unwrap();
        }
        sender.end(Ok(()));
        let address = Address::parse("h:1", 1).unwrap();
        sender.void(ClientError::Closed { address });
        let error = receiver.next().await.unwrap_err();
        assert!(matches!(error, OverflowError::Link(_)), "{error:?}");
        assert_eq!(limit.used(), 0);

        let (mut sender, mut receiver) = overflow(files);
        sender.push(part(1)).await.unwrap();
        drop(sender);
        receiver.next().await.unwrap().unwrap();
        let error = receiver.next().await.unwrap_err();
        assert!(matches!(error, OverflowError::Abandoned), "{error:?}");
    }

    #[tokio::test]
    async fn nobody_takes_out_any_more() {
        let (mut sender, receiver) = overflow(Files::default());
        drop(receiver);
        for n in 0..20 {
            sender.push(part(n)).await.unwrap();
        }
        assert!(sender.is_done());
        assert!(sender.shared.lock().is_empty());
    }
}

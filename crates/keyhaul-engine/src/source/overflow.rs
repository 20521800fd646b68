//! Bytes that a source sends and that are not used yet: a few in memory, the rest in a nameless temporary file.
//!
//! A primary cuts off a replica that does not read for a minute (`repl-timeout`). While a large value is built on
//! the target nobody asks for more of a snapshot, so its link is read by a task of its own.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use keyhaul_client::{ClientError, ReplicaLink};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Bytes in memory before the file is used.
const MEMORY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes that are read from the file at a time.
const PORTION_BYTES: u64 = 512 * 1024;

/// What comes over a link, in order.
pub(crate) struct Overflow {
    shared: Arc<Shared>,
    /// Reads the link; ends with this.
    _pump: JoinSet<()>,
}

/// Why there are no more bytes.
#[derive(Debug)]
pub(crate) enum OverflowError {
    Link(ClientError),
    File(io::Error),
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

/// What is in memory comes before what is in the file.
#[derive(Debug, Default)]
struct Waiting {
    memory: VecDeque<Bytes>,
    memory_bytes: usize,
    file: Option<Arc<File>>,
    written: u64,
    read: u64,
    end: Option<Result<(), OverflowError>>,
}

impl Overflow {
    /// Begins to read.
    pub(crate) fn of_link(mut link: Box<ReplicaLink>) -> Self {
        let shared = Arc::new(Shared::default());
        let mut pump = JoinSet::new();
        let filling = shared.clone();
        pump.spawn(async move {
            let end = loop {
                match link.rdb_part().await {
                    Ok(Some(part)) => {
                        if let Err(e) = filling.push(part).await {
                            break Err(OverflowError::File(e));
                        }
                    }
                    Ok(None) => break Ok(()),
                    Err(e) => break Err(OverflowError::Link(e)),
                }
            };
            filling.lock().end = Some(end);
            filling.changed.notify_one();
        });
        Self {
            shared,
            _pump: pump,
        }
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The end, if nothing is left before it.
    fn take_end(&self) -> Option<Result<(), OverflowError>> {
        let mut waiting = self.lock();
        let is_empty = waiting.memory.is_empty() && waiting.read == waiting.written;
        if is_empty { waiting.end.take() } else { None }
    }

    async fn push(&self, part: Bytes) -> io::Result<()> {
        let place = {
            let mut waiting = self.lock();
            let is_in_memory = waiting.read == waiting.written
                && waiting.memory_bytes + part.len() <= MEMORY_BYTES_MAX;
            if is_in_memory {
                waiting.memory_bytes += part.len();
                waiting.memory.push_back(part.clone());
                None
            } else {
                Some((waiting.file.clone(), waiting.written))
            }
        };
        if let Some((file, at)) = place {
            let bytes = part.len() as u64;
            let file = blocking(move || {
                let file = match file {
                    Some(file) => file,
                    None => Arc::new(tempfile::tempfile()?),
                };
                file.write_all_at(&part, at)?;
                Ok(file)
            })
            .await?;
            let mut waiting = self.lock();
            waiting.file = Some(file);
            waiting.written += bytes;
        }
        self.changed.notify_one();
        Ok(())
    }

    async fn pull(&self) -> Result<Option<Bytes>, OverflowError> {
        let (file, at, bytes) = {
            let mut waiting = self.lock();
            if let Some(part) = waiting.memory.pop_front() {
                waiting.memory_bytes -= part.len();
                return Ok(Some(part));
            }
            let left = (waiting.written - waiting.read).min(PORTION_BYTES);
            match &waiting.file {
                Some(file) if left > 0 => (file.clone(), waiting.read, left),
                _ => return Ok(None),
            }
        };
        let part = blocking(move || {
            let mut part = BytesMut::zeroed(usize::try_from(bytes).unwrap_or(0));
            file.read_exact_at(&mut part, at)?;
            Ok(part.freeze())
        });
        let part = part.await.map_err(OverflowError::File)?;
        self.lock().read += bytes;
        Ok(Some(part))
    }
}

/// Does what waits for the disk on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(io::Error::other(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_put_in_comes_out_in_its_order() {
        let shared = Arc::new(Shared::default());
        let part = |n: u8| Bytes::from(vec![n; 1024 * 1024]);
        for n in 0..20 {
            shared.push(part(n)).await.unwrap();
        }
        assert!(shared.lock().memory_bytes <= MEMORY_BYTES_MAX);
        let mut all = BytesMut::new();
        for n in 20..40 {
            // Read and write in turns, from memory, then from the file.
            all.extend_from_slice(&shared.pull().await.unwrap().unwrap());
            shared.push(part(n)).await.unwrap();
        }
        assert!(shared.take_end().is_none());
        shared.lock().end = Some(Ok(()));
        assert!(shared.take_end().is_none(), "there is something before it");
        while let Some(part) = shared.pull().await.unwrap() {
            all.extend_from_slice(&part);
        }
        assert!(shared.take_end().is_some_and(|end| end.is_ok()));
        let expected: Vec<u8> = (0..40).flat_map(|n| vec![n; 1024 * 1024]).collect();
        assert!(all == expected);
        // Once the file is read to its end, memory is used again.
        shared.push(part(9)).await.unwrap();
        assert_eq!(shared.lock().memory_bytes, 1024 * 1024);
    }
}

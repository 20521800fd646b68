//! Goes over the files of an index once more, for the names of their keys.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::walk::{Broken, walk};
use super::{FileIndex, IndexRules};
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::plan::CheckedFile;
use crate::sorted::key_digest;

/// Most names of a batch.
pub(super) const BATCH_KEYS_MAX: usize = 256;
/// A batch of long names ends when it holds so many bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// Batches that are read ahead.
const BATCHES_AHEAD: usize = 4;

/// Names of one db, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameBatch {
    pub db: u32,
    pub keys: Vec<Bytes>,
}

/// Reads names. A thread of its own reads ahead and ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Names {
    batches: mpsc::Receiver<NameBatch>,
    reading: Option<JoinHandle<Result<(), Broken>>>,
    ledger: Arc<Ledger>,
    _stops_reading: DropGuard,
}

impl Names {
    pub(super) fn new(index: Arc<FileIndex>, files: Vec<CheckedFile>, ledger: Arc<Ledger>) -> Self {
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let stop = ledger.stop.child_token();
        let guard = stop.clone().drop_guard();
        let reading =
            tokio::task::spawn_blocking(move || Reading::new(&index, sender).run(&files, &stop));
        Self {
            batches,
            reading: Some(reading),
            ledger,
            _stops_reading: guard,
        }
    }

    /// The next names, in the order of the files; `None`: that was all.
    ///
    /// # Errors
    /// [`GaveUp`] when a stop is wanted, or a file cannot be read any more; the job is halted then.
    pub(crate) async fn next(&mut self) -> Result<Option<NameBatch>, GaveUp> {
        if let Some(batch) = self.batches.recv().await {
            return Ok(Some(batch));
        }
        let Some(reading) = self.reading.take() else {
            return Ok(None);
        };
        let ended = reading.await.map_err(Broken::of_task).flatten();
        ended
            .map(|()| None)
            .map_err(|broken| broken.halt(&self.ledger))
    }
}

/// What the thread does.
struct Reading<'a> {
    index: &'a FileIndex,
    batches: mpsc::Sender<NameBatch>,
    /// Number of the last record that was seen, as the index counts them.
    number: u64,
    db: u32,
    keys: Vec<Bytes>,
    /// The records of `keys`.
    numbers: Vec<u64>,
    bytes: usize,
}

impl<'a> Reading<'a> {
    fn new(index: &'a FileIndex, batches: mpsc::Sender<NameBatch>) -> Self {
        Self {
            index,
            batches,
            number: 0,
            db: 0,
            keys: Vec::new(),
            numbers: Vec::new(),
            bytes: 0,
        }
    }

    fn run(mut self, files: &[CheckedFile], stop: &CancellationToken) -> Result<(), Broken> {
        let rules = IndexRules {
            with_values: false,
            ..self.index.rules
        };
        for file in files {
            walk(file, &rules, stop, |record| {
                self.number += 1;
                if record.db != self.db {
                    self.flush()?;
                    self.db = record.db;
                }
                self.keys.push(Bytes::copy_from_slice(record.key));
                self.numbers.push(self.number);
                self.bytes += record.key.len();
                match self.keys.len() >= BATCH_KEYS_MAX || self.bytes >= BATCH_BYTES {
                    true => self.flush(),
                    false => Ok(()),
                }
            })?;
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Broken> {
        let mut keys = std::mem::take(&mut self.keys);
        let numbers = std::mem::take(&mut self.numbers);
        self.bytes = 0;
        if self.index.has_doubles() {
            keys = self.that_count(keys, &numbers)?;
        }
        if keys.is_empty() {
            return Ok(());
        }
        let batch = NameBatch { db: self.db, keys };
        let sent = self.batches.blocking_send(batch);
        sent.map_err(|_| Broken::Stopped)
    }

    /// Leaves out records that a later one of the same key replaces.
    fn that_count(&self, keys: Vec<Bytes>, numbers: &[u64]) -> Result<Vec<Bytes>, Broken> {
        let FileIndex { rules, sorted, .. } = self.index;
        let mut finder = sorted.finder();
        let mut counting = Vec::with_capacity(keys.len());
        for (key, number) in keys.into_iter().zip(numbers) {
            let row = finder.find(key_digest(rules.seed, self.db, &key));
            let row = row.map_err(|e| {
                let folder = std::env::temp_dir();
                Broken::Failed(super::no_room(&folder, &e))
            })?;
            if row.is_some_and(|row| row.number() == *number) {
                counting.push(key);
            }
        }
        Ok(counting)
    }
}

//! Reads the records of an RDB, from a file or from a replication link, and hands them on as entries.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use keyhaul_rdb::{Checksum, Decoder, Event, RawValue, RdbError, Record};
use tokio::sync::mpsc;

use crate::entry::{Entry, Payload, Usage};
use crate::ledger::Ledger;
use crate::progress::Progress;
use crate::route::Outlet;
use crate::source::feed::{Feed, FeedError};
use crate::source::stored::{Spool, Stored, StoredKey};

/// A value above this is not held as a whole, bytes.
pub(crate) const VALUE_WHOLE_MAX: usize = 512 * 1024;
/// What is handed on at a time, bytes and keys.
const BATCH_BYTES: usize = 128 * 1024;
const BATCH_KEYS: usize = 512;

/// Why the records end before the RDB does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordsError {
    /// No more bytes come.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The bytes are no RDB.
    #[error("damaged {error}{}", of_key(key.as_ref()))]
    Damaged {
        error: RdbError,
        /// Whose record it was.
        key: Option<Bytes>,
    },
    /// The job is to stop.
    #[error("stopped")]
    Stopped,
}

fn of_key(key: Option<&Bytes>) -> String {
    let text = key.map(|key| format!(", in key \"{}\"", crate::stats::key_text(key)));
    text.unwrap_or_default()
}

/// Which keys of an RDB go over, beside the filters of the job.
#[derive(Debug, Clone)]
pub(crate) struct RecordRules {
    /// Only these dbs; `None`: all.
    pub dbs: Option<Vec<u32>>,
    /// Values that are longer in the RDB are listed, bytes.
    pub value_max: Option<u64>,
    /// Keys that would become one with another; they are listed.
    pub collisions: Arc<crate::source::doubles::Doubles>,
}

/// Reads one RDB.
pub(crate) struct RecordReader {
    feed: Feed,
    decoder: Decoder,
    outlet: Outlet,
    rules: RecordRules,
    ledger: Arc<Ledger>,
    functions: mpsc::Sender<Bytes>,
    /// The file that is read, to come back to a large value.
    path: Option<PathBuf>,
    /// Of a damaged file: what lies from here on is not read.
    upto: Option<u64>,
    version: u16,
    now_ms: i64,
    entries: Vec<Entry>,
    held_bytes: usize,
}

impl RecordReader {
    /// A file that was checked before; records from `upto` on are not read.
    pub(crate) fn of_file(
        path: &Path,
        upto: Option<u64>,
        outlet: Outlet,
        rules: RecordRules,
        ledger: Arc<Ledger>,
        functions: mpsc::Sender<Bytes>,
    ) -> Self {
        let feed = Feed::file(path);
        let mut reader = Self::new(feed, Checksum::Trust, outlet, rules, ledger, functions);
        reader.path = Some(path.to_owned());
        reader.upto = upto;
        reader
    }

    /// What a feed gives, checked on the way.
    pub(crate) fn new(
        feed: Feed,
        checksum: Checksum,
        outlet: Outlet,
        rules: RecordRules,
        ledger: Arc<Ledger>,
        functions: mpsc::Sender<Bytes>,
    ) -> Self {
        Self {
            feed,
            decoder: Decoder::new(checksum),
            version: outlet.source_version(),
            outlet,
            rules,
            ledger,
            functions,
            path: None,
            upto: None,
            now_ms: now_ms(),
            entries: Vec::new(),
            held_bytes: 0,
        }
    }

    /// Reads to the end.
    ///
    /// # Errors
    /// [`RecordsError`]; what was read before it went on to the lanes.
    pub(crate) async fn run(mut self) -> Result<(), RecordsError> {
        let read = self.read_all().await;
        self.flush().await;
        read
    }

    async fn read_all(&mut self) -> Result<(), RecordsError> {
        loop {
            if self.ledger.stop.is_cancelled() {
                return Err(RecordsError::Stopped);
            }
            match self.decoder.next_event() {
                // The damage is known, and said.
                Err(_) if self.upto.is_some() => return Ok(()),
                Err(error) => return Err(self.damaged(error)),
                Ok(Some(Event::Record(record)))
                    if self.upto.is_some_and(|upto| record.offset >= upto) =>
                {
                    return Ok(());
                }
                Ok(Some(Event::End { .. })) if self.upto.is_some() => return Ok(()),
                Ok(Some(Event::End { .. })) => return self.expect_end().await,
                Ok(Some(event)) => self.take(event).await?,
                Ok(None) => match self.more().await {
                    Err(RecordsError::Damaged { .. }) if self.upto.is_some() => return Ok(()),
                    more => more?,
                },
            }
        }
    }

    fn damaged(&self, error: RdbError) -> RecordsError {
        let key = self.decoder.current_key().cloned();
        RecordsError::Damaged { error, key }
    }

    /// Nothing may follow.
    async fn expect_end(&mut self) -> Result<(), RecordsError> {
        self.decoder.next_event().map_err(|e| self.damaged(e))?;
        while let Some(portion) = self.feed.next().await? {
            self.decoder.input().extend_from_slice(&portion);
            self.decoder.next_event().map_err(|e| self.damaged(e))?;
        }
        Ok(())
    }

    /// Appends the next portion.
    async fn more(&mut self) -> Result<(), RecordsError> {
        match self.feed.next().await? {
            Some(portion) => {
                Progress::add(&self.ledger.progress.bytes_read, portion.len() as u64);
                self.decoder.input().extend_from_slice(&portion);
                Ok(())
            }
            None => match self.decoder.end_of_input() {
                Ok(()) => Ok(()),
                Err(error) => Err(self.damaged(error)),
            },
        }
    }

    async fn take(&mut self, event: Event) -> Result<(), RecordsError> {
        match event {
            Event::Header(header) => self.version = header.version,
            // Whoever listens knows what to do; nobody does where functions do not go over.
            Event::Function(code) => drop(self.functions.send(code).await),
            Event::ModuleAux { module } => self.ledger.remark(format!(
                "the data that module '{module}' keeps outside of keys cannot be moved by commands"
            )),
            Event::Record(record) if self.is_wanted(&record) => self.read_value(record).await?,
            _ => {}
        }
        Ok(())
    }

    fn is_wanted(&self, record: &Record) -> bool {
        let filter = self.outlet.filter();
        let is_chosen = |dbs: &Vec<u32>| dbs.contains(&record.db);
        if !self.rules.dbs.as_ref().is_none_or(is_chosen)
            || !filter.takes_name(&record.key)
            || !filter.takes_type(Some(record.form.key_type()))
        {
            return false;
        }
        let progress = &self.ledger.progress;
        Progress::add(&progress.keys_found, 1);
        if record.expire_at_ms.is_some_and(|at| at <= self.now_ms) {
            // A server would not load it either.
            Progress::add(&progress.keys_gone, 1);
            return false;
        }
        if self.rules.collisions.contains(record.db, &record.key) {
            let reason = "becomes the same key as another one of the source".to_owned();
            self.outlet.list(record.db, &record.key, reason);
            return false;
        }
        true
    }

    async fn read_value(&mut self, record: Record) -> Result<(), RecordsError> {
        let begin = self.decoder.offset();
        loop {
            match self.decoder.raw_value(VALUE_WHOLE_MAX) {
                Err(error) => return Err(self.damaged(error)),
                Ok(None) => self.more().await?,
                Ok(Some(RawValue::Whole(value))) => {
                    self.take_whole(&record, value).await;
                    return Ok(());
                }
                Ok(Some(part)) => return self.read_large(record, begin, part).await,
            }
        }
    }

    async fn take_whole(&mut self, record: &Record, value: Bytes) {
        if self.refuses_length(record, value.len() as u64) {
            return;
        }
        self.held_bytes += value.len();
        let payload = Payload::Value {
            form: record.form,
            version: self.version,
            value,
        };
        let entry = self.outlet.entry(
            record.db,
            &record.key,
            payload,
            record.expire_at_ms,
            usage(record),
        );
        self.entries.push(entry);
        if self.held_bytes >= BATCH_BYTES || self.entries.len() >= BATCH_KEYS {
            self.flush().await;
            self.now_ms = now_ms();
        }
    }

    /// A value that is not held. It lies in the file already, or is put into one.
    async fn read_large(
        &mut self,
        record: Record,
        begin: u64,
        first: RawValue,
    ) -> Result<(), RecordsError> {
        let mut spool = self.path.is_none().then(Spool::new);
        let mut next = first;
        loop {
            let (part, is_last) = match next {
                RawValue::Part(part) => (part, false),
                RawValue::Whole(part) | RawValue::Last(part) => (part, true),
            };
            if let Some(spool) = &mut spool {
                spool.write(part).await;
            }
            if is_last {
                break;
            }
            next = loop {
                match self.decoder.raw_value(VALUE_WHOLE_MAX) {
                    Err(error) => return Err(self.damaged(error)),
                    Ok(Some(part)) => break part,
                    Ok(None) => self.more().await?,
                }
            };
        }
        let bytes = self.decoder.offset() - begin;
        if self.refuses_length(&record, bytes) {
            return Ok(());
        }
        // What comes before it in its lane is in its lane before it.
        self.flush().await;
        let stored = match (spool, &self.path) {
            (Some(spool), _) => spool.finish().await,
            (None, Some(path)) => File::open(path)
                .map(|file| Stored {
                    file,
                    offset: begin,
                    bytes,
                })
                .map_err(|e| format!("{} cannot be opened again: {e}", path.display())),
            (None, None) => return Ok(()),
        };
        let key = StoredKey {
            db: record.db,
            key: record.key.clone(),
            expire_at_ms: record.expire_at_ms,
            usage: usage(&record),
            form: record.form,
            version: self.version,
        };
        match stored {
            Ok(stored) => drop(stored.send(&self.outlet, &key).await),
            Err(reason) => self.outlet.list(key.db, &key.key, reason),
        }
        Ok(())
    }

    /// Lists a value that is longer than the user wants.
    fn refuses_length(&self, record: &Record, bytes: u64) -> bool {
        let Some(max) = self.rules.value_max.filter(|max| bytes > *max) else {
            return false;
        };
        let reason = format!("its {bytes} bytes in the RDB are above the limit of {max}");
        self.outlet.list(record.db, &record.key, reason);
        true
    }

    async fn flush(&mut self) {
        self.held_bytes = 0;
        let entries = std::mem::take(&mut self.entries);
        self.outlet.send(entries).await;
    }
}

fn usage(record: &Record) -> Usage {
    Usage {
        idle_s: record.idle_s,
        freq: record.freq,
    }
}

/// The time by the clock of this machine, Unix ms.
pub(crate) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

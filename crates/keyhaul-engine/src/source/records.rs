//! Reads the records of an RDB, from a file or from a replication link, and hands them on as entries.

use std::fs::File;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use keyhaul_rdb::{Checksum, Decoder, Event, Form, RawValue, RdbError, Record, SmallRecord};
use tokio::sync::mpsc;

use crate::entry::Usage;
use crate::ledger::Ledger;
use crate::plan::CheckedFile;
use crate::progress::Progress;
use crate::route::Outlet;
use crate::source::feed::{Feed, FeedError};
use crate::source::gather::Gather;
use crate::source::stored::{Spool, Stored, StoredKey};

/// A value above this is not held as a whole, bytes.
pub(crate) const VALUE_WHOLE_MAX: usize = 512 * 1024;

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
    /// Hashes with fields that expire are noted here.
    pub marks: Option<Arc<crate::follow::Marks>>,
    /// Names on the target of all keys that go over are noted here.
    pub names: Option<Arc<crate::follow::NameNotes>>,
    /// Also keys whose time has come go over: their source decides.
    pub keeps_expired: bool,
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
    file: Option<Arc<File>>,
    /// Of a damaged file: what lies from here on is not read.
    upto: Option<u64>,
    version: u16,
    /// A value above this is not held as a whole, bytes.
    whole_max: usize,
    now_ms: i64,
    gather: Gather,
    /// Not told to the progress yet.
    found: u64,
}

impl RecordReader {
    /// A file that was checked before; records from `upto` on are not read.
    pub(crate) fn of_file(
        file: &CheckedFile,
        upto: Option<u64>,
        outlet: Outlet,
        rules: RecordRules,
        ledger: Arc<Ledger>,
        functions: mpsc::Sender<Bytes>,
    ) -> Self {
        let feed = Feed::file(file);
        let mut reader = Self::new(feed, Checksum::Trust, outlet, rules, ledger, functions);
        reader.file = file.opened.clone();
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
            whole_max: usize::try_from(outlet.chunk_threshold())
                .unwrap_or(VALUE_WHOLE_MAX)
                .min(VALUE_WHOLE_MAX),
            outlet,
            rules,
            ledger,
            functions,
            file: None,
            upto: None,
            now_ms: now_ms(),
            gather: Gather::default(),
            found: 0,
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
            self.take_small()?;
            if self.gather.is_full() {
                self.flush().await;
                if self.ledger.stop.is_cancelled() {
                    return Err(RecordsError::Stopped);
                }
                continue;
            }
            match self.decoder.next_event() {
                // The damage is known, and said.
                Err(_) if self.upto.is_some() => return Ok(()),
                Err(error) => return Err(self.damaged(error)),
                Ok(Some(Event::Record(record))) if self.is_beyond(record.offset) => return Ok(()),
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

    /// Takes in the records that lie in the input, until a batch is full.
    fn take_small(&mut self) -> Result<(), RecordsError> {
        let Self {
            decoder,
            outlet,
            rules,
            gather,
            found,
            ledger,
            ..
        } = self;
        let upto = self.upto.unwrap_or(u64::MAX);
        let value_max = rules.value_max.and_then(|max| usize::try_from(max).ok());
        let value_max = value_max.unwrap_or(usize::MAX).min(self.whole_max);
        while !gather.is_full() && decoder.offset() < upto {
            let small = match decoder.small_record(value_max) {
                Ok(Some(small)) => small,
                Ok(None) | Err(_) if self.upto.is_some() => return Ok(()),
                Ok(None) => return Ok(()),
                Err(error) => return Err(RecordsError::Damaged { error, key: None }),
            };
            if small.offset >= upto {
                return Ok(());
            }
            let record = Named {
                db: small.db,
                key: small.key,
                form: small.form,
                expire_at_ms: small.expire_at_ms,
            };
            if rules.takes(&record, self.now_ms, outlet, ledger, found) {
                gather.push(&small, self.version, outlet);
            }
        }
        Ok(())
    }

    fn is_beyond(&self, offset: u64) -> bool {
        self.upto.is_some_and(|upto| offset >= upto)
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
        if self.ledger.stop.is_cancelled() {
            return Err(RecordsError::Stopped);
        }
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

    fn is_wanted(&mut self, record: &Record) -> bool {
        let named = Named {
            db: record.db,
            key: &record.key,
            form: record.form,
            expire_at_ms: record.expire_at_ms,
        };
        self.rules.takes(
            &named,
            self.now_ms,
            &self.outlet,
            &self.ledger,
            &mut self.found,
        )
    }

    async fn read_value(&mut self, record: Record) -> Result<(), RecordsError> {
        let begin = self.decoder.offset();
        loop {
            match self.decoder.raw_value(self.whole_max) {
                Err(error) => return Err(self.damaged(error)),
                Ok(None) => self.more().await?,
                Ok(Some(RawValue::Whole(value))) => {
                    self.take_whole(&record, &value);
                    return Ok(());
                }
                Ok(Some(part)) => return self.read_large(record, begin, part).await,
            }
        }
    }

    fn take_whole(&mut self, record: &Record, value: &[u8]) {
        if self.refuses_length(record, value.len() as u64) {
            return;
        }
        let small = SmallRecord {
            db: record.db,
            key: &record.key,
            form: record.form,
            expire_at_ms: record.expire_at_ms,
            idle_s: record.idle_s,
            freq: record.freq,
            offset: record.offset,
            value,
        };
        self.gather.push(&small, self.version, &self.outlet);
    }

    /// A value that is not held. It lies in the file already, or is put into one.
    async fn read_large(
        &mut self,
        record: Record,
        begin: u64,
        first: RawValue,
    ) -> Result<(), RecordsError> {
        let mut spool = self.file.is_none().then(Spool::new);
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
                match self.decoder.raw_value(self.whole_max) {
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
        let stored = match (spool, &self.file) {
            (Some(spool), _) => spool.finish().await,
            (None, Some(file)) => file
                .try_clone()
                .map(|file| Stored {
                    file,
                    offset: begin,
                    bytes,
                })
                .map_err(|e| format!("the file cannot be read again: {e}")),
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
        Progress::add(
            &self.ledger.progress.keys_found,
            std::mem::take(&mut self.found),
        );
        self.now_ms = now_ms();
        let entries = self.gather.take(&self.outlet);
        self.outlet.send(entries).await;
    }
}

/// A record without its value.
struct Named<'a> {
    db: u32,
    key: &'a [u8],
    form: Form,
    expire_at_ms: Option<i64>,
}

impl RecordRules {
    /// Whether a record goes over. One that has expired, or shares its name with another, is counted or
    /// listed.
    fn takes(
        &self,
        record: &Named<'_>,
        now_ms: i64,
        outlet: &Outlet,
        ledger: &Ledger,
        found: &mut u64,
    ) -> bool {
        let filter = outlet.filter();
        if !self.dbs.as_ref().is_none_or(|dbs| dbs.contains(&record.db))
            || !filter.takes_name(record.key)
            || !(filter.takes_every_type() || filter.takes_type(Some(record.form.key_type())))
        {
            return false;
        }
        *found += 1;
        if !self.keeps_expired && record.expire_at_ms.is_some_and(|at| at <= now_ms) {
            // A server would not load it either.
            Progress::add(&ledger.progress.keys_gone, 1);
            return false;
        }
        if let Some(marks) = &self.marks
            && record.form.has_expiring_fields()
        {
            marks.note_fields(&(record.db, Bytes::copy_from_slice(record.key)), true);
        }
        if let Some(names) = &self.names {
            let (db, name) = outlet.target_name(record.db, &Bytes::copy_from_slice(record.key));
            names.note(db, &name);
        }
        if self.collisions.contains(record.db, record.key) {
            let reason = "becomes the same key as another one of the source".to_owned();
            outlet.list(record.db, record.key, reason);
            return false;
        }
        true
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

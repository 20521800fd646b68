//! Reads the keys of RDB files that were checked. What a record takes in the file stands for what its key takes. Blocks.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use keyhaul_rdb::{
    Checksum, Decoder, Element, ElementReader, Event, Form, RawValue, RdbError, Record,
};
use tokio::sync::mpsc;

use crate::ledger::Ledger;
use crate::plan::CheckedFile;
use crate::progress::Progress;
use crate::source::records::{VALUE_WHOLE_MAX, now_ms};
use crate::stats::fold::{KeyRow, Page, Told};
use crate::transform::KeyFilter;

/// Bytes that are read at a time.
const PORTION_BYTES: usize = 512 * 1024;
/// Keys that are told at once.
const PAGE_KEYS: usize = 1000;
/// Their names together, bytes, and that of the last one.
const PAGE_NAMES_BYTES: usize = 256 * 1024;

/// What is read of files, and how.
#[derive(Debug, Clone)]
pub(super) struct FileRules {
    pub dbs: Vec<u32>,
    pub filter: Arc<KeyFilter>,
    /// Whether elements are counted, for which values are taken apart.
    pub counts_elements: bool,
}

/// Why a file was not read to its end.
enum Ended {
    /// A stop is wanted, or nobody listens.
    Stopped,
    Unreadable(io::Error),
    Damaged(RdbError),
}

impl From<RdbError> for Ended {
    fn from(error: RdbError) -> Self {
        Self::Damaged(error)
    }
}

/// Tells all keys of the sound part of a file. A reason to stop is noted.
pub(super) fn read_file(
    file: &CheckedFile,
    rules: &FileRules,
    output: &mpsc::Sender<Told>,
    ledger: &Ledger,
) {
    let path = file.path.display();
    if let Some(damage) = &file.damage {
        ledger.remark(format!(
            "{path} is damaged {}: what is before it was read",
            damage.text
        ));
    }
    let damage = file.damage.as_ref();
    let mut reader = Reader {
        opened: file.opened.as_deref(),
        at: 0,
        portion: vec![0; PORTION_BYTES],
        decoder: Decoder::new(Checksum::Trust),
        upto: damage.and_then(|damage| damage.upto).unwrap_or(u64::MAX),
        now_ms: now_ms(),
        encodings: HashMap::new(),
        rules,
        output,
        ledger,
        page: Page {
            db: 0,
            rows: Vec::new(),
            position: None,
        },
        names_bytes: 0,
    };
    let ended = reader.run();
    let ended = reader.flush().and(ended);
    match ended {
        Err(Ended::Stopped) => {}
        _ if file.has_changed() => ledger.halt(format!(
            "{path} was written to while it was read: copy it elsewhere first and give the command again"
        )),
        Ok(()) => {}
        // Said before.
        Err(Ended::Damaged(_)) if file.damage.is_some() => {}
        Err(Ended::Damaged(e)) => ledger.halt(format!("{path} is damaged {e}")),
        Err(Ended::Unreadable(e)) => ledger.halt(format!("{path} cannot be read: {e}")),
    }
}

struct Reader<'a> {
    opened: Option<&'a File>,
    /// Where in the file the next portion lies.
    at: u64,
    portion: Vec<u8>,
    decoder: Decoder,
    /// Records from here on are not sound.
    upto: u64,
    now_ms: i64,
    /// The names of forms, made once.
    encodings: HashMap<Form, Bytes>,
    rules: &'a FileRules,
    output: &'a mpsc::Sender<Told>,
    ledger: &'a Ledger,
    page: Page,
    /// The names on the page.
    names_bytes: usize,
}

impl Reader<'_> {
    fn run(&mut self) -> Result<(), Ended> {
        loop {
            while self.small_record()? {}
            match self.decoder.next_event()? {
                Some(Event::End { .. }) => return Ok(()),
                Some(Event::Record(record)) if record.offset >= self.upto => return Ok(()),
                Some(Event::Record(record)) => self.long_record(record)?,
                Some(_) => {}
                None => self.more()?,
            }
        }
    }

    /// Takes a record that lies in the input as a whole; `false`: there is none.
    fn small_record(&mut self) -> Result<bool, Ended> {
        let Some(small) = self.decoder.small_record(VALUE_WHOLE_MAX)? else {
            return Ok(false);
        };
        let (offset, db) = (small.offset, small.db);
        let named = Named {
            db,
            key: small.key,
            form: small.form,
            expire_at_ms: small.expire_at_ms,
        };
        if offset >= self.upto || !named.is_taken(self.rules, self.now_ms, self.ledger) {
            return Ok(offset < self.upto);
        }
        let mut row = named.row(&mut self.encodings);
        if self.rules.counts_elements {
            row.elements = Counter::new(small.form).and_then(|mut counter| {
                counter.push(small.value);
                counter.finish()
            });
        }
        row.size_bytes = self.decoder.offset() - offset;
        self.take(db, row)?;
        Ok(true)
    }

    /// Takes a record that does not.
    fn long_record(&mut self, record: Record) -> Result<(), Ended> {
        let named = Named {
            db: record.db,
            key: &record.key,
            form: record.form,
            expire_at_ms: record.expire_at_ms,
        };
        if !named.is_taken(self.rules, self.now_ms, self.ledger) {
            return Ok(());
        }
        let mut row = named.row(&mut self.encodings);
        let mut counter = match self.rules.counts_elements {
            true => Counter::new(record.form),
            false => None,
        };
        loop {
            let (part, is_last) = match self.decoder.raw_value(VALUE_WHOLE_MAX)? {
                None => {
                    self.more()?;
                    continue;
                }
                Some(RawValue::Part(part)) => (part, false),
                Some(RawValue::Whole(part) | RawValue::Last(part)) => (part, true),
            };
            if let Some(counter) = &mut counter {
                counter.push(&part);
            }
            if is_last {
                break;
            }
        }
        row.elements = counter.and_then(Counter::finish);
        row.size_bytes = self.decoder.offset() - record.offset;
        self.take(record.db, row)
    }

    fn take(&mut self, db: u32, row: KeyRow) -> Result<(), Ended> {
        let is_full = self.page.rows.len() >= PAGE_KEYS || self.names_bytes >= PAGE_NAMES_BYTES;
        if self.page.db != db || is_full {
            self.flush()?;
            self.page.db = db;
        }
        self.names_bytes += row.key.len();
        self.page.rows.push(row);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Ended> {
        if self.page.rows.is_empty() {
            return Ok(());
        }
        let page = Page {
            db: self.page.db,
            rows: std::mem::take(&mut self.page.rows),
            position: None,
        };
        self.names_bytes = 0;
        let sent = self.output.blocking_send(Told::Page(page));
        sent.map_err(|_| Ended::Stopped)
    }

    /// Appends the next portion.
    fn more(&mut self) -> Result<(), Ended> {
        if self.ledger.stop.is_cancelled() {
            return Err(Ended::Stopped);
        }
        let Some(file) = self.opened else {
            return Err(Ended::Unreadable(ErrorKind::NotFound.into()));
        };
        let bytes = loop {
            match file.read_at(&mut self.portion, self.at) {
                Ok(bytes) => break bytes,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Ended::Unreadable(e)),
            }
        };
        if bytes == 0 {
            self.decoder.end_of_input()?;
            // Not reached: who asks for more has not seen the end.
            return Err(Ended::Unreadable(ErrorKind::UnexpectedEof.into()));
        }
        self.at += bytes as u64;
        Progress::add(&self.ledger.progress.bytes_read, bytes as u64);
        let read = self.portion.get(..bytes).unwrap_or_default();
        self.decoder.input().extend_from_slice(read);
        Ok(())
    }
}

/// A record without its value.
struct Named<'a> {
    db: u32,
    key: &'a [u8],
    form: Form,
    expire_at_ms: Option<i64>,
}

impl Named<'_> {
    /// Whether it is to be told. One that has expired is counted instead: a server would not load it either.
    fn is_taken(&self, rules: &FileRules, now_ms: i64, ledger: &Ledger) -> bool {
        let is_wanted = rules.dbs.contains(&self.db)
            && rules.filter.matches_name(self.key)
            && rules.filter.takes_type(Some(self.form.key_type()));
        let has_expired = self.expire_at_ms.is_some_and(|at| at <= now_ms);
        if is_wanted && has_expired {
            Progress::add(&ledger.progress.keys_gone, 1);
        }
        is_wanted && !has_expired
    }

    fn row(&self, encodings: &mut HashMap<Form, Bytes>) -> KeyRow {
        let encoding = encodings
            .entry(self.form)
            .or_insert_with(|| Bytes::from_static(self.form.name().as_bytes()));
        KeyRow {
            key: Bytes::copy_from_slice(self.key),
            key_type: Some(self.form.key_type()),
            encoding: Some(encoding.clone()),
            size_bytes: 0,
            elements: None,
            expire_at_ms: self.expire_at_ms,
        }
    }
}

/// Counts the elements of one value while it passes; bytes of a string.
struct Counter {
    /// `None`: it cannot be taken apart.
    reader: Option<ElementReader>,
    /// What belongs to an element that is not there as a whole.
    rest: BytesMut,
    elements: u64,
}

impl Counter {
    /// `None`: nobody knows the elements of such a value.
    fn new(form: Form) -> Option<Self> {
        Some(Self {
            reader: Some(ElementReader::new(form).ok()?),
            rest: BytesMut::new(),
            elements: 0,
        })
    }

    fn push(&mut self, part: &[u8]) {
        let Some(reader) = &mut self.reader else {
            return;
        };
        let elements = &mut self.elements;
        let mut count = |element: Element<'_>| match element {
            Element::String(part) => *elements += part.len() as u64,
            Element::Item(_)
            | Element::Member(_)
            | Element::Scored { .. }
            | Element::Field { .. }
            | Element::Entry { .. } => *elements += 1,
            _ => {}
        };
        let pushed = if self.rest.is_empty() {
            let used = reader.push(part, usize::MAX, &mut count);
            used.map(|used| {
                self.rest
                    .extend_from_slice(part.get(used..).unwrap_or_default())
            })
        } else {
            self.rest.extend_from_slice(part);
            let used = reader.push(&self.rest, usize::MAX, &mut count);
            used.map(|used| drop(self.rest.split_to(used)))
        };
        if pushed.is_err() {
            (self.reader, self.rest) = (None, BytesMut::new());
        }
    }

    fn finish(self) -> Option<u64> {
        let is_whole = self.reader.is_some_and(|reader| reader.is_done());
        (is_whole && self.rest.is_empty()).then_some(self.elements)
    }
}

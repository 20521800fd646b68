//! Goes over the records of a file that was checked, from start to end, and digests their values on the way.
//! Blocks.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use bytes::{Bytes, BytesMut};
use keyhaul_rdb::{
    Canonical, CanonicalReader, Checksum, Decoder, Event, Form, RawValue, Record, SmallRecord,
    canonical,
};
use tokio_util::sync::CancellationToken;

use super::IndexRules;
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::plan::CheckedFile;
use crate::source::records::VALUE_WHOLE_MAX;

/// Bytes that are read at a time.
const PORTION_BYTES: usize = 512 * 1024;

/// Why there is no index.
#[derive(Debug)]
pub(super) enum Broken {
    /// A stop is wanted.
    Stopped,
    /// For the user.
    Failed(String),
}

impl Broken {
    pub(super) fn of_task(error: tokio::task::JoinError) -> Self {
        Self::Failed(format!("a task failed: {error}"))
    }

    /// Says so in the books.
    pub(super) fn halt(self, ledger: &Ledger) -> GaveUp {
        if let Self::Failed(reason) = self {
            ledger.halt(reason);
        }
        GaveUp
    }
}

/// A record that has not expired.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    pub db: u32,
    pub key: &'a [u8],
    pub form: Form,
    pub expire_at_ms: Option<i64>,
    /// `None`: not asked for, or it cannot be taken apart.
    pub value: Option<Canonical>,
}

/// Tells `take` every record of the sound part of a file, and returns the code of its function libraries.
///
/// # Errors
/// [`Broken`]; the first one of `take`, too.
pub(super) fn walk(
    file: &CheckedFile,
    rules: &IndexRules,
    stop: &CancellationToken,
    mut take: impl FnMut(Found<'_>) -> Result<(), Broken>,
) -> Result<Vec<Bytes>, Broken> {
    let damage = file.damage.as_ref();
    let mut walk = Walk {
        rules,
        stop,
        opened: file.opened.as_deref(),
        at: 0,
        portion: vec![0; PORTION_BYTES],
        decoder: Decoder::new(Checksum::Trust),
        upto: damage.and_then(|damage| damage.upto).unwrap_or(u64::MAX),
        libraries: Vec::new(),
    };
    let path = file.path.display();
    match walk.run(&mut take) {
        Ok(()) => {}
        Err(Ended::Broken(broken)) => return Err(broken),
        Err(Ended::Unreadable(e)) => {
            return Err(Broken::Failed(format!(
                "{path} cannot be read: {e}; copy it elsewhere and give the command again"
            )));
        }
        // What was said of the file when it was checked.
        Err(Ended::Damaged(_)) if damage.is_some() => {}
        // Before anything else, somebody may have written to it.
        Err(Ended::Damaged(_)) if file.has_changed() => {}
        Err(Ended::Damaged(what)) => {
            return Err(Broken::Failed(format!("{path} is damaged {what}")));
        }
    }
    match file.has_changed() {
        false => Ok(walk.libraries),
        true => Err(Broken::Failed(format!(
            "{path} was written to while it was read: copy it elsewhere first and give the command again"
        ))),
    }
}

/// Why a walk ended before the file did.
enum Ended {
    Broken(Broken),
    Unreadable(io::Error),
    Damaged(String),
}

impl From<keyhaul_rdb::RdbError> for Ended {
    fn from(error: keyhaul_rdb::RdbError) -> Self {
        Self::Damaged(error.to_string())
    }
}

struct Walk<'a> {
    rules: &'a IndexRules,
    stop: &'a CancellationToken,
    opened: Option<&'a File>,
    /// Where in the file the next portion lies.
    at: u64,
    portion: Vec<u8>,
    decoder: Decoder,
    /// Records from here on are not sound.
    upto: u64,
    libraries: Vec<Bytes>,
}

impl Walk<'_> {
    fn run(&mut self, take: &mut dyn FnMut(Found<'_>) -> Result<(), Broken>) -> Result<(), Ended> {
        loop {
            while let Some(small) = self.decoder.small_record(VALUE_WHOLE_MAX)? {
                if small.offset >= self.upto {
                    return Ok(());
                }
                if let Some(found) = found(&small, self.rules) {
                    take(found).map_err(Ended::Broken)?;
                }
            }
            match self.decoder.next_event()? {
                Some(Event::End { .. }) => return Ok(()),
                Some(Event::Record(record)) if record.offset >= self.upto => return Ok(()),
                Some(Event::Record(record)) => self.take_record(&record, take)?,
                Some(Event::Function(code)) => self.libraries.push(code),
                Some(_) => {}
                None => self.more()?,
            }
        }
    }

    /// A record that does not lie in the input as a whole.
    fn take_record(
        &mut self,
        record: &Record,
        take: &mut dyn FnMut(Found<'_>) -> Result<(), Broken>,
    ) -> Result<(), Ended> {
        if self.rules.leaves_out(record.expire_at_ms) {
            return Ok(());
        }
        let value = match self.rules.with_values {
            true => self.digest(record.form)?,
            false => None,
        };
        take(Found {
            db: record.db,
            key: &record.key,
            form: record.form,
            expire_at_ms: record.expire_at_ms,
            value,
        })
        .map_err(Ended::Broken)
    }

    /// Digests a value while it passes. A value that cannot be taken apart passes all the same.
    fn digest(&mut self, form: Form) -> Result<Option<Canonical>, Ended> {
        let IndexRules { seed, detail, .. } = *self.rules;
        let mut reader = CanonicalReader::new(form, seed, detail).ok();
        let mut rest = BytesMut::new();
        loop {
            let (part, is_last) = match self.decoder.raw_value(VALUE_WHOLE_MAX)? {
                None => {
                    self.more()?;
                    continue;
                }
                Some(RawValue::Part(part)) => (part, false),
                Some(RawValue::Whole(part) | RawValue::Last(part)) => (part, true),
            };
            if let Some(digesting) = &mut reader {
                // Only what belongs to an element that is not there as a whole is copied.
                let pushed = if rest.is_empty() {
                    let used = digesting.push(&part);
                    let unused = |used: &usize| part.get(*used..).unwrap_or_default();
                    used.map(|used| rest.extend_from_slice(unused(&used)))
                } else {
                    rest.extend_from_slice(&part);
                    let used = digesting.push(&rest);
                    used.map(|used| drop(rest.split_to(used)))
                };
                if pushed.is_err() {
                    (reader, rest) = (None, BytesMut::new());
                }
            }
            if is_last {
                return Ok(reader
                    .filter(|_| rest.is_empty())
                    .and_then(CanonicalReader::finish));
            }
        }
    }

    /// Appends the next portion.
    fn more(&mut self) -> Result<(), Ended> {
        if self.stop.is_cancelled() {
            return Err(Ended::Broken(Broken::Stopped));
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
            return Err(Ended::Damaged("at its end".into()));
        }
        self.at += bytes as u64;
        let read = self.portion.get(..bytes).unwrap_or_default();
        self.decoder.input().extend_from_slice(read);
        Ok(())
    }
}

impl IndexRules {
    fn leaves_out(&self, expire_at_ms: Option<i64>) -> bool {
        expire_at_ms.is_some_and(|at| at <= self.now_ms)
    }
}

/// What a record is that lies together; `None`: it has expired.
fn found<'a>(record: &SmallRecord<'a>, rules: &IndexRules) -> Option<Found<'a>> {
    if rules.leaves_out(record.expire_at_ms) {
        return None;
    }
    let digest = || canonical(record.form, record.value, rules.seed, rules.detail).ok();
    Some(Found {
        db: record.db,
        key: record.key,
        form: record.form,
        expire_at_ms: record.expire_at_ms,
        value: rules.with_values.then(digest).flatten(),
    })
}

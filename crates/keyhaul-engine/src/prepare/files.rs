//! Reads source files from start to end before anything is written. Where the checksum is right, the file
//! is as its server wrote it. Where it is not, or there is none, the inside of every value is looked into
//! too: that finds the first damage, and what could harm a server.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use keyhaul_rdb::{
    Checksum, Decoder, Event, Form, Header, RawValue, RdbError, Record, ValueChecker, check_value,
};

use crate::plan::PlanError;
use crate::source::records::VALUE_WHOLE_MAX;

/// Bytes that are read at a time.
const PORTION_BYTES: usize = 1024 * 1024;

/// What a file was found to hold.
#[derive(Debug, Clone, Default)]
pub struct CheckedFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Magic and version; `None` only where nothing could be read.
    pub header: Option<Header>,
    /// The file itself: it stays the one that was checked when another one gets its name.
    pub(crate) opened: Option<Arc<File>>,
    /// When it was written to last.
    pub(crate) modified: Option<SystemTime>,
    /// Its length, bytes.
    pub bytes: u64,
    /// The version of the server that wrote it, as it says.
    pub written_by: Option<String>,
    /// Keys by db, those that have expired by now included.
    pub keys: BTreeMap<u32, u64>,
    /// Keys by the form of their value.
    pub forms: BTreeMap<u8, (Form, u64)>,
    /// Function libraries.
    pub functions: u64,
    /// Modules that keep data outside of keys.
    pub module_data: Vec<String>,
    /// Whether there was a checksum to hold against the bytes.
    pub has_checksum: bool,
    /// What is wrong with it; records before that are sound.
    pub damage: Option<Damage>,
}

impl CheckedFile {
    /// Whether somebody wrote to it since it was checked.
    pub(crate) fn has_changed(&self) -> bool {
        let now = self.opened.as_ref().map(|file| file.metadata());
        let Some(Ok(now)) = now else {
            return true;
        };
        (now.len(), now.modified().ok()) != (self.bytes, self.modified)
    }

    fn count(&mut self, db: u32, form: Form) {
        *self.keys.entry(db).or_default() += 1;
        self.forms.entry(form.type_byte()).or_insert((form, 0)).1 += 1;
    }
}

/// Damage of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Records that begin here or later are not read. `None`: all are sound, and the checksum is not.
    pub upto: Option<u64>,
    /// Where it is, what it is, and in which key.
    pub text: String,
}

/// Checks files; each is read by a thread of its own in turn.
///
/// # Errors
/// [`PlanError::Refused`] for a file that cannot be read, or is damaged where that is not allowed.
pub(crate) async fn check(
    paths: &[PathBuf],
    allow_partial: bool,
) -> Result<Vec<CheckedFile>, PlanError> {
    let mut files = Vec::new();
    for path in paths {
        let path = path.clone();
        let checked = tokio::task::spawn_blocking(move || check_file(&path)).await;
        let checked = checked
            .map_err(|e| PlanError::Refused(format!("a task failed: {e}")))?
            .map_err(PlanError::Refused)?;
        if let (Some(damage), false) = (&checked.damage, allow_partial) {
            let count: u64 = checked.keys.values().sum();
            return Err(PlanError::Refused(format!(
                "{} is damaged {}: nothing was done; --allow-partial takes the {count} keys before it",
                checked.path.display(),
                damage.text
            )));
        }
        files.push(checked);
    }
    Ok(files)
}

/// How closely a file is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Structure and checksum.
    Outside,
    /// The inside of every value, too.
    Inside,
}

/// Reads a file from start to end. Blocks.
///
/// # Errors
/// Why it is no RDB file at all, readable. Damage is no error.
pub(crate) fn check_file(path: &Path) -> Result<CheckedFile, String> {
    let file = read_file(path, Depth::Outside)?;
    if file.has_checksum && file.damage.is_none() {
        return Ok(file);
    }
    read_file(path, Depth::Inside)
}

fn read_file(path: &Path, depth: Depth) -> Result<CheckedFile, String> {
    let shown = path.display();
    let refuse = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => format!("{shown}: there is no such file"),
        std::io::ErrorKind::PermissionDenied => {
            format!("{shown} cannot be read: permission denied; make it readable for this user")
        }
        _ => format!("{shown} cannot be read: {e}"),
    };
    // Looked at before it is opened: a pipe without a writer would be waited for.
    let facts = std::fs::metadata(path).map_err(refuse)?;
    if !facts.is_file() {
        return Err(format!(
            "{shown} is no ordinary file: copy it into one first"
        ));
    }
    let file = Arc::new(File::open(path).map_err(refuse)?);
    let facts = file.metadata().map_err(refuse)?;
    let mut check = FileCheck {
        decoder: Decoder::new(Checksum::Verify),
        depth,
        file: CheckedFile {
            path: path.to_owned(),
            bytes: facts.len(),
            opened: Some(file.clone()),
            modified: facts.modified().ok(),
            ..CheckedFile::default()
        },
        value: None,
        has_ended: false,
    };
    let mut portion = vec![0; PORTION_BYTES];
    loop {
        let bytes = match (&*file).read(&mut portion) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(refuse(e)),
        };
        let read = portion.get(..bytes).unwrap_or_default();
        check.decoder.input().extend_from_slice(read);
        let checked = match (bytes, check.has_ended) {
            (0, false) => check.advance().and_then(|()| check.decoder.end_of_input()),
            _ => check.advance(),
        };
        if let Err(error) = checked {
            return check.damaged(error);
        }
        if bytes == 0 {
            return Ok(check.file);
        }
    }
}

/// One file that is being checked.
struct FileCheck {
    decoder: Decoder,
    depth: Depth,
    file: CheckedFile,
    value: Option<Value>,
    has_ended: bool,
}

/// The value at hand.
struct Value {
    record: Record,
    /// Where it begins.
    begin: u64,
    /// Of a value that is not held as a whole, with what could not be looked at yet.
    checker: Option<(ValueChecker, BytesMut)>,
}

impl FileCheck {
    /// Goes on until more input is needed.
    fn advance(&mut self) -> Result<(), RdbError> {
        loop {
            if let Some(mut value) = self.value.take() {
                match self.check_value(&mut value) {
                    Ok(true) => {}
                    starved_or_damaged => {
                        // Whose record is damaged is asked for afterwards.
                        self.value = Some(value);
                        return starved_or_damaged.map(drop);
                    }
                }
            }
            while self.depth == Depth::Outside {
                match self.decoder.small_record(VALUE_WHOLE_MAX)? {
                    Some(record) => self.file.count(record.db, record.form),
                    None => break,
                }
            }
            match self.decoder.next_event()? {
                None => return Ok(()),
                Some(event) => self.take(event),
            }
        }
    }

    fn take(&mut self, event: Event) {
        let file = &mut self.file;
        match event {
            Event::Header(header) => file.header = Some(header),
            Event::Aux { name, value } if name.ends_with(b"-ver") && file.written_by.is_none() => {
                file.written_by = Some(String::from_utf8_lossy(&value).into_owned());
            }
            Event::Function(_) => file.functions += 1,
            Event::ModuleAux { module } if !file.module_data.contains(&module) => {
                file.module_data.push(module);
            }
            Event::Record(record) if self.depth == Depth::Outside => {
                file.count(record.db, record.form);
            }
            Event::Record(record) => {
                self.value = Some(Value {
                    record,
                    begin: self.decoder.offset(),
                    checker: None,
                });
            }
            Event::End { has_checksum } => {
                file.has_checksum = has_checksum;
                self.has_ended = true;
            }
            _ => {}
        }
    }

    /// Checks what is there of the value; `false`: more input is needed.
    fn check_value(&mut self, value: &mut Value) -> Result<bool, RdbError> {
        loop {
            let Some(raw) = self.decoder.raw_value(VALUE_WHOLE_MAX)? else {
                return Ok(false);
            };
            let at = value.begin;
            let moved = |e: RdbError| RdbError {
                offset: e.offset + at,
                flaw: e.flaw,
            };
            let form = value.record.form;
            match raw {
                RawValue::Whole(bytes) => check_value(form, &bytes).map_err(moved)?,
                RawValue::Part(part) => {
                    value.push(form, &part, self.decoder.offset())?;
                    continue;
                }
                RawValue::Last(part) => {
                    value.push(form, &part, self.decoder.offset())?;
                    value.finish(self.decoder.offset())?;
                }
            }
            self.file.count(value.record.db, form);
            return Ok(true);
        }
    }

    /// The file as far as it is sound.
    fn damaged(mut self, error: RdbError) -> Result<CheckedFile, String> {
        if self.file.header.is_none() {
            return Err(format!(
                "{} is no RDB file: {error}",
                self.file.path.display()
            ));
        }
        let record = self.value.as_ref().map(|value| &value.record);
        let key = self.decoder.current_key().cloned();
        let key = key.or_else(|| record.map(|record| record.key.clone()));
        let upto = match error.flaw {
            // The records themselves hold together.
            keyhaul_rdb::Flaw::Checksum { .. } | keyhaul_rdb::Flaw::Trailing => None,
            _ => Some(record.map_or(error.offset, |record| record.offset)),
        };
        let key = key.map(|key| format!(", in key \"{}\"", crate::stats::key_text(&key)));
        self.file.damage = Some(Damage {
            upto,
            text: format!("{error}{}", key.unwrap_or_default()),
        });
        Ok(self.file)
    }
}

impl Value {
    /// `end`: where the part ends in the file.
    fn push(&mut self, form: Form, part: &Bytes, end: u64) -> Result<(), RdbError> {
        let begin = self.begin;
        let (checker, input) = match &mut self.checker {
            Some(checker) => checker,
            none => {
                let checker = ValueChecker::new(form).map_err(|flaw| RdbError {
                    offset: begin,
                    flaw,
                })?;
                none.insert((checker, BytesMut::new()))
            }
        };
        input.extend_from_slice(part);
        let used = checker.push(input).map_err(|(flaw, at)| RdbError {
            offset: end - (input.len() - at) as u64,
            flaw,
        })?;
        drop(input.split_to(used));
        Ok(())
    }

    fn finish(&mut self, end: u64) -> Result<(), RdbError> {
        let Some((checker, _)) = self.checker.take() else {
            return Ok(());
        };
        let flawed = |flaw| RdbError { offset: end, flaw };
        checker.finish().map_err(flawed)
    }
}

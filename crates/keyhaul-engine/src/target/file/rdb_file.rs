//! Writes an RDB file: records come one after another, whole or in parts, and the file appears in
//! its place when it is whole.

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use keyhaul_rdb::{
    END_MARK, RecordHead, encode_aux, encode_db, encode_function, encode_header,
    encode_record_head, holds_functions,
};
use tempfile::TempPath;

use super::duplicates::{KeepWhich, KeyDigest, KeyIndex, ROWS_MAX};
use super::error::FileError;
use super::libraries::{Libraries, Verdict};
use super::output::{Mark, Output, Span};
use super::place::Place;

/// An RDB file that is being written, under a temporary name until it is whole. Dropped before
/// that, it leaves nothing behind, and what was at its path stays.
///
/// ```text
/// create ──► [function | record | begin part.. (commit | abort)].. ──► finish
/// ```
///
/// After an error of writing nothing but dropping it makes sense: `finish` fails too.
#[derive(Debug)]
pub(crate) struct RdbFile {
    place: Place,
    out: Output,
    temporary: TempPath,
    version: u16,
    keep: KeepWhich,
    keys: KeyIndex,
    libraries: Libraries,
    /// Of the last record; `None`: no db was named yet.
    db: Option<u32>,
    records: u64,
    pending: Option<Pending>,
}

/// A record whose value comes in parts.
#[derive(Debug)]
struct Pending {
    /// Before it.
    mark: Mark,
    /// The db before it.
    db: Option<u32>,
    key: KeyDigest,
    begin: u64,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finished {
    /// Its length.
    pub(crate) bytes: u64,
    /// Records in it, none of a key that another is of.
    pub(crate) records: u64,
    /// Records that were taken out again, because their key was written more than once.
    pub(crate) doubled: u64,
}

impl RdbFile {
    /// Creates a temporary file beside `path` and begins it with what says which version it is, and
    /// who wrote it when. Where `path` is a link to a file, that file is meant.
    ///
    /// # Errors
    /// [`FileError`]; those of [`check_writable`](super::check_writable) and of the disk.
    pub(crate) fn create(path: &Path, version: u16, keep: KeepWhich) -> Result<Self, FileError> {
        Self::create_with(path, version, keep, ROWS_MAX)
    }

    /// Holds this many keys in memory.
    pub(super) fn create_with(
        path: &Path,
        version: u16,
        keep: KeepWhich,
        rows_max: usize,
    ) -> Result<Self, FileError> {
        let place = Place::of(path)?;
        let (file, temporary) = place.create_temporary()?;
        let mut out = Output::new(file);
        out.encode(|out| encode_preamble(out, version))
            .map_err(FileError::during("write", path))?;
        Ok(Self {
            out,
            temporary,
            version,
            keep,
            keys: KeyIndex::new(place.folder.clone(), rows_max),
            place,
            libraries: Libraries::default(),
            db: None,
            records: 0,
            pending: None,
        })
    }

    /// Writes a function library. The same code is written once; `false`: there is a library of its
    /// name with other code already, and this one was not written.
    ///
    /// # Errors
    /// Those of the disk.
    ///
    /// # Panics
    /// When files of this version have no place for functions, or between `begin` and its end.
    pub(crate) fn function(&mut self, code: &[u8]) -> Result<bool, FileError> {
        assert!(holds_functions(self.version), "the version has functions");
        assert!(self.pending.is_none(), "a record comes to its end first");
        match self.libraries.note(code) {
            Verdict::Same => Ok(true),
            Verdict::Other => Ok(false),
            Verdict::Write => {
                let written = self.out.encode(|out| encode_function(out, code));
                self.told("write", written)?;
                Ok(true)
            }
        }
    }

    /// Writes a record whose value, what stands behind the type byte in a payload, lies together.
    ///
    /// # Errors
    /// Those of the disk.
    ///
    /// # Panics
    /// Between `begin` and its end.
    pub(crate) fn record(
        &mut self,
        db: u32,
        head: RecordHead<'_>,
        value: &[u8],
    ) -> Result<(), FileError> {
        assert!(self.pending.is_none(), "a record comes to its end first");
        let key = self.keys.digest(db, head.key);
        let written = self.write_head(db, head);
        let begin = self.told("write", written)?;
        let written = self.out.put(value);
        self.told("write", written)?;
        self.note_record(key, begin)
    }

    /// Begins a record whose value comes by [`RdbFile::part`].
    ///
    /// # Errors
    /// Those of the disk.
    ///
    /// # Panics
    /// Between `begin` and its end.
    pub(crate) fn begin(&mut self, db: u32, head: RecordHead<'_>) -> Result<(), FileError> {
        assert!(self.pending.is_none(), "a record comes to its end first");
        let (mark, db_before) = (self.out.mark(), self.db);
        let key = self.keys.digest(db, head.key);
        let written = self.write_head(db, head);
        let begin = self.told("write", written)?;
        self.pending = Some(Pending {
            mark,
            db: db_before,
            key,
            begin,
        });
        Ok(())
    }

    /// Writes the next part of the value.
    ///
    /// # Errors
    /// Those of the disk.
    ///
    /// # Panics
    /// Without `begin`.
    pub(crate) fn part(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        assert!(self.pending.is_some(), "a record was begun");
        let written = self.out.put(bytes);
        self.told("write", written)
    }

    /// Ends the record: its value is whole.
    ///
    /// # Errors
    /// Those of the disk.
    ///
    /// # Panics
    /// Without `begin`.
    pub(crate) fn commit(&mut self) -> Result<(), FileError> {
        let pending = self.pending.take().expect("a record was begun");
        self.note_record(pending.key, pending.begin)
    }

    /// Takes the record back: the file is as if it had never begun.
    ///
    /// # Errors
    /// Those of the disk.
    ///
    /// # Panics
    /// Without `begin`.
    pub(crate) fn abort(&mut self) -> Result<(), FileError> {
        let pending = self.pending.take().expect("a record was begun");
        self.db = pending.db;
        let gone = self.out.go_back(pending.mark);
        self.told("take a half record back from", gone)
    }

    /// Takes out the records of keys that were written more than once, except for the one that
    /// stays, and puts the file in its place when it is safe on the disk.
    ///
    /// # Errors Those of the disk; then the file is not in its place, unless it is the sync of the
    /// folder that failed.
    ///
    /// # Panics
    /// Between `begin` and its end.
    pub(crate) fn finish(self) -> Result<Finished, FileError> {
        assert!(self.pending.is_none(), "a record comes to its end first");
        let Self { place, mut out, .. } = self;
        let path = &place.asked;
        let doubled = self
            .keys
            .doubled(self.keep)
            .map_err(FileError::during("look for doubled keys in", path))?;
        if !doubled.is_empty() {
            out.cut_out(&doubled)
                .map_err(FileError::during("take doubled keys out of", path))?;
        }
        let bytes = end(out).map_err(FileError::during("write", path))?;
        place.put(self.temporary)?;
        let doubled = doubled.len() as u64;
        Ok(Finished {
            bytes,
            records: self.records - doubled,
            doubled,
        })
    }

    /// Writes all of a record but its value; returns where it begins, behind the number of the db:
    /// that must stay when the record goes.
    fn write_head(&mut self, db: u32, head: RecordHead<'_>) -> io::Result<u64> {
        if self.db != Some(db) {
            self.out.encode(|out| encode_db(out, db))?;
            self.db = Some(db);
        }
        let begin = self.out.position();
        self.out.encode(|out| encode_record_head(out, head))?;
        Ok(begin)
    }

    fn note_record(&mut self, key: KeyDigest, begin: u64) -> Result<(), FileError> {
        self.records += 1;
        let end = self.out.position();
        let noted = self.keys.note(key, Span { begin, end });
        self.told("note the keys of", noted)
    }

    fn told<T>(&self, doing: &'static str, result: io::Result<T>) -> Result<T, FileError> {
        result.map_err(FileError::during(doing, &self.place.asked))
    }
}

fn encode_preamble(out: &mut Vec<u8>, version: u16) {
    encode_header(out, version);
    encode_aux(out, b"keyhaul-ver", env!("CARGO_PKG_VERSION").as_bytes());
    // A clock before 1970 is wrong anyway, and servers only log the time.
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_s = now.unwrap_or_default().as_secs();
    encode_aux(out, b"ctime", now_s.to_string().as_bytes());
}

/// The end mark and the checksum of all before it, little endian (RDB >= 5).
fn end(mut out: Output) -> io::Result<u64> {
    out.put(&END_MARK)?;
    let checksum = out.checksum();
    out.put(&checksum.to_le_bytes())?;
    out.finish()
}

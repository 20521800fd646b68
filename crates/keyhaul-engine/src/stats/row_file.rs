//! Rows that were told, in a file, to be told again by a later run that goes on from here. They may be too many to be
//! held in memory.
//!
//! ```text
//! db (4 bytes) | size_bytes (8) | length of the name (4) | name       little endian, row after row
//! ```
//!
//! How much of the file counts, and the digest of that, is written down elsewhere.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use crate::stats::MemKey;

/// Rows that are read at once.
const ROWS_AT_ONCE: usize = 1000;
/// Their names together, bytes, and that of the last one.
const NAMES_AT_ONCE_BYTES: usize = 256 * 1024;
/// A name is no longer, bytes: the longest that a server takes by default.
const NAME_BYTES_MAX: u32 = 512 * 1024 * 1024;

/// So much of the file counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Extent {
    bytes: u64,
    digest: u64,
}

/// The file, growing.
pub(super) struct RowFile {
    path: PathBuf,
    /// `None`: not made yet, or it could not be written.
    output: Option<BufWriter<File>>,
    has_failed: bool,
    bytes: u64,
    digest: Xxh3,
}

impl RowFile {
    /// A file that is made with the first row; one that is there is replaced then.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            output: None,
            has_failed: false,
            bytes: 0,
            digest: Xxh3::new(),
        }
    }

    /// Appends rows. After an error nothing more is, and [`RowFile::flushed`] says so.
    pub(super) fn push(&mut self, rows: &[MemKey]) {
        if !self.has_failed && self.try_push(rows).is_err() {
            self.has_failed = true;
            self.output = None;
        }
    }

    fn try_push(&mut self, rows: &[MemKey]) -> io::Result<()> {
        let output = match self.output.take() {
            Some(output) => output,
            None => {
                let mut options = OpenOptions::new();
                options.create(true).write(true).truncate(true).mode(0o600);
                BufWriter::new(options.open(&self.path)?)
            }
        };
        let output = self.output.insert(output);
        for row in rows {
            let name_bytes = u32::try_from(row.key.len()).map_err(io::Error::other)?;
            let (db, size) = (row.db.to_le_bytes(), row.size_bytes.to_le_bytes());
            for part in [&db[..], &size, &name_bytes.to_le_bytes(), &row.key] {
                output.write_all(part)?;
                self.digest.update(part);
                self.bytes += part.len() as u64;
            }
        }
        Ok(())
    }

    /// What counts by now, out of this process; `None`: it could not be written.
    pub(super) fn flushed(&mut self) -> Option<Extent> {
        if let Some(output) = &mut self.output {
            self.has_failed |= output.flush().is_err();
        }
        (!self.has_failed).then(|| Extent {
            bytes: self.bytes,
            digest: self.digest.digest(),
        })
    }

    /// Goes on from a file of which so much counts, and gives its rows. `None`: it is not there as it was.
    pub(super) fn go_on_from(self, state: &Value) -> Option<(Self, Rows)> {
        let extent = Extent::deserialize(state).ok()?;
        if extent.bytes == 0 {
            return Some((self, Rows { input: None }));
        }
        let digest = digest_of(&self.path, extent.bytes).ok()?;
        if digest.digest() != extent.digest {
            return None;
        }
        let file = OpenOptions::new().write(true).open(&self.path).ok()?;
        file.set_len(extent.bytes).ok()?;
        let mut output = BufWriter::new(file);
        output.seek(SeekFrom::End(0)).ok()?;
        let input = BufReader::new(File::open(&self.path).ok()?).take(extent.bytes);
        let file = Self {
            output: Some(output),
            bytes: extent.bytes,
            digest,
            ..self
        };
        let input = Some(input);
        Some((file, Rows { input }))
    }
}

/// The digest of the first bytes of a file, which may be gone on with.
fn digest_of(path: &PathBuf, bytes: u64) -> io::Result<Xxh3> {
    let mut input = BufReader::new(File::open(path)?).take(bytes);
    let mut digest = Xxh3::new();
    let mut portion = [0; 16 * 1024];
    loop {
        match input.read(&mut portion)? {
            0 => return Ok(digest),
            read => digest.update(portion.get(..read).unwrap_or_default()),
        }
    }
}

/// The rows of an earlier run, some at a time.
pub(super) struct Rows {
    input: Option<io::Take<BufReader<File>>>,
}

impl Iterator for Rows {
    type Item = io::Result<Vec<MemKey>>;

    fn next(&mut self) -> Option<Self::Item> {
        let input = self.input.as_mut()?;
        let mut rows = Vec::new();
        let mut names_bytes = 0;
        while rows.len() < ROWS_AT_ONCE && names_bytes < NAMES_AT_ONCE_BYTES && input.limit() > 0 {
            match read_row(input) {
                Ok(row) => {
                    names_bytes += row.key.len();
                    rows.push(row);
                }
                Err(e) => return Some(Err(e)),
            }
        }
        (!rows.is_empty()).then_some(Ok(rows))
    }
}

fn read_row(input: &mut impl Read) -> io::Result<MemKey> {
    let (mut db, mut size_bytes, mut name_bytes) = ([0; 4], [0; 8], [0; 4]);
    input.read_exact(&mut db)?;
    input.read_exact(&mut size_bytes)?;
    input.read_exact(&mut name_bytes)?;
    let name_bytes = u32::from_le_bytes(name_bytes);
    if name_bytes > NAME_BYTES_MAX {
        return Err(io::Error::other("the rows of the earlier run are damaged"));
    }
    let mut name = Vec::new();
    let read = input.take(u64::from(name_bytes)).read_to_end(&mut name)?;
    if read as u64 != u64::from(name_bytes) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(MemKey {
        db: u32::from_le_bytes(db),
        key: Bytes::from(name),
        size_bytes: u64::from_le_bytes(size_bytes),
    })
}

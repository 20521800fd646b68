//! The log: a table of the buckets, and behind it what happened since. It is never written in place but at its end,
//! and replaced as a whole.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::frame::{Frame, damaged, decode};

pub(super) const NAME: &str = "log";
/// The next one while it is written.
pub(super) const NAME_NEXT: &str = "log.next";
/// What a log begins with; the last digit is the version of the format.
const MAGIC: &[u8; 8] = b"KHEXPIR1";
/// How much is read at once, bytes.
const READ_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Log {
    file: File,
    /// So much of it counts.
    bytes: u64,
    /// Of these, how much the table is.
    table_bytes: u64,
}

impl Log {
    /// Opens the log of an earlier run, passes on what it says, and cuts off what was not written to its end. `None`: there
    /// is none.
    ///
    /// # Errors
    /// Those of the disk, and the first of `take`; [`ErrorKind::InvalidData`].
    pub(super) fn open(
        folder: &Path,
        mut take: impl FnMut(Frame<'_>) -> io::Result<()>,
    ) -> io::Result<Option<Self>> {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .open(folder.join(NAME));
        let mut file = match opened {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(damaged());
        }
        let mut bytes = MAGIC.len() as u64;
        let mut rest = Vec::new();
        while (&file).take(READ_BYTES as u64).read_to_end(&mut rest)? > 0 {
            let mut taken = 0;
            while let Some((frame, length)) = decode(rest.get(taken..).unwrap_or_default())? {
                take(frame)?;
                taken += length;
            }
            rest.drain(..taken);
            bytes += taken as u64;
        }
        file.set_len(bytes)?;
        let table_bytes = MAGIC.len() as u64;
        Ok(Some(Self {
            file,
            bytes,
            table_bytes,
        }))
    }

    /// A new log with this table, in the place of the one that is there. After an error that one is as it was.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn begin(folder: &Path, table: &[u8]) -> io::Result<Self> {
        let next = folder.join(NAME_NEXT);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&next)?;
        file.write_all_at(MAGIC, 0)?;
        file.write_all_at(table, MAGIC.len() as u64)?;
        std::fs::rename(&next, folder.join(NAME))?;
        let bytes = (MAGIC.len() + table.len()) as u64;
        Ok(Self {
            file,
            bytes,
            table_bytes: bytes,
        })
    }

    /// Appends. After an error it can be tried again with the same bytes, and more behind them: what was written of them
    /// is written over.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        self.file.write_all_at(frames, self.bytes)?;
        self.bytes += frames.len() as u64;
        Ok(())
    }

    /// How much it has grown since its table was written, bytes.
    pub(super) fn grown_bytes(&self) -> u64 {
        self.bytes - self.table_bytes
    }
}

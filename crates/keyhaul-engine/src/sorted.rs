//! Rows in one sorted file: how they come there, and how one of them is found. Digests are spread evenly, so
//! where a row must lie can be computed: two or three reads of 4 KB find it among any number.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;
use std::path::Path;

use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::Xxh3;

use crate::spill::{Spill, SpillRow};

/// The digest of db and name. Among 10^9 keys two different ones have the same with a probability below
/// 10^-20.
pub(crate) fn key_digest(seed: u64, db: u32, name: &[u8]) -> u128 {
    let mut digest = Xxh3::with_seed(seed);
    digest.update(&db.to_le_bytes());
    digest.update(name);
    digest.digest128()
}

/// A row that is found by a digest, which is its beginning in the order of rows.
pub(crate) trait KeyedRow<const BYTES: usize>: SpillRow<BYTES> {
    /// The digest of its key.
    fn key(self) -> u128;
}

/// How many rows are held in memory, 5.6 MB.
const ROWS_MAX: usize = 100_000;
/// How much is written at once, bytes.
const WRITE_BYTES: usize = 256 * 1024;
/// Rows that are read at once: 4 KB of rows of 56 bytes.
const BLOCK_ROWS: u64 = 73;
/// After so many guesses that were wrong the range is halved instead: only a seed that is known could make
/// that necessary.
const GUESSES_MAX: u32 = 8;
/// How often a merge looks whether it is still wanted, rows.
const ROWS_BETWEEN_LOOKS: u64 = 65_536;

/// Rows that arrive in any order.
#[derive(Debug)]
pub(crate) struct Rows<R, const BYTES: usize> {
    rows_max: usize,
    rows: Vec<R>,
    spill: Spill<R, BYTES>,
}

impl<R: KeyedRow<BYTES>, const BYTES: usize> Rows<R, BYTES> {
    /// Keeps what memory does not hold in a nameless file in `folder`.
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        Self::with_rows_max(folder, ROWS_MAX)
    }

    pub(crate) fn with_rows_max(folder: &Path, rows_max: usize) -> io::Result<Self> {
        Ok(Self {
            rows_max,
            rows: Vec::new(),
            spill: Spill::new(folder)?,
        })
    }

    pub(crate) fn add(&mut self, row: R) -> io::Result<()> {
        self.rows.push(row);
        if self.rows.len() < self.rows_max {
            return Ok(());
        }
        self.spill.add(&mut self.rows)
    }

    /// Sorts them; of several rows of a key the one with the highest number stays.
    ///
    /// # Errors
    /// Those of the disk, and [`io::ErrorKind::Other`] when a stop is wanted.
    pub(crate) fn finish(
        mut self,
        folder: &Path,
        stop: &CancellationToken,
    ) -> io::Result<Sorted<R, BYTES>> {
        self.spill.add(&mut self.rows)?;
        self.rows = Vec::new();
        let file = tempfile::tempfile_in(folder)?;
        let mut writer = BufWriter::with_capacity(WRITE_BYTES, &file);
        let mut rows = 0;
        let mut last: Option<R> = None;
        self.spill.for_each_sorted(|row| {
            if let Some(done) = last.replace(row).filter(|last| last.key() != row.key()) {
                rows += 1;
                writer.write_all(&done.to_bytes())?;
                if rows % ROWS_BETWEEN_LOOKS == 0 && stop.is_cancelled() {
                    return Err(io::Error::other("stopped"));
                }
            }
            Ok(())
        })?;
        if let Some(row) = last {
            rows += 1;
            writer.write_all(&row.to_bytes())?;
        }
        writer.flush()?;
        drop(writer);
        let kind = PhantomData;
        Ok(Sorted { file, rows, kind })
    }
}

/// Rows in the order of their keys, one a key.
#[derive(Debug)]
pub(crate) struct Sorted<R, const BYTES: usize> {
    file: File,
    rows: u64,
    kind: PhantomData<R>,
}

impl<R: KeyedRow<BYTES>, const BYTES: usize> Sorted<R, BYTES> {
    /// How many there are.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// For a number of searches.
    pub(crate) fn finder(&self) -> Finder<'_, R, BYTES> {
        Finder {
            sorted: self,
            block: vec![0; BLOCK_ROWS as usize * BYTES],
            reads: 0,
        }
    }
}

/// Searches with a buffer of its own.
#[derive(Debug)]
pub(crate) struct Finder<'a, R, const BYTES: usize> {
    sorted: &'a Sorted<R, BYTES>,
    block: Vec<u8>,
    /// Reads so far.
    pub(crate) reads: u64,
}

impl<R: KeyedRow<BYTES>, const BYTES: usize> Finder<'_, R, BYTES> {
    /// The row of a key.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn find(&mut self, key: u128) -> io::Result<Option<R>> {
        let mut range = Range {
            begin: 0,
            end: self.sorted.rows,
            lowest: 0,
            highest: u128::MAX,
        };
        let mut guesses = 0;
        while range.begin < range.end {
            let place = match guesses < GUESSES_MAX {
                true => range.guess(key),
                false => range.begin.midpoint(range.end),
            };
            guesses += 1;
            let begin = place.saturating_sub(BLOCK_ROWS / 2).max(range.begin);
            let rows = self.read(begin, range.end.min(begin + BLOCK_ROWS))?;
            let key_of = |row: &[u8; BYTES]| R::of_bytes(row).key();
            let (Some(first), Some(last)) = (rows.first().map(key_of), rows.last().map(key_of))
            else {
                break;
            };
            if key < first {
                (range.end, range.highest) = (begin, first);
            } else if key > last {
                (range.begin, range.lowest) = (begin + rows.len() as u64, last);
            } else {
                let found = rows.binary_search_by_key(&key, key_of).ok();
                return Ok(found.and_then(|at| rows.get(at)).map(R::of_bytes));
            }
        }
        Ok(None)
    }

    /// Rows from `begin` on, up to `end`, at most a block.
    fn read(&mut self, begin: u64, end: u64) -> io::Result<&[[u8; BYTES]]> {
        let bytes = (end - begin) as usize * BYTES;
        let block = self.block.get_mut(..bytes).unwrap_or_default();
        self.reads += 1;
        let at = begin * BYTES as u64;
        self.sorted.file.read_exact_at(block, at)?;
        Ok(block.as_chunks().0)
    }
}

/// Where a row may still be.
struct Range {
    begin: u64,
    end: u64,
    /// No key in it is below this.
    lowest: u128,
    /// No key in it is above this.
    highest: u128,
}

impl Range {
    /// Where a key lies if keys are spread evenly; within the range.
    fn guess(&self, key: u128) -> u64 {
        // 64 bits of each are plenty, and leave room to multiply.
        let upper = |key: u128| key >> 64;
        let before = upper(key).saturating_sub(upper(self.lowest));
        let all = upper(self.highest).saturating_sub(upper(self.lowest)) + 1;
        let offset = before * u128::from(self.end - self.begin) / all;
        let last = self.end.saturating_sub(1);
        u64::try_from(offset).map_or(last, |offset| last.min(self.begin + offset))
    }
}

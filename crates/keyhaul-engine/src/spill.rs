//! Rows of one length that are too many for memory: sorted runs, one after another in a nameless file,
//! read back as one sorted sequence.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::Path;

/// How much is written at once, bytes.
const WRITE_BYTES: usize = 128 * 1024;
/// Memory of all runs together while they are read, bytes; more only from 2,000 runs (200 million
/// rows) on, for then each has its least.
const READ_BYTES: usize = 8 * 1024 * 1024;
const RUN_BYTES_MIN: usize = 4 * 1024;
const RUN_BYTES_MAX: usize = 256 * 1024;

/// What lies in a run: something with an order, and always of as many bytes on the disk.
pub(crate) trait SpillRow<const BYTES: usize>: Copy + Ord {
    /// As it lies on the disk.
    fn to_bytes(self) -> [u8; BYTES];

    /// From the disk.
    fn of_bytes(bytes: &[u8; BYTES]) -> Self;
}

/// The file of runs. The system removes it when it is closed, also when the process is killed.
#[derive(Debug)]
pub(crate) struct Spill<R, const BYTES: usize> {
    file: File,
    /// Where each run ends, bytes.
    ends: Vec<u64>,
    rows: PhantomData<R>,
}

impl<R: SpillRow<BYTES>, const BYTES: usize> Spill<R, BYTES> {
    /// An empty one, in a folder that has room for all rows.
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile_in(folder)?,
            ends: Vec::new(),
            rows: PhantomData,
        })
    }

    /// Moves rows into a run of their own. Where that fails they stay, and it can be tried again.
    pub(crate) fn add(&mut self, rows: &mut Vec<R>) -> io::Result<()> {
        rows.sort_unstable();
        let begin = self.ends.last().copied().unwrap_or(0);
        self.file.seek(SeekFrom::Start(begin))?;
        let mut writer = BufWriter::with_capacity(WRITE_BYTES, &self.file);
        for row in rows.iter() {
            writer.write_all(&row.to_bytes())?;
        }
        writer.flush()?;
        self.ends.push(begin + (rows.len() * BYTES) as u64);
        rows.clear();
        Ok(())
    }

    /// Passes all rows on in order.
    ///
    /// # Errors
    /// Those of the disk, and the first of `take`.
    pub(crate) fn for_each_sorted(
        self,
        mut take: impl FnMut(R) -> io::Result<()>,
    ) -> io::Result<()> {
        let run_bytes = READ_BYTES / self.ends.len().max(1);
        let run_bytes = run_bytes.clamp(RUN_BYTES_MIN, RUN_BYTES_MAX) / BYTES * BYTES;
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        let mut runs: Vec<Run> = begins
            .zip(&self.ends)
            .map(|(next, end)| Run::new(next, *end))
            .collect();
        // The first row of each run that was not passed on yet.
        let mut heads = BinaryHeap::with_capacity(runs.len());
        for (n, run) in runs.iter_mut().enumerate() {
            heads.extend(
                run.next(&self.file, run_bytes)?
                    .map(|row| Reverse((row, n))),
            );
        }
        while let Some(mut head) = heads.peek_mut() {
            let Reverse((row, n)) = *head;
            take(row)?;
            match runs[n].next(&self.file, run_bytes)? {
                Some(row) => *head = Reverse((row, n)),
                None => drop(PeekMut::pop(head)),
            }
        }
        Ok(())
    }
}

/// A run that is being read.
#[derive(Debug)]
struct Run {
    /// Where in the file the buffer ends.
    next: u64,
    end: u64,
    buffer: Vec<u8>,
    /// How much of the buffer was passed on.
    taken: usize,
}

impl Run {
    fn new(next: u64, end: u64) -> Self {
        Self {
            next,
            end,
            buffer: Vec::new(),
            taken: 0,
        }
    }

    fn next<R: SpillRow<BYTES>, const BYTES: usize>(
        &mut self,
        mut file: &File,
        run_bytes: usize,
    ) -> io::Result<Option<R>> {
        if self.taken == self.buffer.len() {
            let bytes = (self.end - self.next).min(run_bytes as u64);
            self.buffer.resize(bytes as usize, 0);
            self.taken = 0;
            file.seek(SeekFrom::Start(self.next))?;
            file.read_exact(&mut self.buffer)?;
            self.next += bytes;
        }
        let row = self.buffer[self.taken..].first_chunk().map(R::of_bytes);
        self.taken += row.map_or(0, |_| BYTES);
        Ok(row)
    }
}

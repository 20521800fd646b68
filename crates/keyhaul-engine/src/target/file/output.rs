//! A file that is written from front to end, with the checksum of what is in it. Bytes are
//! gathered, and summed and written in bulk: nothing costs a system call per record.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use keyhaul_rdb::Crc64;

/// How many bytes are gathered before they are written.
const BUFFER_BYTES: usize = 1024 * 1024;

/// Bytes from `begin` up to `end` of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) begin: u64,
    pub(super) end: u64,
}

/// The file. After an error of writing it fails for good: nobody knows what of the buffer was
/// written.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    /// Bytes that are in the file.
    written: u64,
    /// Bytes that follow them.
    buffer: Vec<u8>,
    /// How many bytes of the buffer the checksum covers already.
    summed: usize,
    crc: Crc64,
    is_broken: bool,
}

/// A position to which the output can go back.
#[derive(Debug)]
pub(super) struct Mark {
    position: u64,
    crc: Crc64,
}

impl Output {
    /// Begins an empty file that is open for reading and writing.
    pub(super) fn new(file: File) -> Self {
        Self {
            file,
            written: 0,
            buffer: Vec::new(),
            summed: 0,
            crc: Crc64::default(),
            is_broken: false,
        }
    }

    /// Where the next byte goes.
    pub(super) fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Appends what `encode` appends; meant for little.
    pub(super) fn encode(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        encode(&mut self.buffer);
        if self.buffer.len() < BUFFER_BYTES {
            return Ok(());
        }
        self.flush()
    }

    /// Appends bytes, without a copy if they are many.
    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() < BUFFER_BYTES {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.flush()?;
        if bytes.len() < BUFFER_BYTES {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.crc.update(bytes);
        self.write(bytes)
    }

    /// Remembers the position.
    pub(super) fn mark(&mut self) -> Mark {
        self.sum();
        Mark {
            position: self.position(),
            crc: self.crc.clone(),
        }
    }

    /// Forgets all that was appended since the mark.
    pub(super) fn go_back(&mut self, mark: Mark) -> io::Result<()> {
        self.check()?;
        self.crc = mark.crc;
        let kept = mark.position.checked_sub(self.written);
        match kept {
            Some(kept) => self.buffer.truncate(kept as usize),
            None => {
                self.buffer.clear();
                let cut = self.file.set_len(mark.position);
                self.note(cut)?;
                let moved = self.file.seek(SeekFrom::Start(mark.position));
                self.note(moved)?;
                self.written = mark.position;
            }
        }
        self.summed = self.buffer.len();
        Ok(())
    }

    /// Takes spans out of the file and closes the gaps. One pass from front to end, in place, so
    /// that it needs no more room on the disk; the checksum is made anew. The spans are sorted and
    /// apart.
    pub(super) fn cut_out(&mut self, spans: &[Span]) -> io::Result<()> {
        self.flush()?;
        let cut = self.close_gaps(spans);
        self.note(cut)
    }

    fn close_gaps(&mut self, spans: &[Span]) -> io::Result<()> {
        let mut spans = spans.iter().copied().peekable();
        let mut chunk = vec![0; BUFFER_BYTES];
        let mut crc = Crc64::default();
        let (mut read, mut kept) = (0, 0);
        while read < self.written {
            let chunk_begin = read;
            let bytes = (self.written - read).min(BUFFER_BYTES as u64);
            let chunk_end = read + bytes;
            self.file.seek(SeekFrom::Start(read))?;
            self.file.read_exact(&mut chunk[..bytes as usize])?;
            self.buffer.clear();
            while read < chunk_end {
                let next = spans.peek().map_or(chunk_end, |span| span.begin);
                let upto = next.min(chunk_end);
                let part = (read - chunk_begin) as usize..(upto - chunk_begin) as usize;
                self.buffer.extend_from_slice(&chunk[part]);
                read = upto;
                if let Some(span) = spans.next_if(|span| span.begin == read) {
                    // It may reach beyond the chunk: the next one begins behind it.
                    read = span.end;
                }
            }
            crc.update(&self.buffer);
            self.file.seek(SeekFrom::Start(kept))?;
            self.file.write_all(&self.buffer)?;
            kept += self.buffer.len() as u64;
        }
        assert!(spans.next().is_none(), "the spans lie in the file");
        self.buffer.clear();
        self.file.set_len(kept)?;
        self.file.seek(SeekFrom::Start(kept))?;
        self.written = kept;
        self.crc = crc;
        self.summed = 0;
        Ok(())
    }

    /// The checksum of all bytes so far.
    pub(super) fn checksum(&mut self) -> u64 {
        self.sum();
        self.crc.value()
    }

    /// Writes what was gathered, to the disk itself; returns the length of the file, bytes.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        self.file.sync_all()?;
        Ok(self.written)
    }

    fn sum(&mut self) {
        self.crc.update(&self.buffer[self.summed..]);
        self.summed = self.buffer.len();
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sum();
        let mut buffer = std::mem::take(&mut self.buffer);
        self.summed = 0;
        self.write(&buffer)?;
        buffer.clear();
        // A long key went through it.
        buffer.shrink_to(2 * BUFFER_BYTES);
        self.buffer = buffer;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.check()?;
        let written = self.file.write_all(bytes);
        self.note(written)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        match self.is_broken {
            true => Err(io::Error::other("an earlier write failed")),
            false => Ok(()),
        }
    }

    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        self.is_broken |= result.is_err();
        result
    }
}

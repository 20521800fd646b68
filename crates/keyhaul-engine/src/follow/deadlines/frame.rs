//! How things lie on the disk, in the log and in the files of buckets.
//!
//! ```text
//! frame     length of what follows (4 bytes) | tag (1) | fields          all little endian
//! bucket    'b' | span (1) | index (4) | file | file_bytes | start | held | released | plain_end (8 each) | flags (1)
//! note      'n' | span (1) | minute (4) | at_ms (8) | written_ms (8) | db (4) | name
//! advance   'a' | span (1) | index (4) | what (1) | position (8)
//! ```
//!
//! A frame that is not whole is the end of what was written.

use std::io;

use super::KEY_BYTES_MAX;
use super::bucket::{Advance, Bucket, BucketId, Span};

/// Of the length before a frame.
const LENGTH_BYTES: usize = 4;
/// A note without the name.
const NOTE_BYTES: usize = 1 + 1 + 4 + 8 + 8 + 4;
/// The longest frame with its length, bytes.
pub(super) const FRAME_BYTES_MAX: usize = LENGTH_BYTES + NOTE_BYTES + KEY_BYTES_MAX;

const HAS_HELD: u8 = 1;
const WAS_RELEASED: u8 = 2;

/// A deadline in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note<'a> {
    pub(super) span: Span,
    /// What it is sorted by; later than the deadline for one that is long past.
    pub(super) minute: u32,
    pub(super) at_ms: i64,
    /// What its command says.
    pub(super) written_ms: i64,
    pub(super) db: u32,
    pub(super) key: &'a [u8],
}

impl Note<'_> {
    /// It was written as it is.
    pub(super) fn is_plain(&self) -> bool {
        self.written_ms == self.at_ms
    }

    pub(super) fn bucket(&self) -> BucketId {
        BucketId::around(self.span, self.minute)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// A bucket of the table, with nothing in memory.
    Bucket(BucketId, Bucket),
    Note(Note<'a>),
    Advance(BucketId, Advance, u64),
}

pub(super) fn frame_note(note: &Note<'_>, output: &mut Vec<u8>) {
    // Names are no longer than `KEY_BYTES_MAX`.
    let length = (NOTE_BYTES + note.key.len()) as u32;
    output.extend_from_slice(&length.to_le_bytes());
    output.extend_from_slice(&[b'n', span_byte(note.span)]);
    output.extend_from_slice(&note.minute.to_le_bytes());
    output.extend_from_slice(&note.at_ms.to_le_bytes());
    output.extend_from_slice(&note.written_ms.to_le_bytes());
    output.extend_from_slice(&note.db.to_le_bytes());
    output.extend_from_slice(note.key);
}

pub(super) fn frame_advance(id: BucketId, step: Advance, position: u64, output: &mut Vec<u8>) {
    let what = match step {
        Advance::Held => b'h',
        Advance::Released => b'r',
        Advance::Passed => b'p',
    };
    frame(output, |fields| {
        fields.extend_from_slice(&[b'a', span_byte(id.span)]);
        fields.extend_from_slice(&id.index.to_le_bytes());
        fields.push(what);
        fields.extend_from_slice(&position.to_le_bytes());
    });
}

/// A bucket as it is when its memory is in its file.
pub(super) fn frame_bucket(id: BucketId, bucket: &Bucket, output: &mut Vec<u8>) {
    let has_held = if bucket.has_held { HAS_HELD } else { 0 };
    let was_released = if bucket.was_released { WAS_RELEASED } else { 0 };
    let numbers = [
        bucket.file,
        bucket.end(),
        bucket.start,
        bucket.held,
        bucket.released,
        bucket.plain_end,
    ];
    frame(output, |fields| {
        fields.extend_from_slice(&[b'b', span_byte(id.span)]);
        fields.extend_from_slice(&id.index.to_le_bytes());
        for number in numbers {
            fields.extend_from_slice(&number.to_le_bytes());
        }
        fields.push(has_held | was_released);
    });
}

/// Appends a frame of few bytes.
fn frame(output: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let begin = output.len();
    output.extend_from_slice(&[0; LENGTH_BYTES]);
    fill(output);
    let length = (output.len() - begin - LENGTH_BYTES) as u32;
    if let Some(place) = output.get_mut(begin..begin + LENGTH_BYTES) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

/// The first frame, and how many bytes it takes; `None`: it is not whole.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`]: not written by this.
pub(super) fn decode(bytes: &[u8]) -> io::Result<Option<(Frame<'_>, usize)>> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length > FRAME_BYTES_MAX - LENGTH_BYTES {
        return Err(damaged());
    }
    let Some(fields) = rest.get(..length) else {
        return Ok(None);
    };
    let mut fields = Fields(fields);
    let tag = fields.u8()?;
    let span = fields.span()?;
    let frame = match tag {
        b'n' => Frame::Note(Note {
            span,
            minute: fields.u32()?,
            at_ms: fields.i64()?,
            written_ms: fields.i64()?,
            db: fields.u32()?,
            key: std::mem::take(&mut fields.0),
        }),
        b'a' => {
            let id = fields.id(span)?;
            let step = fields.advance()?;
            Frame::Advance(id, step, fields.u64()?)
        }
        b'b' => Frame::Bucket(fields.id(span)?, fields.bucket()?),
        _ => return Err(damaged()),
    };
    if !fields.0.is_empty() {
        return Err(damaged());
    }
    Ok(Some((frame, LENGTH_BYTES + length)))
}

pub(super) fn damaged() -> io::Error {
    let message = "the notes about deadlines of the earlier run are damaged";
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn span_byte(span: Span) -> u8 {
    match span {
        Span::Minute => b'm',
        Span::Hour => b'h',
        Span::Day => b'd',
    }
}

/// What is left of a frame.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const BYTES: usize>(&mut self) -> io::Result<[u8; BYTES]> {
        let (array, rest) = self.0.split_first_chunk().ok_or_else(damaged)?;
        self.0 = rest;
        Ok(*array)
    }

    fn u8(&mut self) -> io::Result<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> io::Result<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn span(&mut self) -> io::Result<Span> {
        match self.u8()? {
            b'm' => Ok(Span::Minute),
            b'h' => Ok(Span::Hour),
            b'd' => Ok(Span::Day),
            _ => Err(damaged()),
        }
    }

    fn id(&mut self, span: Span) -> io::Result<BucketId> {
        let index = self.u32()?;
        Ok(BucketId { span, index })
    }

    fn advance(&mut self) -> io::Result<Advance> {
        match self.u8()? {
            b'h' => Ok(Advance::Held),
            b'r' => Ok(Advance::Released),
            b'p' => Ok(Advance::Passed),
            _ => Err(damaged()),
        }
    }

    fn bucket(&mut self) -> io::Result<Bucket> {
        let mut bucket = Bucket {
            file: self.u64()?,
            file_bytes: self.u64()?,
            start: self.u64()?,
            held: self.u64()?,
            released: self.u64()?,
            plain_end: self.u64()?,
            ..Bucket::default()
        };
        let flags = self.u8()?;
        bucket.has_held = flags & HAS_HELD != 0;
        bucket.was_released = flags & WAS_RELEASED != 0;
        Ok(bucket)
    }
}

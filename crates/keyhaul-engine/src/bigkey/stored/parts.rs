//! Reads a value from its file, part by part, and tells its elements.

use bytes::{Buf, BytesMut};
use keyhaul_rdb::{Element, ElementReader, Flaw, Form};

use crate::bigkey::Broken;
use crate::source::stored::Stored;

/// Bytes that are read at a time.
const PART_BYTES: usize = 256 * 1024;
/// Bytes of the value whose elements are told at a time: so that what is made of them stays small, also
/// where they are compressed.
const PORTION_BYTES: usize = 16 * 1024;
/// A buffer that grew above this for a long element is given back, bytes.
const BUFFER_KEPT_MAX: usize = 4 * PART_BYTES;

/// A value that is being read.
pub(super) struct Parts<'a> {
    stored: &'a Stored,
    reader: ElementReader,
    /// How much of the value was read.
    at: u64,
    buffer: BytesMut,
    /// What is in the buffer does not hold a whole step.
    is_short: bool,
}

impl<'a> Parts<'a> {
    /// At the start of the value.
    ///
    /// # Errors
    /// [`Broken::Refused`] for a form whose elements are not known.
    pub(super) fn new(stored: &'a Stored, form: Form) -> Result<Self, Broken> {
        Ok(Self {
            stored,
            reader: ElementReader::new(form).map_err(damaged)?,
            at: 0,
            buffer: BytesMut::new(),
            is_short: true,
        })
    }

    /// All elements were told.
    pub(super) fn is_done(&self) -> bool {
        self.reader.is_done()
    }

    /// Tells some elements of what was read.
    ///
    /// # Errors
    /// [`Broken::Refused`]: the value is damaged.
    pub(super) fn tell(&mut self, sink: &mut dyn FnMut(Element<'_>)) -> Result<(), Broken> {
        let used = self.reader.push(&self.buffer, PORTION_BYTES, sink);
        let used = used.map_err(|(flaw, _)| damaged(flaw))?;
        self.buffer.advance(used);
        self.is_short = used < PORTION_BYTES;
        Ok(())
    }

    /// Reads the next part where what is there is too short to be told.
    ///
    /// # Errors
    /// [`Broken::Refused`]: the file cannot be read, or the value ends too early.
    pub(super) async fn fill(&mut self) -> Result<(), Broken> {
        if !self.is_short || self.is_done() {
            return Ok(());
        }
        let part = self.stored.read_at(self.at, PART_BYTES).await;
        let part = part.map_err(|e| Broken::Refused(format!("it cannot be read again: {e}")))?;
        if part.is_empty() {
            return Err(damaged(Flaw::Truncated));
        }
        self.at += part.len() as u64;
        if self.buffer.is_empty() && self.buffer.capacity() > BUFFER_KEPT_MAX {
            self.buffer = BytesMut::new();
        }
        self.buffer.extend_from_slice(&part);
        Ok(())
    }
}

/// How many elements the head of a value says it has, of a string how many bytes; 0 where it does not say that.
pub(super) async fn elements_stated(stored: &Stored, form: Form) -> u64 {
    /// A compressed string: its length follows that of what it is compressed to.
    const COMPRESSED: u8 = 0xc3;
    let before = match form {
        Form::List | Form::Set | Form::Zset | Form::ZsetText | Form::Hash => 0,
        Form::HashExpiringOld | Form::HashExpiringValkey | Form::String => 0,
        // The earliest of all expiries.
        Form::HashExpiring => 8,
        _ => return 0,
    };
    let head = stored.read_at(0, 32).await.unwrap_or_default();
    let head = head.get(before..).unwrap_or_default();
    let stated = match head.split_first() {
        Some((&COMPRESSED, rest)) => length(rest).and_then(|(_, rest)| length(rest)),
        _ => length(head),
    };
    stated.map_or(0, |(length, _)| length)
}

/// A length as all RDB versions write it, and what follows it: the two highest bits tell how many bytes it takes.
fn length(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    match (first >> 6, first) {
        (0, _) => Some((u64::from(*first), rest)),
        (1, _) => {
            let (second, rest) = rest.split_first()?;
            Some((u64::from(first & 0x3f) << 8 | u64::from(*second), rest))
        }
        (_, 0x80) => {
            let (four, rest) = rest.split_first_chunk()?;
            Some((u64::from(u32::from_be_bytes(*four)), rest))
        }
        (_, 0x81) => {
            let (eight, rest) = rest.split_first_chunk()?;
            Some((u64::from_be_bytes(*eight), rest))
        }
        _ => None,
    }
}

fn damaged(flaw: Flaw) -> Broken {
    Broken::Refused(format!("its value cannot be taken apart: {flaw}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        // What follows the length is so many bytes.
        type Row<'a> = (&'a [u8], Option<(u64, usize)>);
        let rows: [Row<'_>; 7] = [
            (b"\x05x", Some((5, 1))),
            (b"\x41\x02x", Some((0x102, 1))),
            (b"\x80\0\x01\0\0x", Some((0x1_0000, 1))),
            (b"\x81\0\0\0\x01\0\0\0\0", Some((1 << 32, 0))),
            (b"\x80\0\x01", None),
            // A number in the place of a string.
            (b"\xc0\x05", None),
            (b"", None),
        ];
        for (bytes, expected) in rows {
            let found = length(bytes).map(|(length, rest)| (length, rest.len()));
            assert_eq!(found, expected, "{bytes:?}");
        }
    }
}

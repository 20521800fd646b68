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

fn damaged(flaw: Flaw) -> Broken {
    Broken::Refused(format!("its value cannot be taken apart: {flaw}"))
}

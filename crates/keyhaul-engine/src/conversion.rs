//! Makes values fit for the target: passes them through, writes a new footer, or has them encoded anew;
//! lists what the target cannot hold.
//!
//! What becomes of a kind of value is decided once; most kinds pass, and cost two look-ups in a table.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use keyhaul_rdb::{
    Converted, Form, Reader, Refusal, Route, open, payload_rdb_version, verify_checksum,
};

use crate::entry::{Entry, Payload};
use crate::ledger::Ledger;

/// Versions and type bytes that the table of kinds covers; all that are known lie below.
const VERSIONS: u16 = 96;
const TYPE_BYTES: u8 = 32;

/// What values are made into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Payloads for RESTORE.
    Payload,
    /// Values for a file.
    Value,
}

/// The rules of one job.
#[derive(Debug)]
pub(crate) struct Conversion {
    pub reader: Reader,
    pub shape: Shape,
    ledger: Arc<Ledger>,
    /// By version: a bit for each type byte that passes.
    passing: Vec<u32>,
}

/// What was made of one value.
enum Made {
    /// It stays as it is.
    Same(Payload),
    /// It lies in the batch's buffer.
    Written(Range<usize>, Option<Form>),
}

impl Conversion {
    pub(crate) fn new(reader: Reader, shape: Shape, ledger: Arc<Ledger>) -> Self {
        let passes = |version: u16, type_byte: u8| {
            let form = Form::of(type_byte, version);
            // Whether a module's value passes hangs on the module.
            form.is_some_and(|form| {
                form != Form::Module && reader.route(form, version) == Route::Pass
            })
        };
        let row = |version| {
            (0..TYPE_BYTES)
                .filter(|type_byte| passes(version, *type_byte))
                .fold(0, |bits, type_byte| bits | 1 << type_byte)
        };
        let passing = (0..VERSIONS).map(row).collect();
        Self {
            reader,
            shape,
            ledger,
            passing,
        }
    }

    /// The entries as the target can take them. What it cannot hold is listed and left out.
    pub(crate) fn fit(&self, mut entries: Vec<Entry>) -> Vec<Entry> {
        if entries.iter().all(|entry| self.fits(&entry.payload)) {
            return entries;
        }
        let mut buffer = Vec::new();
        let mut made = Vec::with_capacity(entries.len());
        entries.retain_mut(|entry| {
            let nothing = Payload::Whole(Bytes::new());
            let payload = std::mem::replace(&mut entry.payload, nothing);
            match self.make(payload, &mut buffer) {
                Ok(one) => {
                    made.push(one);
                    true
                }
                Err(refusal) => {
                    let reason = refusal.to_string();
                    self.ledger
                        .not_moved(entry.source_db, entry.source_key(), reason);
                    false
                }
            }
        });
        let buffer = Bytes::from(buffer);
        for (entry, made) in entries.iter_mut().zip(made) {
            entry.payload = match made {
                Made::Same(payload) => payload,
                Made::Written(range, None) => Payload::Whole(buffer.slice(range)),
                Made::Written(range, Some(form)) => Payload::Value {
                    form,
                    version: self.reader.rdb_version,
                    value: buffer.slice(range),
                },
            };
        }
        entries
    }

    /// Appends a value of an RDB of `version` in the shape that the target takes. Returns the form of a
    /// value, or nothing of a payload.
    ///
    /// # Errors
    /// [`Refusal`]; what was appended is of no use then.
    pub(crate) fn put(
        &self,
        form: Form,
        version: u16,
        value: &[u8],
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Form>, Refusal> {
        match self.shape {
            Shape::Payload => {
                self.reader.encode(form, version, value, buffer)?;
                Ok(None)
            }
            Shape::Value => {
                let to = self.reader.admit(form, version, value)?;
                self.reader.encode_value(form, to, value, buffer)?;
                Ok(Some(to))
            }
        }
    }

    /// Whether a payload of this kind goes through untouched.
    fn passes(&self, payload: &[u8]) -> bool {
        let (Some(version), Some(type_byte)) = (payload_rdb_version(payload), payload.first())
        else {
            return false;
        };
        let row = self.passing.get(usize::from(version)).copied();
        *type_byte < TYPE_BYTES && row.unwrap_or(0) >> type_byte & 1 == 1
    }

    fn fits(&self, payload: &Payload) -> bool {
        match payload {
            Payload::Whole(payload) => self.shape == Shape::Payload && self.passes(payload),
            // Made by the one who read it.
            Payload::Value { version, .. } => {
                self.shape == Shape::Value && *version == self.reader.rdb_version
            }
            Payload::Parts(_) | Payload::Elements(_) | Payload::Gone => true,
        }
    }

    fn make(&self, payload: Payload, buffer: &mut Vec<u8>) -> Result<Made, Refusal> {
        if self.fits(&payload) {
            return Ok(Made::Same(payload));
        }
        let begin = buffer.len();
        match (payload, self.shape) {
            (Payload::Whole(payload), Shape::Payload) => {
                Ok(match self.reader.convert(&payload, buffer)? {
                    Converted::Unchanged => Made::Same(Payload::Whole(payload)),
                    Converted::Written => Made::Written(begin..buffer.len(), None),
                })
            }
            (Payload::Whole(payload), Shape::Value) => {
                // The file's own checksum will vouch for it.
                verify_checksum(&payload)?;
                let (form, version, value) = open(&payload)?;
                let value = payload.slice_ref(value);
                self.make_value(form, version, value, buffer)
            }
            (
                Payload::Value {
                    form,
                    version,
                    value,
                },
                Shape::Payload,
            ) => {
                self.reader.encode(form, version, &value, buffer)?;
                Ok(Made::Written(begin..buffer.len(), None))
            }
            (
                Payload::Value {
                    form,
                    version,
                    value,
                },
                Shape::Value,
            ) => self.make_value(form, version, value, buffer),
            (same @ (Payload::Parts(_) | Payload::Elements(_) | Payload::Gone), _) => {
                Ok(Made::Same(same))
            }
        }
    }

    fn make_value(
        &self,
        form: Form,
        version: u16,
        value: Bytes,
        buffer: &mut Vec<u8>,
    ) -> Result<Made, Refusal> {
        let to = self.reader.admit(form, version, &value)?;
        if to == form {
            let version = self.reader.rdb_version;
            return Ok(Made::Same(Payload::Value {
                form,
                version,
                value,
            }));
        }
        let begin = buffer.len();
        let encoded = self.reader.encode_value(form, to, &value, buffer);
        encoded.inspect_err(|_| buffer.truncate(begin))?;
        Ok(Made::Written(begin..buffer.len(), Some(to)))
    }
}

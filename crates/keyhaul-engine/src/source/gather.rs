//! Gathers the records of an RDB that are small into batches: keys and values of a batch lie in one piece
//! of memory, already in the shape that the target takes. What this costs each key decides how fast a
//! file can be loaded.

use std::ops::Range;

use bytes::Bytes;
use keyhaul_rdb::{Form, SmallRecord};

use crate::entry::{Entry, Payload, Usage};
use crate::route::Outlet;

/// What is handed on at a time, bytes and keys.
const BATCH_BYTES: usize = 256 * 1024;
const BATCH_KEYS: usize = 2048;

/// Records on their way into a batch.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    buffer: Vec<u8>,
    records: Vec<Gathered>,
}

/// One of them; its parts lie in the buffer.
#[derive(Debug)]
struct Gathered {
    db: u32,
    key: Range<usize>,
    expire_at_ms: Option<i64>,
    usage: Usage,
    value: Range<usize>,
    /// As what it lies there: a value in this form, or a payload.
    form: Option<Form>,
}

impl Gather {
    /// Takes a record in. What the target cannot hold is listed.
    pub(crate) fn push(&mut self, record: &SmallRecord<'_>, version: u16, outlet: &Outlet) {
        let begin = self.buffer.len();
        self.buffer.extend_from_slice(record.key);
        let middle = self.buffer.len();
        let conversion = &outlet.conversion;
        let put = conversion.put(record.form, version, record.value, &mut self.buffer);
        let form = match put {
            Ok(form) => form,
            Err(refusal) => {
                self.buffer.truncate(begin);
                return outlet.list(record.db, record.key, refusal.to_string());
            }
        };
        self.records.push(Gathered {
            db: record.db,
            key: begin..middle,
            expire_at_ms: record.expire_at_ms,
            usage: Usage {
                idle_s: record.idle_s,
                freq: record.freq,
            },
            value: middle..self.buffer.len(),
            form,
        });
    }

    /// Enough is there to be handed on.
    pub(crate) fn is_full(&self) -> bool {
        self.buffer.len() >= BATCH_BYTES || self.records.len() >= BATCH_KEYS
    }

    /// Everything that was gathered.
    pub(crate) fn take(&mut self, outlet: &Outlet) -> Vec<Entry> {
        if self.records.is_empty() {
            return Vec::new();
        }
        let capacity = self.buffer.len();
        let buffer = Bytes::from(std::mem::replace(
            &mut self.buffer,
            Vec::with_capacity(capacity),
        ));
        let version = outlet.conversion.reader.rdb_version;
        let entries = self.records.drain(..).map(|one| {
            let value = buffer.slice(one.value);
            let payload = match one.form {
                None => Payload::Whole(value),
                Some(form) => Payload::Value {
                    form,
                    version,
                    value,
                },
            };
            let key = buffer.slice(one.key);
            outlet.entry(one.db, key, payload, one.expire_at_ms, one.usage)
        });
        entries.collect()
    }
}

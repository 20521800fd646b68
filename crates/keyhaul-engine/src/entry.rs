//! The unit in flight: one key on its way from a source to a target.

use std::sync::Arc;

use bytes::Bytes;
use keyhaul_rdb::Form;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::source::stored::Stored;
use crate::source::track::Ticket;
use crate::throttle::Throttle;

/// One key, read and named for the target.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The db of the source, for reports.
    pub source_db: u32,
    /// The name on the source, for reports, where it is another one than on the target.
    pub other_source_key: Option<Bytes>,
    /// The db of the target.
    pub target_db: u32,
    /// The name on the target.
    pub target_key: Bytes,
    /// Absolute Unix ms; `None`: does not expire.
    pub expire_at_ms: Option<i64>,
    /// How much it was used, if the source tells.
    pub usage: Usage,
    /// The value.
    pub payload: Payload,
}

/// What the eviction of the server that wrote an RDB knew of a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Seconds since it was last used.
    pub idle_s: Option<u64>,
    /// How often, as a logarithm.
    pub freq: Option<u8>,
}

/// The value of a key.
#[derive(Debug)]
pub(crate) enum Payload {
    /// A DUMP payload with footer.
    Whole(Bytes),
    /// The value alone, as it lies in an RDB of this version behind its key.
    Value {
        form: Form,
        version: u16,
        value: Bytes,
    },
    /// Too large to be held: it passes through while it arrives.
    Parts(Parts),
    /// Too large to go over in one piece: it lies in a file and goes over by element.
    Elements(Elements),
    /// There is no such key on the source any more: it is deleted.
    Gone,
}

/// A value that is taken apart where it lies.
#[derive(Debug)]
pub(crate) struct Elements {
    /// The value.
    pub stored: Stored,
    /// Its form.
    pub form: Form,
    /// What holds its chunks back to the rate that was asked for.
    pub throttle: Arc<Throttle>,
    /// What became of it: it is always settled.
    pub verdict: oneshot::Sender<Verdict>,
}

/// A payload that passes through in parts.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The form of the value.
    pub form: Form,
    /// Length of the whole, a DUMP payload with footer, bytes.
    pub payload_bytes: u64,
    /// The parts, and [`Part::Commit`] at the end. Closed without it: the key must not be written.
    pub parts: mpsc::Receiver<Part>,
    /// What became of it.
    pub verdict: oneshot::Sender<Verdict>,
}

/// A piece of a payload.
#[derive(Debug)]
pub(crate) enum Part {
    /// The next bytes.
    Bytes(Bytes),
    /// All bytes came, and value and expiry belong together.
    Commit,
}

/// What became of a payload that passed through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was written, or counted among the keys that were not.
    Settled,
    /// It must be read and sent again.
    Again,
}

/// Entries for one lane.
#[derive(Debug)]
pub(crate) struct Batch {
    pub entries: Vec<Entry>,
    pub held: Held,
}

/// What entries hold until the last of them is settled.
#[derive(Debug)]
pub(crate) struct Held {
    /// The memory they are charged for.
    pub _charge: Option<OwnedSemaphorePermit>,
    /// The page of the scan that they are of.
    pub ticket: Option<Ticket>,
}

impl Held {
    /// One of several holders is done with its entries; the last one settles them.
    pub(crate) fn release(held: Option<Arc<Self>>) {
        if let Some(held) = held.and_then(Arc::into_inner)
            && let Some(ticket) = held.ticket
        {
            ticket.settle();
        }
    }
}

impl Entry {
    /// The name on the source.
    pub(crate) fn source_key(&self) -> &Bytes {
        self.other_source_key.as_ref().unwrap_or(&self.target_key)
    }

    /// Length of the payload, bytes; 0 where there is none, but elements.
    pub(crate) fn payload_bytes(&self) -> u64 {
        match &self.payload {
            Payload::Whole(bytes) | Payload::Value { value: bytes, .. } => bytes.len() as u64,
            Payload::Parts(parts) => parts.payload_bytes,
            Payload::Elements(_) | Payload::Gone => 0,
        }
    }
}

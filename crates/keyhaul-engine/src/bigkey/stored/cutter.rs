//! Makes chunks of elements: the same commands as those of values that are read from live servers.

use std::collections::VecDeque;

use keyhaul_client::ValueKind;
use keyhaul_rdb::{Element, Refusal, StreamId};
use keyhaul_resp::encode;
use xxhash_rust::xxh3::Xxh3;

use super::StoredCopy;
use super::stream::StreamCutter;
use crate::bigkey::builder::Builder;
use crate::bigkey::chunk::{Chunk, Words};
use crate::bigkey::finish::{Expected, Expiries};
use crate::bigkey::ranks::{end_members, put_score};
use crate::bigkey::{Abilities, Broken, ChunkLimits};
use crate::source::records::now_ms;

const SET: Words = &[b"SET"];
const SETRANGE: Words = &[b"SETRANGE"];
const RPUSH: Words = &[b"RPUSH"];
const SADD: Words = &[b"SADD"];
const HSET: Words = &[b"HSET"];
const HPEXPIREAT: Words = &[b"HPEXPIREAT"];

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Cut {
    /// Send this.
    Chunk(Chunk),
    /// Wait until all that was sent is applied.
    Drain,
}

/// Where elements become chunks.
pub(super) struct Cutter {
    kind: ValueKind,
    limits: ChunkLimits,
    pub(super) abilities: Abilities,
    bulk_len_max: u64,
    now_ms: u64,
    pub(super) chunk: Chunk,
    /// Elements, or commands of a stream, in it.
    in_chunk: u64,
    /// All elements so far; bytes of a string.
    pub(super) total: u64,
    /// Fields that expire.
    times: Expiries,
    /// Names of fields in the chunk, as bulk strings, and when they expire.
    expiries: Vec<(u64, Vec<u8>)>,
    has_negative_zero: bool,
    ready: VecDeque<Cut>,
    refused: Option<String>,
    /// Of a string.
    digest: Xxh3,
    stream: StreamCutter,
}

impl Cutter {
    /// For a value of this kind. `pending`: see [`StreamCutter::new`].
    pub(super) fn new(copy: &StoredCopy<'_>, kind: ValueKind, pending: Vec<StreamId>) -> Self {
        Self {
            kind,
            limits: copy.rules.limits.of(kind),
            abilities: copy.rules.abilities,
            bulk_len_max: copy.bulk_len_max,
            now_ms: u64::try_from(now_ms()).unwrap_or(0),
            chunk: Chunk::default(),
            in_chunk: 0,
            total: 0,
            times: Expiries::default(),
            expiries: Vec::new(),
            has_negative_zero: false,
            ready: VecDeque::new(),
            refused: None,
            digest: Xxh3::new(),
            stream: StreamCutter::new(pending),
        }
    }

    /// Takes the next element in.
    pub(super) fn take(&mut self, element: Element<'_>) {
        if self.refused.is_some() {
            return;
        }
        match element {
            Element::String(part) => self.string(part),
            Element::Item(item) | Element::Member(item) => {
                self.put(item);
                self.count();
            }
            Element::Scored { member, score } => {
                self.has_negative_zero |= score == 0.0 && score.is_sign_negative();
                put_score(self.chunk.args(), score);
                self.put(member);
                self.count();
            }
            Element::Field {
                field,
                value,
                expire_at_ms,
            } => self.field(field, value, expire_at_ms),
            element => {
                let mut stream = std::mem::take(&mut self.stream);
                stream.take(self, element);
                self.stream = stream;
            }
        }
    }

    /// All elements were taken in.
    pub(super) fn end(&mut self) {
        match self.kind {
            ValueKind::Stream => {
                let mut stream = std::mem::take(&mut self.stream);
                stream.end(self);
                self.stream = stream;
            }
            ValueKind::String if self.total == 0 => self.chunk.command(SET, &[b""]),
            _ => {}
        }
        self.end_chunk();
    }

    /// Why the value cannot go over.
    ///
    /// # Errors
    /// [`Broken::Refused`] if there is such a reason.
    pub(super) fn refusal(&mut self) -> Result<(), Broken> {
        match self.refused.take() {
            Some(reason) => Err(Broken::Refused(reason)),
            None => Ok(()),
        }
    }

    /// What is to be done next.
    pub(super) fn next_cut(&mut self) -> Option<Cut> {
        self.ready.pop_front()
    }

    /// How many elements there must be on the target.
    pub(super) fn expected(&self) -> Expected {
        let length = match self.kind {
            ValueKind::Stream => self.stream.entries(),
            _ => self.total,
        };
        let digest = (self.kind == ValueKind::String).then(|| self.digest.digest128());
        Expected {
            length,
            unseen: 0,
            digest,
        }
    }

    /// Hands over when fields expire.
    pub(super) fn tell_expiries(&mut self, builder: &mut Builder) {
        builder.expiries = std::mem::take(&mut self.times);
    }

    /// Whether the target holds what cannot be told from the length.
    ///
    /// # Errors
    /// [`Broken`].
    pub(super) async fn check(&self, builder: &mut Builder) -> Result<(), Broken> {
        self.stream.check(builder).await
    }

    /// Makes a long string as long as it will be. A server that has to move a growing string again and again
    /// needs ten times as long for it.
    pub(super) fn make_room(&mut self, length: u64) {
        let is_long = length > self.limits.bytes as u64 && length <= self.bulk_len_max;
        if self.kind == ValueKind::String && is_long {
            let last = (length - 1).to_string();
            self.chunk.command(SETRANGE, &[last.as_bytes(), b"\0"]);
        }
    }

    pub(super) fn refuse(&mut self, reason: String) {
        self.refused.get_or_insert(reason);
    }

    /// Appends an argument, if the target takes one of this length.
    pub(super) fn put(&mut self, argument: &[u8]) {
        let bytes = argument.len() as u64;
        if bytes > self.bulk_len_max {
            self.refuse(element_too_long(bytes, self.bulk_len_max));
        } else {
            encode::bulk(self.chunk.args(), argument);
        }
    }

    /// Ends an element, or a command of a stream; the chunk too where it is full.
    pub(super) fn count(&mut self) {
        if self.kind != ValueKind::Stream {
            self.total += 1;
        }
        self.in_chunk += 1;
        if self.in_chunk >= self.limits.elements || self.chunk.bytes() >= self.limits.bytes {
            self.end_chunk();
        }
    }

    /// SETRANGE writes bytes where they belong, so that a part that is written twice does no harm.
    fn string(&mut self, part: &[u8]) {
        let piece_bytes = usize::try_from(self.bulk_len_max).unwrap_or(usize::MAX);
        let piece_bytes = self.limits.bytes.min(piece_bytes).max(1);
        for piece in part.chunks(piece_bytes) {
            let offset = self.total.to_string();
            self.total += piece.len() as u64;
            if self.total > self.bulk_len_max {
                return self.refuse(string_too_long(self.bulk_len_max));
            }
            self.digest.update(piece);
            self.chunk.command(SETRANGE, &[offset.as_bytes(), piece]);
            if self.chunk.bytes() >= self.limits.bytes {
                self.end_chunk();
            }
        }
    }

    fn field(&mut self, field: &[u8], value: &[u8], expire_at_ms: Option<u64>) {
        // A server would drop it after it was loaded.
        if expire_at_ms.is_some_and(|at| at <= self.now_ms) {
            return;
        }
        let knows_expiry = self.abilities.target_field_expiry;
        match expire_at_ms {
            Some(at) if knows_expiry => {
                let mut name = bytes::BytesMut::new();
                encode::bulk(&mut name, field);
                self.expiries.push((at, name.to_vec()));
                self.times.add(i64::try_from(at).unwrap_or(i64::MAX));
            }
            Some(_) if !self.abilities.may_drop_field_expiry => {
                return self.refuse(Refusal::FieldExpiry.to_string());
            }
            _ => {}
        }
        self.put(field);
        self.put(value);
        self.count();
    }

    /// Ends the open command and puts the chunk among those to be sent.
    pub(super) fn end_chunk(&mut self) {
        let elements = usize::try_from(std::mem::take(&mut self.in_chunk)).unwrap_or(usize::MAX);
        match self.kind {
            // Their commands are ended one by one.
            ValueKind::String | ValueKind::Stream => {}
            _ if elements == 0 => {}
            ValueKind::List => self.chunk.end_command(RPUSH, elements),
            ValueKind::Set => self.chunk.end_command(SADD, elements),
            ValueKind::SortedSet => {
                let has_negative_zero = std::mem::take(&mut self.has_negative_zero);
                end_members(&mut self.chunk, elements, has_negative_zero);
            }
            ValueKind::Hash => self.end_fields(elements),
        }
        if !self.chunk.is_empty() {
            let mut chunk = std::mem::take(&mut self.chunk);
            chunk.elements_after = self.total;
            self.ready.push_back(Cut::Chunk(chunk));
        }
    }

    fn end_fields(&mut self, elements: usize) {
        self.chunk.end_command(HSET, elements * 2);
        for (at, name) in std::mem::take(&mut self.expiries) {
            let args = self.chunk.args();
            encode::bulk(args, at.to_string().as_bytes());
            encode::bulk(args, b"FIELDS");
            encode::bulk(args, b"1");
            args.extend_from_slice(&name);
            self.chunk.end_command(HPEXPIREAT, 4);
        }
    }

    /// All that was sent must be applied before what follows is sent.
    pub(super) fn drain(&mut self) {
        self.end_chunk();
        self.ready.push_back(Cut::Drain);
    }

    /// A chunk of its own.
    pub(super) fn send(&mut self, chunk: Chunk) {
        self.ready.push_back(Cut::Chunk(chunk));
    }
}

fn element_too_long(bytes: u64, bulk_len_max: u64) -> String {
    format!(
        "an element of {bytes} bytes is longer than the target takes: raise proto-max-bulk-len there (it is {bulk_len_max})"
    )
}

/// The reason in the list for a string that no command makes.
pub(super) fn string_too_long(bulk_len_max: u64) -> String {
    format!(
        "the string is longer than the target takes by any command: raise proto-max-bulk-len there (it is {bulk_len_max})"
    )
}

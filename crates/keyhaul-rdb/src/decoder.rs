//! RDB files and streams: bytes in any portions in, records out. A value is skipped, passed on raw, or
//! taken apart, so a value of any length needs no more memory than a portion of it.
//!
//! ```text
//! REDIS0011 | VALKEY080                           magic and version
//! AUX, FUNCTION, SELECTDB, RESIZEDB, ...          opcodes (opcode.rs)
//! [EXPIRETIME] [IDLE | FREQ] type key value       a record
//! EOF crc64                                       the checksum from RDB 5 on; 0: none was made
//! ```

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use crate::crc::Crc64;
use crate::error::{Flaw, RdbError};
use crate::form::{Form, Op};
use crate::header::{HEADER_BYTES_MAX, Header};
use crate::opcode::{self, Found};
use crate::text::{Coding, STRING_BYTES_MAX, TextHead, decode_text};
use crate::walk::{Kind, Walker, Wholes};

/// Bytes of the checksum at the end (RDB >= 5).
const CHECKSUM_BYTES: usize = 8;

/// What comes next in an RDB.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The first event.
    Header(Header),
    /// What the server says of itself.
    Aux {
        /// For instance `redis-ver`.
        name: Bytes,
        /// Mostly text.
        value: Bytes,
    },
    /// The source code of a function library (RDB >= 10).
    Function(Bytes),
    /// Data that a module keeps outside of keys; no command can bring it back.
    ModuleAux {
        /// The name of the module's type, 9 characters.
        module: String,
    },
    /// Counts of the db that follow, as hints.
    Resize {
        /// Keys in the db.
        keys: u64,
        /// Keys of them that expire.
        expires: u64,
    },
    /// A key. Its value follows: take it by [`Decoder::raw_value`]; else it is skipped.
    Record(Record),
    /// The end, and nothing was wrong.
    End {
        /// Whether there was a checksum (RDB >= 5, and the server was not told to make none).
        has_checksum: bool,
    },
}

/// A key of an RDB and what is known of it apart from its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its db.
    pub db: u32,
    /// Its name.
    pub key: Bytes,
    /// The form of its value.
    pub form: Form,
    /// Absolute Unix ms; `None`: does not expire.
    pub expire_at_ms: Option<i64>,
    /// Seconds since it was last used, if the server noted it (`maxmemory-policy` with LRU).
    pub idle_s: Option<u64>,
    /// How often it was used, a logarithm, if the server noted it (LFU).
    pub freq: Option<u8>,
    /// Where the record's type byte lies in the file.
    pub offset: u64,
}

/// A portion of a raw value: what stands in a payload behind the type byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawValue {
    /// All of it.
    Whole(Bytes),
    /// The next part of a value that is longer than asked for.
    Part(Bytes),
    /// The last part.
    Last(Bytes),
}

/// A record that lies in the input as a whole, borrowed from it.
#[derive(Debug, Clone, Copy)]
pub struct SmallRecord<'a> {
    /// See [`Record`]; the same for all that have its names.
    pub db: u32,
    #[allow(missing_docs, reason = "documented in Record")]
    pub key: &'a [u8],
    #[allow(missing_docs, reason = "documented in Record")]
    pub form: Form,
    #[allow(missing_docs, reason = "documented in Record")]
    pub expire_at_ms: Option<i64>,
    #[allow(missing_docs, reason = "documented in Record")]
    pub idle_s: Option<u64>,
    #[allow(missing_docs, reason = "documented in Record")]
    pub freq: Option<u8>,
    #[allow(missing_docs, reason = "documented in Record")]
    pub offset: u64,
    /// The value as it lies in the RDB behind the key.
    pub value: &'a [u8],
}

/// Decodes one RDB.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    /// Offset of the buffer's first byte in the file.
    base: u64,
    /// Bytes of the buffer that were walked over.
    walked: usize,
    /// Bytes of the buffer that the checksum has seen.
    summed: usize,
    crc: Crc64,
    checks_crc: bool,
    header: Option<Header>,
    db: u32,
    /// Of the record to come.
    expire_at_ms: Option<i64>,
    idle_s: Option<u64>,
    freq: Option<u8>,
    /// The value that is being passed over.
    value: Option<Walker>,
    /// Parts of it were given away.
    in_parts: bool,
    /// What was walked over of it must stay, for it is asked for as a whole.
    is_held: bool,
    /// The key of the record that is being read, for messages.
    current: Option<Bytes>,
    has_ended: bool,
}

/// Whether the checksum of the whole is to be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// Compute and compare it.
    Verify,
    /// The bytes were verified before.
    Trust,
}

impl Decoder {
    /// At the start of an RDB.
    pub fn new(checksum: Checksum) -> Self {
        Self {
            buffer: BytesMut::new(),
            base: 0,
            walked: 0,
            summed: 0,
            crc: Crc64::default(),
            checks_crc: checksum == Checksum::Verify,
            header: None,
            db: 0,
            expire_at_ms: None,
            idle_s: None,
            freq: None,
            value: None,
            in_parts: false,
            is_held: false,
            current: None,
            has_ended: false,
        }
    }

    /// Append bytes here, in portions of any length, when a method asks for more.
    pub fn input(&mut self) -> &mut BytesMut {
        if !self.is_held {
            self.take_off(self.walked);
        }
        &mut self.buffer
    }

    /// How many bytes were decoded.
    pub fn offset(&self) -> u64 {
        self.base + self.walked as u64
    }

    /// The key whose record is being read, for messages.
    pub fn current_key(&self) -> Option<&Bytes> {
        self.current.as_ref()
    }

    /// The next event; `None`: more input is needed. The value of the last record is skipped if it
    /// was not taken.
    ///
    /// # Errors
    /// [`RdbError`]; there is no way on from it.
    pub fn next_event(&mut self) -> Result<Option<Event>, RdbError> {
        if !self.skip_value()? {
            return Ok(None);
        }
        let Some(header) = self.header else {
            return self.decode_header();
        };
        loop {
            if self.has_ended {
                return match self.rest().is_empty() {
                    true => Ok(None),
                    false => Err(Flaw::Trailing.at(self.offset())),
                };
            }
            let begin = self.offset();
            match self.item(header).map_err(|flaw| flaw.at(begin))? {
                None => return Ok(None),
                Some(Item::Passed) => {}
                Some(Item::Event(event)) => return Ok(Some(event)),
            }
        }
    }

    /// The next record with its value, if that is what comes next and all of it is in the input: the fast
    /// way, without a copy and without counting references. `None` says nothing but that
    /// [`Decoder::next_event`] has to be asked. The value of the last record is skipped as there.
    ///
    /// # Errors
    /// [`RdbError`] of what stands before the record; damage of a record is told by the other way.
    pub fn small_record(&mut self, value_max: usize) -> Result<Option<SmallRecord<'_>>, RdbError> {
        if !self.skip_value()? || self.has_ended {
            return Ok(None);
        }
        let Some(header) = self.header else {
            return Ok(None);
        };
        let form = loop {
            let begin = self.offset();
            let found = opcode::decode(self.rest(), header).map_err(|flaw| flaw.at(begin))?;
            let Some((found, bytes)) = found else {
                return Ok(None);
            };
            match found {
                Found::Record(form) => break form,
                Found::End | Found::Event(_) => return Ok(None),
                found => self.note(&found),
            }
            self.walked += bytes;
        };
        let Some((key, value)) = self.bounds_of_record(form, value_max) else {
            return Ok(None);
        };
        let offset = self.offset();
        self.walked = value.end;
        Ok(Some(SmallRecord {
            db: self.db,
            key: self.buffer.get(key).unwrap_or_default(),
            form,
            expire_at_ms: self.expire_at_ms.take(),
            idle_s: self.idle_s.take(),
            freq: self.freq.take(),
            offset,
            value: self.buffer.get(value).unwrap_or_default(),
        }))
    }

    /// Where key and value of the record that begins here lie in the buffer, if they do so as they are.
    fn bounds_of_record(
        &self,
        form: Form,
        value_max: usize,
    ) -> Option<(Range<usize>, Range<usize>)> {
        let input = self.rest().get(1..)?;
        let head = TextHead::decode(input).ok()??;
        if head.coding != Coding::Raw {
            return None;
        }
        let key_bytes = usize::try_from(head.body_bytes).ok()?;
        let begin = self.walked + 1 + head.head_bytes;
        let key = begin..begin.checked_add(key_bytes)?;
        if let [Op::Text(_) | Op::Packed] = form.grammar() {
            // Most values are one string.
            let value = self.buffer.get(key.end..)?;
            let bytes = TextHead::decode(value).ok()??.whole_bytes();
            let bytes = usize::try_from(bytes).ok()?;
            let is_there = bytes <= value_max && bytes <= value.len();
            return is_there.then(|| (key.clone(), key.end..key.end + bytes));
        }
        let mut walker = Walker::new(form, Wholes::NONE).ok()?;
        let mut end = key.end;
        while end - key.end <= value_max {
            let step = walker.step(self.buffer.get(end..)?).ok()??;
            if step.kind == Kind::End {
                return Some((key.clone(), key.end..end));
            }
            end += step.bytes;
        }
        None
    }

    /// Says whether the input may end here.
    ///
    /// # Errors
    /// [`Flaw::Truncated`] when the RDB is not complete.
    pub fn end_of_input(&self) -> Result<(), RdbError> {
        if self.has_ended {
            return Ok(());
        }
        let offset = self.base + self.buffer.len() as u64;
        Err(match self.header {
            None => Flaw::Magic.at(0),
            Some(_) => Flaw::Truncated.at(offset),
        })
    }

    /// The value of the record as it lies in the RDB: whole up to `whole_max` bytes, else in parts as
    /// they arrive. `None`: more input is needed.
    ///
    /// # Errors
    /// [`RdbError`].
    ///
    /// # Panics
    /// When there is no value to take.
    pub fn raw_value(&mut self, whole_max: usize) -> Result<Option<RawValue>, RdbError> {
        assert!(
            self.value.is_some(),
            "a value is taken once, after its record"
        );
        let is_complete = self.walk_value(whole_max)?;
        let bytes = self.walked;
        self.is_held = false;
        if is_complete {
            let was_whole = !self.in_parts && bytes <= whole_max;
            self.finish_value();
            let raw = self.give(bytes);
            return Ok(Some(match was_whole {
                true => RawValue::Whole(raw),
                false => RawValue::Last(raw),
            }));
        }
        if (self.in_parts && bytes > 0) || bytes > whole_max {
            self.in_parts = true;
            return Ok(Some(RawValue::Part(self.give(bytes))));
        }
        self.is_held = true;
        Ok(None)
    }

    /// Walks on over the value in the buffer, not far beyond `enough` bytes; whether its end was
    /// reached.
    fn walk_value(&mut self, enough: usize) -> Result<bool, RdbError> {
        let Self {
            value,
            buffer,
            walked,
            base,
            ..
        } = self;
        let Some(walker) = value else {
            return Ok(true);
        };
        while *walked <= enough {
            let input = buffer.get(*walked..).unwrap_or_default();
            match walker.step(input) {
                Err(flaw) => return Err(flaw.at(*base + *walked as u64)),
                Ok(None) => return Ok(false),
                Ok(Some(step)) if step.kind == Kind::End => return Ok(true),
                Ok(Some(step)) => *walked += step.bytes,
            }
        }
        Ok(false)
    }

    /// Passes over what is left of the value; whether its end was reached.
    fn skip_value(&mut self) -> Result<bool, RdbError> {
        if self.value.is_none() {
            return Ok(true);
        }
        self.is_held = false;
        let is_complete = self.walk_value(usize::MAX)?;
        if is_complete {
            self.finish_value();
        }
        Ok(is_complete)
    }

    fn finish_value(&mut self) {
        self.value = None;
        self.current = None;
        self.in_parts = false;
        self.is_held = false;
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.walked..).unwrap_or_default()
    }

    /// Brings the checksum up to here.
    fn sum_to(&mut self, upto: usize) {
        if self.checks_crc {
            let bytes = self.buffer.get(self.summed..upto).unwrap_or_default();
            self.crc.update(bytes);
        }
        self.summed = upto;
    }

    /// Brings the checksum up to here, and ahead: many bytes at a time are summed fastest. The last ones
    /// are left, for they may be the checksum itself.
    fn sum(&mut self, upto: usize) {
        if upto <= self.summed {
            return;
        }
        let ahead = self.buffer.len().saturating_sub(CHECKSUM_BYTES);
        self.sum_to(upto.max(ahead));
    }

    /// Takes bytes that were walked over off the buffer.
    fn take_off(&mut self, bytes: usize) {
        self.sum(bytes);
        self.buffer.advance(bytes);
        self.base += bytes as u64;
        self.walked -= bytes;
        self.summed -= bytes;
    }

    /// The first bytes of the buffer, without a copy.
    fn give(&mut self, bytes: usize) -> Bytes {
        self.sum(bytes);
        let given = self.buffer.split_to(bytes).freeze();
        self.base += bytes as u64;
        self.walked -= bytes;
        self.summed -= bytes;
        given
    }

    fn decode_header(&mut self) -> Result<Option<Event>, RdbError> {
        let Some((header, bytes)) = Header::decode(self.rest())? else {
            debug_assert!(self.rest().len() < HEADER_BYTES_MAX);
            return Ok(None);
        };
        self.walked += bytes;
        self.header = Some(header);
        Ok(Some(Event::Header(header)))
    }

    /// One opcode, or the head of a record; `None`: more input is needed.
    fn item(&mut self, header: Header) -> Result<Option<Item>, Flaw> {
        let Some((found, bytes)) = opcode::decode(self.rest(), header)? else {
            return Ok(None);
        };
        match found {
            Found::Record(form) => return self.record(form),
            Found::End => return self.end(header),
            Found::Event(event) => {
                self.walked += bytes;
                return Ok(Some(Item::Event(event)));
            }
            found => self.note(&found),
        }
        self.walked += bytes;
        Ok(Some(Item::Passed))
    }

    /// Notes what concerns the records to come.
    fn note(&mut self, found: &Found) {
        match found {
            Found::ExpireAt(at) => self.expire_at_ms = Some(*at),
            Found::Idle(idle_s) => self.idle_s = Some(*idle_s),
            Found::Freq(freq) => self.freq = Some(*freq),
            Found::Db(db) => self.db = *db,
            Found::Nothing | Found::Event(_) | Found::Record(_) | Found::End => {}
        }
    }

    fn record(&mut self, form: Form) -> Result<Option<Item>, Flaw> {
        let offset = self.offset();
        let input = self.rest().get(1..).unwrap_or_default();
        let Some(head) = TextHead::decode(input)? else {
            return Ok(None);
        };
        if head.text_bytes().max(head.body_bytes) > STRING_BYTES_MAX {
            return Err(Flaw::TooLarge(head.text_bytes().max(head.body_bytes)));
        }
        let whole = head.whole_bytes();
        if (input.len() as u64) < whole {
            return Ok(None);
        }
        let walker = Walker::new(form, Wholes::NONE)?;
        let body = usize::try_from(head.body_bytes).map_err(|_| Flaw::TooLarge(whole))?;
        let key = if head.coding == Coding::Raw {
            let begin = self.walked + 1 + head.head_bytes;
            self.walked = begin;
            self.take_off(begin);
            self.walked = body;
            self.give(body)
        } else {
            let bytes = head.head_bytes + body;
            let key = decode_text(input.get(..bytes).unwrap_or_default())?;
            let key = Bytes::from(key.into_owned());
            self.walked += 1 + bytes;
            self.take_off(self.walked);
            key
        };
        self.value = Some(walker);
        self.current = Some(key.clone());
        Ok(Some(Item::Event(Event::Record(Record {
            db: self.db,
            key,
            form,
            expire_at_ms: self.expire_at_ms.take(),
            idle_s: self.idle_s.take(),
            freq: self.freq.take(),
            offset,
        }))))
    }

    /// The end mark and the checksum behind it (RDB >= 5).
    fn end(&mut self, header: Header) -> Result<Option<Item>, Flaw> {
        const CHECKSUM_FIRST: u16 = 5;
        let (mut expected, mut checksum_bytes) = (0, 0);
        if header.version >= CHECKSUM_FIRST {
            checksum_bytes = CHECKSUM_BYTES;
            let Some(bytes) = self
                .rest()
                .get(1..)
                .and_then(|rest| rest.first_chunk::<8>())
            else {
                return Ok(None);
            };
            expected = u64::from_le_bytes(*bytes);
        }
        self.walked += 1;
        if self.summed > self.walked {
            // More is there than a checksum, and was summed already: that is told behind the end.
            self.walked += checksum_bytes;
            self.summed = self.summed.max(self.walked);
            self.has_ended = true;
            return Ok(Some(Item::Passed));
        }
        self.sum_to(self.walked);
        let found = self.crc.value();
        if self.checks_crc && expected != 0 && found != expected {
            return Err(Flaw::Checksum { found, expected });
        }
        self.walked += checksum_bytes;
        self.summed = self.walked;
        self.has_ended = true;
        let has_checksum = expected != 0;
        Ok(Some(Item::Event(Event::End { has_checksum })))
    }
}

/// What was found where an opcode stands.
enum Item {
    Event(Event),
    Passed,
}

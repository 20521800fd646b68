//! What stands between the records of an RDB: a byte that says what it is, and its operands.

use bytes::Bytes;

use crate::decoder::Event;
use crate::error::Flaw;
use crate::form::{Form, VALKEY_VERSION_FIRST};
use crate::header::Header;
use crate::length::decode_number;
use crate::module_id::module_name;
use crate::text::{STRING_BYTES_MAX, TextHead, decode_text};
use crate::walk::{Kind, Walker, Wholes};

// From the servers' own headers (`RDB_OPCODE_*`).
pub(crate) const SLOT_IMPORT: u8 = 243;
pub(crate) const SLOT_INFO: u8 = 244;
pub(crate) const FUNCTION: u8 = 245;
pub(crate) const MODULE_AUX: u8 = 247;
pub(crate) const IDLE: u8 = 248;
pub(crate) const FREQ: u8 = 249;
pub(crate) const AUX: u8 = 250;
pub(crate) const RESIZEDB: u8 = 251;
pub(crate) const EXPIRETIME_MS: u8 = 252;
pub(crate) const EXPIRETIME: u8 = 253;
pub(crate) const SELECTDB: u8 = 254;
pub(crate) const EOF: u8 = 255;

/// What an opcode, or the type byte of a record, says.
pub(crate) enum Found {
    /// The next record expires then, absolute Unix ms.
    ExpireAt(i64),
    /// The next record was last used so many seconds ago.
    Idle(u64),
    /// How often the next record was used.
    Freq(u8),
    /// The records to come are of this db.
    Db(u32),
    /// To be told.
    Event(Event),
    /// Of no use to anybody but the server that wrote it.
    Nothing,
    /// A record begins; nothing of it was taken.
    Record(Form),
    /// The end mark; nothing of it was taken.
    End,
}

/// Decodes what begins here, and says how many bytes it takes; `None`: more input is needed.
pub(crate) fn decode(input: &[u8], header: Header) -> Result<Option<(Found, usize)>, Flaw> {
    let mut cursor = Cursor::new(input);
    let found = cursor.opcode(header)?;
    Ok(found.map(|found| (found, cursor.walked)))
}

/// No expiry lies before 1970; a time of 0 or below is long past, never "does not expire".
fn expire_at(at: i64) -> i64 {
    at.max(1)
}

/// Reads forward over bytes of which some may not be there yet.
struct Cursor<'a> {
    input: &'a [u8],
    walked: usize,
}

impl<'a> Cursor<'a> {
    fn new(input: &'a [u8]) -> Self {
        Self { input, walked: 0 }
    }

    fn opcode(&mut self, header: Header) -> Result<Option<Found>, Flaw> {
        let Some(opcode) = self.byte() else {
            return Ok(None);
        };
        Ok(match opcode {
            EXPIRETIME_MS => self
                .fixed()
                .map(|at| Found::ExpireAt(expire_at(i64::from_le_bytes(at)))),
            EXPIRETIME => self
                .fixed()
                .map(|at| Found::ExpireAt(expire_at(i64::from(i32::from_le_bytes(at)) * 1000))),
            FREQ => self.byte().map(Found::Freq),
            IDLE => self.number()?.map(Found::Idle),
            SELECTDB => match self.number()? {
                None => None,
                Some(db) => {
                    // The number of dbs is a C int to a server.
                    let db = i32::try_from(db).ok().and_then(|db| u32::try_from(db).ok());
                    Some(Found::Db(
                        db.ok_or(Flaw::Value("the number of a db is too large"))?,
                    ))
                }
            },
            RESIZEDB => match (self.number()?, self.number()?) {
                (Some(keys), Some(expires)) => Some(Found::Event(Event::Resize { keys, expires })),
                _ => None,
            },
            SLOT_INFO => match (self.number()?, self.number()?, self.number()?) {
                (Some(_), Some(_), Some(_)) => Some(Found::Nothing),
                _ => None,
            },
            AUX => match (self.text()?, self.text()?) {
                (Some(name), Some(value)) => Some(Found::Event(Event::Aux { name, value })),
                _ => None,
            },
            FUNCTION => self.text()?.map(|code| Found::Event(Event::Function(code))),
            MODULE_AUX => self.module_aux()?,
            // Valkey 9 notes there which slots it is just taking over; to Redis 8.6 it is another thing.
            SLOT_IMPORT if header.version >= VALKEY_VERSION_FIRST => self.slot_import()?,
            EOF => Some(Found::End),
            type_byte => match Form::of(type_byte, header.version) {
                Some(form) => Some(Found::Record(form)),
                None => return Err(Flaw::Type(type_byte, header.version)),
            },
        })
    }

    fn rest(&self) -> &'a [u8] {
        self.input.get(self.walked..).unwrap_or_default()
    }

    fn byte(&mut self) -> Option<u8> {
        self.fixed::<1>().map(|[byte]| byte)
    }

    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = *self.rest().first_chunk()?;
        self.walked += N;
        Some(bytes)
    }

    fn number(&mut self) -> Result<Option<u64>, Flaw> {
        let Some((number, bytes)) = decode_number(self.rest())? else {
            // What follows must not be taken for it.
            self.input = &[];
            return Ok(None);
        };
        self.walked += bytes;
        Ok(Some(number))
    }

    /// A string that must be held.
    fn text(&mut self) -> Result<Option<Bytes>, Flaw> {
        let head = TextHead::decode(self.rest())?;
        let Some(head) = head else {
            self.input = &[];
            return Ok(None);
        };
        let whole = head.whole_bytes();
        if whole > STRING_BYTES_MAX {
            return Err(Flaw::TooLarge(whole));
        }
        let bytes = usize::try_from(whole).map_err(|_| Flaw::TooLarge(whole))?;
        let Some(input) = self.rest().get(..bytes) else {
            self.input = &[];
            return Ok(None);
        };
        let text = decode_text(input)?;
        self.walked += bytes;
        Ok(Some(Bytes::from(text.into_owned())))
    }

    /// Id of the type, when it is to be loaded (an unsigned number, told by its kind), the value.
    fn module_aux(&mut self) -> Result<Option<Found>, Flaw> {
        const KIND_UNSIGNED: u64 = 2;
        let (Some(id), Some(kind), Some(_)) = (self.number()?, self.number()?, self.number()?)
        else {
            return Ok(None);
        };
        if kind != KIND_UNSIGNED {
            return Err(Flaw::Value(
                "data of a module does not say when it is to be loaded",
            ));
        }
        // The rest is like a module's value behind its id. It is small: it is walked again from its
        // start when more of it has come.
        let mut walker = Walker::new(Form::Module, Wholes::ALL)?;
        let no_id = [0];
        walker.step(&no_id)?;
        loop {
            match walker.step(self.rest())? {
                None => return Ok(None),
                Some(step) if step.kind == Kind::End => break,
                Some(step) => self.walked += step.bytes,
            }
        }
        let module = module_name(id);
        Ok(Some(Found::Event(Event::ModuleAux { module })))
    }

    /// Name of the job, ranges of slots.
    fn slot_import(&mut self) -> Result<Option<Found>, Flaw> {
        let (Some(_), Some(ranges)) = (self.text()?, self.number()?) else {
            return Ok(None);
        };
        for _ in 0..ranges {
            let (Some(_), Some(_)) = (self.number()?, self.number()?) else {
                return Ok(None);
            };
        }
        Ok(Some(Found::Nothing))
    }
}

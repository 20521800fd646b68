//! Converts payloads to what a given server reads. A type byte that is not on that server's own list
//! never leaves this file: it would be refused, and Redis 6.0 exits over a module's value that it lacks
//! (seen).

use crate::check::check_value;
use crate::crc::crc64;
use crate::error::{Flaw, RdbError};
use crate::form::Form;
use crate::length::decode_number;
use crate::module_id::module_name;
use crate::payload::{FOOTER_BYTES, payload_rdb_version};
use crate::reencode::{FieldExpiry, ReencodeError, Reencoder};
use crate::rules::{Route, route};

/// What a server reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader {
    /// Its RDB version (see [`crate::rdb_version`]).
    pub rdb_version: u16,
    /// Which modules' values it may be sent.
    pub modules: Modules,
    /// What becomes of fields that expire where it does not know that.
    pub field_expiry: FieldExpiry,
}

/// Which modules' values a server may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modules {
    /// None: it has no modules, or would not survive one that it lacks (before Redis 6.2).
    None,
    /// Vector sets only, which Redis has built in since 8.0.
    VectorSets,
    /// It has modules, though their types cannot be asked for; one that it lacks it refuses.
    Any,
}

/// Why a value cannot go to a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A type byte that is not known here.
    #[error("its form (type byte {type_byte} of RDB version {version}) is newer than this program")]
    UnknownType {
        /// The type byte.
        type_byte: u8,
        /// The version in the footer.
        version: u16,
    },
    /// A type that the server has no form for.
    #[error("the target has no such type of key (type byte {0})")]
    NoForm(u8),
    /// A module's value.
    #[error("the target has no module for its type '{0}'")]
    Module(String),
    /// Fields that expire.
    #[error(
        "fields of the hash expire, which the target does not know: --accept-loss field-ttl keeps them for ever"
    )]
    FieldExpiry,
    /// The payload is no payload.
    #[error("its payload is damaged: {0}")]
    Damaged(RdbError),
}

/// What became of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Converted {
    /// The server reads it as it is; nothing was written.
    Unchanged,
    /// The server reads what was written.
    Written,
}

impl Reader {
    /// What becomes of values of this form, as far as the form alone can tell: a hash whose fields
    /// expire may be refused all the same.
    pub fn route(&self, form: Form, version: u16) -> Route {
        match (form, self.modules) {
            (Form::ModuleOld, _) | (Form::Module, Modules::None) => Route::Refuse,
            _ => route(form, version, self.rdb_version),
        }
    }

    /// Appends to `out` what this server reads, unless it reads the payload itself. Whatever is
    /// appended was looked into before: its checksum vouches for it.
    ///
    /// # Errors
    /// [`Refusal`]; `out` is as it was.
    pub fn convert(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<Converted, Refusal> {
        let (form, version, value) = open(payload)?;
        match self.route(form, version) {
            Route::Pass if form == Form::Module => {
                self.admit_module(value)?;
                Ok(Converted::Unchanged)
            }
            Route::Pass => Ok(Converted::Unchanged),
            _ => {
                verify_checksum(payload)?;
                check_value(form, value).map_err(Refusal::Damaged)?;
                self.encode(form, version, value, out)?;
                Ok(Converted::Written)
            }
        }
    }

    /// Appends the payload that this server reads of a value as it lies in an RDB of `version` behind
    /// its key. The value must have been looked into ([`check_value`]), or come from a server itself.
    ///
    /// # Errors
    /// [`Refusal`]; `out` is as it was.
    pub fn encode(
        &self,
        form: Form,
        version: u16,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let begin = out.len();
        let to = self.admit(form, version, value)?;
        out.push(to.type_byte());
        self.encode_value(form, to, value, out)
            .inspect_err(|_| out.truncate(begin))?;
        out.extend_from_slice(&self.rdb_version.to_le_bytes());
        let checksum = crc64(out.get(begin..).unwrap_or_default());
        out.extend_from_slice(&checksum.to_le_bytes());
        Ok(())
    }

    /// The form in which a value goes over. `value` may be cut short behind its first ten bytes.
    ///
    /// # Errors
    /// [`Refusal`]; a hash whose fields expire may be refused later all the same.
    pub fn admit(&self, form: Form, version: u16, value: &[u8]) -> Result<Form, Refusal> {
        if form == Form::Module {
            self.admit_module(value)?;
        }
        match self.route(form, version) {
            Route::Refuse => Err(Refusal::NoForm(form.type_byte())),
            Route::Pass | Route::Restamp => Ok(form),
            Route::Reencode(to) => Ok(to),
        }
    }

    /// Appends a value in the form that [`Reader::admit`] has named, as it lies in a file behind its
    /// key.
    ///
    /// # Errors
    /// [`Refusal`]; what was appended is of no use then.
    pub fn encode_value(
        &self,
        form: Form,
        to: Form,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        if form == to {
            out.extend_from_slice(value);
            return Ok(());
        }
        let damaged = |flaw: Flaw, offset| Refusal::Damaged(flaw.at(offset));
        let mut reencoder =
            Reencoder::new(form, to, self.field_expiry).map_err(|flaw| damaged(flaw, 0))?;
        let used = reencoder.push(value, out)?;
        match (reencoder.is_done(), used == value.len()) {
            (true, true) => Ok(()),
            (true, false) => Err(damaged(Flaw::Trailing, used as u64)),
            (false, _) => Err(damaged(Flaw::Truncated, value.len() as u64)),
        }
    }

    fn admit_module(&self, value: &[u8]) -> Result<(), Refusal> {
        const VECTOR_SETS: &str = "vectorset";
        let name = module_of(value).ok_or(Refusal::Damaged(Flaw::Truncated.at(0)))?;
        match self.modules {
            Modules::Any => Ok(()),
            Modules::VectorSets if name == VECTOR_SETS => Ok(()),
            _ => Err(Refusal::Module(name)),
        }
    }
}

impl From<ReencodeError> for Refusal {
    fn from(error: ReencodeError) -> Self {
        match error {
            ReencodeError::FieldExpiry => Self::FieldExpiry,
            ReencodeError::Flaw(flaw) => Self::Damaged(flaw.at(0)),
        }
    }
}

/// Form, version and value of a payload.
///
/// # Errors
/// [`Refusal::Damaged`], [`Refusal::UnknownType`].
pub fn open(payload: &[u8]) -> Result<(Form, u16, &[u8]), Refusal> {
    let truncated = || Refusal::Damaged(Flaw::Truncated.at(payload.len() as u64));
    let version = payload_rdb_version(payload).ok_or_else(truncated)?;
    let (type_byte, rest) = payload.split_first().ok_or_else(truncated)?;
    let value = rest.get(..rest.len().saturating_sub(FOOTER_BYTES));
    let value = value.unwrap_or_default();
    let form = Form::of(*type_byte, version).ok_or(Refusal::UnknownType {
        type_byte: *type_byte,
        version,
    })?;
    Ok((form, version, value))
}

/// Holds the checksum of a payload against its bytes; 0 means that none was made.
///
/// # Errors
/// [`Refusal::Damaged`].
pub fn verify_checksum(payload: &[u8]) -> Result<(), Refusal> {
    let Some((covered, checksum)) = payload.split_last_chunk::<8>() else {
        return Err(Refusal::Damaged(Flaw::Truncated.at(0)));
    };
    let (found, expected) = (crc64(covered), u64::from_le_bytes(*checksum));
    match expected == 0 || expected == found {
        true => Ok(()),
        false => {
            let flaw = Flaw::Checksum { found, expected };
            Err(Refusal::Damaged(flaw.at(covered.len() as u64)))
        }
    }
}

/// The name of the type of a module's value.
fn module_of(value: &[u8]) -> Option<String> {
    let (id, _) = decode_number(value).ok()??;
    Some(module_name(id))
}

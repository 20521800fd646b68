//! Writes RDB files as bytes: header, records, end mark, checksum. Whoever calls puts the bytes where they
//! belong and tells the checksum of what was written.

use crate::form::{Form, VALKEY_VERSION_FIRST};
use crate::header::Header;
use crate::length::encode_length;
use crate::opcode;
use crate::text::encode_text;

/// What stands in front of a record's value.
#[derive(Debug, Clone, Copy)]
pub struct RecordHead<'a> {
    /// Its name.
    pub key: &'a [u8],
    /// The form of its value.
    pub form: Form,
    /// Absolute Unix ms; `None`: does not expire.
    pub expire_at_ms: Option<i64>,
    /// Seconds since it was last used.
    pub idle_s: Option<u64>,
    /// How often it was used, as a logarithm.
    pub freq: Option<u8>,
}

/// Appends magic and version. Versions that can be written are in [`crate::WRITABLE_VERSIONS`].
pub fn encode_header(out: &mut Vec<u8>, version: u16) {
    out.extend_from_slice(Header { version }.to_string().as_bytes());
}

/// Appends something that the file says of itself. Servers pass over names they do not know.
pub fn encode_aux(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(opcode::AUX);
    encode_text(out, name);
    encode_text(out, value);
}

/// Appends a function library (RDB >= 10).
pub fn encode_function(out: &mut Vec<u8>, code: &[u8]) {
    out.push(opcode::FUNCTION);
    encode_text(out, code);
}

/// Appends the number of the db of all records that follow.
pub fn encode_db(out: &mut Vec<u8>, db: u32) {
    out.push(opcode::SELECTDB);
    encode_length(out, db.into());
}

/// Appends all of a record but its value, which must follow.
pub fn encode_record_head(out: &mut Vec<u8>, head: RecordHead<'_>) {
    if let Some(at) = head.expire_at_ms {
        out.push(opcode::EXPIRETIME_MS);
        out.extend_from_slice(&at.to_le_bytes());
    }
    if let Some(freq) = head.freq {
        out.extend_from_slice(&[opcode::FREQ, freq]);
    } else if let Some(idle_s) = head.idle_s {
        out.push(opcode::IDLE);
        encode_length(out, idle_s);
    }
    out.push(head.form.type_byte());
    encode_text(out, head.key);
}

/// The end mark, which the checksum covers.
pub const END_MARK: [u8; 1] = [opcode::EOF];

/// Whether functions have a place in files of this version.
pub fn holds_functions(version: u16) -> bool {
    version >= 10
}

/// Whether Valkey alone reads files of this version.
pub fn is_valkey_version(version: u16) -> bool {
    version >= VALKEY_VERSION_FIRST
}

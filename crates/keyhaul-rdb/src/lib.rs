//! The RDB and DUMP formats of Redis and Valkey, without I/O.

mod canonical;
mod check;
mod convert;
mod crc;
mod decoder;
mod elements;
mod encoder;
mod error;
mod form;
mod header;
mod key_type;
mod length;
mod lzf;
mod module_id;
mod opcode;
mod packed;
mod payload;
mod reencode;
mod rules;
mod same;
mod stream_id;
mod stream_node;
mod text;
mod vector_set;
mod versions;
mod walk;

pub use canonical::{Canonical, CanonicalReader, StreamDetail, canonical};
pub use check::{ValueChecker, check_value};
pub use convert::{Converted, Modules, Reader, Refusal, open, verify_checksum};
pub use crc::{Crc64, crc64};
pub use decoder::{Checksum, Decoder, Event, RawValue, Record, SmallRecord};
pub use elements::{Element, ElementReader, EntryFields, StreamFacts};
pub use encoder::{
    END_MARK, RecordHead, encode_aux, encode_db, encode_function, encode_header,
    encode_record_head, holds_functions, is_valkey_version,
};
pub use error::{Flaw, RdbError};
pub use form::Form;
pub use header::Header;
pub use key_type::KeyType;
pub use module_id::module_name;
pub use payload::{FOOTER_BYTES, payload_kind, payload_rdb_version, same_but_footer};
pub use reencode::{FieldExpiry, ReencodeError, Reencoder};
pub use rules::{
    Route, WRITABLE_VERSION_FIRST, WRITABLE_VERSIONS, reads_form, reads_version, route,
    written_forms,
};
pub use same::same_value;
pub use stream_id::StreamId;
pub use text::STRING_BYTES_MAX;
pub use versions::rdb_version;

//! The RDB and DUMP formats of Redis and Valkey, without I/O.

mod key_type;
mod payload;
mod versions;

pub use key_type::KeyType;
pub use payload::{FOOTER_BYTES, payload_kind, payload_rdb_version, same_but_footer};
pub use versions::rdb_version;

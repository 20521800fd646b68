//! What is known of one key: the unit that statistics are made of.

use keyhaul_rdb::KeyType;

/// What was found out about one key. What was not asked for, or cannot be known, is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts<'a> {
    /// The db of the source.
    pub db: u32,
    /// Its name.
    pub key: &'a [u8],
    /// Its type.
    pub key_type: Option<KeyType>,
    /// How the server keeps it (OBJECT ENCODING), or the encoding of an RDB file's record.
    pub encoding: Option<&'a str>,
    /// What it takes, bytes: MEMORY USAGE, or the length of its record in an RDB file.
    pub size_bytes: u64,
    /// Elements, fields, members, entries; bytes of a string.
    pub elements: Option<u64>,
    /// When it expires, Unix ms. `None`: never; or expiries were not asked for (told apart by what the report was
    /// asked for, not by the key).
    pub expire_at_ms: Option<i64>,
}

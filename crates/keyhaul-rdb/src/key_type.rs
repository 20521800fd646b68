//! The types of keys, as TYPE names them, and the RDB type bytes that hold them.

use std::fmt;
use std::str::FromStr;

/// A type of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are those of the data types")]
pub enum KeyType {
    String,
    List,
    Set,
    SortedSet,
    Hash,
    Stream,
    /// A module's type, and the vector sets of Redis 8.
    Module,
}

impl KeyType {
    /// The types that TYPE and SCAN TYPE name; a module's type has a name of its own.
    pub const NAMED: [Self; 6] = [
        Self::String,
        Self::List,
        Self::Set,
        Self::SortedSet,
        Self::Hash,
        Self::Stream,
    ];

    /// The type that an RDB type byte stands for; `None`: a byte of a version not known here.
    ///
    /// RDB 1 (Redis 1.0) to RDB 12 (Redis 8.2) and RDB 80 (Valkey 9). Type 22 is a hash in both
    /// families, though of another form.
    pub fn of_type_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::String),
            1 | 10 | 14 | 18 => Some(Self::List),
            2 | 11 | 20 => Some(Self::Set),
            3 | 5 | 12 | 17 => Some(Self::SortedSet),
            4 | 9 | 13 | 16 | 22..=25 => Some(Self::Hash),
            6 | 7 => Some(Self::Module),
            15 | 19 | 21 => Some(Self::Stream),
            _ => None,
        }
    }

    /// The name in the reply to TYPE and for SCAN TYPE.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::SortedSet => "zset",
            Self::Hash => "hash",
            Self::Stream => "stream",
            Self::Module => "module",
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown type '{0}': use string, list, set, zset, hash or stream")]
pub struct UnknownKeyType(String);

impl FromStr for KeyType {
    type Err = UnknownKeyType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.to_ascii_lowercase();
        let found = Self::NAMED
            .into_iter()
            .find(|key_type| key_type.name() == name);
        found.ok_or_else(|| UnknownKeyType(text.to_owned()))
    }
}

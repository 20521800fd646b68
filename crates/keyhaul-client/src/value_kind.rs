//! The types of values that can be read by element, and how long a server says that they are.

/// A type whose values can be read and written by element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// Its elements are bytes.
    String,
    /// Items, in order.
    List,
    /// Members.
    Set,
    /// Members with scores.
    SortedSet,
    /// Fields with values.
    Hash,
    /// Entries with ids, in order; groups.
    Stream,
}

impl ValueKind {
    /// From the answer to TYPE; `None`: there is no such key, or it is a module's.
    pub fn of_type_name(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"string" => Self::String,
            b"list" => Self::List,
            b"set" => Self::Set,
            b"zset" => Self::SortedSet,
            b"hash" => Self::Hash,
            b"stream" => Self::Stream,
            _ => return None,
        })
    }

    /// As TYPE names it.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::SortedSet => "zset",
            Self::Hash => "hash",
            Self::Stream => "stream",
        }
    }

    /// The command that tells how many elements a value has; bytes of a string.
    pub fn length_command(self) -> &'static [u8] {
        match self {
            Self::String => b"STRLEN",
            Self::List => b"LLEN",
            Self::Set => b"SCARD",
            Self::SortedSet => b"ZCARD",
            Self::Hash => b"HLEN",
            Self::Stream => b"XLEN",
        }
    }
}

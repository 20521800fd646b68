//! What can be wrong with bytes that should be RDB.

/// Bytes that are no RDB, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {flaw}")]
pub struct RdbError {
    /// Offset of the item in which the flaw lies: from the start of the file, or of the value.
    pub offset: u64,
    /// What is wrong.
    pub flaw: Flaw,
}

/// What is wrong with the bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// The bytes end inside of an item.
    #[error("it ends in the middle")]
    Truncated,
    /// There is more where nothing should be.
    #[error("there are bytes behind its end, as in an AOF that begins with an RDB")]
    Trailing,
    /// A file that does not begin like an RDB.
    #[error("it does not begin like an RDB file (REDIS or VALKEY and a version)")]
    Magic,
    /// A version that is not known to exist.
    #[error(
        "RDB version {0} is not known: it was written by a newer server than this program knows"
    )]
    Version(u16),
    /// An opcode or type that is not known in this version.
    #[error("type byte {0} is not known in RDB version {1}")]
    Type(u8, u16),
    /// A number that has no form of a length.
    #[error("byte {0:#04x} is no length")]
    Length(u8),
    /// A special encoding of strings that is not known.
    #[error("string encoding {0} is not known")]
    StringCoding(u8),
    /// A string or packed value that is longer than can be held.
    #[error("a part of {0} bytes is longer than any server takes")]
    TooLarge(u64),
    /// The checksum at the end differs.
    #[error("the checksum is {found:016x} and should be {expected:016x}")]
    Checksum {
        /// Of the bytes themselves.
        found: u64,
        /// As written at the end.
        expected: u64,
    },
    /// A string that is compressed by LZF.
    #[error("broken compressed string: {0}")]
    Lzf(&'static str),
    /// A listpack (RDB >= 9).
    #[error("broken listpack: {0}")]
    Listpack(&'static str),
    /// A ziplist (RDB 2 to 9).
    #[error("broken ziplist: {0}")]
    Ziplist(&'static str),
    /// A set of integers (RDB >= 2).
    #[error("broken intset: {0}")]
    Intset(&'static str),
    /// A zipmap (RDB <= 3).
    #[error("broken zipmap: {0}")]
    Zipmap(&'static str),
    /// A node of a stream.
    #[error("broken node of a stream: {0}")]
    StreamNode(&'static str),
    /// A value whose parts do not fit together.
    #[error("{0}")]
    Value(&'static str),
    /// A module's value in the form of Redis 4.0 release candidates, whose length cannot be told.
    #[error("a module's value in the form of a 4.0 release candidate cannot be read")]
    OldModule,
}

impl Flaw {
    /// This flaw at a place.
    pub(crate) fn at(self, offset: u64) -> RdbError {
        RdbError { offset, flaw: self }
    }
}

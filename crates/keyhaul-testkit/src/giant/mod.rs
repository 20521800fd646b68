//! Giant keys on a real server: one key of gigabytes, made in seconds, the same for the same seed; and
//! a check that two servers hold the same giant.
//!
//! Neither holds more than a few megabytes: [`Giant::fill`] sends the next elements while the server
//! takes the last ones, [`difference`] reads both sides window by window.

mod collection;
mod compare;
mod compare_stream;
mod elements;
mod pipe;
mod reply;
mod stream;
mod string;

#[cfg(test)]
mod tests;

use std::fmt;

use redis::{Connection, cmd};

pub use compare::{assert_same, difference};

use crate::Server;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
/// Elements that MEMORY USAGE looks at: lengths vary by a factor of five, so that the usual 5 would
/// be off by a third.
const MEMORY_SAMPLES: u32 = 1000;

/// What a giant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GiantKind {
    /// Fields of 22 bytes, values of 100 to 500.
    Hash,
    /// Members of 60 to 100 bytes; scores in random order, every third with as many digits as a
    /// double has.
    Zset,
    /// Elements of 100 to 500 bytes.
    List,
    /// Members of 100 to 500 bytes.
    Set,
    /// One string.
    Text,
    /// Entries of about 100 bytes, three groups, their consumers, and pending entries of which some
    /// are gone from the stream.
    Stream,
}

/// One key to be made. Bytes are random: nothing of it can be compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Giant {
    /// Its type.
    pub kind: GiantKind,
    /// Its name.
    pub key: String,
    /// What MEMORY USAGE is to show, to a few percent; for a string its length, exactly; for a
    /// stream 100 times the number of its entries.
    pub bytes: u64,
    /// The same seed gives the same elements, though not always as many: MEMORY USAGE is an
    /// estimate.
    pub seed: u64,
}

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// Fields, members, elements, entries; for a string its bytes.
    pub elements: u64,
    /// As MEMORY USAGE estimates it.
    pub memory_bytes: u64,
}

impl GiantKind {
    /// Every kind.
    pub const ALL: [GiantKind; 6] = [
        GiantKind::Hash,
        GiantKind::Zset,
        GiantKind::List,
        GiantKind::Set,
        GiantKind::Text,
        GiantKind::Stream,
    ];

    /// How large a giant of this kind is where giants are measured.
    pub fn giant_bytes(self) -> u64 {
        match self {
            GiantKind::Hash | GiantKind::Zset => 5 * GIB / 2,
            GiantKind::List | GiantKind::Set => GIB,
            GiantKind::Text => 900 * MIB,
            GiantKind::Stream => 5_000_000 * stream::ENTRY_BYTES,
        }
    }
}

/// As TYPE names it.
impl fmt::Display for GiantKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            GiantKind::Hash => "hash",
            GiantKind::Zset => "zset",
            GiantKind::List => "list",
            GiantKind::Set => "set",
            GiantKind::Text => "string",
            GiantKind::Stream => "stream",
        })
    }
}

impl Giant {
    /// A giant of so many bytes (see [`Giant::bytes`]), named after its kind.
    pub fn new(kind: GiantKind, bytes: u64) -> Giant {
        Giant {
            kind,
            key: format!("giant:{kind}"),
            bytes,
            seed: 4,
        }
    }

    /// Makes it in db 0 of a server that has no such key.
    ///
    /// A string longer than `proto-max-bulk-len` is refused by every command, so for its time the
    /// source's limit is raised; see [`take_strings_of`].
    ///
    /// # Panics
    /// If the server does not take it.
    pub fn fill(&self, server: &Server) -> Made {
        match self.kind {
            GiantKind::Text => string::fill(self, server),
            GiantKind::Stream => stream::fill(self, server),
            _ => collection::fill(self, server),
        };
        self.look(server)
    }

    /// What a server holds of it.
    ///
    /// # Panics
    /// If it holds no such key.
    pub fn look(&self, server: &Server) -> Made {
        let mut connection = server.client();
        let length = match self.kind {
            GiantKind::Hash => "HLEN",
            GiantKind::Zset => "ZCARD",
            GiantKind::List => "LLEN",
            GiantKind::Set => "SCARD",
            GiantKind::Text => "STRLEN",
            GiantKind::Stream => "XLEN",
        };
        Made {
            elements: cmd(length)
                .arg(&self.key)
                .query(&mut connection)
                .expect("the key has this type"),
            memory_bytes: memory_usage(&mut connection, &self.key).expect("the key is there"),
        }
    }
}

/// Lets a server hold strings of so many bytes. It never lowers the limit.
///
/// The limit, `proto-max-bulk-len`, is 512 MB unless set. It bounds each argument, so SET and the
/// payload of RESTORE, and the length that APPEND, SETRANGE and SETBIT may come to: no command makes a
/// longer string, but for a RESTORE whose payload is compressed below the limit (Redis 7.0, Valkey
/// 8.0; the tests of this module show it). So a target needs it raised for as long as the source's
/// longest string.
pub fn take_strings_of(bytes: u64, server: &Server) {
    let limit = string::bulk_limit(&mut server.client());
    if limit < bytes {
        string::set_bulk_limit(&mut server.client(), bytes);
    }
}

/// None where there is no such key.
fn memory_usage(connection: &mut Connection, key: &str) -> Option<u64> {
    cmd("MEMORY")
        .arg("USAGE")
        .arg(key)
        .arg("SAMPLES")
        .arg(MEMORY_SAMPLES)
        .query(connection)
        .expect("MEMORY USAGE is answered")
}

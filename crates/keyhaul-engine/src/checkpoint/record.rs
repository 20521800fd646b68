//! The lines of a journal: one JSON object each, ended by a line feed.
//!
//! ```text
//! {"keyhaul_journal":1,"source":"..","target":"..","options":"..","began_at_ms":..}    first line
//! {"is":"position","at_ms":..,"of_target":false,"node_id":"..","process":"..","db":0,"cursor":17,"keys_done":..}
//! {"is":"big","big":0,"db":0,"key":"<hex>","memory_bytes":..}                    numbers a key
//! {"is":"mark","big":0,"elements":..,"digest":"<32 hex>","last_id":null,"generation":0}
//! {"is":"reset","big":0}
//! {"is":"done","big":0}
//! {"is":"not_moved","db":0,"key":"<hex>","reason":".."}
//! {"is":"stats","state":{..}}                                                    takes the place of the one before
//! {"is":"open","of_target":false,"db":0,"key":"<hex>"}                           of a comparison
//! {"is":"target_was_empty"}                                                      of a job that follows its source
//! {"is":"settled","of_target":false,"db":0,"key":"<hex>","keys_done":..}
//! ```
//!
//! A kind of line that an older keyhaul cannot read needs a new [`VERSION`].

use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{BigKey, JobIdentity, Mark, NotMovedRecord, OpenKey, ScanPosition};

/// The format that is written, and the newest that is read.
pub(super) const VERSION: u64 = 1;

/// The longest line, bytes: a name of 512 MB (the longest that a server takes by default) in hex, and
/// what stands around it.
pub(super) const LINE_BYTES_MAX: u64 = 2 * 512 * 1024 * 1024 + 1024 * 1024;

/// Only the version, which every format has.
#[derive(Debug, Deserialize)]
pub(super) struct Version {
    pub keyhaul_journal: u64,
}

/// The first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Header {
    pub keyhaul_journal: u64,
    #[serde(flatten)]
    pub identity: JobIdentity,
    /// When the job was begun, Unix time.
    pub began_at_ms: i64,
}

/// Any other line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(super) enum Record {
    Position {
        at_ms: i64,
        #[serde(flatten)]
        position: ScanPosition,
        keys_done: u64,
    },
    Big {
        big: u64,
        #[serde(flatten)]
        key: BigKey,
    },
    Mark {
        big: u64,
        #[serde(flatten)]
        mark: Mark,
    },
    Reset {
        big: u64,
    },
    Done {
        big: u64,
    },
    NotMoved(NotMovedRecord),
    Open(OpenKey),
    Settled {
        #[serde(flatten)]
        key: OpenKey,
        keys_done: u64,
    },
    Target {
        target: String,
    },
    TargetWasEmpty,
    Stats {
        state: serde_json::Value,
    },
    Anew,
}

/// A line with its end.
///
/// # Errors
/// It would be longer than [`LINE_BYTES_MAX`].
pub(super) fn line(content: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(content)?;
    line.push(b'\n');
    match line.len() as u64 <= LINE_BYTES_MAX {
        true => Ok(line),
        false => Err(io::Error::other("the name of a key is too long for it")),
    }
}

/// Names of keys as hexadecimal digits: they are no UTF-8.
pub(super) mod hex_bytes {
    use super::{Bytes, Deserialize};
    use serde::de::Error;

    pub(in super::super) fn serialize<S: serde::Serializer>(
        bytes: &Bytes,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
        let text: String = bytes
            .iter()
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 0x0f)])
            .collect();
        serializer.serialize_str(&text)
    }

    pub(in super::super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        decode(text.as_bytes()).ok_or_else(|| D::Error::custom("no pairs of hexadecimal digits"))
    }

    fn decode(text: &[u8]) -> Option<Bytes> {
        let (pairs, rest) = text.as_chunks::<2>();
        if !rest.is_empty() {
            return None;
        }
        let nibble = |digit: u8| char::from(digit).to_digit(16);
        let byte = |[high, low]: &[u8; 2]| u8::try_from(nibble(*high)? << 4 | nibble(*low)?).ok();
        pairs
            .iter()
            .map(byte)
            .collect::<Option<Vec<u8>>>()
            .map(Bytes::from)
    }
}

/// Digests as 32 hexadecimal digits: a JSON number of that length is not read everywhere.
pub(super) mod hex_digest {
    use super::Deserialize;
    use serde::de::Error;

    pub(in super::super) fn serialize<S: serde::Serializer>(
        digest: &u128,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{digest:032x}"))
    }

    pub(in super::super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_hex = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let digest = u128::from_str_radix(&text, 16).ok().filter(|_| is_hex);
        digest.ok_or_else(|| D::Error::custom("no 32 hexadecimal digits"))
    }
}

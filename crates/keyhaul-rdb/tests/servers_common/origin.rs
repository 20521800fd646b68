//! The payloads of the fixtures with the truth about each, by the server that wrote them.

use std::collections::{BTreeMap, HashMap};

use keyhaul_testkit::Version;
use keyhaul_testkit::truth::Name;

use super::Truth;
use crate::common::{decode, fixtures, payloads};

/// What one server had.
pub(crate) struct Origin {
    /// The fixtures' folder: family and full version.
    pub(crate) folder: String,
    /// The version of the table that has these forms; a point release stands for its version.
    pub(crate) version: Version,
    pub(crate) keys: Vec<Key>,
    pub(crate) truth: Truth,
    /// The source code of its function libraries.
    pub(crate) functions: Vec<Vec<u8>>,
}

/// A key as its server dumped it.
pub(crate) struct Key {
    pub(crate) db: u32,
    pub(crate) name: Vec<u8>,
    /// As a truth has it.
    pub(crate) escaped: String,
    pub(crate) type_name: String,
    pub(crate) payload: Vec<u8>,
    /// 0: does not expire.
    pub(crate) expire_at_ms: i64,
}

impl Key {
    pub(crate) fn is_vector_set(&self) -> bool {
        self.type_name == "vectorset"
    }
}

impl Origin {
    /// The expiry times of all keys, for servers that do not tell them.
    pub(crate) fn expiries(&self) -> HashMap<Name, i64> {
        let keys = self.keys.iter().filter(|key| key.expire_at_ms > 0);
        keys.map(|key| ((key.db, key.name.clone()), key.expire_at_ms))
            .collect()
    }
}

/// All of them, oldest first.
pub(crate) fn origins() -> Vec<Origin> {
    let mut origins: BTreeMap<String, Origin> = BTreeMap::new();
    for fixture in fixtures() {
        let Some(folder) = fixture.name.strip_suffix("/dump.rdb") else {
            continue;
        };
        let file = decode(&fixture.bytes, 4096, usize::MAX).unwrap();
        let origin = Origin {
            folder: folder.to_owned(),
            version: version_of(folder),
            keys: Vec::new(),
            truth: Truth::parse(fixture.truth.as_deref().unwrap()),
            functions: file.functions.iter().map(|code| code.to_vec()).collect(),
        };
        origins.insert(fixture.name.clone(), origin);
    }
    for payload in payloads() {
        let origin = origins.get_mut(&payload.file).unwrap();
        let expire_at_ms = origin.truth.expire_at_ms(payload.db, &payload.key);
        origin.keys.push(Key {
            db: payload.db,
            name: unescaped(&payload.key),
            escaped: payload.key,
            type_name: payload.type_name,
            payload: payload.bytes,
            expire_at_ms,
        });
    }
    origins.into_values().collect()
}

/// 8.0.2 and 8.0.6 are two entries of the table of versions, which names no point releases.
fn version_of(folder: &str) -> Version {
    let newest = folder == "redis-8.0.6";
    let minor = folder.rsplit_once('.').map_or(folder, |(minor, _)| minor);
    let mut all = Version::ALL.into_iter();
    match newest {
        true => Version::REDIS_8_0_NEWEST,
        false => all.find(|version| version.to_string() == minor).unwrap(),
    }
}

fn unescaped(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, behind @ ..] = rest {
        let (byte, used) = match (first, behind) {
            (b'\\', [b'x', high, low, ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).unwrap();
                (u8::from_str_radix(digits, 16).unwrap(), 4)
            }
            (b'\\', _) => (b'\\', 2),
            (byte, _) => (*byte, 1),
        };
        bytes.push(byte);
        rest = &rest[used..];
    }
    bytes
}

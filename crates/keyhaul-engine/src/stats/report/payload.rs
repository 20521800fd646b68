//! What the payload of a key is likely to take, from its memory: nobody has to read the value for that.
//!
//! A server keeps more than the data: each key has an entry and an object; each element of a hash table an entry, its
//! share of the table and a length; each member of a skip list a node as well. How much differs between versions
//! (seen: 21 to 47 bytes for a member of a set, 37 to 59 for a field, 53 to 85 for a member of a sorted set), so that these are
//! middle values. Packed encodings hold little but the data. Where a payload is compressed (LZF) it is smaller.
//!
//! Against DUMP of Redis 6.2 to 8.2 and Valkey 8.0 and 9.1: within a quarter for strings, packed encodings and elements
//! of 40 bytes and more; up to twice or half for large collections of tiny elements.

use keyhaul_rdb::KeyType;

use super::options::SizeKind;
use crate::stats::KeyFacts;

/// The dictionary's entry, the object, the length before the name and the allocator's rounding.
const OF_KEY_BYTES: u64 = 48;
/// Version and checksum behind each payload (DUMP), the type byte and a length.
const FOOTER_BYTES: u64 = 12;
/// Of a member of a set in a hash table.
const OF_MEMBER_BYTES: u64 = 32;
/// Of a field and its value in a hash table.
const OF_FIELD_BYTES: u64 = 44;
/// Of a member of a skip list, less the 8 bytes of its score.
const OF_SCORED_BYTES: u64 = 66;
/// Whatever was estimated, the data is more than memory divided by this.
const SHARE_OF_MEMORY_MIN: u64 = 5;

/// Bytes that DUMP is likely to return.
pub(super) fn payload_bytes(facts: &KeyFacts<'_>, size_kind: SizeKind) -> u64 {
    let size_bytes = facts.size_bytes;
    if size_kind == SizeKind::Record {
        return size_bytes;
    }
    if let (Some(KeyType::String), Some(length)) = (facts.key_type, facts.elements) {
        return length.saturating_add(FOOTER_BYTES);
    }
    let of_element = match (facts.key_type, facts.encoding) {
        (Some(KeyType::Hash), Some("hashtable")) => OF_FIELD_BYTES,
        (Some(KeyType::Set), Some("hashtable")) => OF_MEMBER_BYTES,
        (Some(KeyType::SortedSet), Some("skiplist")) => OF_SCORED_BYTES,
        _ => 0,
    };
    let beside = OF_KEY_BYTES
        .saturating_add(facts.key.len() as u64)
        .saturating_add(of_element.saturating_mul(facts.elements.unwrap_or(0)));
    size_bytes
        .saturating_sub(beside)
        .max(size_bytes / SHARE_OF_MEMORY_MIN)
        .saturating_add(FOOTER_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What servers said, without compression: type, encoding, elements, MEMORY USAGE with `SAMPLES 0`, length of DUMP.
    /// Names are 20 bytes long.
    type Row = (KeyType, &'static str, u64, u64, u64);

    #[rustfmt::skip]
    const SMALL_OVERHEAD: [Row; 20] = [
        (KeyType::String, "embstr", 10, 88, 22),
        (KeyType::String, "raw", 1000, 1096, 1013),
        (KeyType::List, "quicklist", 5000, 111_264, 110_152),  // Redis 7.0
        (KeyType::Set, "intset", 500, 2120, 2021),
        (KeyType::Set, "hashtable", 1000, 80_320, 41_013),
        (KeyType::Hash, "listpack", 10, 296, 230),
        (KeyType::Hash, "hashtable", 1000, 160_320, 111_903),
        (KeyType::SortedSet, "listpack", 10, 456, 350),
        (KeyType::Stream, "stream", 100, 4304, 3785),           // Valkey 9.1
        (KeyType::Set, "hashtable", 1000, 74_176, 41_013),
        (KeyType::Hash, "hashtable", 1000, 153_928, 111_903),
        (KeyType::Set, "listpack", 10, 176, 140),
        (KeyType::SortedSet, "listpack", 10, 432, 341),
        (KeyType::SortedSet, "skiplist", 1000, 103_280, 49_013),
        (KeyType::List, "listpack", 10, 304, 242),              // Redis 8.2
        (KeyType::Hash, "listpack", 10, 272, 230),
        (KeyType::Hash, "hashtable", 1000, 160_296, 111_903),
        (KeyType::SortedSet, "skiplist", 1000, 119_016, 49_013),
        (KeyType::Hash, "ziplist", 10, 285, 234),               // Redis 6.2
        (KeyType::SortedSet, "ziplist", 10, 405, 354),
    ];

    #[rustfmt::skip]
    const LARGE_OVERHEAD: [Row; 10] = [
        (KeyType::Set, "hashtable", 1000, 48_320, 11_013),      // Redis 7.0
        (KeyType::Hash, "hashtable", 1000, 64_320, 20_903),
        (KeyType::SortedSet, "skiplist", 1000, 102_128, 19_013),
        (KeyType::Set, "hashtable", 1000, 30_168, 11_013),      // Valkey 8.0
        (KeyType::SortedSet, "skiplist", 1000, 102_664, 19_013),
        (KeyType::Set, "hashtable", 1000, 42_176, 11_013),      // Valkey 9.1
        (KeyType::Hash, "hashtable", 1000, 57_928, 20_903),
        (KeyType::SortedSet, "skiplist", 1000, 71_872, 19_013),
        (KeyType::Hash, "hashtable", 1000, 80_384, 20_903),     // Redis 6.2
        (KeyType::SortedSet, "skiplist", 1000, 86_912, 19_013), // Redis 8.2
    ];

    fn estimate((key_type, encoding, elements, size_bytes, _): Row, size_kind: SizeKind) -> u64 {
        let facts = KeyFacts {
            db: 0,
            key: &[b'k'; 20],
            key_type: Some(key_type),
            encoding: Some(encoding),
            size_bytes,
            elements: Some(elements),
            expire_at_ms: None,
        };
        payload_bytes(&facts, size_kind)
    }

    #[test]
    fn what_servers_said() {
        let off = |row: Row| estimate(row, SizeKind::Memory) as f64 / row.4 as f64;
        for row in SMALL_OVERHEAD {
            assert!((0.75..=1.27).contains(&off(row)), "{row:?}: {}", off(row));
        }
        for row in LARGE_OVERHEAD {
            assert!((0.5..=2.0).contains(&off(row)), "{row:?}: {}", off(row));
        }
        for row in SMALL_OVERHEAD {
            assert_eq!(estimate(row, SizeKind::Record), row.3);
        }
    }
}

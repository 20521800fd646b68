//! What the payload of a key is likely to take, from its memory: nobody has to read the value for that.
//!
//! What a server keeps beside the data, 64-bit Redis 6 to 8 and Valkey 8 (`dict.c`, `t_zset.c`, `sds.h` name the
//! structures): each key has an entry and an object; each element of a hash table an entry, its share of the
//! table, and its text with a length before it; each member of a skip list also a node. Packed encodings hold little
//! but the data. Compression by the server (LZF) is not seen, so that payloads of compressible values are smaller.

use keyhaul_rdb::KeyType;

use super::options::SizeKind;
use crate::stats::KeyFacts;

/// The dictionary's entry, the object, the length before the name and the allocator's rounding.
const OF_KEY_BYTES: u64 = 56;
/// Version and checksum behind each payload (DUMP), the type byte and a length.
const FOOTER_BYTES: u64 = 12;
/// Of a hash table: the entry, its share of the table, a length and the rounding of a text.
const OF_ENTRY_BYTES: u64 = 40;
/// The second text of a field.
const OF_VALUE_BYTES: u64 = 8;
/// Of a skip list: the node; its score goes over as 8 bytes.
const OF_NODE_BYTES: u64 = 40;

/// Bytes that DUMP is likely to return.
pub(super) fn payload_bytes(facts: &KeyFacts<'_>, size_kind: SizeKind) -> u64 {
    let size_bytes = facts.size_bytes;
    if size_kind == SizeKind::Record {
        return size_bytes;
    }
    let elements = facts.elements.unwrap_or(0);
    if facts.key_type == Some(KeyType::String) && facts.elements.is_some() {
        return elements.saturating_add(FOOTER_BYTES);
    }
    let of_element = match (facts.key_type, facts.encoding) {
        (Some(KeyType::Hash), Some("hashtable")) => OF_ENTRY_BYTES + OF_VALUE_BYTES,
        (Some(KeyType::Set), Some("hashtable")) => OF_ENTRY_BYTES,
        (Some(KeyType::SortedSet), Some("skiplist")) => OF_ENTRY_BYTES + OF_NODE_BYTES,
        _ => 0,
    };
    let name_bytes = facts.key.len() as u64;
    let beside = OF_KEY_BYTES
        .saturating_add(name_bytes)
        .saturating_add(of_element.saturating_mul(elements));
    // Whatever was estimated, an element takes two bytes at least.
    size_bytes
        .saturating_sub(beside)
        .max(elements.saturating_mul(2).min(size_bytes))
        .saturating_add(FOOTER_BYTES)
}

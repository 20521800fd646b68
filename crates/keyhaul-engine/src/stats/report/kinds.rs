//! What keys of each type and encoding hold.

use std::collections::BTreeMap;

use keyhaul_rdb::KeyType;
use serde::{Deserialize, Serialize};

use super::histogram::{Histogram, Scale, Spread};
use super::options::ReportOptions;
use super::payload::payload_bytes;
use super::sum::Sum;
use super::top::{BigKey, Top};
use crate::stats::KeyFacts;

/// The types, and one for keys whose type is not known.
pub(super) const KINDS: usize = 8;
/// Most encodings of a type that are told apart; further ones count as [`OTHER`].
const ENCODINGS_MAX: usize = 32;
const ENCODING_CHARS_MAX: usize = 64;
/// What is not told apart.
const OTHER: &str = "(other)";

/// The place of a type.
pub(super) fn kind_of(key_type: Option<KeyType>) -> usize {
    match key_type {
        Some(KeyType::String) => 0,
        Some(KeyType::List) => 1,
        Some(KeyType::Set) => 2,
        Some(KeyType::SortedSet) => 3,
        Some(KeyType::Hash) => 4,
        Some(KeyType::Stream) => 5,
        Some(KeyType::Module) => 6,
        _ => 7,
    }
}

/// The name of a type by its place.
pub(super) fn kind_name(kind: usize) -> &'static str {
    match kind {
        6 => KeyType::Module.name(),
        _ => KeyType::NAMED
            .get(kind)
            .map_or("unknown", |named| named.name()),
    }
}

/// One type while its keys are counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kind {
    sizes: Histogram,
    counts: Histogram,
    payload_bytes: u64,
    without_expiry: Sum,
    encodings: BTreeMap<String, Sum>,
    by_size: Top,
    by_elements: Top,
}

/// What keys of a type hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeRow {
    /// `string`, `list`, `set`, `zset`, `hash`, `stream`, `module`, `unknown`.
    #[serde(rename = "type")]
    pub type_name: String,
    /// How many, and what they take.
    #[serde(flatten)]
    pub sum: Sum,
    /// Elements of all; bytes of strings. Of those keys for which it was asked, see `spread_of_elements.keys`.
    pub elements: u64,
    /// Likely bytes of their payloads (DUMP).
    pub payload_bytes: u64,
    /// Keys that stay; `None`: expiries were not read.
    pub without_expiry: Option<Sum>,
    /// By encoding, the largest first.
    pub encodings: Vec<EncodingRow>,
    /// What single keys take.
    pub spread_of_bytes: Spread,
    /// Elements of single keys; bytes of a string.
    pub spread_of_elements: Spread,
    /// The keys that take most, the largest first.
    pub biggest_by_bytes: Vec<BigKey>,
    /// The keys with most elements, the largest first.
    pub biggest_by_elements: Vec<BigKey>,
}

/// What keys of an encoding hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodingRow {
    /// As the server names it; `(other)` for further ones of more than 32.
    pub encoding: String,
    /// How many, and what they take.
    #[serde(flatten)]
    pub sum: Sum,
}

impl Kind {
    pub(super) fn new(options: &ReportOptions, kind: usize) -> Self {
        let of_elements = if kind == kind_of(Some(KeyType::String)) {
            Scale::Bytes
        } else {
            Scale::Count
        };
        Self {
            sizes: Histogram::new(Scale::Bytes),
            counts: Histogram::new(of_elements),
            payload_bytes: 0,
            without_expiry: Sum::default(),
            encodings: BTreeMap::new(),
            by_size: Top::new(options.top_max()),
            by_elements: Top::new(options.top_max()),
        }
    }

    pub(super) fn take(&mut self, kind: usize, facts: &KeyFacts<'_>, options: &ReportOptions) {
        let size_bytes = facts.size_bytes;
        self.sizes.take(size_bytes, size_bytes);
        let payload_bytes = payload_bytes(facts, options.size_kind);
        self.payload_bytes = self.payload_bytes.saturating_add(payload_bytes);
        if facts.expire_at_ms.is_none() {
            self.without_expiry.take(size_bytes);
        }
        if let Some(encoding) = facts.encoding {
            let mut sum = Sum::default();
            sum.take(size_bytes);
            self.add_encoding(encoding, sum);
        }
        self.by_size.take(size_bytes, kind, facts);
        if let Some(elements) = facts.elements {
            self.counts.take(elements, size_bytes);
            self.by_elements.take(elements, kind, facts);
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.sizes.merge(&other.sizes);
        self.counts.merge(&other.counts);
        self.payload_bytes = self.payload_bytes.saturating_add(other.payload_bytes);
        self.without_expiry.add(other.without_expiry);
        for (encoding, sum) in other.encodings {
            self.add_encoding(&encoding, sum);
        }
        self.by_size.merge(other.by_size);
        self.by_elements.merge(other.by_elements);
    }

    fn add_encoding(&mut self, encoding: &str, sum: Sum) {
        let end = encoding.char_indices().nth(ENCODING_CHARS_MAX);
        let name = end
            .and_then(|(at, _)| encoding.get(..at))
            .unwrap_or(encoding);
        if let Some(known) = self.encodings.get_mut(name) {
            known.add(sum);
            return;
        }
        let is_full = self.encodings.len() >= ENCODINGS_MAX;
        let name = if is_full { OTHER } else { name };
        self.encodings.entry(name.to_owned()).or_default().add(sum);
    }

    /// What all keys of the type hold; `None` without any.
    pub(super) fn row(&self, kind: usize, options: &ReportOptions) -> Option<TypeRow> {
        let (spread_of_bytes, spread_of_elements) = (self.sizes.spread(), self.counts.spread());
        let sum = Sum {
            keys: spread_of_bytes.keys,
            bytes: spread_of_bytes.sum,
        };
        (sum.keys > 0).then(|| TypeRow {
            type_name: kind_name(kind).into(),
            sum,
            elements: spread_of_elements.sum,
            payload_bytes: self.payload_bytes,
            without_expiry: options.has_expiries.then_some(self.without_expiry),
            encodings: self.encoding_rows(),
            spread_of_bytes,
            spread_of_elements,
            biggest_by_bytes: self.by_size.keys(kind_name),
            biggest_by_elements: self.by_elements.keys(kind_name),
        })
    }

    fn encoding_rows(&self) -> Vec<EncodingRow> {
        let rows = self.encodings.iter().map(|(name, sum)| EncodingRow {
            encoding: name.clone(),
            sum: *sum,
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.sum.bytes, row.sum.keys)));
        rows
    }

    /// What its keys take, for the histogram of all types.
    pub(super) fn sizes(&self) -> &Histogram {
        &self.sizes
    }
}

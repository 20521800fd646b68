//! A report on a keyspace: everything that one pass over the keys tells, in bounded memory. No I/O and no clock.
//!
//! ```text
//!              ┌─► dbs
//!              ├─► kinds ─────► sizes, elements (histogram), encodings, biggest (top), payload
//!  KeyFacts ───┼─► expiry ────► ttls (histogram)
//!              ├─► chunked ───► largest (top)
//!              ├─► prefixes ──► tree, folded where it grows too large
//!              └─► slots ─────► shards
//! ```
//!
//! All sums are exact. What is not: percentiles (`histogram.rs`), what small prefixes hold where there are more than
//! fit (`prefixes.rs`), and payloads, which are estimated (`payload.rs`).
//!
//! A builder takes about 10 MB at most.

mod collector;
mod found;
mod histogram;
mod kinds;
mod latin1;
mod options;
mod payload;
mod prefix_rows;
mod prefixes;
mod slots;
mod sum;
mod top;

#[cfg(test)]
mod tests;

use std::array;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use found::{About, Chunked, DbRow, Expiry, REPORT_SCHEMA, Report, Totals};
pub use keyhaul_rdb::KeyType;

pub use histogram::{Spread, SpreadRow};
pub use kinds::{EncodingRow, TypeRow};
pub use options::{
    PREFIX_DEPTH, PREFIX_DEPTH_MAX, PREFIX_WIDTH, ReportOptions, SHARDS, SizeKind, TOP, TOP_MAX,
};
pub use prefix_rows::PrefixRow;
pub use slots::{ShardRow, SlotRow};
pub use sum::Sum;
pub use top::BigKey;

use histogram::{Histogram, Scale};
use kinds::{KINDS, Kind, kind_name, kind_of};
use prefixes::Prefixes;
use slots::SlotSums;
use top::Top;

use super::KeyFacts;

/// Most dbs that are told apart.
const DBS_MAX: usize = 4096;
/// Most keys above the chunk threshold that are listed.
const CHUNKED_MAX: usize = 1000;

/// A report while keys are still coming in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportBuilder {
    options: ReportOptions,
    dbs: BTreeMap<u32, Group>,
    /// Of further dbs.
    dbs_other: Group,
    kinds: [Kind; KINDS],
    expiring: Sum,
    past: Sum,
    ttls: Histogram,
    chunked: Sum,
    chunked_largest: Top,
    prefixes: Prefixes,
    slots: SlotSums,
}

/// Keys that are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Group {
    sum: Sum,
    without_expiry: Sum,
}

impl ReportBuilder {
    /// Without a key yet.
    pub fn new(options: ReportOptions) -> Self {
        Self {
            dbs: BTreeMap::new(),
            dbs_other: Group::default(),
            kinds: array::from_fn(|kind| Kind::new(&options, kind)),
            expiring: Sum::default(),
            past: Sum::default(),
            ttls: Histogram::new(Scale::Time),
            chunked: Sum::default(),
            chunked_largest: Top::new(CHUNKED_MAX),
            prefixes: Prefixes::new(&options.separator, options.prefix_depth),
            slots: SlotSums::new(),
            options,
        }
    }

    /// Counts a key.
    pub fn take(&mut self, facts: &KeyFacts<'_>) {
        let size_bytes = facts.size_bytes;
        let kind = kind_of(facts.key_type);
        self.kinds[kind].take(kind, facts, &self.options);
        let group = self.group(facts.db);
        group.sum.take(size_bytes);
        if facts.expire_at_ms.is_none() {
            group.without_expiry.take(size_bytes);
        }
        if let Some(expire_at_ms) = facts.expire_at_ms {
            self.take_expiry(expire_at_ms, size_bytes);
        }
        if size_bytes > self.options.chunk_threshold && facts.key_type != Some(KeyType::Module) {
            self.chunked.take(size_bytes);
            self.chunked_largest.take(size_bytes, kind, facts);
        }
        self.prefixes.take(facts.key, size_bytes);
        self.slots.take(facts.key, size_bytes);
    }

    fn take_expiry(&mut self, expire_at_ms: i64, size_bytes: u64) {
        let ttl_ms = expire_at_ms.saturating_sub(self.options.now_ms);
        self.expiring.take(size_bytes);
        if ttl_ms <= 0 {
            self.past.take(size_bytes);
        }
        self.ttls
            .take(u64::try_from(ttl_ms).unwrap_or(0), size_bytes);
    }

    fn group(&mut self, db: u32) -> &mut Group {
        if self.dbs.len() >= DBS_MAX && !self.dbs.contains_key(&db) {
            return &mut self.dbs_other;
        }
        self.dbs.entry(db).or_default()
    }

    /// All that has been counted so far as text, to go on from later: a few megabytes, where the tree of prefixes is
    /// as large as it gets.
    pub fn to_text(&self) -> String {
        // Every key of every map in it is a text or a number, and nothing in it fails to be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Goes on from a text of [`Self::to_text`]. TTLs go on being counted from the moment of the earlier run. `None`: it
    /// is none, or was asked for something else.
    pub fn of_text(text: &str, options: &ReportOptions) -> Option<Self> {
        let builder: Self = serde_json::from_str(text).ok()?;
        let asked = ReportOptions {
            now_ms: builder.options.now_ms,
            ..options.clone()
        };
        (builder.options == asked).then_some(builder)
    }

    /// Adds what another has counted, that was asked for the same.
    pub fn merge(&mut self, other: Self) {
        for (db, more) in other.dbs {
            self.group(db).add(more);
        }
        self.dbs_other.add(other.dbs_other);
        for (kind, more) in self.kinds.iter_mut().zip(other.kinds) {
            kind.merge(more);
        }
        self.expiring.add(other.expiring);
        self.past.add(other.past);
        self.ttls.merge(&other.ttls);
        self.chunked.add(other.chunked);
        self.chunked_largest.merge(other.chunked_largest);
        self.prefixes.merge(other.prefixes);
        self.slots.merge(&other.slots);
    }

    /// The report on all keys that were counted. Who has it fills in [`Report::about`].
    pub fn finish(self) -> Report {
        let mut sizes = Histogram::new(Scale::Bytes);
        self.kinds.iter().for_each(|kind| sizes.merge(kind.sizes()));
        let kinds = self.kinds.iter().enumerate();
        let types: Vec<TypeRow> = kinds
            .filter_map(|(kind, counted)| counted.row(kind, &self.options))
            .collect();
        let slots = self.slots.rows();
        Report {
            schema: REPORT_SCHEMA,
            about: About::default(),
            totals: totals(&types),
            expiry: self.expiry(),
            dbs: self.db_rows(),
            types,
            spread_of_bytes: sizes.spread(),
            chunked: Chunked {
                threshold: self.options.chunk_threshold,
                sum: self.chunked,
                largest: self.chunked_largest.keys(kind_name),
            },
            prefixes: prefix_rows::rows(&self.prefixes, self.options.prefix_width),
            shards: slots::shards(&slots, self.options.shard_split()),
            slots,
            options: self.options,
        }
    }

    fn expiry(&self) -> Option<Expiry> {
        let mut without = self.dbs_other.without_expiry;
        self.dbs
            .values()
            .for_each(|group| without.add(group.without_expiry));
        self.options.has_expiries.then(|| Expiry {
            without,
            with: self.expiring,
            past: self.past,
            spread_of_ttl_ms: self.ttls.spread(),
        })
    }

    fn db_rows(&self) -> Vec<DbRow> {
        let further = (self.dbs_other.sum.keys > 0).then_some((None, &self.dbs_other));
        let dbs = self.dbs.iter().map(|(db, group)| (Some(*db), group));
        dbs.chain(further)
            .map(|(db, group)| DbRow {
                db,
                sum: group.sum,
                without_expiry: self.options.has_expiries.then_some(group.without_expiry),
            })
            .collect()
    }
}

impl Group {
    fn add(&mut self, more: Self) {
        self.sum.add(more.sum);
        self.without_expiry.add(more.without_expiry);
    }
}

fn totals(types: &[TypeRow]) -> Totals {
    let mut totals = Totals::default();
    for row in types {
        totals.sum.add(row.sum);
        totals.payload_bytes = totals.payload_bytes.saturating_add(row.payload_bytes);
        if row.type_name != KeyType::String.name() {
            totals.elements = totals.elements.saturating_add(row.elements);
        }
    }
    totals
}

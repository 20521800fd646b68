//! The report: what was found, for programs and for pages. docs/guide/analyse.md describes it; adding a field? also
//! describe it there.

use serde::{Deserialize, Serialize};

use super::histogram::Spread;
use super::kinds::TypeRow;
use super::options::ReportOptions;
use super::prefix_rows::PrefixRow;
use super::slots::{ShardRow, SlotRow};
use super::sum::Sum;
use super::top::BigKey;

/// The number of the schema; grows when a field goes or changes its meaning, not when one is added.
pub const REPORT_SCHEMA: u32 = 1;

/// The report. The order of the fields is that of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_SCHEMA`].
    pub schema: u32,
    /// Where it comes from; empty until who wrote it fills it in.
    pub about: About,
    /// What it was asked for.
    pub options: ReportOptions,
    /// All keys.
    pub totals: Totals,
    /// `None`: expiries were not read.
    pub expiry: Option<Expiry>,
    /// By db, ascending.
    pub dbs: Vec<DbRow>,
    /// By type, those that have keys.
    pub types: Vec<TypeRow>,
    /// What single keys take, all types.
    pub spread_of_bytes: Spread,
    /// Keys that would go over element by element.
    pub chunked: Chunked,
    /// The tree of prefixes; its root holds all keys.
    pub prefixes: PrefixRow,
    /// The shards that the slots would be split into, all of them.
    pub shards: Vec<ShardRow>,
    /// The slots that hold something, ascending.
    pub slots: Vec<SlotRow>,
}

/// Where a report comes from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct About {
    /// The version of keyhaul.
    pub keyhaul: String,
    /// The source, without credentials.
    pub source: String,
    /// How long the pass took.
    pub seconds: f64,
    /// What happened on the way.
    pub remarks: Vec<String>,
}

/// All keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// How many, and what they take.
    #[serde(flatten)]
    pub sum: Sum,
    /// Elements of all keys that have some: strings have none here.
    pub elements: u64,
    /// Likely bytes of all payloads (DUMP).
    pub payload_bytes: u64,
}

/// When keys go by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// Keys that stay.
    pub without: Sum,
    /// Keys that go at some time.
    pub with: Sum,
    /// Of those, the ones whose time had come when the pass began.
    pub past: Sum,
    /// How long those with an expiry have left, ms; 0 where the time had come.
    pub spread_of_ttl_ms: Spread,
}

/// A db.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DbRow {
    /// Its number; `None`: all further ones of more than 4096 together.
    pub db: Option<u32>,
    /// What it holds.
    #[serde(flatten)]
    pub sum: Sum,
    /// Keys that stay; `None`: expiries were not read.
    pub without_expiry: Option<Sum>,
}

/// Keys above the chunk threshold, of types that can go over element by element.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunked {
    /// Above this many bytes.
    pub threshold: u64,
    /// All of them.
    #[serde(flatten)]
    pub sum: Sum,
    /// The largest first, 1000 at most.
    pub largest: Vec<BigKey>,
}

//! What a report is asked for.

use keyhaul_client::SLOT_COUNT;
use serde::{Deserialize, Serialize};

use crate::options::CHUNK_THRESHOLD;
use crate::stats::ShardSplit;

/// Default of [`ReportOptions::prefix_depth`].
pub const PREFIX_DEPTH: usize = 6;
/// Most of [`ReportOptions::prefix_depth`]; a larger number counts as this one.
pub const PREFIX_DEPTH_MAX: usize = 16;
/// Default of [`ReportOptions::prefix_width`].
pub const PREFIX_WIDTH: usize = 20;
/// Default of [`ReportOptions::top`].
pub const TOP: usize = 20;
/// Most of [`ReportOptions::top`]; a larger number counts as this one.
pub const TOP_MAX: usize = 1000;
/// Default of [`ReportOptions::shards`].
pub const SHARDS: u32 = 100;

/// What a report is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportOptions {
    /// What the sizes are.
    pub size_kind: SizeKind,
    /// Whether expiries were read; if not, the report does not speak of them.
    pub has_expiries: bool,
    /// The moment that TTLs are counted from, Unix ms.
    pub now_ms: i64,
    /// What stands between the parts of a name; empty: names have no parts.
    pub separator: String,
    /// How many parts of a name the prefix tree goes down.
    pub prefix_depth: usize,
    /// How many children a prefix shows, the largest; what the others hold is added up.
    pub prefix_width: usize,
    /// How many keys each list of the biggest holds.
    pub top: usize,
    /// Above this many bytes a key would go over element by element.
    pub chunk_threshold: u64,
    /// How many shards the slots are split into; 1..=16384, nearest where it is not.
    pub shards: u32,
}

/// What the size of a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SizeKind {
    /// Memory on the server, MEMORY USAGE.
    Memory,
    /// The length of its record in an RDB file.
    Record,
}

impl ReportOptions {
    /// The defaults, for sizes of this kind and TTLs counted from this moment, Unix ms.
    pub fn new(size_kind: SizeKind, now_ms: i64) -> Self {
        Self {
            size_kind,
            has_expiries: true,
            now_ms,
            separator: ":".into(),
            prefix_depth: PREFIX_DEPTH,
            prefix_width: PREFIX_WIDTH,
            top: TOP,
            chunk_threshold: CHUNK_THRESHOLD,
            shards: SHARDS,
        }
    }

    /// How many keys each list holds.
    pub(super) fn top_max(&self) -> usize {
        self.top.min(TOP_MAX)
    }

    /// How the slots are split.
    pub(super) fn shard_split(&self) -> ShardSplit {
        let count = self.shards.clamp(1, SLOT_COUNT as u32);
        ShardSplit::new(count).expect("1 to 16384")
    }
}

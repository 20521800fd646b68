//! What is remembered about keys in bounded memory, and statistics over all of them.
//!
//! [`job`](StatsJob) tells it: `servers` and `node` read the keys of servers over a `link`, `records` those of RDB files,
//! `fold` hands them to a [`Collector`] and writes down how far that is. [`MemKeys`], [`SlotSums`] and
//! [`report::ReportBuilder`] are collectors.

mod collector;
mod fold;
mod job;
mod kept;
mod key_facts;
mod key_text;
mod link;
mod mem_keys;
mod node;
mod not_moved;
mod options;
mod records;
mod row_file;
mod servers;
mod shards;
mod slot_sums;

pub mod report;

pub use collector::{Collector, ReadAgain};
pub use job::StatsJob;
pub use kept::Kept;
pub use key_facts::KeyFacts;
pub use key_text::key_text;
pub use mem_keys::{MemKey, MemKeys, ROWS_REMEMBERED_MAX, TellRows};
pub use not_moved::{NotMoved, NotMovedKey, NotMovedList, Tried};
pub use options::{StatsOptions, StatsReceipt, Wanted};
pub use shards::ShardSplit;
pub use slot_sums::{ShardRow, SlotSums};

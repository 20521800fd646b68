//! What each hash slot holds, and what shards would hold that share the slots.

use keyhaul_client::{SLOT_COUNT, Slot};
use serde::{Deserialize, Serialize};

use super::sum::Sum;
use crate::stats::ShardSplit;

/// Sums of the 16384 slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SlotSums(Vec<Sum>);

/// What a slot holds, in JSON `[slot, keys, bytes]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u16, u64, u64)", into = "(u16, u64, u64)")]
pub struct SlotRow {
    /// 0..=16383.
    pub slot: u16,
    /// What it holds.
    pub sum: Sum,
}

/// What a shard holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRow {
    /// Its number, from 0.
    pub shard: u32,
    /// Its first slot.
    pub slot_start: u16,
    /// Its last slot.
    pub slot_end: u16,
    /// What it holds.
    #[serde(flatten)]
    pub sum: Sum,
}

impl SlotSums {
    pub(super) fn new() -> Self {
        Self(vec![Sum::default(); SLOT_COUNT])
    }

    pub(super) fn take(&mut self, key: &[u8], size_bytes: u64) {
        if let Some(sum) = self.0.get_mut(Slot::of_key(key).index()) {
            sum.take(size_bytes);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(&other.0) {
            sum.add(*more);
        }
    }

    /// The slots that hold something, ascending.
    pub(super) fn rows(&self) -> Vec<SlotRow> {
        let slots = (0..).zip(&self.0).filter(|(_, sum)| sum.keys > 0);
        slots
            .map(|(slot, sum)| SlotRow { slot, sum: *sum })
            .collect()
    }
}

/// What each shard holds, also those that hold nothing.
pub(super) fn shards(slots: &[SlotRow], split: ShardSplit) -> Vec<ShardRow> {
    // Both are numbers of slots, and so below 16384.
    let slot = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
    let mut shards: Vec<ShardRow> = (0_u32..)
        .zip(0..split.count())
        .map(|(number, shard)| {
            let (first, last) = split.slots_of(shard);
            ShardRow {
                shard: number,
                slot_start: slot(first),
                slot_end: slot(last),
                sum: Sum::default(),
            }
        })
        .collect();
    for row in slots {
        let shard = Slot::new(row.slot.into()).map(|slot| split.shard_of(slot));
        if let Some(shard) = shard.and_then(|shard| shards.get_mut(shard)) {
            shard.sum.add(row.sum);
        }
    }
    shards
}

impl From<(u16, u64, u64)> for SlotRow {
    fn from((slot, keys, bytes): (u16, u64, u64)) -> Self {
        Self {
            slot,
            sum: Sum { keys, bytes },
        }
    }
}

impl From<SlotRow> for (u16, u64, u64) {
    fn from(row: SlotRow) -> Self {
        (row.slot, row.sum.keys, row.sum.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_hold_what_their_slots_hold() {
        let one_each: Vec<SlotRow> = (0..16384)
            .map(|slot| SlotRow::from((slot, 1, 10)))
            .collect();
        for (count, index, (start, end)) in [
            (140, 0, (0, 116)),
            (140, 105, (12285, 12401)),
            (140, 139, (16263, 16383)),
            (1, 0, (0, 16383)),
            (16384, 16383, (16383, 16383)),
        ] {
            let shards = shards(&one_each, ShardSplit::new(count).unwrap());
            let shard = shards[index];
            assert_eq!((shard.slot_start, shard.slot_end), (start, end), "{count}");
            assert_eq!(shard.sum.keys, u64::from(end - start) + 1);
            assert_eq!(shards.iter().map(|s| s.sum.bytes).sum::<u64>(), 163_840);
        }
    }
}

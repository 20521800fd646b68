//! How the slots of a cluster are split into shards of the same number of slots.

use keyhaul_client::{SLOT_COUNT, Slot};

/// Each shard has as many slots, and the last one those that are left over as well. 140 shards: 0..=116, 117..=233,
/// ..., and the last one 16263..=16383.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardSplit {
    count: usize,
}

impl ShardSplit {
    /// `None` unless there are 1 to 16384 shards.
    pub fn new(count: u32) -> Option<Self> {
        let count = usize::try_from(count).ok()?;
        (1..=SLOT_COUNT).contains(&count).then_some(Self { count })
    }

    /// How many shards there are.
    pub fn count(self) -> usize {
        self.count
    }

    /// The shard of a slot, from 0.
    pub fn shard_of(self, slot: Slot) -> usize {
        (slot.index() / self.slots_each()).min(self.count - 1)
    }

    /// The first and the last slot of a shard, from 0.
    pub fn slots_of(self, shard: usize) -> (usize, usize) {
        let first = shard * self.slots_each();
        match shard + 1 >= self.count {
            true => (first, SLOT_COUNT - 1),
            false => (first, first + self.slots_each() - 1),
        }
    }

    fn slots_each(self) -> usize {
        SLOT_COUNT / self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_slots_are_split() {
        for (count, shard, slots) in [
            (140, 0, (0, 116)),
            (140, 1, (117, 233)),
            (140, 105, (12285, 12401)),
            (140, 138, (16146, 16262)),
            (140, 139, (16263, 16383)),
            (1, 0, (0, 16383)),
            (3, 2, (10922, 16383)),
            (100, 99, (16137, 16383)),
            (16384, 16383, (16383, 16383)),
        ] {
            assert_eq!(ShardSplit::new(count).unwrap().slots_of(shard), slots);
        }
        assert_eq!((ShardSplit::new(0), ShardSplit::new(16385)), (None, None));
    }

    #[test]
    fn every_slot_has_the_shard_that_says_so() {
        for count in [1, 2, 3, 100, 140, 5461, 10_000, 16_384] {
            let split = ShardSplit::new(count).unwrap();
            let mut shards = std::collections::BTreeSet::new();
            for number in 0..16_384 {
                let shard = split.shard_of(Slot::new(number).unwrap());
                let (first, last) = split.slots_of(shard);
                assert!(
                    (first..=last).contains(&(number as usize)),
                    "{count} {number}"
                );
                shards.insert(shard);
            }
            assert_eq!(shards.len(), split.count());
        }
    }
}

//! What the keys of each slot take together, and the shards that would share the slots.

use keyhaul_client::{SLOT_COUNT, Slot};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::stats::{Collector, KeyFacts, ReadAgain, ShardSplit};

/// Sums of bytes by slot. Also of keys that are in no cluster: what one would make of them.
#[derive(Debug)]
pub struct SlotSums(Sums);

#[derive(Debug, Serialize, Deserialize)]
struct Sums {
    /// Of the dbs before.
    past: Vec<u64>,
    /// The db that is being read, which may have to be read again, and its sums.
    db: Option<u32>,
    current: Vec<u64>,
}

/// What a shard holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardRow {
    /// Its number, from 0.
    pub shard: usize,
    /// Its first slot.
    pub slot_start: usize,
    /// Its last slot.
    pub slot_end: usize,
    /// What its keys take, bytes.
    pub size_bytes: u64,
}

impl Default for SlotSums {
    fn default() -> Self {
        Self(Sums {
            past: vec![0; SLOT_COUNT],
            db: None,
            current: vec![0; SLOT_COUNT],
        })
    }
}

impl SlotSums {
    /// The shards that hold something, in their order.
    pub fn shards(&self, split: ShardSplit) -> Vec<ShardRow> {
        let mut sums = vec![0_u64; split.count()];
        for (number, (past, current)) in (0..).zip(self.0.past.iter().zip(&self.0.current)) {
            let shard = Slot::new(number).map(|slot| split.shard_of(slot));
            if let Some(sum) = shard.and_then(|shard| sums.get_mut(shard)) {
                *sum = sum.saturating_add(*past).saturating_add(*current);
            }
        }
        let held = sums.into_iter().enumerate().filter(|(_, bytes)| *bytes > 0);
        let row = |(shard, size_bytes)| {
            let (slot_start, slot_end) = split.slots_of(shard);
            ShardRow {
                shard,
                slot_start,
                slot_end,
                size_bytes,
            }
        };
        held.map(row).collect()
    }
}

impl Sums {
    /// From here on keys of this db are taken in. Dbs come one after the other.
    fn enter(&mut self, db: u32) {
        if self.db == Some(db) {
            return;
        }
        for (past, current) in self.past.iter_mut().zip(&mut self.current) {
            *past = past.saturating_add(std::mem::take(current));
        }
        self.db = Some(db);
    }
}

impl Collector for SlotSums {
    fn take(&mut self, facts: &KeyFacts<'_>) {
        self.0.enter(facts.db);
        if let Some(sum) = self.0.current.get_mut(Slot::of_key(facts.key).index()) {
            *sum = sum.saturating_add(facts.size_bytes);
        }
    }

    fn can_take_back(&self) -> bool {
        true
    }

    /// Of a single db only what is taken in now: one that came before is never read again alone.
    fn take_back(&mut self, again: &ReadAgain) {
        let Sums { past, db, current } = &mut self.0;
        let is_current = again.db.is_none() || again.db == *db;
        for slot in again.slots.iter().map(Slot::index) {
            if let (true, Some(sum)) = (is_current, current.get_mut(slot)) {
                *sum = 0;
            }
            if let (None, Some(sum)) = (again.db, past.get_mut(slot)) {
                *sum = 0;
            }
        }
    }

    fn state(&mut self) -> Option<Value> {
        serde_json::to_value(&self.0).ok()
    }

    fn go_on_from(&mut self, state: &Value) -> std::io::Result<bool> {
        let Ok(sums) = Sums::deserialize(state) else {
            return Ok(false);
        };
        let fits = sums.past.len() == SLOT_COUNT && sums.current.len() == SLOT_COUNT;
        if fits {
            self.0 = sums;
        }
        Ok(fits)
    }
}

#[cfg(test)]
mod tests {
    use keyhaul_client::SlotSet;

    use super::*;

    fn take(sums: &mut SlotSums, db: u32, key: &[u8], size_bytes: u64) {
        sums.take(&KeyFacts {
            db,
            key,
            key_type: None,
            encoding: None,
            size_bytes,
            elements: None,
            expire_at_ms: None,
        });
    }

    /// Slot and bytes.
    fn slots(sums: &SlotSums) -> Vec<(usize, u64)> {
        let rows = sums.shards(ShardSplit::new(16_384).unwrap());
        rows.iter()
            .map(|row| (row.slot_start, row.size_bytes))
            .collect()
    }

    #[test]
    fn what_is_read_again_counts_once() {
        // Slots as CLUSTER KEYSLOT says: foo 12182, bar 5061.
        let mut sums = SlotSums::default();
        take(&mut sums, 0, b"foo", 100);
        take(&mut sums, 0, b"x{foo}", 10);
        take(&mut sums, 3, b"foo", 1);
        take(&mut sums, 3, b"bar", 7);
        assert_eq!(slots(&sums), [(5061, 7), (12182, 111)]);
        // Of the db at hand.
        let mut foo = SlotSet::empty();
        foo.insert(Slot::of_key(b"foo"));
        let again = |db, slots: &SlotSet| ReadAgain {
            db,
            slots: slots.clone(),
        };
        sums.take_back(&again(Some(3), &foo));
        assert_eq!(slots(&sums), [(5061, 7), (12182, 110)]);
        sums.take_back(&again(Some(4), &SlotSet::all()));
        assert_eq!(slots(&sums), [(5061, 7), (12182, 110)]);
        // Of all.
        sums.take_back(&again(None, &foo));
        assert_eq!(slots(&sums), [(5061, 7)]);
    }

    #[test]
    fn goes_on_from_what_was_written_down() {
        let mut sums = SlotSums::default();
        take(&mut sums, 0, b"foo", u64::MAX);
        take(&mut sums, 1, b"bar", 2);
        let state = sums.state().unwrap();
        let mut later = SlotSums::default();
        assert!(later.go_on_from(&state).unwrap());
        take(&mut later, 1, b"bar", 3);
        take(&mut later, 1, b"foo", 3);
        assert_eq!(slots(&later), [(5061, 5), (12182, u64::MAX)]);
        for useless in [
            Value::Null,
            serde_json::json!({"past": [], "db": null, "current": []}),
        ] {
            assert!(!later.go_on_from(&useless).unwrap());
        }
    }
}

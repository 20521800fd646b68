//! The keys above a size: each is told once, as it is found.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::stats::row_file::RowFile;
use crate::stats::{Collector, KeyFacts};

/// So many rows are remembered, to tell none twice; 17 bytes each in a table of twice as many at most.
pub const ROWS_REMEMBERED_MAX: usize = 1_800_000;

/// A key above the limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemKey {
    /// Its db.
    pub db: u32,
    /// Its name.
    pub key: Bytes,
    /// What it takes.
    pub size_bytes: u64,
}

/// Takes rows as they are found; may block.
pub type TellRows = Box<dyn FnMut(&[MemKey]) -> io::Result<()> + Send>;

/// Finds the keys above a size.
pub struct MemKeys {
    limit_bytes: u64,
    tell: TellRows,
    /// Found, and not told yet.
    found: Vec<MemKey>,
    /// Digests of those that were told, as far as there is room.
    told: HashSet<u128>,
    seed: u64,
    rows: u64,
    dbs: HashSet<u32>,
    /// Where they are kept for a later run.
    kept: Option<RowFile>,
}

impl MemKeys {
    /// Of the keys that take more than `limit_bytes`.
    pub fn new(limit_bytes: u64, tell: TellRows) -> Self {
        Self {
            limit_bytes,
            tell,
            found: Vec::new(),
            told: HashSet::new(),
            seed: RandomState::new().hash_one(0),
            rows: 0,
            dbs: HashSet::new(),
            kept: None,
        }
    }

    /// How many rows were told.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How many dbs they are of.
    pub fn dbs(&self) -> usize {
        self.dbs.len()
    }

    /// Whether there were more rows than are remembered: a key that was found twice may stand twice.
    pub fn may_repeat(&self) -> bool {
        self.told.len() >= ROWS_REMEMBERED_MAX
    }

    /// Whether a key was not told yet, as far as that is known.
    fn is_new(&mut self, db: u32, key: &[u8]) -> bool {
        let digest = xxh3_128_with_seed(key, self.seed ^ u64::from(db));
        match self.told.len() < ROWS_REMEMBERED_MAX {
            true => self.told.insert(digest),
            false => !self.told.contains(&digest),
        }
    }

    fn count(&mut self, db: u32) {
        self.rows += 1;
        self.dbs.insert(db);
    }
}

impl Collector for MemKeys {
    fn take(&mut self, facts: &KeyFacts<'_>) {
        if facts.size_bytes > self.limit_bytes && self.is_new(facts.db, facts.key) {
            self.count(facts.db);
            self.found.push(MemKey {
                db: facts.db,
                key: Bytes::copy_from_slice(facts.key),
                size_bytes: facts.size_bytes,
            });
        }
    }

    fn settle(&mut self) -> io::Result<()> {
        if self.found.is_empty() {
            return Ok(());
        }
        if let Some(kept) = &mut self.kept {
            kept.push(&self.found);
        }
        let told = (self.tell)(&self.found);
        self.found.clear();
        told
    }

    /// What was told stays told, and is not told again.
    fn can_take_back(&self) -> bool {
        true
    }

    fn keep_in(&mut self, path: PathBuf) {
        self.kept = Some(RowFile::new(path));
    }

    fn state(&mut self) -> Option<Value> {
        serde_json::to_value(self.kept.as_mut()?.flushed()?).ok()
    }

    /// Tells what the earlier run found.
    fn go_on_from(&mut self, state: &Value) -> io::Result<bool> {
        let Some(kept) = self.kept.take() else {
            return Ok(false);
        };
        let Some((kept, earlier)) = kept.go_on_from(state) else {
            return Ok(false);
        };
        for rows in earlier {
            let rows = rows?;
            for row in &rows {
                self.is_new(row.db, &row.key);
                self.count(row.db);
            }
            (self.tell)(&rows)?;
        }
        self.kept = Some(kept);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn take(keys: &mut MemKeys, db: u32, key: &[u8], size_bytes: u64) {
        keys.take(&KeyFacts {
            db,
            key,
            key_type: None,
            encoding: None,
            size_bytes,
            elements: None,
            expire_at_ms: None,
        });
    }

    fn told() -> (Arc<Mutex<Vec<MemKey>>>, TellRows) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let rows = told.clone();
        let tell = move |found: &[MemKey]| {
            rows.lock().unwrap().extend_from_slice(found);
            Ok(())
        };
        (told, Box::new(tell))
    }

    #[test]
    fn a_key_above_the_limit_is_told_once() {
        let (rows, tell) = told();
        let mut keys = MemKeys::new(100, tell);
        for (db, key, bytes) in [
            (0, &b"a"[..], 101),
            (0, b"b", 100),
            (0, b"a", 150),
            (1, b"a", 101),
        ] {
            take(&mut keys, db, key, bytes);
            keys.settle().unwrap();
        }
        let rows = rows.lock().unwrap();
        let rows: Vec<_> = rows
            .iter()
            .map(|r| (r.db, &r.key[..], r.size_bytes))
            .collect();
        assert_eq!(rows, [(0, &b"a"[..], 101), (1, b"a", 101)]);
        assert_eq!((keys.rows(), keys.dbs(), keys.may_repeat()), (2, 2, false));
        assert_eq!(keys.state(), None);
    }

    #[test]
    fn an_earlier_run_is_gone_on_from() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.rows");
        let key = |n: u32| [&n.to_le_bytes()[..], b"\xff\n,"].concat();
        let state = {
            let mut keys = MemKeys::new(0, told().1);
            keys.keep_in(path.clone());
            for n in 0..3000 {
                take(&mut keys, n % 3, &key(n), u64::from(n) + 1);
                keys.settle().unwrap();
            }
            let state = keys.state().unwrap();
            // Found after that, and so found again.
            take(&mut keys, 0, b"lost", 9);
            keys.settle().unwrap();
            keys.state().unwrap();
            state
        };
        let (rows, tell) = told();
        let mut keys = MemKeys::new(0, tell);
        keys.keep_in(path.clone());
        assert!(keys.go_on_from(&state).unwrap());
        take(&mut keys, 1, &key(1), 7);
        take(&mut keys, 0, b"lost", 9);
        keys.settle().unwrap();
        let rows = rows.lock().unwrap().clone();
        assert_eq!((rows.len(), keys.rows()), (3001, 3001));
        for (n, row) in (0..3000).zip(&rows) {
            assert_eq!((row.db, &row.key[..]), (n % 3, &key(n)[..]));
            assert_eq!(row.size_bytes, u64::from(n) + 1);
        }
        assert_eq!(&rows[3000].key[..], b"lost");
        let state = keys.state().unwrap();
        drop(keys);

        // What was damaged meanwhile is of no use.
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let (rows, tell) = told();
        let mut keys = MemKeys::new(0, tell);
        keys.keep_in(path);
        assert!(!keys.go_on_from(&state).unwrap());
        assert!(rows.lock().unwrap().is_empty());
    }
}

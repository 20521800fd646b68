//! Which db of the target the keys of a db of the source go to.

use std::collections::BTreeMap;

/// Source db -> target db; what is not named keeps its number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DbMap(BTreeMap<u32, u32>);

impl DbMap {
    /// Sends `source_db` to `target_db`; returns where it went before, if it was named already.
    pub fn insert(&mut self, source_db: u32, target_db: u32) -> Option<u32> {
        self.0.insert(source_db, target_db)
    }

    /// The db of the target for a db of the source.
    pub fn target_db(&self, source_db: u32) -> u32 {
        self.0.get(&source_db).copied().unwrap_or(source_db)
    }

    /// Whether this db was named.
    pub fn names(&self, source_db: u32) -> bool {
        self.0.contains_key(&source_db)
    }

    /// All that was named, by source db.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.0.iter().map(|(source, target)| (*source, *target))
    }

    /// Of these dbs of the source, the ones below `source_db` that share its target db.
    pub fn sharing<'a>(&'a self, source_db: u32, dbs: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
        let target = self.target_db(source_db);
        dbs.iter()
            .copied()
            .filter(move |db| *db < source_db && self.target_db(*db) == target)
    }
}

//! The way back from a name on the target: which keys of the source could have it.

use std::sync::Arc;

use bytes::Bytes;

use crate::transform::{DbMap, KeyFilter, PrefixRename, renamed};

/// The rules of a job, read backwards.
#[derive(Debug, Clone)]
pub(crate) struct Origins {
    pub filter: Arc<KeyFilter>,
    pub db_map: DbMap,
    pub renames: Vec<PrefixRename>,
    /// The dbs of the source that go over; `None`: all.
    pub dbs: Option<Vec<u32>>,
}

impl Origins {
    /// The names on the source that become this one; the one that is taken first where several are there: one that stays
    /// as it is before one that is replaced, and then by their order.
    pub(crate) fn names(&self, target_name: &Bytes) -> Vec<Bytes> {
        let mut names = vec![target_name.clone()];
        for rename in &self.renames {
            if let Some(rest) = target_name.strip_prefix(rename.replacement()) {
                names.push([rename.old(), rest].concat().into());
            }
        }
        names.retain(|name| {
            let becomes = renamed(&self.renames, name);
            becomes.as_ref().unwrap_or(name) == target_name && self.filter.takes_name(name)
        });
        names.sort_by_key(|name| (name != target_name, name.clone()));
        names.dedup();
        names
    }

    /// The dbs of the source that go to this one, in the order in which they are taken.
    pub(crate) fn dbs(&self, target_db: u32) -> Vec<u32> {
        let named = self.db_map.iter().filter(|(_, to)| *to == target_db);
        let mut dbs: Vec<u32> = named.map(|(from, _)| from).collect();
        if !self.db_map.names(target_db) {
            dbs.push(target_db);
        }
        dbs.retain(|db| self.dbs.as_ref().is_none_or(|chosen| chosen.contains(db)));
        dbs.sort_unstable();
        dbs
    }

    /// All keys that become this one, the one that is taken first where several are there.
    pub(crate) fn keys(&self, target_db: u32, target_name: &Bytes) -> Vec<(u32, Bytes)> {
        let names = self.names(target_name);
        let of_db = |db: u32| names.iter().map(move |name| (db, name.clone()));
        self.dbs(target_db).into_iter().flat_map(of_db).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::CopyOptions;

    #[test]
    fn what_could_have_a_name() {
        let mut db_map = DbMap::default();
        db_map.insert(3, 0);
        db_map.insert(1, 7);
        let mut origins = Origins {
            filter: Arc::new(KeyFilter::new(&CopyOptions::default())),
            db_map,
            renames: vec![PrefixRename::new(b"a:", b"b:")],
            dbs: None,
        };
        let shown = |origins: &Origins, db, name: &'static str| -> Vec<String> {
            let keys = origins.keys(db, &Bytes::from_static(name.as_bytes()));
            let text = |(db, name): (u32, Bytes)| format!("{db} {}", name.escape_ascii());
            keys.into_iter().map(text).collect()
        };
        assert_eq!(
            shown(&origins, 0, "b:1"),
            ["0 b:1", "0 a:1", "3 b:1", "3 a:1"]
        );
        assert_eq!(shown(&origins, 7, "x"), ["1 x", "7 x"]);
        assert_eq!(shown(&origins, 2, "a:1"), Vec::<String>::new());
        assert_eq!(shown(&origins, 1, "x"), Vec::<String>::new());
        origins.dbs = Some(vec![3]);
        assert_eq!(shown(&origins, 0, "y"), ["3 y"]);
    }
}

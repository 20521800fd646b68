//! Decides which of the keys that SCAN returned are read at all: name, slot, size, and whether two
//! keys of the source would become one on the target.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use keyhaul_client::{ClientError, KeyLook, Mode, ReadConnection, ServerError, Slot, SlotSet};
use tokio::sync::Mutex;

use crate::bigkey::queue::BigQueue;
use crate::checkpoint::BigKey;
use crate::compare::Lookup;
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::prepare::{SizeRules, SizeVerdict};
use crate::progress::Progress;
use crate::site::Site;
use crate::stats::key_text;
use crate::transform::{DbMap, KeyFilter, PrefixRename, renamed};

/// The rules, and the books for what they leave out.
#[derive(Debug, Clone)]
pub(crate) struct Sieve {
    pub filter: Arc<KeyFilter>,
    /// What becomes of keys by their MEMORY USAGE. `None`: it makes no difference for any, and is not asked
    /// for.
    pub sizes: Option<SizeSieve>,
    /// How names and dbs change, to find keys that would fall together. `None`: not looked for.
    pub collisions: Option<Arc<Collisions>>,
    pub ledger: Arc<Ledger>,
}

/// What becomes of keys by size.
#[derive(Debug, Clone)]
pub(crate) struct SizeSieve {
    pub rules: SizeRules,
    /// Where keys go that are not read whole; `None`: all are.
    pub queue: Option<Arc<BigQueue>>,
}

/// What is needed to find two source keys with one name on the target.
#[derive(Debug)]
pub(crate) struct Collisions {
    pub db_map: DbMap,
    pub renames: Vec<PrefixRename>,
    /// All dbs that go over.
    pub dbs: Vec<u32>,
    /// The source; a new name may lie on another node of it.
    pub site: Arc<Site>,
    /// The way to the other nodes.
    pub lookup: Mutex<Lookup>,
}

impl Sieve {
    /// One by name alone.
    pub(crate) fn by_name(filter: Arc<KeyFilter>, ledger: Arc<Ledger>) -> Self {
        Self {
            filter,
            sizes: None,
            collisions: None,
            ledger,
        }
    }

    /// The keys that are to be read. What is left out for size or collision is listed.
    ///
    /// # Errors
    /// Those of the connection.
    pub(crate) async fn sift(
        &self,
        connection: &mut ReadConnection,
        db: u32,
        mut keys: Vec<Bytes>,
        slots: Option<&SlotSet>,
    ) -> Result<Vec<Bytes>, ClientError> {
        keys.retain(|key| self.filter.takes_name(key));
        if let Some(slots) = slots {
            keys.retain(|key| slots.contains(Slot::of_key(key)));
        }
        let mut big = HashMap::new();
        if let (Some(sieve), false) = (&self.sizes, keys.is_empty()) {
            let sizes = connection.memory_usage(&keys).await?;
            let mut sizes = sizes.into_iter();
            keys.retain(|key| {
                let size = sizes.next().unwrap_or(0);
                match sieve.rules.judge(size) {
                    SizeVerdict::Whole => return true,
                    SizeVerdict::Ignore => return false,
                    SizeVerdict::Big if sieve.queue.is_some() => {
                        big.insert(key.clone(), size);
                        return true;
                    }
                    SizeVerdict::Big | SizeVerdict::Refuse => {}
                }
                let limit = sieve.rules.limit();
                let reason = format!("{size} bytes of memory are above the limit of {limit}");
                self.ledger.not_moved(db, key, reason);
                false
            });
        }
        if let Some(collisions) = &self.collisions {
            keys = collisions
                .sift(&self.filter, &self.ledger, connection, db, keys)
                .await?;
        }
        if let Some(queue) = self.sizes.as_ref().and_then(|sieve| sieve.queue.as_ref())
            && !big.is_empty()
        {
            let (large, small) = keys.into_iter().partition(|key| big.contains_key(key));
            keys = small;
            let large: Vec<Bytes> = large;
            Progress::add(&self.ledger.progress.keys_found, large.len() as u64);
            for key in large {
                let memory_bytes = big.get(&key).copied().unwrap_or(0);
                queue
                    .push(BigKey {
                        db,
                        key,
                        memory_bytes,
                    })
                    .await;
            }
        }
        Ok(keys)
    }
}

impl Collisions {
    /// Leaves out and lists a key that would overwrite another key of the source. Of two such keys
    /// the one in the lower db goes, and the one that keeps its name before one that is renamed.
    pub(crate) async fn sift(
        &self,
        filter: &KeyFilter,
        ledger: &Ledger,
        connection: &mut ReadConnection,
        db: u32,
        keys: Vec<Bytes>,
    ) -> Result<Vec<Bytes>, ClientError> {
        let mut rivals = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let target_name = renamed(&self.renames, key).unwrap_or_else(|| key.clone());
            for (rival_db, rival) in self.rivals(filter, db, key, &target_name) {
                rivals.push((index, rival_db, rival));
            }
        }
        let mut taken = vec![None; keys.len()];
        for rival_db in self.dbs.iter().copied() {
            let asked: Vec<_> = rivals.iter().filter(|(_, db, _)| *db == rival_db).collect();
            if asked.is_empty() {
                continue;
            }
            let names: Vec<Bytes> = asked.iter().map(|(_, _, rival)| rival.clone()).collect();
            let exist = self
                .exist(filter, connection, rival_db, &names, ledger)
                .await?;
            for ((index, _, rival), exists) in asked.into_iter().zip(exist) {
                if exists && let Some(slot) = taken.get_mut(*index) {
                    *slot = Some((rival_db, rival.clone()));
                }
            }
        }
        connection.select(db).await?;
        let mut left = Vec::with_capacity(keys.len());
        for (key, rival) in keys.into_iter().zip(taken) {
            match rival {
                None => left.push(key),
                Some((rival_db, rival)) => {
                    let rival = key_text(&rival);
                    let reason = format!("becomes the same key as \"{rival}\" of db {rival_db}");
                    ledger.not_moved(db, &key, reason);
                }
            }
        }
        Ok(left)
    }

    /// The source keys that come before this one and would have the same name on the target.
    fn rivals(
        &self,
        filter: &KeyFilter,
        db: u32,
        key: &Bytes,
        target_name: &Bytes,
    ) -> Vec<(u32, Bytes)> {
        let mut rivals = Vec::new();
        let sharing: Vec<u32> = self.db_map.sharing(db, &self.dbs).collect();
        let mut names = vec![target_name.clone()];
        for rename in &self.renames {
            if let Some(rest) = target_name.strip_prefix(rename.replacement()) {
                names.push([rename.old(), rest].concat().into());
            }
        }
        names.retain(|name| {
            let becomes = renamed(&self.renames, name);
            becomes.as_ref().unwrap_or(name) == target_name && filter.takes_name(name)
        });
        names.sort();
        names.dedup();
        for name in names {
            rivals.extend(sharing.iter().map(|db| (*db, name.clone())));
            // Within the db, a key that keeps its name goes before a renamed one, and of two
            // renamed ones the one that sorts first.
            let keeps_name = renamed(&self.renames, &name).is_none();
            let key_keeps_name = renamed(&self.renames, key).is_none();
            if name != *key
                && (keeps_name, std::cmp::Reverse(&name)) > (key_keeps_name, std::cmp::Reverse(key))
            {
                rivals.push((db, name));
            }
        }
        rivals
    }

    /// Whether these keys exist on the source, wherever they are, and are of a type that goes over.
    async fn exist(
        &self,
        filter: &KeyFilter,
        connection: &mut ReadConnection,
        db: u32,
        keys: &[Bytes],
        ledger: &Ledger,
    ) -> Result<Vec<bool>, ClientError> {
        let is_standalone = self.site.routing.mode() == Mode::Standalone;
        if is_standalone && filter.takes_every_type() {
            connection.select(db).await?;
            return connection.exist(keys).await;
        }
        let looks = self.lookup.lock().await.look(db, keys, ledger).await;
        let looks = looks.map_err(|GaveUp| ClientError::NoPrimary {
            endpoint: self.site.routing.connector().endpoint().to_string(),
            reason: "the search for colliding names was given up".into(),
        })?;
        let address = connection.address();
        let goes_over = |look: Result<KeyLook, ServerError>| match look {
            Ok(look) => {
                let key_type = std::str::from_utf8(&look.key_type).ok();
                let key_type = key_type.and_then(|name| name.parse().ok());
                Ok(!look.is_missing() && filter.takes_type(key_type))
            }
            Err(error) => Err(ClientError::Server {
                address: address.clone(),
                error,
            }),
        };
        looks.into_iter().map(goes_over).collect()
    }
}

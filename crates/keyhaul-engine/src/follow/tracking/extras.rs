//! Finds keys of the target that the source does not have, and has them read again: that deletes them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keyhaul_client::{Action, ClientError, Mode, ScanOptions, Slot, ToldKey};
use tokio_util::sync::CancellationToken;

use crate::compare::Lookup;
use crate::follow::tracking::clash::goes_over;
use crate::follow::tracking::dirty::Dirty;
use crate::ledger::Ledger;
use crate::patience::{GaveUp, Patience};
use crate::site::Site;
use crate::source::KeyBatch;
use crate::source::reader::KeyQueue;
use crate::source::rounds::Pass;
use crate::source::scan::{ScanEnd, ScanJob};
use crate::source::sieve::Sieve;
use crate::transform::{KeyFilter, Origins};

/// Tasks that look keys of one node up.
const WORKERS: usize = 2;

/// What is needed to look.
#[derive(Clone)]
pub(super) struct Extras {
    pub source: Arc<Site>,
    pub target: Arc<Site>,
    pub origins: Origins,
    pub dirty: Arc<Dirty>,
    /// The shard of each primary of the source.
    pub shards: Arc<HashMap<String, usize>>,
    pub scan_count: u32,
    pub retry_for: Duration,
    pub ledger: Arc<Ledger>,
}

impl Extras {
    /// Goes over all keys of the target, until `closing`.
    ///
    /// # Errors
    /// [`GaveUp`] when the job was halted or is to stop.
    pub(super) async fn run(self, closing: CancellationToken) -> Result<(), GaveUp> {
        closing
            .run_until_cancelled(self.find())
            .await
            .unwrap_or(Ok(()))
    }

    async fn find(&self) -> Result<(), GaveUp> {
        let Some(dbs) = self.dbs().await? else {
            return Ok(());
        };
        let dbs = dbs
            .into_iter()
            .filter(|db| !self.origins.dbs(*db).is_empty());
        let every_key = Arc::new(KeyFilter::default());
        let pass = Pass {
            site: self.target.clone(),
            job: ScanJob {
                dbs: dbs.collect(),
                options: ScanOptions {
                    count: self.scan_count,
                    ..ScanOptions::default()
                },
                slots: None,
            },
            sieve: Sieve::by_name(every_key, self.ledger.clone()),
            resume: None,
            retry_for: self.retry_for,
            ledger: self.ledger.clone(),
        };
        pass.run(|_node_id, queue, tasks| {
            for _ in 0..WORKERS {
                tasks.spawn(self.clone().work(queue.clone()));
            }
        })
        .await
    }

    /// The dbs of the target that hold keys; `None`: its keys cannot be looked at.
    async fn dbs(&self) -> Result<Option<Vec<u32>>, GaveUp> {
        if self.target.routing.mode() == Mode::Cluster {
            return Ok(Some(vec![0]));
        }
        let mut patience = Patience::new(self.retry_for);
        loop {
            let asked = async {
                let address = self.target.address_of_node("")?;
                self.target.open(&address).await?.dbs_with_keys().await
            };
            match asked.await {
                Ok(dbs) => return Ok(Some(dbs)),
                Err(ClientError::Server { error, .. }) if error.action() == Action::GiveUp => {
                    self.ledger.remark(format!(
                        "the target refuses to say in which dbs it holds keys ({error}): keys that the source has no more may stay there; keyhaul compare --delete-extra removes them"
                    ));
                    return Ok(None);
                }
                Err(e) => self.target.recover(&e, &mut patience, &self.ledger).await?,
            }
        }
    }

    async fn work(self, queue: KeyQueue) -> Result<ScanEnd, GaveUp> {
        let mut lookup = Lookup::new(self.source.clone(), self.retry_for);
        loop {
            let batch = queue.lock().await.recv().await;
            let Some(batch) = batch else {
                return Ok(ScanEnd::Complete);
            };
            for key in self.without_source(&mut lookup, &batch).await? {
                let shard = self.shard_of(&key.name);
                self.dirty.tell_slowly(shard, vec![key]).await;
            }
            batch.settle();
        }
    }

    /// Of these keys of the target those that the source does not have, under a name that they would have there.
    async fn without_source(
        &self,
        lookup: &mut Lookup,
        batch: &KeyBatch,
    ) -> Result<Vec<ToldKey>, GaveUp> {
        // The names that each key may still have; nearly all are found by their first one.
        let mut open: Vec<(ToldKey, std::vec::IntoIter<(u32, Bytes)>)> = Vec::new();
        for target_name in &batch.keys {
            let keys = self.origins.keys(batch.db, target_name);
            if let Some((db, name)) = keys.first().cloned() {
                let key = ToldKey { db: Some(db), name };
                open.push((key, keys.into_iter()));
            }
        }
        let mut without = Vec::new();
        while !open.is_empty() {
            let mut by_db: HashMap<u32, (Vec<Bytes>, Vec<_>)> = HashMap::new();
            for (key, mut names) in std::mem::take(&mut open) {
                match names.next() {
                    Some((db, name)) => {
                        let (asked, of) = by_db.entry(db).or_default();
                        asked.push(name);
                        of.push((key, names));
                    }
                    None => without.push(key),
                }
            }
            for (db, (names, of)) in by_db {
                let looks = lookup.look(db, &names, &self.ledger).await?;
                if let Some(Err(error)) = looks.iter().find(|look| look.is_err()) {
                    self.ledger.remark(format!(
                        "the source refuses to say which keys it has ({error}): keys that it has no more may stay on the target"
                    ));
                }
                let looked = of.into_iter().zip(looks);
                let absent = looked.filter(|(_, look)| !goes_over(&self.origins, look));
                open.extend(absent.map(|(key, _)| key));
            }
        }
        Ok(without)
    }

    fn shard_of(&self, name: &Bytes) -> usize {
        let owner = self.source.routing.owner(Slot::of_key(name));
        let shard = owner
            .ok()
            .and_then(|node| self.shards.get(&node.id).copied());
        shard.unwrap_or(0)
    }
}

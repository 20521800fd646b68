//! What a job about big keys would copy, without copying it.

use std::sync::Arc;

use bytes::Bytes;
use keyhaul_client::ValueKind;
use tokio_util::sync::CancellationToken;

use crate::bigkey::queue::BigQueue;
use crate::checkpoint::BigKey;
use crate::compare::Lookup;
use crate::copy::Job;
use crate::ledger::Ledger;
use crate::options::Scope;
use crate::patience::GaveUp;
use crate::prepare::{SourceEnd, TargetEnd};
use crate::progress::Progress;
use crate::site::Site;
use crate::source::scan::ScanEnd;

/// A key that a job about big keys would copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BigKeyListing {
    /// The db of the source.
    pub db: u32,
    /// The name.
    pub key: Bytes,
    /// As TYPE names it; `none`: there is no such key.
    pub key_type: String,
    /// What it takes, by MEMORY USAGE.
    pub memory_bytes: u64,
    /// How it would go.
    pub way: BigKeyWay,
}

/// How a big key goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BigKeyWay {
    /// As one payload.
    Whole,
    /// Element by element.
    Chunks,
    /// Not at all, unless the target takes longer arguments: what it must be above, bytes.
    TooLong(u64),
    /// There is no such key.
    Missing,
}

impl Job {
    /// The keys that the job would copy, as they are found. Writes nothing.
    ///
    /// # Errors
    /// Why it did not come to its end.
    pub async fn list_big_keys(
        &self,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Result<Vec<BigKeyListing>, String> {
        let ledger = Arc::new(Ledger::new(progress, stop));
        match self.list(&ledger).await {
            Ok(found) => Ok(found),
            Err(GaveUp) => Err(ledger.halted().unwrap_or_else(|| "interrupted".into())),
        }
    }

    async fn list(&self, ledger: &Arc<Ledger>) -> Result<Vec<BigKeyListing>, GaveUp> {
        let SourceEnd::Servers { site, .. } = &self.prepared.source else {
            return Ok(Vec::new());
        };
        let mut lookup = Lookup::new(site.clone(), self.prepared.options.retry_for);
        let mut listed = Vec::new();
        for key in self.find(site, ledger).await? {
            let name = std::slice::from_ref(&key.key);
            let looks = lookup.look(key.db, name, ledger).await?;
            let key_type = match looks.into_iter().next() {
                Some(Ok(look)) => String::from_utf8_lossy(&look.key_type).into_owned(),
                _ => "unknown".to_owned(),
            };
            let memory_bytes = match key.memory_bytes {
                0 => self.memory_usage(site, &key, ledger).await?,
                known => known,
            };
            listed.push(BigKeyListing {
                way: self.way(&key_type, memory_bytes),
                db: key.db,
                key: key.key,
                key_type,
                memory_bytes,
            });
        }
        Ok(listed)
    }

    /// The keys, in no order.
    async fn find(&self, site: &Arc<Site>, ledger: &Arc<Ledger>) -> Result<Vec<BigKey>, GaveUp> {
        let (queue, mut found) = BigQueue::without_workers();
        let collecting = tokio::spawn(async move {
            let mut keys = Vec::new();
            while let Some(key) = found.recv().await {
                keys.push(key);
            }
            keys
        });
        let done = match &self.prepared.options.scope {
            Scope::Named(keys) => self.push_named(keys, &queue, site, ledger).await,
            _ => {
                let sieve = self.copy_sieve(site, Some(queue.clone()), ledger);
                let pass = self.pass(site, ledger, sieve);
                // What is not big is of no interest.
                pass.run(|_node_id, keys, tasks| {
                    tasks.spawn(async move {
                        while keys.lock().await.recv().await.is_some() {}
                        Ok(ScanEnd::Complete)
                    });
                })
                .await
            }
        };
        drop(queue);
        let keys = collecting.await.map_err(|_| GaveUp)?;
        done.map(|()| keys)
    }

    /// Asks until there is an answer; 0 where it is refused.
    async fn memory_usage(
        &self,
        site: &Arc<Site>,
        key: &BigKey,
        ledger: &Arc<Ledger>,
    ) -> Result<u64, GaveUp> {
        let mut patience = crate::patience::Patience::new(self.prepared.options.retry_for);
        loop {
            let asked = async {
                let mut connection = site.open(&site.address_of_key(&key.key)?).await?;
                connection.select(key.db).await?;
                let name = std::slice::from_ref(&key.key);
                connection.memory_usage(name).await
            };
            match asked.await {
                Ok(sizes) => return Ok(sizes.first().copied().unwrap_or(0)),
                Err(e) if !e.is_passing() => return Ok(0),
                Err(e) => site.recover(&e, &mut patience, ledger).await?,
            }
        }
    }

    fn way(&self, key_type: &str, memory_bytes: u64) -> BigKeyWay {
        let bulk_len_max = match &self.prepared.target {
            TargetEnd::Servers { bulk_len_max, .. } => *bulk_len_max,
            TargetEnd::File(_) => u64::MAX,
        };
        let threshold = self.prepared.options.chunk_threshold.min(bulk_len_max);
        match ValueKind::of_type_name(key_type.as_bytes()) {
            _ if key_type == "none" => BigKeyWay::Missing,
            _ if memory_bytes <= threshold => BigKeyWay::Whole,
            Some(ValueKind::String) | None if memory_bytes > bulk_len_max => {
                BigKeyWay::TooLong(memory_bytes)
            }
            None => BigKeyWay::Whole,
            Some(_) => BigKeyWay::Chunks,
        }
    }
}

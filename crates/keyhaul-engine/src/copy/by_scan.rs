//! Keys of servers by SCAN and DUMP; big ones beside them, by element.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use tokio::sync::Mutex;

use crate::bigkey::ChunkLimits;
use crate::bigkey::job::{self, Rules};
use crate::bigkey::queue::{BigQueue, BigWorkers};
use crate::checkpoint::BigKey;
use crate::compare::Lookup;
use crate::copy::Job;
use crate::copy::resume::Earlier;
use crate::ledger::Ledger;
use crate::options::Scope;
use crate::patience::{GaveUp, Patience};
use crate::prepare::{self, SourceEnd, TargetEnd};
use crate::progress::Progress;
use crate::route::Outlet;
use crate::site::{Site, SourceLink};
use crate::source::reader::Reader;
use crate::source::rounds::{Pass, Resume};
use crate::source::scan::{ScanJob, scan_options};
use crate::source::sieve::{Collisions, Sieve, SizeSieve};
use crate::source::stray::StrayReader;

impl Job {
    /// Copies all keys of the source's servers.
    pub(super) async fn copy_by_scan(
        &self,
        site: &Arc<Site>,
        outlet: Outlet,
        earlier: Earlier,
        ledger: &Arc<Ledger>,
    ) -> Result<(), GaveUp> {
        let (rules, workers, queue) = match &self.prepared.target {
            TargetEnd::Servers { .. } => {
                let rules = Arc::new(self.big_rules(site, outlet.clone(), ledger));
                job::remove_all(&rules, earlier.set_aside).await?;
                let nodes = site.primaries().len();
                let memory = self.prepared.options.memory_bytes;
                let (workers, queue) = BigWorkers::start(&rules, nodes, memory, earlier.big_keys);
                (Some(rules), Some(workers), Some(queue))
            }
            TargetEnd::File(_) => (None, None, None),
        };
        let copied = match (&self.prepared.options.scope, &queue) {
            (Scope::Named(keys), Some(queue)) => self.push_named(keys, queue, site, ledger).await,
            _ => {
                let sieve = self.copy_sieve(site, queue.clone(), ledger);
                let mut pass = self.pass(site, ledger, sieve);
                if self.is_live() {
                    pass.job.dbs = self.dbs_now(site, ledger).await?;
                }
                let books = ledger.clone();
                // Who follows cannot go on in the middle: what changed meanwhile is not known.
                let checkpoint = self.checkpoint.clone().filter(|_| !self.is_live());
                pass.resume = checkpoint.map(|checkpoint| Resume {
                    checkpoint,
                    positions: earlier.positions,
                    of_target: false,
                    keys_done: Arc::new(move || books.keys_copied()),
                });
                self.run_pass(pass, site, outlet, queue.as_ref(), ledger)
                    .await
            }
        };
        if let Some(queue) = queue.filter(|_| self.prepared.options.scope != Scope::Every) {
            // The verification is about these alone.
            let mut worked_on = self
                .worked_on
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *worked_on = queue.seen();
        }
        // The workers end, as there is no way in any more.
        if let (Some(workers), Some(rules)) = (workers, rules) {
            workers.join(&rules).await;
        }
        copied
    }

    async fn run_pass(
        &self,
        pass: Pass,
        site: &Arc<Site>,
        outlet: Outlet,
        queue: Option<&Arc<BigQueue>>,
        ledger: &Arc<Ledger>,
    ) -> Result<(), GaveUp> {
        let options = &self.prepared.options;
        pass.run(|node_id, keys, tasks| {
            for _ in 0..options.read_threads {
                let link = SourceLink::new(site.clone(), node_id.to_owned(), options.retry_for);
                let stray = StrayReader::new(site.clone(), options.retry_for, ledger.clone());
                let mut reader =
                    Reader::new(link, stray, keys.clone(), outlet.clone(), ledger.clone());
                reader.big = queue.cloned();
                tasks.spawn(reader.run());
            }
        })
        .await
    }

    /// The keys that were asked for by name.
    pub(super) async fn push_named(
        &self,
        keys: &[Bytes],
        queue: &Arc<BigQueue>,
        site: &Arc<Site>,
        ledger: &Arc<Ledger>,
    ) -> Result<(), GaveUp> {
        let sieve = self.copy_sieve(site, None, ledger);
        for db in self.prepared.plan.dbs.iter().map(|db| db.source_db) {
            for key in keys.iter().filter(|key| self.filter.takes_name(key)) {
                if ledger.stop.is_cancelled() {
                    return Err(GaveUp);
                }
                Progress::add(&ledger.progress.keys_found, 1);
                if self.is_taken(&sieve, db, key, site, ledger).await? {
                    continue;
                }
                let key = BigKey {
                    db,
                    key: key.clone(),
                    memory_bytes: 0,
                };
                queue.push(key).await;
            }
        }
        Ok(())
    }

    /// Whether another key of the source has the name on the target; lists the key then.
    async fn is_taken(
        &self,
        sieve: &Sieve,
        db: u32,
        key: &Bytes,
        site: &Arc<Site>,
        ledger: &Arc<Ledger>,
    ) -> Result<bool, GaveUp> {
        let Some(collisions) = &sieve.collisions else {
            return Ok(false);
        };
        let mut patience = Patience::new(self.prepared.options.retry_for);
        loop {
            let sifted = async {
                let mut connection = site.open(&site.address_of_key(key)?).await?;
                connection.select(db).await?;
                // A key that is not there takes no name.
                let name = vec![key.clone()];
                if connection.exist(&name).await? == [false] {
                    return Ok(name);
                }
                collisions
                    .sift(&self.filter, ledger, &mut connection, db, name)
                    .await
            };
            match sifted.await {
                Ok(left) => return Ok(left.is_empty()),
                Err(e) => site.recover(&e, &mut patience, ledger).await?,
            }
        }
    }

    pub(crate) fn big_rules(
        &self,
        site: &Arc<Site>,
        outlet: Outlet,
        ledger: &Arc<Ledger>,
    ) -> Rules {
        let (prepared, options) = (&self.prepared, &self.prepared.options);
        let (target, bulk_len_max) = match &prepared.target {
            TargetEnd::Servers { site, bulk_len_max } => (site.clone(), *bulk_len_max),
            TargetEnd::File(_) => (site.clone(), 0),
        };
        Rules {
            source: site.clone(),
            target,
            outlet,
            ledger: ledger.clone(),
            checkpoint: self.checkpoint.clone(),
            on_conflict: options.on_conflict,
            retry_for: options.retry_for,
            abilities: prepared.abilities,
            limits: ChunkLimits::new(options.chunk_elements),
            chunk_threshold: options.chunk_threshold.min(bulk_len_max),
            is_live: self.is_live() && !self.follows_by_psync(),
            lists_missing: matches!(options.scope, Scope::Named(_)),
            is_strict: options.scope != Scope::Every,
            job_id: self.identity.id(),
            bulk_len_max,
        }
    }

    /// A pass over all keys that the filters take.
    pub(super) fn pass(&self, site: &Arc<Site>, ledger: &Arc<Ledger>, sieve: Sieve) -> Pass {
        let (options, plan) = (&self.prepared.options, &self.prepared.plan);
        let scan = scan_options(&self.filter, &plan.source.primaries, options.scan_count);
        let dbs = plan.dbs.iter().map(|db| db.source_db).collect();
        Pass {
            site: site.clone(),
            job: ScanJob {
                dbs,
                options: scan,
                slots: None,
            },
            sieve,
            resume: None,
            retry_for: options.retry_for,
            ledger: ledger.clone(),
        }
    }

    pub(super) fn copy_sieve(
        &self,
        site: &Arc<Site>,
        queue: Option<Arc<BigQueue>>,
        ledger: &Arc<Ledger>,
    ) -> Sieve {
        let options = &self.prepared.options;
        let sizes = match &self.prepared.source {
            SourceEnd::Servers { sizes, .. } => *sizes,
            SourceEnd::Files(_) => None,
        };
        let dbs = self.prepared.plan.dbs.iter();
        let collisions = Collisions {
            db_map: options.db_map.clone(),
            renames: options.renames.clone(),
            dbs: dbs.map(|db| db.source_db).collect(),
            site: site.clone(),
            lookup: Mutex::new(Lookup::new(site.clone(), options.retry_for)),
        };
        let is_possible = prepare::collisions_are_possible(options, &collisions.dbs);
        let collisions = is_possible.then(|| Arc::new(collisions));
        let (filter, ledger) = (self.filter.clone(), ledger.clone());
        Sieve {
            filter,
            sizes: sizes.map(|rules| SizeSieve { rules, queue }),
            collisions,
            ledger,
        }
    }
}

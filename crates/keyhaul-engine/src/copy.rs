//! The copy job, told from top to bottom.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keyhaul_client::{ClientError, Endpoint, ScanOptions, Seeds};
use keyhaul_rdb::KeyType;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::compare::{self, Lookup, QuickCheck};
use crate::ledger::Ledger;
use crate::options::{CopyOptions, OnConflict, Verify};
use crate::patience::{GaveUp, Patience};
use crate::plan::{Plan, PlanError};
use crate::prepare::{self, Prepared};
use crate::progress::{Phase, Progress};
use crate::receipt::{Outcome, Receipt, VerifyCounts};
use crate::route::{Lanes, Outlet, Transform};
use crate::site::SourceLink;
use crate::source::reader::Reader;
use crate::source::rounds::Pass;
use crate::source::scan::ScanJob;
use crate::source::sieve::{Collisions, Sieve};
use crate::source::stray::StrayReader;
use crate::target::functions::{self, FunctionCounts};
use crate::target::lane::{Lane, LaneRules};
use crate::throttle::Throttle;
use crate::transform::KeyFilter;

/// Batches between the readers and a lane.
const LANE_BATCHES: usize = 4;

/// A copy job whose plan is made: both ends are known, nothing was written.
#[derive(Debug)]
pub struct Job {
    prepared: Prepared,
    filter: Arc<KeyFilter>,
}

impl Job {
    /// Probes both ends and says what would be done.
    ///
    /// # Errors
    /// [`PlanError`]; nothing was written.
    pub async fn prepare(
        source: Endpoint,
        target: Endpoint,
        options: CopyOptions,
    ) -> Result<Self, PlanError> {
        let filter = Arc::new(KeyFilter::new(&options));
        Ok(Self {
            prepared: prepare::prepare(source, target, options).await?,
            filter,
        })
    }

    /// What was found and what will be done.
    pub fn plan(&self) -> &Plan {
        &self.prepared.plan
    }

    /// Does it: functions, then keys, then the verification. When `stop` is cancelled, what is in
    /// flight is finished and the rest left.
    pub async fn run(self, progress: Arc<Progress>, stop: CancellationToken) -> Receipt {
        let ledger = Arc::new(Ledger::new(progress, stop));
        let expected = self.plan().dbs.iter().filter_map(|db| db.keys).sum();
        Progress::add(&ledger.progress.keys_expected, expected);

        let watching = tokio::spawn(follow_primary(self.prepared.target.clone()));
        let began = Instant::now();
        ledger.progress.enter(Phase::Copying);
        let functions = self.copy_functions(&ledger).await;
        let copied = self.copy_until_settled(&ledger).await;
        let copy_time = began.elapsed();

        let began = Instant::now();
        let (mut verify, mut is_whole) = (None, copied.is_ok());
        if copied.is_ok() && self.prepared.options.verify != Verify::None {
            ledger.progress.enter(Phase::Verifying);
            verify = self.verify(&ledger).await.ok();
            is_whole = verify.is_some();
        }
        watching.abort();
        if !is_whole && !ledger.stop.is_cancelled() {
            // Whoever gives up says why; if that was ever forgotten it must not look like success.
            ledger.halt("a part of the job gave up without a reason".into());
        }
        let is_stopped = ledger.halted().is_some() || ledger.stop.is_cancelled();
        ledger.progress.enter(if is_stopped {
            Phase::Stopped
        } else {
            Phase::Done
        });
        self.receipt(&ledger, functions, verify, copy_time, began.elapsed())
    }

    async fn copy_functions(&self, ledger: &Arc<Ledger>) -> FunctionCounts {
        let Prepared {
            source,
            target,
            options,
            ..
        } = &self.prepared;
        if !options.functions {
            return FunctionCounts::default();
        }
        let mut patience = Patience::new(options.retry_for);
        loop {
            match functions::copy_functions(source, target, options.on_conflict, ledger).await {
                Ok(counts) => return counts,
                Err(e) => {
                    let side = site_of(&e, &self.prepared);
                    if side.recover(&e, &mut patience, ledger).await.is_err() {
                        return FunctionCounts::default();
                    }
                }
            }
        }
    }

    /// Copies all keys, and once more when a primary of the target failed over meanwhile: the old
    /// one may have acknowledged writes that the new one never got. Where keys on the target are not
    /// replaced, a second pass cannot tell its own keys, and the verification says what is missing.
    async fn copy_until_settled(&self, ledger: &Arc<Ledger>) -> Result<(), GaveUp> {
        const PASSES_MAX: usize = 5;
        let target = &self.prepared.target;
        let mut before = target.primaries();
        for _ in 0..PASSES_MAX {
            self.copy_keys(ledger).await?;
            target
                .refresh(self.prepared.options.retry_for, ledger)
                .await?;
            let after = target.primaries();
            if after.iter().all(|node| before.contains(node)) {
                return Ok(());
            }
            let again = self.prepared.options.on_conflict == OnConflict::Replace;
            let what = if again {
                "all keys are copied again"
            } else {
                "keys may be missing there"
            };
            ledger.remark(format!("the target failed over to another primary: {what}"));
            if !again {
                return Ok(());
            }
            before = after;
        }
        ledger.halt("target: it failed over again and again".into());
        Err(GaveUp)
    }

    async fn copy_keys(&self, ledger: &Arc<Ledger>) -> Result<(), GaveUp> {
        let options = &self.prepared.options;
        let (outlet, mut lanes) = self.open_lanes(ledger);
        let pass = self.pass(ledger, self.copy_sieve(ledger));
        let copied = pass
            .run(|node_id, queue, tasks| {
                for _ in 0..options.read_threads {
                    let site = self.prepared.source.clone();
                    let link = SourceLink::new(site.clone(), node_id.to_owned(), options.retry_for);
                    let stray = StrayReader::new(site, options.retry_for, ledger.clone());
                    let reader =
                        Reader::new(link, stray, queue.clone(), outlet.clone(), ledger.clone());
                    tasks.spawn(reader.run());
                }
            })
            .await;
        // The lanes end when the last outlet is gone and all replies were read.
        drop(outlet);
        while let Some(joined) = lanes.join_next().await {
            if let Err(e) = joined {
                ledger.halt(format!("a task failed: {e}"));
            }
        }
        if ledger.halted().is_some() || ledger.stop.is_cancelled() {
            return Err(GaveUp);
        }
        copied
    }

    fn open_lanes(&self, ledger: &Arc<Ledger>) -> (Outlet, JoinSet<()>) {
        let Prepared {
            target,
            options,
            bulk_len_max,
            ..
        } = &self.prepared;
        let rules = Arc::new(LaneRules {
            target: target.clone(),
            on_conflict: options.on_conflict,
            bulk_len_max: *bulk_len_max,
            refusals: Default::default(),
        });
        let mut tasks = JoinSet::new();
        let lanes = Lanes::new(&target.routing.topology(), options.threads as usize, || {
            let (inlet, batches) = mpsc::channel(LANE_BATCHES);
            let patience = Patience::new(options.retry_for);
            tasks.spawn(Lane::new(rules.clone(), ledger.clone(), patience, batches).run());
            inlet
        });
        let transform = Transform {
            filter: self.filter.clone(),
            db_map: options.db_map.clone(),
            renames: options.renames.clone(),
        };
        let throttle = Throttle::new(options.rate_limit);
        (
            Outlet::new(transform, lanes, options.memory_bytes, throttle),
            tasks,
        )
    }

    async fn verify(&self, ledger: &Arc<Ledger>) -> Result<VerifyCounts, GaveUp> {
        let Prepared {
            source,
            target,
            options,
            ..
        } = &self.prepared;
        let check = Arc::new(QuickCheck {
            source: source.clone(),
            target: target.clone(),
            filter: self.filter.clone(),
            db_map: options.db_map.clone(),
            renames: options.renames.clone(),
            on_conflict: options.on_conflict,
            retry_for: options.retry_for,
            ledger: ledger.clone(),
            results: Default::default(),
        });
        // Nothing is left out but by the filters: a key that was not moved shows as missing.
        let filter = self.filter.clone();
        let sieve = Sieve {
            filter,
            mem_limit: None,
            collisions: None,
            ledger: ledger.clone(),
        };
        compare::verify(check, self.pass(ledger, sieve)).await
    }

    /// A pass over all keys that the filters take.
    fn pass(&self, ledger: &Arc<Ledger>, sieve: Sieve) -> Pass {
        let Prepared {
            source,
            options,
            plan,
            ..
        } = &self.prepared;
        let knows_type = |node: &crate::plan::NodePlan| {
            node.facts.version.is_some_and(|version| version.major >= 6)
        };
        let key_type = self.filter.server_type().map(KeyType::name);
        let key_type = key_type.filter(|_| plan.source.primaries.iter().all(knows_type));
        let pattern = self
            .filter
            .server_pattern()
            .map(bytes::Bytes::copy_from_slice);
        let scan = ScanOptions {
            pattern,
            key_type,
            count: options.scan_count,
        };
        let dbs = plan.dbs.iter().map(|db| db.source_db).collect();
        Pass {
            site: source.clone(),
            job: ScanJob {
                dbs,
                options: scan,
                slots: None,
            },
            sieve,
            retry_for: options.retry_for,
            ledger: ledger.clone(),
        }
    }

    fn copy_sieve(&self, ledger: &Arc<Ledger>) -> Sieve {
        let Prepared {
            source,
            options,
            plan,
            mem_limit,
            ..
        } = &self.prepared;
        let collisions = Collisions {
            db_map: options.db_map.clone(),
            renames: options.renames.clone(),
            dbs: plan.dbs.iter().map(|db| db.source_db).collect(),
            site: source.clone(),
            lookup: Mutex::new(Lookup::new(source.clone(), options.retry_for)),
        };
        let is_possible = prepare::collisions_are_possible(options, &collisions.dbs);
        let collisions = is_possible.then(|| Arc::new(collisions));
        let (filter, ledger) = (self.filter.clone(), ledger.clone());
        Sieve {
            filter,
            mem_limit: *mem_limit,
            collisions,
            ledger,
        }
    }

    fn receipt(
        &self,
        ledger: &Ledger,
        functions: FunctionCounts,
        verify: Option<VerifyCounts>,
        copy_time: Duration,
        verify_time: Duration,
    ) -> Receipt {
        let now = ledger.progress.snapshot();
        let not_moved = ledger.not_moved.finish();
        let unexplained = verify.as_ref().map_or(0, VerifyCounts::unexplained);
        let outcome = match ledger.halted() {
            Some(reason) => Outcome::Stopped(reason),
            None if ledger.stop.is_cancelled() => Outcome::Stopped("interrupted".into()),
            None if unexplained > 0 => Outcome::Different,
            None if not_moved.count > 0 || functions.not_copied > 0 => Outcome::NotAllMoved,
            None => Outcome::Done,
        };
        Receipt {
            outcome,
            keys_found: now.keys_found,
            keys_copied: now.keys_copied,
            keys_skipped: now.keys_skipped,
            keys_gone: now.keys_gone,
            bytes_copied: now.bytes_copied,
            retries: now.retries,
            functions_copied: functions.copied,
            copy_time,
            verify_time,
            verify,
            not_moved,
            remarks: ledger.remarks(),
        }
    }
}

/// The end that an error is about, by the server it names; the target where none is known.
fn site_of<'a>(error: &ClientError, prepared: &'a Prepared) -> &'a Arc<crate::site::Site> {
    let is_source = match error.address() {
        Some(address) => prepared
            .source
            .routing
            .topology()
            .primaries
            .iter()
            .any(|n| n.address == *address),
        None => false,
    };
    if is_source {
        &prepared.source
    } else {
        &prepared.target
    }
}

/// Asks again and again where the primary of the target is. After a failover an old primary goes on
/// taking writes for a while that nobody will ever see; its own errors come too late.
async fn follow_primary(target: Arc<crate::site::Site>) {
    const PAUSE: Duration = Duration::from_secs(1);
    let seeds = &target.routing.connector().endpoint().seeds;
    if !matches!(seeds, Seeds::Sentinels { .. }) {
        return;
    }
    loop {
        tokio::time::sleep(PAUSE).await;
        if let Err(e) = target.routing.refresh().await {
            tracing::info!("target: {}", keyhaul_client::chain(&e));
        }
    }
}

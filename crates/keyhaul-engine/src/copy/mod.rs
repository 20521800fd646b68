//! The copy job, told from top to bottom.
//!
//! - [`target`] opens the lanes to the target's servers, or to the file, and ends them.
//! - [`by_scan`] finds and reads the keys of servers one by one, [`by_rdb`] takes them from files or from
//!   the snapshots of a replication link.
//! - [`functions`] takes the libraries along, [`proof`] looks at what became of it all.
//! - [`resume`] takes over what an earlier run did.
//! - [`live`] begins to follow the source instead.

pub(crate) mod by_rdb;
mod by_scan;
mod functions;
mod listing;
mod live;
mod proof;
mod resume;
pub(crate) mod target;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use keyhaul_client::Seeds;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::{Checkpoint, Earlier, JobIdentity};
use crate::ledger::Ledger;
use crate::options::{CopyOptions, OnConflict, Verify};
use crate::patience::GaveUp;
use crate::place::Place;
use crate::plan::{Plan, PlanError};
use crate::prepare::{self, Prepared, ReadBy, SourceEnd, TargetEnd};
use crate::progress::{Phase, Progress};
use crate::receipt::{Outcome, Receipt, VerifyCounts};
use crate::site::Site;
use crate::target::file::Finished;
use crate::target::functions::FunctionCounts;
use crate::transform::KeyFilter;

/// A copy job whose plan is made: both ends are known, nothing was written.
#[derive(Debug)]
pub struct Job {
    pub(crate) prepared: Prepared,
    pub(crate) filter: Arc<KeyFilter>,
    pub(crate) identity: JobIdentity,
    pub(crate) checkpoint: Option<Arc<Checkpoint>>,
    /// The processes of the target that all was copied to: node id and run id.
    settled: Mutex<Vec<(String, String)>>,
    /// What an earlier run left, until it is taken over.
    pub(crate) earlier: Mutex<Earlier>,
    /// The keys of a job that is not about all of them.
    worked_on: Mutex<Vec<(u32, Bytes)>>,
}

pub(crate) use by_rdb::FUNCTIONS_AHEAD;
pub use listing::{BigKeyListing, BigKeyWay};
pub(crate) use resume::process_text;

/// What was copied, as far as the books do not say it.
#[derive(Debug, Default)]
struct Copied {
    functions: FunctionCounts,
    /// The file that was written.
    file: Option<Finished>,
}

/// What a copy and its verification came to.
struct Ran {
    copied: Copied,
    verify: Option<VerifyCounts>,
    copy_time: Duration,
    verify_time: Duration,
    /// Both came to their end.
    is_whole: bool,
}

impl Job {
    /// Probes both ends and says what would be done.
    ///
    /// # Errors
    /// [`PlanError`]; nothing was written.
    pub async fn prepare(
        source: Place,
        target: Place,
        options: CopyOptions,
    ) -> Result<Self, PlanError> {
        let filter = Arc::new(KeyFilter::new(&options));
        let identity = resume::identity(&source, &target, &options);
        Ok(Self {
            prepared: prepare::prepare(source, target, options).await?,
            filter,
            identity,
            checkpoint: None,
            settled: Mutex::default(),
            earlier: Mutex::new(Earlier::Nothing),
            worked_on: Mutex::default(),
        })
    }

    /// What was found and what will be done.
    pub fn plan(&self) -> &Plan {
        &self.prepared.plan
    }

    /// Does it: functions, then keys, then the verification. When `stop` is cancelled, what is in
    /// flight is finished and the rest left.
    pub async fn run(self, progress: Arc<Progress>, stop: CancellationToken) -> Receipt {
        Arc::new(self).run_shared(progress, stop).await
    }

    async fn run_shared(
        self: &Arc<Self>,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Receipt {
        // Who follows goes on for a moment when the end is asked for.
        let (stop, end) = match self.follows_by_psync() {
            true => (CancellationToken::new(), stop),
            false => (stop.clone(), stop),
        };
        let ledger = Arc::new(Ledger::new(progress, stop));
        if let Some(checkpoint) = &self.checkpoint {
            let _ = ledger.checkpoint.set(checkpoint.clone());
        }
        let expected = self.plan().dbs.iter().filter_map(|db| db.keys).sum();
        Progress::add(&ledger.progress.keys_expected, expected);
        let watching = match &self.prepared.target {
            TargetEnd::Servers { site, .. } => Some(tokio::spawn(follow_primary(site.clone()))),
            TargetEnd::File(_) => None,
        };

        let mut ran = self.copy_and_verify(&ledger, &end).await;
        if ran.is_whole && !self.is_live() && self.has_target_changed(&ledger).await {
            // What was verified before says nothing of the new process.
            if self.prepared.options.on_conflict == OnConflict::Replace {
                ledger.begin_anew();
                ran = self.copy_and_verify(&ledger, &end).await;
            }
            if ran.is_whole && self.has_target_changed(&ledger).await {
                ledger
                    .halt("the target was restarted, or failed over, while it was verified".into());
            }
        }
        let is_whole = ran.is_whole;
        if let Some(watching) = watching {
            watching.abort();
        }
        if !is_whole && !ledger.stop.is_cancelled() {
            // Whoever gives up says why; if that was ever forgotten it must not look like success.
            ledger.halt("a part of the job gave up without a reason".into());
        }
        let is_stopped = ledger.halted().is_some() || ledger.stop.is_cancelled();
        let is_interrupted = ledger.halted().is_some() || ledger.is_interrupted();
        ledger.progress.enter(match is_interrupted {
            true => Phase::Stopped,
            false => Phase::Done,
        });
        ledger.progress.live.stopped();
        // Who follows can always be gone on with.
        let saved = self.close_checkpoint(&ledger, is_stopped || self.follows_by_psync());
        let mut receipt = self.receipt(&ledger, ran);
        receipt.saved = saved;
        receipt
    }

    async fn copy_and_verify(
        self: &Arc<Self>,
        ledger: &Arc<Ledger>,
        end: &CancellationToken,
    ) -> Ran {
        let began = Instant::now();
        ledger.progress.enter(Phase::Copying);
        let copied = match self.follows_by_psync() {
            true => self.follow_by_psync(ledger, end).await,
            false => self.copy_until_settled(ledger).await,
        };
        let mut ran = Ran {
            is_whole: copied.is_ok(),
            copied: copied.unwrap_or_default(),
            verify: None,
            copy_time: began.elapsed(),
            verify_time: Duration::ZERO,
        };
        let began = Instant::now();
        if ran.is_whole && !self.is_live() && self.prepared.options.verify != Verify::None {
            ledger.progress.enter(Phase::Verifying);
            ran.verify = self.verify(&ran.copied, ledger).await.ok();
            ran.is_whole = ran.verify.is_some();
        }
        ran.verify_time = began.elapsed();
        ran
    }

    /// Whether the target is another process than the one that all was copied to; remarks on it.
    async fn has_target_changed(&self, ledger: &Ledger) -> bool {
        let TargetEnd::Servers { site, .. } = &self.prepared.target else {
            return false;
        };
        let now = site
            .processes(self.prepared.options.retry_for, ledger)
            .await;
        let settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        // Who gives up has halted the job.
        let has_changed = now.is_ok_and(|now| !now.iter().all(|node| settled.contains(node)));
        if has_changed {
            let line = "the target was restarted, or failed over, while it was verified";
            ledger.remark(line.to_owned());
        }
        has_changed
    }

    /// Copies all keys, and once more when the target failed over or was restarted meanwhile: what the old
    /// process acknowledged may be unknown to the new one. Where keys on the target are not replaced, a second
    /// pass cannot tell its own keys, and the verification says what is missing.
    async fn copy_until_settled(&self, ledger: &Arc<Ledger>) -> Result<Copied, GaveUp> {
        const PASSES_MAX: usize = 5;
        let TargetEnd::Servers { site, .. } = &self.prepared.target else {
            return self.copy_all(ledger).await;
        };
        if let Some(followed) = self.follow_by_what_it_tells(ledger).await {
            return followed;
        }
        let retry_for = self.prepared.options.retry_for;
        let mut before = site.processes(retry_for, ledger).await?;
        self.check_earlier(site, &before, ledger).await?;
        for _ in 0..PASSES_MAX {
            self.note_target(&before);
            let copied = self.copy_all(ledger).await?;
            site.refresh(retry_for, ledger).await?;
            let after = site.processes(retry_for, ledger).await?;
            let is_same = after.iter().all(|node| before.contains(node));
            let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
            settled.clone_from(&after);
            drop(settled);
            if is_same {
                return Ok(copied);
            }
            let again = self.prepared.options.on_conflict == OnConflict::Replace;
            let what = if again {
                "all keys are copied again"
            } else {
                "keys may be missing there"
            };
            ledger.remark(format!(
                "the target failed over to another primary, or was restarted: {what}"
            ));
            if !again {
                return Ok(copied);
            }
            ledger.begin_anew();
            before = after;
        }
        ledger.halt("target: it failed over again and again".into());
        Err(GaveUp)
    }

    /// Copies functions and keys once.
    async fn copy_all(&self, ledger: &Arc<Ledger>) -> Result<Copied, GaveUp> {
        let mut way = self.open_way(ledger).await?;
        let outlet = way.outlet.take().ok_or(GaveUp)?;
        let copied = match &self.prepared.source {
            SourceEnd::Servers {
                site,
                read_by: ReadBy::Scan(_),
                ..
            } => {
                let functions = self.copy_functions(site, way.file.as_ref(), ledger).await;
                let earlier = self.take_earlier(ledger);
                let copied = self.copy_by_scan(site, outlet, earlier, ledger).await;
                copied.map(|()| functions)
            }
            SourceEnd::Servers { site, .. } => {
                self.copy_snapshots(site, outlet, &way, ledger).await
            }
            SourceEnd::Files(files) => self.copy_files(files, outlet, &way, ledger).await,
        };
        // The lanes end when the last outlet is gone and all replies were read.
        way.join(ledger).await;
        if ledger.halted().is_some() || ledger.stop.is_cancelled() {
            return Err(GaveUp);
        }
        let functions = copied?;
        let file = way.finish_file(ledger).await?;
        Ok(Copied { functions, file })
    }

    fn receipt(&self, ledger: &Ledger, ran: Ran) -> Receipt {
        let Ran {
            copied,
            verify,
            copy_time,
            verify_time,
            ..
        } = ran;
        let now = ledger.progress.snapshot();
        let not_moved = ledger.not_moved.finish();
        let unexplained = verify.as_ref().map_or(0, VerifyCounts::unexplained);
        let is_partial = match &self.prepared.source {
            SourceEnd::Files(files) => files.iter().any(|file| file.damage.is_some()),
            SourceEnd::Servers { .. } => false,
        };
        let outcome = match ledger.halted() {
            Some(reason) => Outcome::Stopped(reason),
            None if ledger.is_interrupted() => Outcome::Stopped("interrupted".into()),
            None if unexplained > 0 => Outcome::Different,
            None if not_moved.count > 0 || copied.functions.not_copied > 0 || is_partial => {
                Outcome::NotAllMoved
            }
            None => Outcome::Done,
        };
        Receipt {
            outcome,
            keys_found: now.keys_found,
            keys_copied: match (&self.prepared.target, copied.file) {
                (TargetEnd::Servers { .. }, _) => now.keys_copied,
                // A file is there as a whole or not at all.
                (TargetEnd::File(_), file) => file.map_or(0, |file| file.records),
            },
            keys_chunked: now.keys_chunked,
            keys_skipped: now.keys_skipped,
            keys_gone: now.keys_gone,
            bytes_copied: now.bytes_copied,
            retries: now.retries,
            functions_copied: copied.functions.copied,
            file_bytes: copied.file.map(|file| file.bytes),
            copy_time,
            verify_time,
            verify,
            not_moved,
            saved: None,
            live: (self.prepared.options.live.as_ref()).map(|_| ledger.progress.live.snapshot()),
            remarks: ledger.remarks(),
        }
    }
}

/// Asks again and again where the primary of the target is. After a failover an old primary goes on
/// taking writes for a while that nobody will ever see; its own errors come too late.
async fn follow_primary(target: Arc<Site>) {
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

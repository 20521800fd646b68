//! A comparison from its plan to its receipt; its steps are in [`super::steps`].

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::checkpoint::{Checkpoint, Earlier, JobIdentity, Opened, Resumed};
use crate::compare::notes::{self, Notes};
use crate::compare::options::{CompareOptions, CompareReceipt, KeyDiff};
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::place::Place;
use crate::plan::{Plan, PlanError, Warning};
use crate::prepare::{self, ComparedEnd, PreparedComparison};
use crate::progress::{Phase, Progress};
use crate::receipt::Outcome;
use crate::transform::KeyFilter;

/// Is told what becomes known of keys, each once it is known for certain.
pub trait Listener: Send + Sync {
    /// A key as it was found.
    fn found(&self, diff: KeyDiff);

    /// A key that is not the same after it was repaired.
    fn left(&self, diff: KeyDiff);

    /// Servers were restarted: what was told so far is void, since the repair if there was one, and all is told anew.
    fn anew(&self);

    /// All was found, and a repair is about to write.
    ///
    /// # Errors
    /// Why it must not, in one line; nothing is written then, and the run stops.
    fn before_repair(&self) -> Result<(), String>;
}

/// A comparison whose plan is made: both ends are known.
#[derive(Debug)]
pub struct CompareJob {
    pub(super) prepared: PreparedComparison,
    pub(super) places: (Place, Place),
    pub(super) filter: Arc<KeyFilter>,
    identity: JobIdentity,
    pub(super) notes: Option<Arc<Notes>>,
    earlier: Mutex<Option<Resumed>>,
}

impl CompareJob {
    /// Probes both ends.
    ///
    /// # Errors
    /// [`PlanError`]; nothing was written.
    pub async fn prepare(
        source: Place,
        target: Place,
        options: CompareOptions,
    ) -> Result<Self, PlanError> {
        let filter = Arc::new(KeyFilter::new(&options.copy));
        let identity = notes::identity(&source, &target, &options);
        let places = (source.clone(), target.clone());
        Ok(Self {
            prepared: prepare::prepare_comparison(source, target, options).await?,
            places,
            filter,
            identity,
            notes: None,
            earlier: Mutex::default(),
        })
    }

    /// What was found and what will be done.
    pub fn plan(&self) -> &Plan {
        &self.prepared.plan
    }

    /// Opens the journal of the comparison, where it can have one: all keys of two ends that are servers. Call it once
    /// nothing stands in the way of the run.
    ///
    /// # Errors
    /// [`PlanError::Refused`] where the same comparison is running, or the journal cannot be written.
    pub fn open_checkpoint(&mut self) -> Result<(), PlanError> {
        let options = &self.prepared.options;
        let is_resumable = matches!(
            (&self.prepared.source, &self.prepared.target),
            (ComparedEnd::Servers { .. }, ComparedEnd::Servers { .. })
        );
        let Some(state_dir) = options.copy.state_dir.as_ref() else {
            return Ok(());
        };
        if !is_resumable || options.only.is_some() {
            return Ok(());
        }
        match Checkpoint::open_for(state_dir, &self.identity, &options.copy)? {
            Opened::Kept(checkpoint, earlier) => {
                self.notes = Some(Arc::new(Notes::new(checkpoint)));
                if let Earlier::Unfinished(resumed) = *earlier {
                    self.earlier = Mutex::new(Some(resumed));
                }
            }
            Opened::Without(line) => {
                let warning = Warning::new("no-checkpoint", line);
                self.prepared.plan.warnings.push(warning);
            }
        }
        Ok(())
    }

    /// What an earlier run left; only once.
    pub(super) fn take_earlier(&self) -> Option<Resumed> {
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        earlier.take()
    }

    /// Does it.
    pub async fn run(
        self,
        progress: Arc<Progress>,
        stop: CancellationToken,
        listener: Arc<dyn Listener>,
    ) -> CompareReceipt {
        let began = Instant::now();
        let ledger = Arc::new(Ledger::new(progress, stop));
        let plan = self.plan();
        let of_source: u64 = plan.dbs.iter().filter_map(|db| db.keys).sum();
        let expected = of_source + plan.target.keys.unwrap_or(0);
        Progress::add(&ledger.progress.keys_expected, expected);
        ledger.progress.enter(Phase::Verifying);
        let ended = self.compare_and_repair(&ledger, &listener).await;
        let stopped = match ledger.halted() {
            Some(reason) => Some(reason),
            None if ledger.stop.is_cancelled() => Some("interrupted".to_owned()),
            // Whoever gives up says why; if that was ever forgotten it must not look like success.
            None if ended.is_err() => Some("a part of the job gave up without a reason".to_owned()),
            None => None,
        };
        ledger.progress.enter(match stopped {
            Some(_) => Phase::Stopped,
            None => Phase::Done,
        });
        let notes = self.notes.as_ref();
        let saved = notes.and_then(|notes| notes.checkpoint.close(&ledger, stopped.is_some()));
        let ended = match ended {
            Ok(ended) | Err((ended, GaveUp)) => *ended,
        };
        CompareReceipt {
            outcome: match stopped {
                Some(reason) => Outcome::Stopped(reason),
                None if ended.found.counts.is_equal() => Outcome::Done,
                None => Outcome::Different,
            },
            counts: ended.found.counts,
            before_repair: ended.before,
            repaired: ended.repaired,
            examples: ended.found.examples,
            functions: ended.functions.iter().map(ToString::to_string).collect(),
            earlier: ended.earlier,
            saved,
            retries: ledger.progress.retries.load(Ordering::Relaxed),
            time: began.elapsed(),
            remarks: ledger.remarks(),
        }
    }
}

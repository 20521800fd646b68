//! The comparison, told from top to bottom.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use keyhaul_client::ScanOptions;
use tokio_util::sync::CancellationToken;

use crate::compare::comparer::{Comparer, Results};
use crate::compare::file_index::{FileIndex, IndexRules};
use crate::compare::options::{
    CompareOptions, CompareReceipt, Depth, KeyDiff, Mark, NamedKey, RepairCounts,
};
use crate::compare::over::{
    Direction, compare_named, go_over_files, go_over_servers, settle_back, settle_forth,
};
use crate::compare::payload_digest::DigestRules;
use crate::compare::values::Side;
use crate::compare::{functions, repair};
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::place::Place;
use crate::plan::{CheckedFile, Plan, PlanError};
use crate::prepare::{self, ComparedEnd, PreparedComparison};
use crate::progress::{Phase, Progress};
use crate::receipt::Outcome;
use crate::site::Site;
use crate::source::records::now_ms;
use crate::source::rounds::Pass;
use crate::source::scan::{ScanJob, scan_options};
use crate::source::sieve::Sieve;
use crate::throttle::Throttle;
use crate::transform::KeyFilter;

/// Takes what becomes known of a key.
pub type Tell = Arc<dyn Fn(KeyDiff) + Send + Sync>;

/// A comparison whose plan is made: both ends are known.
#[derive(Debug)]
pub struct CompareJob {
    prepared: PreparedComparison,
    places: (Place, Place),
    filter: Arc<KeyFilter>,
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
        let places = (source.clone(), target.clone());
        Ok(Self {
            prepared: prepare::prepare_comparison(source, target, options).await?,
            places,
            filter,
        })
    }

    /// What was found and what will be done.
    pub fn plan(&self) -> &Plan {
        &self.prepared.plan
    }

    /// Does it; `tell` is given each key that differs, once it is known for certain.
    pub async fn run(
        self,
        progress: Arc<Progress>,
        stop: CancellationToken,
        tell: Tell,
    ) -> CompareReceipt {
        let began = Instant::now();
        let ledger = Arc::new(Ledger::new(progress, stop));
        let plan = self.plan();
        let of_source: u64 = plan.dbs.iter().filter_map(|db| db.keys).sum();
        let expected = of_source + plan.target.keys.unwrap_or(0);
        Progress::add(&ledger.progress.keys_expected, expected);
        ledger.progress.enter(Phase::Verifying);
        let ended = self.compare_and_repair(&ledger, &tell).await;
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
            functions: ended.functions,
            retries: ledger
                .progress
                .retries
                .load(std::sync::atomic::Ordering::Relaxed),
            time: began.elapsed(),
            remarks: ledger.remarks(),
        }
    }

    async fn compare_and_repair(
        &self,
        ledger: &Arc<Ledger>,
        tell: &Tell,
    ) -> Result<Box<Ended>, (Box<Ended>, GaveUp)> {
        let options = &self.prepared.options;
        let repairs = options.repair.is_some_and(|repair| !repair.is_dry_run);
        // What is mended is told as what it is then.
        let first_tell: Tell = match repairs {
            true => {
                let tell = tell.clone();
                Arc::new(move |diff: KeyDiff| {
                    if matches!(diff.mark, Mark::Same | Mark::Unknown) {
                        tell(diff);
                    }
                })
            }
            false => tell.clone(),
        };
        let mut ended = Box::<Ended>::default();
        let only = options.only.as_deref();
        let compared = self.compare(only, first_tell, ledger, &mut ended).await;
        let (Some(repair), Ok(())) = (options.repair, &compared) else {
            return with(ended, compared);
        };
        if repair.is_dry_run {
            ended.repaired = Some(repair::would_do(&ended.found, repair));
            return Ok(ended);
        }
        let Some(comparer) = ended.comparer.take() else {
            return Ok(ended);
        };
        let again = std::mem::take(&mut ended.found.differing);
        let repaired = repair::repair(&self.places, options, repair, &again, &comparer);
        let repaired = match repaired.await {
            Ok(repaired) => repaired,
            Err(gave_up) => return Err((ended, gave_up)),
        };
        drop(comparer);
        ledger.progress.enter(Phase::Verifying);
        let before = ended.found.counts.clone();
        let again: Vec<NamedKey> = (again.into_iter())
            .map(|(mark, db, key)| NamedKey { mark, db, key })
            .collect();
        let mut after = Box::<Ended>::default();
        let compared = self
            .compare(Some(&again), tell.clone(), ledger, &mut after)
            .await;
        // What was the same, or not known, was not looked at again.
        if ended.found.not_kept > 0 {
            ledger.remark(format!(
                "{} differences more than can be repaired at once are left: give the same command again",
                ended.found.not_kept
            ));
            after.found.counts.errors += ended.found.not_kept;
            after.found.counts.checked += ended.found.not_kept;
        }
        after.found.counts.same += before.same;
        after.found.counts.unsettled += before.unsettled;
        after.found.counts.errors += before.errors;
        after.found.counts.checked += before.same + before.unsettled + before.errors;
        let doubtful = ended.found.examples.into_iter();
        if before.unsettled + before.errors > 0 && after.found.examples.is_empty() {
            after.found.examples.extend(doubtful);
        }
        after.before = Some(before);
        after.repaired = Some(repaired);
        with(after, compared)
    }

    /// Compares all keys, or only some; what is found is in `ended` also when it does not come to its end.
    async fn compare(
        &self,
        only: Option<&[NamedKey]>,
        tell: Tell,
        ledger: &Arc<Ledger>,
        ended: &mut Ended,
    ) -> Result<(), GaveUp> {
        let comparer = Arc::new(self.comparer(tell, ledger).await?);
        let compared = match only {
            Some(keys) => compare_named(&comparer, keys).await,
            None => self.compare_all(&comparer, ledger).await,
        };
        let functions = match (&comparer.source, &comparer.target, &compared) {
            (Side::Servers { site, .. }, Side::Servers { site: target, .. }, Ok(()))
                if self.prepared.options.copy.functions && self.prepared.options.only.is_none() =>
            {
                let retry_for = self.prepared.options.copy.retry_for;
                functions::compare(site, target, retry_for, ledger).await
            }
            (Side::Servers { .. }, Side::Servers { .. }, _) => Ok(Vec::new()),
            _ => {
                if self.prepared.options.copy.functions {
                    let line = "function libraries are compared between servers only";
                    ledger.remark(line.to_owned());
                }
                Ok(Vec::new())
            }
        };
        ended.found = comparer.take_results();
        ended.comparer = Some(comparer);
        ended.functions = functions?;
        ended.found.counts.functions_differ = ended.functions.len() as u64;
        compared
    }

    async fn comparer(&self, tell: Tell, ledger: &Arc<Ledger>) -> Result<Comparer, GaveUp> {
        let prepared = &self.prepared;
        let options = &prepared.options;
        let rules = DigestRules {
            seed: RandomState::new().hash_one(0),
            detail: prepared.detail,
        };
        let source = side(&prepared.source, rules, options.depth, ledger).await?;
        let target = side(&prepared.target, rules, options.depth, ledger).await?;
        let expects_other_bytes = match (&source, &target) {
            (
                Side::Servers { rdb_version, .. },
                Side::Servers {
                    rdb_version: other, ..
                },
            ) => rdb_version != other,
            _ => true,
        };
        Ok(Comparer {
            source,
            target,
            filter: self.filter.clone(),
            dbs: prepared.chosen_dbs.clone(),
            db_map: options.copy.db_map.clone(),
            renames: options.copy.renames.clone(),
            depth: options.depth,
            rules,
            expects_other_bytes,
            tolerance_ms: prepared.tolerance_ms,
            rechecks: options.rechecks.max(1),
            shows_diffs: options.shows_diffs,
            tells_same: options.tells_same,
            keeps_differing: options.repair.is_some(),
            any_value: false,
            retry_for: options.copy.retry_for,
            throttle: Arc::new(Throttle::new(options.copy.rate_limit)),
            ledger: ledger.clone(),
            tell,
            results: Default::default(),
        })
    }

    async fn compare_all(
        &self,
        comparer: &Arc<Comparer>,
        ledger: &Arc<Ledger>,
    ) -> Result<(), GaveUp> {
        let prepared = &self.prepared;
        let source_dbs = prepared.plan.dbs.iter().map(|db| db.source_db).collect();
        let forth = Direction::Forth;
        self.go_over(forth, &prepared.source, source_dbs, comparer, ledger)
            .await?;
        settle_forth(comparer).await?;
        let mut target_dbs = prepared.target_dbs.clone();
        target_dbs.retain(|db| !comparer.source_dbs(*db).is_empty());
        let back = Direction::Back;
        self.go_over(back, &prepared.target, target_dbs, comparer, ledger)
            .await?;
        settle_back(comparer).await
    }

    /// Hands all keys of one end to workers that look at the other one.
    async fn go_over(
        &self,
        direction: Direction,
        end: &ComparedEnd,
        dbs: Vec<u32>,
        comparer: &Arc<Comparer>,
        ledger: &Arc<Ledger>,
    ) -> Result<(), GaveUp> {
        match end {
            ComparedEnd::Servers { site, .. } => {
                let pass = self.pass(direction, site, dbs, ledger);
                go_over_servers(direction, comparer, pass).await
            }
            ComparedEnd::Files(files) => {
                let side = match direction {
                    Direction::Forth => &comparer.source,
                    Direction::Back => &comparer.target,
                };
                let Side::Files(index) = side else {
                    return Err(GaveUp);
                };
                go_over_files(direction, index, files, &dbs, comparer).await
            }
        }
    }

    fn pass(
        &self,
        direction: Direction,
        site: &Arc<Site>,
        dbs: Vec<u32>,
        ledger: &Arc<Ledger>,
    ) -> Pass {
        let options = &self.prepared.options.copy;
        let plan = match direction {
            Direction::Forth => &self.prepared.plan.source,
            Direction::Back => &self.prepared.plan.target,
        };
        let scan = scan_options(&self.filter, &plan.primaries, options.scan_count);
        // On the target a key may have another name.
        let (pattern, filter) = match direction {
            Direction::Forth => (scan.pattern, self.filter.clone()),
            Direction::Back => (None, Arc::new(KeyFilter::default())),
        };
        Pass {
            site: site.clone(),
            job: ScanJob {
                dbs,
                options: ScanOptions { pattern, ..scan },
                slots: None,
            },
            sieve: Sieve::by_name(filter, ledger.clone()),
            resume: None,
            retry_for: options.retry_for,
            ledger: ledger.clone(),
        }
    }
}

/// What a comparison came to.
#[derive(Default)]
struct Ended {
    found: Results,
    functions: Vec<String>,
    before: Option<crate::compare::options::CompareCounts>,
    repaired: Option<RepairCounts>,
    /// Kept for a repair.
    comparer: Option<Arc<Comparer>>,
}

fn with(ended: Box<Ended>, result: Result<(), GaveUp>) -> Result<Box<Ended>, (Box<Ended>, GaveUp)> {
    match result {
        Ok(()) => Ok(ended),
        Err(gave_up) => Err((ended, gave_up)),
    }
}

/// An end, ready to be looked at.
///
/// # Errors
/// [`GaveUp`] when a file cannot be read.
async fn side(
    end: &ComparedEnd,
    rules: DigestRules,
    depth: Depth,
    ledger: &Arc<Ledger>,
) -> Result<Side, GaveUp> {
    Ok(match end {
        ComparedEnd::Servers {
            site,
            rdb_version,
            chunk_threshold,
        } => Side::Servers {
            site: site.clone(),
            rdb_version: *rdb_version,
            chunk_threshold: *chunk_threshold,
        },
        ComparedEnd::Files(files) => files_side(files, rules, depth, ledger).await?,
    })
}

/// Files, ready to be looked at.
///
/// # Errors
/// [`GaveUp`].
pub(crate) async fn files_side(
    files: &[CheckedFile],
    rules: DigestRules,
    depth: Depth,
    ledger: &Arc<Ledger>,
) -> Result<Side, GaveUp> {
    let rules = IndexRules {
        seed: rules.seed,
        detail: rules.detail,
        with_values: depth == Depth::Full,
        now_ms: now_ms(),
    };
    Ok(Side::Files(Arc::new(
        FileIndex::build(files, rules, ledger).await?,
    )))
}

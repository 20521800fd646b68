//! The steps of a comparison: both directions, functions, and where it is wanted a repair and a second look.

use std::sync::Arc;

use keyhaul_client::ScanOptions;

use crate::compare::comparer::{Comparer, Results, Tell};
use crate::compare::functions::{self, LibraryDiff};
use crate::compare::job::{CompareJob, Listener};
use crate::compare::notes::Left;
use crate::compare::options::{CompareCounts, KeyDiff, Mark, NamedKey, Repair, RepairCounts};
use crate::compare::over::{
    Direction, back_named, compare_named, forth_named, go_over_files, go_over_servers, settle_back,
    settle_forth,
};
use crate::compare::repair;
use crate::compare::values::Side;
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::prepare::ComparedEnd;
use crate::progress::Phase;
use crate::site::Site;
use crate::source::rounds::{Pass, Resume};
use crate::source::scan::{ScanJob, scan_options};
use crate::source::sieve::Sieve;
use crate::transform::KeyFilter;

/// What a comparison came to.
#[derive(Default)]
pub(super) struct Ended {
    pub found: Results,
    pub functions: Vec<LibraryDiff>,
    pub before: Option<CompareCounts>,
    pub repaired: Option<RepairCounts>,
    /// Kept for a repair.
    comparer: Option<Arc<Comparer>>,
}

/// What it came to, also where it did not come to its end.
type Outcome = Result<Box<Ended>, (Box<Ended>, GaveUp)>;

/// Which keys are compared.
#[derive(Clone, Copy)]
enum Extent<'a> {
    All,
    /// By name, from an earlier comparison.
    Named(&'a [NamedKey]),
    /// By name, after they were repaired.
    Repaired(&'a [NamedKey]),
}

impl CompareJob {
    pub(super) async fn compare_and_repair(
        &self,
        ledger: &Arc<Ledger>,
        listener: &Arc<dyn Listener>,
    ) -> Outcome {
        let options = &self.prepared.options;
        let extent = options.only.as_deref().map_or(Extent::All, Extent::Named);
        let mut ended = Box::<Ended>::default();
        let compared = self.compare(extent, listener, ledger, &mut ended).await;
        let (Some(repair), Ok(())) = (options.repair, &compared) else {
            return with(ended, compared);
        };
        if repair.is_dry_run {
            ended.repaired = Some(repair::would_do(&ended.found, &ended.functions, repair));
            return Ok(ended);
        }
        self.repair(ended, repair, listener, ledger).await
    }

    /// Removes what was found, and looks at those keys again.
    async fn repair(
        &self,
        mut ended: Box<Ended>,
        repair: Repair,
        listener: &Arc<dyn Listener>,
        ledger: &Arc<Ledger>,
    ) -> Outcome {
        if let Err(reason) = listener.before_repair() {
            ledger.halt(reason);
            return Err((ended, GaveUp));
        }
        let Some(comparer) = ended.comparer.take() else {
            return Ok(ended);
        };
        let differing = std::mem::take(&mut ended.found.differing);
        let wanted = repair::Wanted {
            repair,
            keys: &differing,
            functions: &ended.functions,
        };
        let repaired = repair::repair(&self.places, &self.prepared.options, wanted, &comparer);
        let repaired = match repaired.await {
            Ok(repaired) => repaired,
            Err(gave_up) => return Err((ended, gave_up)),
        };
        drop(comparer);
        ledger.progress.enter(Phase::Verifying);
        let before = ended.found.counts.clone();
        let again: Vec<NamedKey> = (differing.into_iter())
            .map(|(mark, db, key)| NamedKey { mark, db, key })
            .collect();
        let mut after = Box::<Ended>::default();
        let extent = Extent::Repaired(&again);
        let compared = self.compare(extent, listener, ledger, &mut after).await;
        let counts = &mut after.found.counts;
        if ended.found.not_kept > 0 {
            ledger.remark(format!(
                "{} differences more than can be repaired at once are left: give the same command again",
                ended.found.not_kept
            ));
            counts.errors += ended.found.not_kept;
            counts.checked += ended.found.not_kept;
        }
        // What was the same, or not known, was not looked at again.
        counts.same += before.same;
        counts.unsettled += before.unsettled;
        counts.errors += before.errors;
        counts.checked += before.same + before.unsettled + before.errors;
        if before.unsettled + before.errors > 0 && after.found.examples.is_empty() {
            let doubtful = ended.found.examples.into_iter();
            after.found.examples.extend(doubtful);
        }
        after.before = Some(before);
        after.repaired = Some(repaired);
        with(after, compared)
    }

    /// Compares keys; what is found is in `ended` also when it does not come to its end.
    async fn compare(
        &self,
        extent: Extent<'_>,
        listener: &Arc<dyn Listener>,
        ledger: &Arc<Ledger>,
        ended: &mut Ended,
    ) -> Result<(), GaveUp> {
        let is_repaired = matches!(extent, Extent::Repaired(_));
        let comparer = self.comparer(teller(listener, is_repaired), is_repaired, ledger);
        let comparer = Arc::new(comparer.await?);
        let compared = match extent {
            Extent::All => self.compare_all(&comparer, ledger).await,
            Extent::Named(keys) | Extent::Repaired(keys) => compare_named(&comparer, keys).await,
        };
        let options = &self.prepared.options;
        let functions = match compared {
            Ok(()) if options.copy.functions && options.only.is_none() => {
                let (source, target) = (&comparer.source, &comparer.target);
                functions::compare(source, target, options.copy.retry_for, ledger).await
            }
            _ => Ok(Vec::new()),
        };
        ended.found = comparer.take_results();
        ended.comparer = Some(comparer);
        ended.functions = functions?;
        ended.found.counts.functions_differ = ended.functions.len() as u64;
        compared
    }

    async fn compare_all(
        &self,
        comparer: &Arc<Comparer>,
        ledger: &Arc<Ledger>,
    ) -> Result<(), GaveUp> {
        let prepared = &self.prepared;
        let left = self.take_left(comparer, ledger);
        let source_dbs = prepared.plan.dbs.iter().map(|db| db.source_db).collect();
        let forth = Direction::Forth;
        self.go_over(forth, source_dbs, comparer, &left, ledger)
            .await?;
        forth_named(comparer, left.of_source.clone()).await?;
        settle_forth(comparer).await?;
        let mut target_dbs = prepared.target_dbs.clone();
        target_dbs.retain(|db| !comparer.source_dbs(*db).is_empty());
        let back = Direction::Back;
        self.go_over(back, target_dbs, comparer, &left, ledger)
            .await?;
        back_named(comparer, left.of_target).await?;
        settle_back(comparer).await
    }

    /// What an earlier run of this comparison left, with its count of keys that were the same.
    fn take_left(&self, comparer: &Comparer, ledger: &Ledger) -> Left {
        let Some(notes) = &comparer.notes else {
            return Left::default();
        };
        let left = match self.take_earlier() {
            Some(resumed) => notes.take_over(resumed, ledger),
            None => Left::default(),
        };
        comparer.were_same(left.keys_same);
        left
    }

    /// Hands all keys of one end to workers that look at the other one.
    async fn go_over(
        &self,
        direction: Direction,
        dbs: Vec<u32>,
        comparer: &Arc<Comparer>,
        left: &Left,
        ledger: &Arc<Ledger>,
    ) -> Result<(), GaveUp> {
        let (end, side) = match direction {
            Direction::Forth => (&self.prepared.source, &comparer.source),
            Direction::Back => (&self.prepared.target, &comparer.target),
        };
        match (end, side) {
            (ComparedEnd::Servers { site, .. }, _) => {
                let mut pass = self.pass(direction, site, dbs, ledger);
                pass.resume = comparer.notes.as_ref().map(|notes| {
                    let books = Arc::clone(comparer);
                    Resume {
                        checkpoint: notes.checkpoint.clone(),
                        positions: left.positions.clone(),
                        of_target: direction == Direction::Back,
                        keys_done: Arc::new(move || books.same()),
                    }
                });
                go_over_servers(direction, comparer, pass).await
            }
            (ComparedEnd::Files(files), Side::Files(index)) => {
                go_over_files(direction, index, files, &dbs, comparer).await
            }
            (ComparedEnd::Files(_), Side::Servers { .. }) => Err(GaveUp),
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

/// Who is told of a key, by when it was looked at.
fn teller(listener: &Arc<dyn Listener>, is_repaired: bool) -> Tell {
    let listener = Arc::clone(listener);
    match is_repaired {
        true => Arc::new(move |diff: KeyDiff| {
            if diff.mark != Mark::Same {
                listener.left(diff);
            }
        }),
        false => Arc::new(move |diff| listener.found(diff)),
    }
}

fn with(ended: Box<Ended>, result: Result<(), GaveUp>) -> Outcome {
    match result {
        Ok(()) => Ok(ended),
        Err(gave_up) => Err((ended, gave_up)),
    }
}

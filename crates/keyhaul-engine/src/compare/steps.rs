//! The steps of a comparison: both directions, functions, and where it is wanted a repair and a second look.

use std::sync::Arc;

use keyhaul_client::ScanOptions;

use crate::checkpoint::ScanPosition;
use crate::compare::comparer::{Comparer, Results, Tell};
use crate::compare::functions::{self, LibraryDiff};
use crate::compare::job::{CompareJob, Listener};
use crate::compare::notes::Left;
use crate::compare::options::{
    CompareCounts, EarlierRun, KeyDiff, Mark, NamedKey, Repair, RepairCounts,
};
use crate::compare::over::{
    Direction, back_named, compare_named, forth_named, go_over_files, go_over_servers, settle_back,
    settle_forth,
};
use crate::compare::processes::Processes;
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

/// How often all keys are compared again, because servers were restarted, before the run gives up.
const PASSES_MAX: usize = 5;

/// What a comparison came to.
#[derive(Default)]
pub(super) struct Ended {
    pub found: Results,
    pub functions: Vec<LibraryDiff>,
    pub before: Option<CompareCounts>,
    pub repaired: Option<RepairCounts>,
    pub earlier: Option<EarlierRun>,
    /// Kept for a repair.
    comparer: Option<Arc<Comparer>>,
    /// What all of it is about.
    processes: Processes,
}

/// What it came to, also where it did not come to its end.
type Outcome = Result<Box<Ended>, (Box<Ended>, GaveUp)>;

/// Which keys are compared.
#[derive(Clone, Copy)]
enum Extent<'a> {
    All,
    /// By name.
    Named(&'a [NamedKey]),
}

impl CompareJob {
    pub(super) async fn compare_and_repair(
        &self,
        ledger: &Arc<Ledger>,
        listener: &Arc<dyn Listener>,
    ) -> Outcome {
        let options = &self.prepared.options;
        let mut ended = Box::<Ended>::default();
        let compared = self.compare(listener, ledger, &mut ended).await;
        let (Some(repair), Ok(())) = (options.repair, &compared) else {
            return with(ended, compared);
        };
        if repair.is_dry_run {
            ended.repaired = Some(repair::would_do(&ended.found, &ended.functions, repair));
            return Ok(ended);
        }
        self.repair(ended, repair, listener, ledger).await
    }

    /// Compares what was asked for, as often as it takes for the servers to stay the same from start to end.
    async fn compare(
        &self,
        listener: &Arc<dyn Listener>,
        ledger: &Arc<Ledger>,
        ended: &mut Ended,
    ) -> Result<(), GaveUp> {
        let only = self.prepared.options.only.as_deref();
        let extent = only.map_or(Extent::All, Extent::Named);
        for _ in 0..PASSES_MAX {
            let comparer = self.comparer(teller(listener, false), false, ledger);
            let comparer = Arc::new(comparer.await?);
            let before = self.processes(&comparer, ledger).await?;
            ended.earlier = None;
            self.compare_once(extent, &comparer, &before, ledger, ended)
                .await?;
            ended.processes = self.processes(&comparer, ledger).await?;
            if ended.processes.are_of(&before) {
                return Ok(());
            }
            let repair = self.prepared.options.repair;
            let deletes = repair.is_some_and(|repair| repair.deletes_extra && !repair.is_dry_run);
            if deletes && !ended.processes.source_is_of(&before) {
                ledger.halt("the source was restarted, or failed over, during the comparison and may have lost keys: nothing is deleted; see that it has all and give the command again".into());
                return Err(GaveUp);
            }
            ledger.remark(
                "a server was restarted, or failed over, during the comparison: all keys are compared again".into(),
            );
            ledger.progress.begin_anew();
            listener.anew();
        }
        ledger.halt("servers were restarted, or failed over, again and again".into());
        Err(GaveUp)
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
        let mut counts = RepairCounts::default();
        let (places, options) = (&self.places, &self.prepared.options);
        let repaired = repair::repair(places, options, wanted, &comparer, &mut counts).await;
        drop(comparer);
        ended.repaired = Some(counts);
        if let Err(gave_up) = repaired {
            return Err((ended, gave_up));
        }
        ledger.progress.enter(Phase::Verifying);
        let again: Vec<NamedKey> = (differing.into_iter())
            .map(|(mark, db, key)| NamedKey { mark, db, key })
            .collect();
        let mut after = Box::<Ended>::default();
        after.repaired = ended.repaired.take();
        after.before = Some(ended.found.counts.clone());
        let compared = self
            .compare_repaired(&again, &ended, listener, ledger, &mut after)
            .await;
        with(after, compared)
    }

    /// Compares the keys that were repaired; all of them, if servers were restarted since the others were compared.
    async fn compare_repaired(
        &self,
        again: &[NamedKey],
        first: &Ended,
        listener: &Arc<dyn Listener>,
        ledger: &Arc<Ledger>,
        after: &mut Ended,
    ) -> Result<(), GaveUp> {
        let mut extent = Extent::Named(again);
        let mut before = first.processes.clone();
        for _ in 0..PASSES_MAX {
            let comparer = self.comparer(teller(listener, true), true, ledger);
            let comparer = Arc::new(comparer.await?);
            self.compare_once(extent, &comparer, &before, ledger, after)
                .await?;
            let now = self.processes(&comparer, ledger).await?;
            if now.are_of(&before) {
                if matches!(extent, Extent::Named(_)) {
                    add_the_others(first, after, ledger);
                }
                return Ok(());
            }
            ledger.remark(
                "a server was restarted, or failed over, during the repair: all keys are compared again".into(),
            );
            ledger.progress.begin_anew();
            listener.anew();
            let only = self.prepared.options.only.as_deref();
            (extent, before) = (only.map_or(Extent::All, Extent::Named), now);
        }
        ledger.halt("servers were restarted, or failed over, again and again".into());
        Err(GaveUp)
    }

    /// Compares keys; what is found is in `ended` also when it does not come to its end.
    async fn compare_once(
        &self,
        extent: Extent<'_>,
        comparer: &Arc<Comparer>,
        processes: &Processes,
        ledger: &Arc<Ledger>,
        ended: &mut Ended,
    ) -> Result<(), GaveUp> {
        let options = &self.prepared.options;
        let compared = match extent {
            Extent::All => {
                let left = self.take_left(comparer, processes, ledger);
                ended.earlier = left.run;
                self.compare_all(comparer, left, ledger).await
            }
            Extent::Named(keys) => compare_named(comparer, keys).await,
        };
        let functions = match compared {
            Ok(()) if options.copy.functions && options.only.is_none() => {
                let (source, target) = (&comparer.source, &comparer.target);
                functions::compare(source, target, options.copy.retry_for, ledger).await
            }
            _ => Ok(Some(Vec::new())),
        };
        ended.found = comparer.take_results();
        ended.comparer = Some(comparer.clone());
        let functions = functions?;
        ended.found.counts.functions_unknown = functions.is_none();
        ended.functions = functions.unwrap_or_default();
        ended.found.counts.functions_differ = ended.functions.len() as u64;
        compared
    }

    async fn compare_all(
        &self,
        comparer: &Arc<Comparer>,
        left: Left,
        ledger: &Arc<Ledger>,
    ) -> Result<(), GaveUp> {
        let Left {
            positions,
            of_source,
            of_target,
            ..
        } = left;
        let prepared = &self.prepared;
        let source_dbs = prepared.plan.dbs.iter().map(|db| db.source_db).collect();
        let forth = Direction::Forth;
        self.go_over(forth, source_dbs, comparer, &positions, ledger)
            .await?;
        forth_named(comparer, of_source).await?;
        settle_forth(comparer).await?;
        let mut target_dbs = prepared.target_dbs.clone();
        target_dbs.retain(|db| !comparer.source_dbs(*db).is_empty());
        let back = Direction::Back;
        self.go_over(back, target_dbs, comparer, &positions, ledger)
            .await?;
        back_named(comparer, of_target).await?;
        settle_back(comparer).await
    }

    async fn processes(
        &self,
        comparer: &Comparer,
        ledger: &Arc<Ledger>,
    ) -> Result<Processes, GaveUp> {
        let ends = [&comparer.source, &comparer.target];
        Processes::now(ends, self.prepared.options.copy.retry_for, ledger).await
    }

    /// What an earlier run of this comparison left, with its count of keys that were the same; only once.
    fn take_left(&self, comparer: &Comparer, processes: &Processes, ledger: &Ledger) -> Left {
        let Some(notes) = &comparer.notes else {
            return Left::default();
        };
        let left = match self.take_earlier() {
            Some(resumed) => notes.take_over(resumed, processes, ledger),
            None => {
                notes.begin_anew(processes);
                Left::default()
            }
        };
        comparer.were_same(left.run.map_or(0, |run| run.keys_same));
        left
    }

    /// Hands all keys of one end to workers that look at the other one.
    async fn go_over(
        &self,
        direction: Direction,
        dbs: Vec<u32>,
        comparer: &Arc<Comparer>,
        positions: &[ScanPosition],
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
                        positions: positions.to_vec(),
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

/// Adds what was not looked at after a repair: what was the same, or not known, or too much to be kept.
fn add_the_others(first: &Ended, after: &mut Ended, ledger: &Ledger) {
    let (before, not_kept) = (&first.found.counts, first.found.not_kept);
    if not_kept > 0 {
        ledger.remark(format!(
            "{not_kept} differences more than can be repaired at once are left: give the same command again"
        ));
    }
    let doubtful = before.unsettled + before.errors + not_kept;
    let counts = &mut after.found.counts;
    counts.same += before.same;
    counts.unsettled += before.unsettled;
    counts.errors += before.errors + not_kept;
    counts.checked += before.same + doubtful;
    after.earlier = first.earlier;
    if doubtful > 0 && after.found.examples.is_empty() {
        after.found.examples.clone_from(&first.found.examples);
    }
}

fn with(ended: Box<Ended>, result: Result<(), GaveUp>) -> Outcome {
    match result {
        Ok(()) => Ok(ended),
        Err(gave_up) => Err((ended, gave_up)),
    }
}

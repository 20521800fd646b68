//! The comparison, told from top to bottom.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use keyhaul_client::ScanOptions;
use keyhaul_rdb::KeyType;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::compare::comparer::{Comparer, Finding, PairReader, Results};
use crate::compare::file_index::{FileIndex, IndexRules};
use crate::compare::options::{
    CompareOptions, CompareReceipt, Depth, KeyDiff, Mark, NamedKey, RepairCounts,
};
use crate::compare::payload_digest::DigestRules;
use crate::compare::values::Side;
use crate::compare::{functions, large, repair};
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::place::Place;
use crate::plan::{CheckedFile, Plan, PlanError};
use crate::prepare::{self, ComparedEnd, PreparedComparison};
use crate::progress::{Phase, Progress};
use crate::receipt::Outcome;
use crate::site::Site;
use crate::source::KeyBatch;
use crate::source::reader::KeyQueue;
use crate::source::records::now_ms;
use crate::source::rounds::Pass;
use crate::source::scan::{ScanEnd, ScanJob};
use crate::source::sieve::Sieve;
use crate::throttle::Throttle;
use crate::transform::KeyFilter;

/// Tasks for each node that is scanned, so that neither side waits for the other.
const WORKERS: usize = 3;

/// Takes what becomes known of a key.
pub type Tell = Arc<dyn Fn(KeyDiff) + Send + Sync>;

/// A comparison whose plan is made: both ends are known.
#[derive(Debug)]
pub struct CompareJob {
    prepared: PreparedComparison,
    places: (Place, Place),
    filter: Arc<KeyFilter>,
}

/// Which way keys are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// Keys of the source on the target, with their values.
    Forth,
    /// Keys of the target on the source.
    Back,
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
                pass.run(|_node_id, queue, tasks| {
                    for _ in 0..WORKERS {
                        tasks.spawn(work(direction, comparer.clone(), queue.clone()));
                    }
                })
                .await
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
        let knows_type = plan
            .primaries
            .iter()
            .all(|node| node.facts.version.is_some_and(|version| version.major >= 6));
        let key_type = self.filter.server_type().map(KeyType::name);
        // On the target a key may have another name.
        let (pattern, filter) = match direction {
            Direction::Forth => (self.filter.server_pattern(), self.filter.clone()),
            Direction::Back => (None, Arc::new(KeyFilter::default())),
        };
        Pass {
            site: site.clone(),
            job: ScanJob {
                dbs,
                options: ScanOptions {
                    pattern: pattern.map(Bytes::copy_from_slice),
                    key_type: key_type.filter(|_| knows_type),
                    count: options.scan_count,
                },
                slots: None,
            },
            sieve: Sieve {
                filter,
                sizes: None,
                collisions: None,
                ledger: ledger.clone(),
            },
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

async fn go_over_files(
    direction: Direction,
    index: &Arc<FileIndex>,
    files: &[CheckedFile],
    dbs: &[u32],
    comparer: &Arc<Comparer>,
) -> Result<(), GaveUp> {
    let (sender, queue) = mpsc::channel(WORKERS);
    let queue: KeyQueue = Arc::new(AsyncMutex::new(queue));
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        workers.spawn(work(direction, comparer.clone(), queue.clone()));
    }
    // With the last worker the way in closes.
    drop(queue);
    let mut names = index.names(files, &comparer.ledger);
    let mut fed = Ok(());
    loop {
        let mut batch = match names.next().await {
            Ok(Some(batch)) => batch,
            Ok(None) => break,
            Err(gave_up) => {
                fed = Err(gave_up);
                break;
            }
        };
        if direction == Direction::Forth {
            batch.keys.retain(|key| comparer.filter.takes_name(key));
        }
        if batch.keys.is_empty() || !dbs.contains(&batch.db) {
            continue;
        }
        let batch = KeyBatch {
            db: batch.db,
            keys: batch.keys,
            ..KeyBatch::default()
        };
        let is_taken = tokio::select! {
            sent = sender.send(batch) => sent.is_ok(),
            () = comparer.ledger.stop.cancelled() => false,
        };
        if !is_taken {
            break;
        }
    }
    drop(sender);
    while let Some(joined) = workers.join_next().await {
        match joined {
            Ok(Ok(_)) => {}
            Ok(Err(gave_up)) => fed = Err(gave_up),
            Err(e) => {
                comparer.ledger.halt(format!("a task failed: {e}"));
                fed = Err(GaveUp);
            }
        }
    }
    fed
}

/// Looks at batches of keys until there are no more.
async fn work(
    direction: Direction,
    comparer: Arc<Comparer>,
    queue: KeyQueue,
) -> Result<ScanEnd, GaveUp> {
    let mut reader = PairReader::new(comparer.clone());
    loop {
        let batch = queue.lock().await.recv().await;
        let Some(batch) = batch else {
            return Ok(ScanEnd::Complete);
        };
        match direction {
            Direction::Forth => forth(&mut reader, batch.db, &batch.keys).await?,
            Direction::Back => back(&mut reader, batch.db, &batch.keys).await?,
        }
        comparer.looked_at(batch.keys.len());
    }
}

/// Compares all keys of a pass over the source with the target, and nothing the other way round.
///
/// # Errors
/// [`GaveUp`].
pub(crate) async fn forth_over(comparer: &Arc<Comparer>, pass: Pass) -> Result<(), GaveUp> {
    pass.run(|_node_id, queue, tasks| {
        for _ in 0..WORKERS {
            tasks.spawn(work(Direction::Forth, comparer.clone(), queue.clone()));
        }
    })
    .await?;
    settle_forth(comparer).await
}

/// The same of keys that are known by name.
///
/// # Errors
/// [`GaveUp`].
pub(crate) async fn forth_over_named(
    comparer: &Arc<Comparer>,
    keys: Vec<(u32, Bytes)>,
) -> Result<(), GaveUp> {
    let mut reader = PairReader::new(comparer.clone());
    for (db, names) in batches(keys) {
        forth(&mut reader, db, &names).await?;
        comparer.looked_at(names.len());
    }
    settle_forth(comparer).await
}

/// The same of files.
///
/// # Errors
/// [`GaveUp`].
pub(crate) async fn forth_over_files(
    comparer: &Arc<Comparer>,
    files: &[CheckedFile],
    dbs: &[u32],
) -> Result<(), GaveUp> {
    let Side::Files(index) = &comparer.source else {
        return Err(GaveUp);
    };
    go_over_files(Direction::Forth, index, files, dbs, comparer).await?;
    settle_forth(comparer).await
}

/// Compares keys of the source; what differs is looked at again later.
async fn forth(reader: &mut PairReader, db: u32, keys: &[Bytes]) -> Result<(), GaveUp> {
    let comparer = reader.comparer.clone();
    let findings = reader.look(db, keys).await?;
    let mut later = Vec::new();
    for (key, finding) in keys.iter().zip(findings) {
        match finding {
            Finding::Same | Finding::OutOfScope => comparer.settle(db, key, finding, Vec::new()),
            Finding::Large => comparer.hand_over(db, key.clone()),
            // It was not moved, and is the same no sooner for being looked at again.
            _ if comparer.ledger.not_moved.contains(db, key) => {
                comparer.settle(db, key, finding, Vec::new());
            }
            _ => later.push(key.clone()),
        }
    }
    let overflow = comparer.suspect(db, later);
    let overflow = overflow.into_iter().map(|key| (db, key)).collect();
    reader.recheck(overflow).await
}

/// Looks for keys that only the target has.
async fn back(reader: &mut PairReader, target_db: u32, keys: &[Bytes]) -> Result<(), GaveUp> {
    let comparer = reader.comparer.clone();
    let without = reader.without_source(target_db, keys).await?;
    let overflow = comparer.suspect(target_db, without);
    let overflow = overflow.into_iter().map(|key| (target_db, key)).collect();
    reader.recheck_extras(overflow).await
}

/// Settles what was left for later: keys that differ, and large ones.
async fn settle_forth(comparer: &Arc<Comparer>) -> Result<(), GaveUp> {
    let mut reader = PairReader::new(comparer.clone());
    let suspects = comparer.take_suspects();
    reader.recheck(suspects).await?;
    large::compare(comparer).await
}

async fn settle_back(comparer: &Arc<Comparer>) -> Result<(), GaveUp> {
    let mut reader = PairReader::new(comparer.clone());
    let suspects = comparer.take_suspects();
    reader.recheck_extras(suspects).await
}

/// Compares only these keys: those of the source on both sides, and those of the target on the source.
async fn compare_named(comparer: &Arc<Comparer>, keys: &[NamedKey]) -> Result<(), GaveUp> {
    let mut of_source: Vec<(u32, Bytes)> = Vec::new();
    let mut of_target: Vec<(u32, Bytes)> = Vec::new();
    for key in keys {
        let is_chosen = |db: u32| comparer.dbs.as_ref().is_none_or(|dbs| dbs.contains(&db));
        let is_of_target = key.mark == Mark::Extra;
        let is_in_scope = match is_of_target {
            true => !comparer.source_dbs(key.db).is_empty(),
            false => is_chosen(key.db) && comparer.filter.takes_name(&key.key),
        };
        if !is_in_scope {
            continue;
        }
        if is_of_target {
            of_target.push((key.db, key.key.clone()));
        } else {
            of_source.push((key.db, key.key.clone()));
            // What the source does not have (any more) may be on the target.
            let named = std::slice::from_ref(&key.key);
            let target_db = comparer.db_map.target_db(key.db);
            let names = comparer.target_names(named).into_iter();
            of_target.extend(names.map(|name| (target_db, name)));
        }
    }
    forth_over_named(comparer, of_source).await?;
    let mut reader = PairReader::new(comparer.clone());
    for (target_db, names) in batches(of_target) {
        back(&mut reader, target_db, &names).await?;
        comparer.looked_at(names.len());
    }
    settle_back(comparer).await
}

/// Keys in batches of one db, each key once.
fn batches(mut keys: Vec<(u32, Bytes)>) -> Vec<(u32, Vec<Bytes>)> {
    /// Keys that are looked at together.
    const BATCH_KEYS: usize = 256;
    keys.sort();
    keys.dedup();
    let mut batches = Vec::new();
    for group in keys.chunk_by(|one, other| one.0 == other.0) {
        for part in group.chunks(BATCH_KEYS) {
            if let Some((db, _)) = part.first() {
                let names = part.iter().map(|(_, key)| key.clone());
                batches.push((*db, names.collect()));
            }
        }
    }
    batches
}

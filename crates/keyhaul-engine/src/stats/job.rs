//! A pass over all keys for statistics, told from top to bottom.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::{Checkpoint, Earlier, JobIdentity, Opened, Resumed};
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::place::Place;
use crate::plan::{PlanError, SidePlan};
use crate::prepare::{self, CheckedFile, PreparedStatistics, StatisticsEnd};
use crate::progress::{Phase, Progress};
use crate::receipt::Outcome;
use crate::source::records::now_ms;
use crate::stats::fold::{Fold, Note, Position, Told, Totals};
use crate::stats::link::LinkOptions;
use crate::stats::node::Rules;
use crate::stats::records::{FileRules, read_file};
use crate::stats::servers::{Servers, Starts};
use crate::stats::{Collector, Kept, ReadAgain, StatsOptions, StatsReceipt, Wanted};
use crate::transform::KeyFilter;

/// Pages between readers and what takes them in.
const PAGES_AHEAD: usize = 4;

/// A pass whose source is known.
#[derive(Debug)]
pub struct StatsJob {
    prepared: PreparedStatistics,
    filter: Arc<KeyFilter>,
    identity: JobIdentity,
    checkpoint: Option<Arc<Checkpoint>>,
    earlier: Option<Resumed>,
    remarks: Vec<String>,
}

impl StatsJob {
    /// Probes the source.
    ///
    /// # Errors
    /// [`PlanError`]: it cannot be reached, or a right is missing.
    pub async fn prepare(source: Place, options: StatsOptions) -> Result<Self, PlanError> {
        let filter = Arc::new(KeyFilter::new(&options.copy));
        let identity = identity(&source, &options);
        Ok(Self {
            prepared: prepare::prepare_statistics(source, options, &filter).await?,
            filter,
            identity,
            checkpoint: None,
            earlier: None,
            remarks: Vec::new(),
        })
    }

    /// What is read.
    pub fn source(&self) -> &SidePlan {
        &self.prepared.plan
    }

    /// How many keys that is, as far as it is known and without the filters.
    pub fn keys(&self) -> u64 {
        self.prepared.keys
    }

    /// Opens the checkpoint, where the pass can have one: over servers. For a collector that has a
    /// [state](Collector::state).
    ///
    /// # Errors
    /// [`PlanError::Refused`] where the same pass is running, or the checkpoint cannot be written.
    pub fn open_checkpoint(&mut self) -> Result<(), PlanError> {
        let copy = &self.prepared.options.copy;
        let (Some(state_dir), StatisticsEnd::Servers { .. }) =
            (&copy.state_dir, &self.prepared.end)
        else {
            return Ok(());
        };
        match Checkpoint::open_for(state_dir, &self.identity, copy)? {
            Opened::Kept(checkpoint, earlier) => {
                self.checkpoint = Some(checkpoint);
                if let Earlier::Unfinished(resumed) = *earlier {
                    self.earlier = Some(resumed);
                }
            }
            Opened::Without(line) => self.remarks.push(line),
        }
        Ok(())
    }

    /// Does it. When `stop` is cancelled, what was read is taken in and the rest left.
    pub async fn run<C: Collector>(
        mut self,
        progress: Arc<Progress>,
        stop: CancellationToken,
        collector: &mut C,
    ) -> StatsReceipt {
        let began = Instant::now();
        let ledger = Arc::new(Ledger::new(progress, stop));
        for line in std::mem::take(&mut self.remarks) {
            ledger.remark(line);
        }
        if let Some(checkpoint) = &self.checkpoint {
            let _ = ledger.checkpoint.set(checkpoint.clone());
        }
        Progress::add(&ledger.progress.keys_expected, self.prepared.keys);
        ledger.progress.enter(Phase::Scanning);
        let mut fold = Fold {
            collector,
            totals: Totals::default(),
            positions: Vec::new(),
            counts_twice: false,
            checkpoint: self.checkpoint.clone(),
            ledger: ledger.clone(),
        };
        let ended = self.read_all(&mut fold, &ledger).await;
        let stopped = match ledger.halted() {
            Some(reason) => Some(reason),
            None if ledger.stop.is_cancelled() => Some("interrupted".to_owned()),
            // Whoever gives up says why; if that was ever forgotten it must not look like success.
            None => ended
                .err()
                .map(|GaveUp| "a part of the job gave up without a reason".to_owned()),
        };
        ledger.progress.enter(match stopped {
            Some(_) => Phase::Stopped,
            None => Phase::Done,
        });
        let (totals, counts_twice) = (fold.totals, fold.counts_twice);
        let can_go_on = fold.checkpoint.is_some();
        let left = self.close_checkpoint(&ledger, stopped.is_some(), can_go_on);
        StatsReceipt {
            counts_twice,
            ..receipt(&ledger, stopped, totals, left, began)
        }
    }

    async fn read_all<C: Collector>(
        &mut self,
        fold: &mut Fold<'_, C>,
        ledger: &Arc<Ledger>,
    ) -> Result<(), GaveUp> {
        let (output, told) = mpsc::channel(PAGES_AHEAD);
        if let Some(path) = self.rows_path() {
            fold.collector.keep_in(path);
        }
        match &self.prepared.end {
            StatisticsEnd::Servers { .. } => {
                let earlier = self.earlier.take();
                let Some(servers) = self.servers(ledger) else {
                    return Err(GaveUp);
                };
                let starts = go_on(&servers, earlier, fold).await?;
                let (read, folded) = tokio::join!(servers.read(starts, output), fold.run(told));
                read.and(folded)
            }
            StatisticsEnd::Files(files) => {
                let bytes = files.iter().map(|file| file.bytes).sum();
                Progress::add(&ledger.progress.bytes_expected, bytes);
                let reading = self.read_files(files.clone(), output, ledger);
                let (read, folded) = tokio::join!(reading, fold.run(told));
                read.and(folded)
            }
        }
    }

    fn servers(&self, ledger: &Arc<Ledger>) -> Option<Servers> {
        let StatisticsEnd::Servers { site, scan, asked } = &self.prepared.end else {
            return None;
        };
        let options = &self.prepared.options;
        let lengths = options.wanted == Wanted::Everything;
        Some(Servers {
            site: site.clone(),
            rules: Arc::new(Rules {
                dbs: self.prepared.dbs.clone(),
                scan: scan.clone(),
                filter: self.filter.clone(),
                asked: *asked,
                lengths,
            }),
            link: LinkOptions {
                prefers_replica: options.prefers_replica,
                uses_keys: lengths,
                retry_for: options.copy.retry_for,
            },
            ledger: ledger.clone(),
        })
    }

    async fn read_files(
        &self,
        files: Vec<CheckedFile>,
        output: mpsc::Sender<Told>,
        ledger: &Arc<Ledger>,
    ) -> Result<(), GaveUp> {
        let rules = FileRules {
            dbs: self.prepared.dbs.clone(),
            filter: self.filter.clone(),
            counts_elements: self.prepared.options.wanted == Wanted::Everything,
        };
        let books = ledger.clone();
        let reading = tokio::task::spawn_blocking(move || {
            for file in &files {
                if !books.stop.is_cancelled() {
                    read_file(file, &rules, &output, &books);
                }
            }
        });
        reading.await.map_err(|e| {
            ledger.halt(format!("a task failed: {e}"));
            GaveUp
        })
    }

    /// Where a collector keeps what is too much for the journal.
    fn rows_path(&self) -> Option<PathBuf> {
        let checkpoint = self.checkpoint.as_ref()?;
        Some(checkpoint.path().with_extension("rows"))
    }

    /// At the end: what is left for a later run.
    fn close_checkpoint(&self, ledger: &Ledger, is_stopped: bool, can_go_on: bool) -> Left {
        let Some((checkpoint, rows)) = self.checkpoint.clone().zip(self.rows_path()) else {
            return Left::default();
        };
        let (failure, path) = (checkpoint.failure(), checkpoint.path().to_owned());
        let kept = Kept { checkpoint, rows };
        match (can_go_on, is_stopped, failure) {
            (true, false, _) => Left {
                kept: Some(kept),
                ..Left::default()
            },
            (true, true, None) => Left {
                saved: Some(path),
                ..Left::default()
            },
            (true, true, Some(reason)) => {
                ledger.remark(format!(
                    "how far it came could not be saved all the time ({reason}): the same command may begin anew"
                ));
                Left::default()
            }
            (false, _, _) => {
                if let Some(line) = kept.remove() {
                    ledger.remark(line);
                }
                Left::default()
            }
        }
    }
}

/// What a pass leaves for a later run.
#[derive(Debug, Default)]
struct Left {
    /// Where that of one lies that stopped.
    saved: Option<PathBuf>,
    /// That of one that is done.
    kept: Option<Kept>,
}

/// What makes another run the same pass.
fn identity(source: &Place, options: &StatsOptions) -> JobIdentity {
    let copy = &options.copy;
    let patterns = (&copy.key_patterns, &copy.key_excludes);
    let keys = (&copy.key_types, &copy.dbs);
    let read = (options.wanted, options.samples, options.prefers_replica);
    JobIdentity {
        source: source.to_string(),
        target: options.output.clone(),
        options: format!("{patterns:?} {keys:?} {read:?}"),
    }
}

/// Takes over what an earlier run took in; returns where the nodes go on.
async fn go_on<C: Collector>(
    servers: &Servers,
    earlier: Option<Resumed>,
    fold: &mut Fold<'_, C>,
) -> Result<Starts, GaveUp> {
    let ledger = fold.ledger.clone();
    let Some(earlier) = earlier else {
        return Ok(Starts::new());
    };
    let Some(note) = earlier.stats.and_then(|note| Note::deserialize(note).ok()) else {
        return Ok(Starts::new());
    };
    if note.positions.is_empty() {
        return Ok(Starts::new());
    }
    let starts = servers.starts(&note.positions).await?;
    let topology = servers.site.routing.topology();
    let primaries = topology.primaries.iter().map(|node| node.id.as_str());
    let again = read_again(&note.positions, primaries, |id| starts.contains_key(id));
    if starts.is_empty() || !(again.is_empty() || fold.collector.can_take_back()) {
        ledger.remark(
            "an earlier run of this command was stopped, and the servers are not the processes that they were, or slots moved: it begins anew".into(),
        );
        return Ok(Starts::new());
    }
    let went_on = fold.collector.go_on_from(&note.state).map_err(|e| {
        ledger.halt(e.to_string());
        GaveUp
    })?;
    if !went_on {
        ledger
            .remark("what an earlier run of this command left is of no use: it begins anew".into());
        return Ok(Starts::new());
    }
    let minutes = now_ms().saturating_sub(note.at_ms).max(0) / 60_000;
    ledger.remark(format!(
        "goes on where an earlier run of this command stopped {minutes} minutes ago: it had looked at {} keys; --restart begins anew",
        note.keys
    ));
    for key in &earlier.not_moved {
        ledger.not_moved(key.db, &key.key, key.reason.clone());
    }
    for node in topology
        .primaries
        .iter()
        .filter(|node| again.contains(&node.id))
    {
        if note.positions.iter().any(|known| known.node_id == node.id) {
            ledger.remark(format!(
                "{} is not the process that it was when the earlier run stopped, or its slots moved: it is read from the start",
                node.address
            ));
        }
        let slots = topology.slots_of(&node.id);
        fold.collector.take_back(&ReadAgain { db: None, slots });
    }
    if note.counts_twice {
        fold.count_twice();
    }
    fold.totals = Totals {
        keys: note.keys,
        size_bytes: note.size_bytes,
    };
    let positions = starts.values().map(|(_, start)| start.position.clone());
    fold.positions = positions.collect::<Vec<Position>>();
    let progress = &ledger.progress;
    Progress::add(&progress.keys_verified, note.keys);
    Progress::add(&progress.bytes_copied, note.size_bytes);
    ledger.copied_before.store(note.keys, Ordering::Relaxed);
    Ok(starts)
}

/// The primaries of whose slots an earlier run may have told keys that are told again, by id.
fn read_again<'a>(
    positions: &[Position],
    primaries: impl Iterator<Item = &'a str>,
    goes_on: impl Fn(&str) -> bool,
) -> Vec<String> {
    // Then a node without a position had told nothing: those that had serve the slots that they served.
    if positions.iter().all(|position| goes_on(&position.node_id)) {
        return Vec::new();
    }
    let others = primaries.filter(|id| !goes_on(id));
    others.map(str::to_owned).collect()
}

fn receipt(
    ledger: &Ledger,
    stopped: Option<String>,
    totals: Totals,
    left: Left,
    began: Instant,
) -> StatsReceipt {
    let now = ledger.progress.snapshot();
    let unread = ledger.not_moved.finish();
    let before = ledger.copied_before.load(Ordering::Relaxed);
    StatsReceipt {
        outcome: match stopped {
            Some(reason) => Outcome::Stopped(reason),
            None if unread.count > 0 => Outcome::NotAllMoved,
            None => Outcome::Done,
        },
        keys: totals.keys,
        size_bytes: totals.size_bytes,
        keys_gone: now.keys_gone,
        unread,
        retries: now.retries,
        time: began.elapsed(),
        keys_this_run: totals.keys.saturating_sub(before),
        saved: left.saved,
        kept: left.kept,
        counts_twice: false,
        remarks: ledger.remarks(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_are_read_again() {
        let position = |id: &str| Position {
            node_id: id.into(),
            process: String::new(),
            db: 0,
            cursor: 7,
        };
        let again = |known: &[&str], going_on: &[&str]| {
            let positions: Vec<_> = known.iter().map(|id| position(id)).collect();
            let primaries = ["a", "b", "c"].into_iter();
            read_again(&positions, primaries, |id| going_on.contains(&id)).concat()
        };
        assert_eq!(again(&["a", "b", "c"], &["a", "b", "c"]), "");
        // `c` had told nothing.
        assert_eq!(again(&["a", "b"], &["a", "b"]), "");
        // Slots of `a` may be those of `c` by now.
        assert_eq!(again(&["a", "b"], &["b"]), "ac");
        assert_eq!(again(&["gone", "b"], &["b"]), "ac");
    }
}

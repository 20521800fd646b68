//! One pass: links that tell, a copy of all keys, and what was told read again until that is not enough any more.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keyhaul_client::Mode;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::compare::Lookup;
use crate::follow::tracking::Follows;
use crate::follow::tracking::clash::Clash;
use crate::follow::tracking::dbs::Dbs;
use crate::follow::tracking::dirty::Dirty;
use crate::follow::tracking::extras::Extras;
use crate::follow::tracking::feeder::{Feeder, Rests};
use crate::follow::tracking::listener::{self, KnownUpTo, Listener};
use crate::follow::tracking::untold::{self, Asker};
use crate::follow::tracking::watch::{self, Watch};
use crate::follow::{ShardStatus, State};
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::route::Outlet;
use crate::site::SourceLink;
use crate::source::reader::Reader;
use crate::source::stray::StrayReader;
use crate::target::functions::FunctionCounts;

/// The set of changed keys may take this part of the job's memory.
const DIRTY_PART: u64 = 2;
/// Batches between a feeder and its readers.
const QUEUE_BATCHES: usize = 2;
/// How often it is looked how far the job is.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long what is known to have changed may take when the job is to stop.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Changes that are older are caught up with.
const BEHIND: Duration = Duration::from_secs(1);
/// What is known to be applied is that of so long ago at most where a job counts as synced.
const SYNCED_AGE_MAX: Duration = Duration::from_secs(3);

/// How a pass ended.
pub(super) enum Ended {
    /// All that was done on the source is applied, as far as the job is concerned.
    Synced,
    /// Any key may have changed, for this reason.
    Everything(String),
}

/// What is shown of the shards, by node; kept over passes.
#[derive(Default)]
pub(super) struct Shards(HashMap<String, Arc<ShardStatus>>);

impl Shards {
    fn of(&mut self, node_id: &str) -> Arc<ShardStatus> {
        self.0.entry(node_id.to_owned()).or_default().clone()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<ShardStatus>> {
        self.0.values()
    }
}

/// A pass.
pub(super) struct Pass<'a> {
    follows: &'a Follows<'a>,
    ledger: Arc<Ledger>,
    dirty: Arc<Dirty>,
    nodes: Vec<Node>,
    watch: Option<Watch>,
    unrest: Arc<AtomicBool>,
    /// Functions changed since they were copied.
    functions: Arc<AtomicBool>,
    /// When the job was told to stop: what is done later does not matter.
    until: KnownUpTo,
    processes: Vec<(String, String)>,
    /// Listeners; they end with the pass.
    _listeners: JoinSet<()>,
}

/// One primary of the source.
struct Node {
    id: String,
    status: Arc<ShardStatus>,
    told: KnownUpTo,
    asked: KnownUpTo,
    counts: Option<untold::Counts>,
    tells_flushes: bool,
}

impl<'a> Pass<'a> {
    /// Has all primaries of the source tell what changes from now on.
    pub(super) async fn begin(
        follows: &'a Follows<'a>,
        shards: &mut Shards,
        ledger: &Arc<Ledger>,
    ) -> Result<Self, GaveUp> {
        let (source, target) = (follows.source, follows.target);
        let options = follows.job.options();
        source.refresh(options.retry_for, ledger).await?;
        target.refresh(options.retry_for, ledger).await?;
        let processes = target.processes(options.retry_for, ledger).await?;
        let layout = watch::layout(source);
        let primaries = source.primaries();
        let room = usize::try_from(options.memory_bytes / DIRTY_PART).unwrap_or(usize::MAX);
        let dirty = Arc::new(Dirty::new(primaries.len(), room));
        let until = KnownUpTo::default();
        let mut listeners = JoinSet::new();
        let mut nodes = Vec::new();
        for (shard, (id, _)) in primaries.into_iter().enumerate() {
            let status = shards.of(&id);
            status.enter(State::Starting);
            let (link, address) = listener::open(source, &id, options.retry_for, ledger).await?;
            status.set_node(address.to_string());
            let told = KnownUpTo::default();
            let listener = Listener {
                link,
                address,
                shard,
                dirty: dirty.clone(),
                status: status.clone(),
                told: told.clone(),
                until: until.clone(),
            };
            let tells_flushes = listener.tells_flushes();
            listeners.spawn(listener.run());
            let mut asking = SourceLink::new(source.clone(), id.clone(), options.retry_for);
            let counts = untold::counts(&mut asking, ledger).await?;
            if counts.is_none() {
                ledger.remark("the source refuses INFO: SWAPDB, functions and what becomes of groups of streams alone are not followed; grant +info".to_owned());
            }
            nodes.push(Node {
                id,
                status,
                told,
                asked: KnownUpTo::default(),
                counts,
                tells_flushes,
            });
        }
        let shown = nodes.iter().map(|node| node.status.clone()).collect();
        ledger.progress.live.set_shards(shown);
        let unrest = Arc::new(AtomicBool::new(false));
        let watch = Watch {
            source: source.clone(),
            target: target.clone(),
            dirty: dirty.clone(),
            layout,
            processes: processes.clone(),
            connections: HashMap::new(),
            unrest: unrest.clone(),
        };
        Ok(Self {
            follows,
            ledger: ledger.clone(),
            dirty,
            nodes,
            watch: Some(watch),
            unrest,
            functions: Arc::new(AtomicBool::new(false)),
            until,
            processes,
            _listeners: listeners,
        })
    }

    /// Copies functions and all keys, to the last reply of the target: nothing of it is on its way any more when what was
    /// told is read.
    pub(super) async fn copy(&self) -> Result<FunctionCounts, GaveUp> {
        self.nodes
            .iter()
            .for_each(|node| node.status.enter(State::Copying));
        self.follows
            .job
            .copy_for_live(self.follows.source, &self.ledger)
            .await
    }

    /// Reads again what was told, until the job ends or everything is dirty.
    pub(super) async fn follow(mut self, looks_for_extras: bool) -> Result<Ended, GaveUp> {
        let (job, ledger) = (self.follows.job, self.ledger.clone());
        let mut way = job.open_way(&ledger).await?;
        let outlet = way.outlet.take().ok_or(GaveUp)?.deleting();
        let closing = CancellationToken::new();
        let mut tasks = JoinSet::new();
        self.start(&outlet, &closing, &mut tasks);
        let mut extras = JoinSet::new();
        let mut gave_up = false;
        if looks_for_extras {
            extras.spawn(self.extras().run(closing.clone()));
        }
        drop(outlet);
        let end = End {
            until: self.until.clone(),
            until_synced: self.follows.live.until_synced,
        };
        let ended = loop {
            if ledger.has_halted() {
                break Err(GaveUp);
            }
            if let Some(reason) = self.dirty.is_everything() {
                break Ok(Ended::Everything(reason));
            }
            if self.functions.swap(false, Ordering::AcqRel) {
                job.copy_functions(self.follows.source, None, &ledger).await;
            }
            while let Some(joined) = extras.try_join_next() {
                match joined {
                    Ok(done) => gave_up |= done.is_err(),
                    Err(e) => ledger.halt(format!("a task failed: {e}")),
                }
            }
            if gave_up {
                break Err(GaveUp);
            }
            let synced = self.synced(extras.is_empty());
            if let Some(over) = end.look(&ledger, synced, &self.dirty) {
                break over;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        closing.cancel();
        while let Some(joined) = tasks.join_next().await {
            if let Err(e) = joined {
                ledger.halt(format!("a task failed: {e}"));
            }
        }
        while extras.join_next().await.is_some() {}
        way.join(&ledger).await;
        self.nodes
            .iter()
            .for_each(|node| node.status.wait_for(None));
        if ledger.has_halted() {
            return Err(GaveUp);
        }
        match ended? {
            Ended::Synced if !self.has_same_target().await? => Ok(Ended::Everything(
                "the target was restarted, or failed over to another primary".to_owned(),
            )),
            ended => Ok(ended),
        }
    }

    /// Whether the target is still what acknowledged all that was written.
    async fn has_same_target(&self) -> Result<bool, GaveUp> {
        let retry_for = self.follows.job.options().retry_for;
        let now = self
            .follows
            .target
            .processes(retry_for, &self.ledger)
            .await?;
        Ok(now.iter().all(|node| self.processes.contains(node)))
    }

    /// Starts what works for each node.
    fn start(&mut self, outlet: &Outlet, closing: &CancellationToken, tasks: &mut JoinSet<()>) {
        let (job, source) = (self.follows.job, self.follows.source);
        let retry_for = job.options().retry_for;
        let big = Arc::new(job.big_rules(source, outlet.clone(), &self.ledger));
        let rests = Rests::new();
        let dbs = self.dbs();
        for (shard, node) in self.nodes.iter().enumerate() {
            let link = || SourceLink::new(source.clone(), node.id.clone(), retry_for);
            let (sender, queue) = mpsc::channel(QUEUE_BATCHES);
            let queue = Arc::new(Mutex::new(queue));
            for _ in 0..job.options().read_threads {
                let stray = StrayReader::new(source.clone(), retry_for, self.ledger.clone());
                let (outlet, ledger) = (outlet.clone(), self.ledger.clone());
                let reader = Reader::new(link(), stray, queue.clone(), outlet, ledger);
                let (dirty, ledger) = (self.dirty.clone(), self.ledger.clone());
                tasks.spawn(async move {
                    // How it ended is known by what it leaves unsettled; who gives up has said why.
                    if reader.run().await.is_err() && !ledger.stop.is_cancelled() {
                        dirty.everything("changed keys could not be read".to_owned());
                    }
                });
            }
            let clash = job.may_clash().then(|| Clash {
                origins: job.origins(),
                lookup: Lookup::new(source.clone(), retry_for),
                outlet: outlet.clone(),
                shard,
                dirty: self.dirty.clone(),
                ledger: self.ledger.clone(),
            });
            let feeder = Feeder {
                link: link(),
                shard,
                dirty: self.dirty.clone(),
                dbs: dbs.clone(),
                sizes: job.live_sizes(),
                clash,
                outlet: outlet.clone(),
                queue: sender,
                big: big.clone(),
                status: node.status.clone(),
                ledger: self.ledger.clone(),
                rests: rests.clone(),
            };
            tasks.spawn(feeder.run(closing.clone()));
            let asker = Asker {
                link: link(),
                shard,
                dirty: self.dirty.clone(),
                dbs: dbs.clone(),
                ledger: self.ledger.clone(),
                counts: node.counts,
                tells_flushes: node.tells_flushes,
                known: node.asked.clone(),
                functions: self.functions.clone(),
            };
            tasks.spawn(asker.run(closing.clone()));
        }
        if let Some(watch) = self.watch.take() {
            tasks.spawn(watch.run(closing.clone()));
        }
    }

    fn extras(&self) -> Extras {
        let job = self.follows.job;
        let shards = self.nodes.iter().enumerate();
        Extras {
            source: self.follows.source.clone(),
            target: self.follows.target.clone(),
            origins: job.origins(),
            dirty: self.dirty.clone(),
            shards: Arc::new(
                shards
                    .map(|(shard, node)| (node.id.clone(), shard))
                    .collect(),
            ),
            scan_count: job.options().scan_count,
            retry_for: job.options().retry_for,
            ledger: self.ledger.clone(),
        }
    }

    /// In which dbs keys are looked for.
    fn dbs(&self) -> Dbs {
        let plan = self.follows.job.plan();
        let found: BTreeSet<u32> = plan.dbs.iter().map(|db| db.source_db).collect();
        let is_cluster = self.follows.source.routing.mode() == Mode::Cluster;
        let facts = plan.source.primaries.first().map(|node| &node.facts);
        let tells_dbs = facts.is_some_and(|facts| facts.keyspace.is_some());
        match self.follows.job.chosen_dbs() {
            _ if is_cluster => Dbs::Fixed([0].into()),
            Some(chosen) => Dbs::Fixed(chosen.iter().copied().collect()),
            None if tells_dbs => Dbs::All(found),
            None => Dbs::Fixed(found),
        }
    }

    /// Shows how far each shard is; returns up to when all is applied that was done on the source, where it is.
    fn synced(&self, extras_are_done: bool) -> Option<Instant> {
        let now = Instant::now();
        // Before it is looked whether anything is open: what was told until then is in the set.
        let known = self
            .nodes
            .iter()
            .map(|node| Some(node.told.get()?.min(node.asked.get()?)));
        let known = known.reduce(|one, other| Some(one?.min(other?))).flatten();
        let is_settled = extras_are_done
            && self.dirty.is_settled()
            && !self.functions.load(Ordering::Acquire)
            && !self.unrest.load(Ordering::Acquire);
        let synced = known.filter(|_| is_settled);
        let is_synced = synced.is_some_and(|at| now.duration_since(at) <= SYNCED_AGE_MAX);
        for (shard, node) in self.nodes.iter().enumerate() {
            let (open, oldest) = self.dirty.open(shard);
            let lag = oldest.map_or(Duration::ZERO, |oldest| now.duration_since(oldest));
            let lag_ms = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
            node.status.keys_open.store(open, Ordering::Relaxed);
            node.status.lag_ms.store(lag_ms, Ordering::Relaxed);
            node.status
                .enter(match (is_synced, lag > BEHIND || !extras_are_done) {
                    (true, _) => State::Synced,
                    (false, true) => State::CatchingUp,
                    (false, false) => State::Following,
                });
        }
        synced
    }
}

/// Whether the job is at its end.
struct End {
    /// When it was first seen that it is to stop.
    until: KnownUpTo,
    /// It ends once it is synced.
    until_synced: bool,
}

impl End {
    /// `synced`: up to when all is applied.
    fn look(
        &self,
        ledger: &Ledger,
        synced: Option<Instant>,
        dirty: &Dirty,
    ) -> Option<Result<Ended, GaveUp>> {
        if !ledger.stop.is_cancelled() {
            let is_synced = synced.is_some_and(|at| at.elapsed() <= SYNCED_AGE_MAX);
            return (self.until_synced && is_synced).then_some(Ok(Ended::Synced));
        }
        let stopping = self.until.get().unwrap_or_else(|| {
            let now = Instant::now();
            self.until.set(now);
            dirty.hurry();
            now
        });
        if synced.is_some_and(|synced| synced >= stopping) {
            ledger.end_synced();
            return Some(Ok(Ended::Synced));
        }
        if stopping.elapsed() <= DRAIN_MAX {
            return None;
        }
        ledger.halt(format!(
            "interrupted with {} changed keys that were not written within {} s; the same command copies all keys again",
            dirty.count(),
            DRAIN_MAX.as_secs()
        ));
        Some(Err(GaveUp))
    }
}

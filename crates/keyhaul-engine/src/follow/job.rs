//! Follows a whole source: its shards side by side, and from the beginning again when nothing else is exact.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use keyhaul_client::{ClientError, Mode, Slot, SlotSet, TargetConnection, Topology};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::{Earlier, OpenKey};
use crate::copy::{Job, process_text};
use crate::follow::applied::{Applied, Place};
use crate::follow::apply::{Applier, ApplierParts, Habits, TargetKnows, keys_of};
use crate::follow::command::Abilities;
use crate::follow::compose::Composer;
use crate::follow::deadlines::Deadlines;
use crate::follow::folder::{JobFacts, LiveFolder, boot_id};
use crate::follow::guard::Guard;
use crate::follow::intake::{Intake, IntakeOptions, NodeChoice, Wanted};
use crate::follow::lane::LaneTools;
use crate::follow::marks::Marks;
use crate::follow::names::Names;
use crate::follow::note::Note;
use crate::follow::position::{Position, PositionFile};
use crate::follow::reporter::Reporter;
use crate::follow::reread::{Rereader, SourceView};
use crate::follow::round::Round;
use crate::follow::shard::{Shard, ShardEnd};
use crate::follow::source_asks::SourceAsks;
use crate::follow::status::{ShardStatus, State};
use crate::follow::sweep::Sweep;
use crate::follow::target_watch::{is_same_target, watch_target};
use crate::ledger::{Ledger, NotMovedListener};
use crate::options::LiveOptions;
use crate::patience::{GaveUp, Patience};
use crate::prepare::{TargetEnd, first_facts};
use crate::progress::Phase;
use crate::site::Site;
use crate::source::rounds::topology_now;
use crate::target::graves::{RunTag, end_earlier};

/// Between two looks at the topology of the source.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long tasks may take to end once everything is to end.
const END_GRACE: Duration = Duration::from_secs(10);
/// Rounds that follow one another sooner are begun later and later.
const ROUND_LEAST: Duration = Duration::from_secs(60);
/// The longest pause before a round.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// Between two looks at whether all shards are synced.
const SYNC_INTERVAL: Duration = Duration::from_millis(50);

/// Who is told of keys that the target cannot hold, by slot of the source.
type Barred = Arc<Mutex<Vec<(SlotSet, Arc<Marks>)>>>;

/// A job that follows.
pub(crate) struct FollowJob {
    job: Arc<Job>,
    live: LiveOptions,
    source: Arc<Site>,
    target: Arc<Site>,
    ledger: Arc<Ledger>,
    names: Names,
    folder: LiveFolder,
    facts: JobFacts,
    barred: Barred,
    /// Keys that an earlier run had marked.
    open: Vec<OpenKey>,
    /// Cancelled when the user wants an end.
    end: CancellationToken,
}

/// A shard of the source.
struct Slots {
    slots: SlotSet,
    first: usize,
}

impl FollowJob {
    /// Opens what an earlier run left.
    ///
    /// # Errors
    /// [`GaveUp`]: the job was halted.
    pub(crate) fn open(
        job: Arc<Job>,
        (live, source): (LiveOptions, Arc<Site>),
        ledger: Arc<Ledger>,
        end: CancellationToken,
    ) -> Result<Self, GaveUp> {
        let prepared = &job.prepared;
        let TargetEnd::Servers { site: target, .. } = &prepared.target else {
            ledger.halt("a file cannot follow a source".into());
            return Err(GaveUp);
        };
        let target = target.clone();
        let options = &prepared.options;
        let names = Names {
            filter: job.filter.clone(),
            dbs: prepared.chosen_dbs.clone(),
            db_map: options.db_map.clone(),
            renames: options.renames.clone(),
        };
        let state_dir = job.checkpoint.as_ref().and(options.state_dir.as_deref());
        let folder = LiveFolder::open(state_dir, job.identity.id());
        let folder = folder.map_err(|e| halt(&ledger, &e))?;
        let earlier = {
            let mut earlier = job.earlier.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *earlier, Earlier::Nothing)
        };
        let (open, facts) = match earlier {
            Earlier::Unfinished(mut resumed) => {
                // The target may hold them by now.
                let not_moved = resumed.not_moved.into_iter();
                resumed.open.extend(not_moved.map(|listed| OpenKey {
                    of_target: false,
                    db: listed.db,
                    key: listed.key,
                }));
                (resumed.open, folder.facts())
            }
            Earlier::Nothing | Earlier::SetAside(_) => (Vec::new(), None),
        };
        let facts = match facts {
            Some(facts) => facts,
            None => {
                folder.empty().map_err(|e| halt(&ledger, &e))?;
                JobFacts {
                    target_was_empty: job.plan().target.keys == Some(0),
                    ..JobFacts::default()
                }
            }
        };
        Ok(Self {
            job,
            live,
            source,
            target,
            ledger,
            names,
            folder,
            facts,
            barred: Barred::default(),
            open,
            end,
        })
    }

    /// Follows until the end is asked for. `true`: all is on the target that the source had done by then.
    ///
    /// # Errors
    /// [`GaveUp`]: the job was halted.
    pub(crate) async fn run(mut self) -> Result<bool, GaveUp> {
        self.ledger.progress.enter(Phase::Following);
        self.listen();
        let mut begins_again = None;
        let mut pause = Duration::ZERO;
        loop {
            let began = Instant::now();
            let round = Arc::new(Round::default());
            let ended = self.run_round(&round, begins_again.is_some()).await;
            let status = &self.ledger.progress.live;
            match (ended, round.reason()) {
                (Ok(is_synced), None) => {
                    status.stopped();
                    return Ok(is_synced);
                }
                (_, Some(reason)) if !self.ledger.stop.is_cancelled() => {
                    self.ledger
                        .remark(format!("all keys are copied again: {reason}"));
                    begins_again = Some(reason);
                    status.clear_shards();
                    if self.end.is_cancelled() {
                        return Ok(false);
                    }
                    pause = match began.elapsed() < ROUND_LEAST {
                        true => (pause * 2).max(Duration::from_secs(1)).min(PAUSE_MAX),
                        false => Duration::ZERO,
                    };
                    tokio::select! {
                        () = tokio::time::sleep(pause / 2) => {}
                        () = self.end.cancelled() => return Ok(false),
                    }
                }
                (Err(GaveUp), None) if self.end.is_cancelled() && !self.ledger.has_halted() => {
                    status.stopped();
                    return Ok(false);
                }
                _ => {
                    status.stopped();
                    return Err(GaveUp);
                }
            }
        }
    }

    /// Keys that the target cannot hold are not written to by commands.
    fn listen(&self) {
        let barred = self.barred.clone();
        let listener = NotMovedListener(Box::new(move |db, key| {
            let slot = Slot::of_key(key);
            let shards = barred.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, marks)) = shards.iter().find(|(slots, _)| slots.contains(slot)) {
                marks.bar((db, Bytes::copy_from_slice(key)));
            }
        }));
        let _ = self.ledger.listener.set(listener);
    }

    /// From the snapshot, or where an earlier run stopped, until the end or until everything begins again.
    async fn run_round(&mut self, round: &Arc<Round>, is_again: bool) -> Result<bool, GaveUp> {
        let retry_for = self.job.prepared.options.retry_for;
        let topology = self.stable_topology().await?;
        self.target.refresh(retry_for, &self.ledger).await?;
        let processes = self.target.processes(retry_for, &self.ledger).await?;
        let shards = slots_of(&topology);
        let now = JobFacts {
            target_was_empty: self.facts.target_was_empty,
            target: process_text(&processes),
            layout: layout(&topology),
            boot_id: boot_id(),
        };
        let had_begun = !self.facts.layout.is_empty();
        let goes_on = !is_again && self.facts == now;
        if had_begun && !goes_on && !is_again {
            self.ledger.remark(
                "all keys are copied again: the target, the layout of the source or this machine is not what it was when an earlier run stopped".into(),
            );
        }
        // The snapshots bring all of them.
        self.ledger.functions_refused.store(0, Ordering::Relaxed);
        if !goes_on {
            // Where a shard is counts no more, before anything else is noted.
            for shard in &shards {
                let path = self.folder.of_shard(shard.first, "position");
                match std::fs::remove_file(path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        return Err(halt(&self.ledger, &e));
                    }
                    _ => {}
                }
            }
        }
        self.folder.note(&now).map_err(|e| halt(&self.ledger, &e))?;
        self.facts = now;
        let tag = RunTag::new(self.job.identity.id());
        let knows = self.target_knows(&tag).await?;
        let drain = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let mut beside = JoinSet::new();
        self.lock_barred().clear();
        for shard in &shards {
            let way = Parts {
                round,
                drain: &drain,
                processes: &processes,
                knows: &knows,
                tag: &tag,
                is_whole: topology.mode == Mode::Standalone,
                needs_sweep: had_begun,
            };
            let shard = self.shard(shard, way, goes_on, &mut beside).await?;
            tasks.spawn(shard.run());
        }
        if topology.mode == Mode::Cluster {
            beside.spawn(watch_slots(
                self.source.clone(),
                layout(&topology),
                round.clone(),
            ));
        }
        beside.spawn(watch_target(
            self.target.clone(),
            processes.clone(),
            round.clone(),
        ));
        self.open.clear();
        let mut ended = self.watch(&mut tasks, round, &drain).await;
        tasks.shutdown().await;
        beside.shutdown().await;
        if let Ok(is_synced @ true) = &mut ended
            && !is_same_target(&self.target, &processes).await
        {
            self.ledger.remark("the target was restarted, or failed over, at the end: it may lack what it had taken".into());
            *is_synced = false;
        }
        ended
    }

    /// Waits for the shards, and has them end when the user or the job wants it.
    async fn watch(
        &self,
        tasks: &mut JoinSet<Result<ShardEnd, GaveUp>>,
        round: &Arc<Round>,
        drain: &CancellationToken,
    ) -> Result<bool, GaveUp> {
        let mut syncs = tokio::time::interval(SYNC_INTERVAL);
        let mut is_synced = true;
        let mut is_given_up = false;
        loop {
            tokio::select! {
                // What does not end by itself is ended.
                () = ended_for_long(round, &self.ledger.stop) => return Err(GaveUp),
                joined = tasks.join_next() => match joined {
                    None if is_given_up => return Err(GaveUp),
                    None => return Ok(is_synced),
                    Some(Ok(Ok(end))) => is_synced &= end.is_synced,
                    Some(Ok(Err(GaveUp))) => {
                        is_given_up = true;
                        // The others cannot come to an end that counts.
                        drain.cancel();
                    }
                    Some(Err(e)) => {
                        self.ledger.halt(format!("a task failed: {e}"));
                        is_given_up = true;
                    }
                },
                () = self.end.cancelled(), if !drain.is_cancelled() => drain.cancel(),
                _ = syncs.tick(), if self.live.until_synced && !drain.is_cancelled() => {
                    let now = self.ledger.progress.live.snapshot();
                    if !now.shards.is_empty() && now.state == State::Synced {
                        drain.cancel();
                    }
                }
            }
        }
    }

    /// The topology of the source, once no slot is on the move.
    async fn stable_topology(&self) -> Result<Topology, GaveUp> {
        let retry_for = self.job.prepared.options.retry_for;
        let mut before: Option<String> = None;
        loop {
            let now = topology_now(&self.source, retry_for, &self.ledger).await?;
            let now = Topology::clone(&now);
            if now.mode == Mode::Standalone
                || (now.open_slots.is_empty() && before.as_ref() == Some(&layout(&now)))
            {
                self.ledger.progress.wait_for(None);
                return Ok(now);
            }
            if !now.open_slots.is_empty() {
                let line = "slots move on the source".to_owned();
                self.ledger.progress.wait_for(Some(line));
            }
            before = now.open_slots.is_empty().then(|| layout(&now));
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL / 2) => {}
                () = self.end.cancelled() => return Err(GaveUp),
                () = self.ledger.stop.cancelled() => return Err(GaveUp),
            }
        }
    }

    /// Ends what earlier runs have left open on the target, and asks it which commands it has.
    async fn target_knows(&self, tag: &RunTag) -> Result<TargetKnows, GaveUp> {
        let mut patience = Patience::new(self.job.prepared.options.retry_for);
        loop {
            match self.try_target_knows(tag).await {
                Ok(knows) => return Ok(knows),
                Err(e) => {
                    self.target.recover(&e, &mut patience, &self.ledger).await?;
                }
            }
        }
    }

    async fn try_target_knows(&self, tag: &RunTag) -> Result<TargetKnows, ClientError> {
        let mut commands: Option<HashSet<Vec<u8>>> = None;
        for (_, address) in self.target.primaries() {
            let connector = self.target.routing.connector();
            let mut connection =
                TargetConnection::open(connector, &address, self.target.expiry).await?;
            end_earlier(&mut connection, tag).await?;
            let of_node = match connection.reads().command_names().await {
                Ok(names) => names,
                // Errors will say it.
                Err(ClientError::Server { .. }) => return Ok(TargetKnows::default()),
                Err(e) => return Err(e),
            };
            commands = Some(match commands {
                None => of_node,
                Some(known) => known.intersection(&of_node).cloned().collect(),
            });
        }
        let commands = commands.unwrap_or_default();
        let abilities = Abilities::of_commands(|name| commands.contains(name.as_bytes()));
        Ok(TargetKnows {
            commands,
            abilities,
        })
    }

    /// Puts the parts of one shard together, and starts what works beside it.
    async fn shard(
        &self,
        slots: &Slots,
        parts: Parts<'_>,
        goes_on: bool,
        beside: &mut JoinSet<()>,
    ) -> Result<Shard, GaveUp> {
        let ledger = &self.ledger;
        let retry_for = self.job.prepared.options.retry_for;
        let halted = |e: std::io::Error| halt(ledger, &e);
        let path = |what| self.folder.of_shard(slots.first, what);
        let position = PositionFile::open(&path("position")).map_err(halted)?;
        let note = Note::new(Some(position));
        let from = note.position();
        let resumes = goes_on && from.is_following;
        let deadlines = match resumes {
            true => Deadlines::open(&path("deadlines")),
            false => Deadlines::begin_anew(&path("deadlines")),
        };
        let deadlines = deadlines.map_err(halted)?;
        let needs_sweep = parts.needs_sweep || !from.replid.is_empty();
        let status = ledger.progress.live.add_shard(String::new());
        let fields = std::fs::OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path("fields"));
        let marks = fields.and_then(|file| Marks::new(self.job.checkpoint.clone(), Some(file)));
        let marks = marks.map_err(halted)?;
        let place = Place {
            offset: from.applied,
            db: from.db,
        };
        let applied = Applied::at(place);
        marks.compose(place.offset);
        if !resumes {
            marks.clear();
        }
        for key in &self.open {
            if resumes && slots.slots.contains(Slot::of_key(&key.key)) {
                marks.mark((key.db, key.key.clone()));
            }
        }
        self.lock_barred()
            .push((slots.slots.clone(), marks.clone()));
        let ahead = first_facts(&self.job.plan().target).clock_ahead_ms;
        // Rounded up: what is held too long is held none the worse.
        let ahead = ahead.map_or(0, |ms| ms.ceil() as i64);
        let guard = Arc::new(Guard::new(deadlines, ahead));
        let intake = self.intake(slots, &from, resumes, &status);
        let replid = if resumes {
            from.replid.clone()
        } else {
            String::new()
        };
        let view = Arc::new(SourceView::new(intake.node_handle(), replid));
        let applier = self.applier(&parts, (&marks, &applied, &guard, &view, &status), &note, {
            (place, if resumes { from.sent } else { 0 }, slots)
        });
        self.start_rereader((&marks, &applied, &guard, &view, &status), &parts, beside)
            .await?;
        let reporter = Arc::new(Reporter::new(
            self.source.clone(),
            view.clone(),
            (applied.clone(), marks.clone()),
            status.clone(),
            resumes,
        ));
        beside.spawn(reporter.clone().run());
        let sweep = Sweep {
            target: self.target.clone(),
            origins: self.job.origins(),
            ledger: ledger.clone(),
            retry_for,
            is_ours: self.facts.target_was_empty,
            foreign: path("foreign"),
        };
        if resumes {
            ledger.remark(format!(
                "goes on where an earlier run of this command stopped: offset {}",
                from.applied
            ));
        }
        Ok(Shard {
            job: self.job.clone(),
            applier,
            intake,
            applied,
            marks,
            guard,
            note,
            view,
            round: parts.round.clone(),
            status,
            ledger: ledger.clone(),
            reporter,
            steps: Arc::default(),
            drain: parts.drain.clone(),
            sweep,
            needs_sweep,
            passes_over: !self.live.copies_first && !parts.needs_sweep && !resumes,
            slots: slots.slots.clone(),
            noted: None,
            tag: parts.tag.clone(),
        })
    }

    fn intake(
        &self,
        slots: &Slots,
        from: &Position,
        resumes: bool,
        status: &Arc<ShardStatus>,
    ) -> Intake {
        let options = IntakeOptions {
            site: self.source.clone(),
            node: match (self.source.routing.mode(), slots.slots.iter().next()) {
                (Mode::Cluster, Some(slot)) => NodeChoice::Slot(slot),
                _ => NodeChoice::Standalone,
            },
            retry_for: self.job.prepared.options.retry_for,
            spool_dir: Some(self.folder.of_shard(slots.first, "spool")),
            spool_bytes_max: self.live.spool_bytes_max,
            prefers_replica: self.live.prefers_replica,
        };
        let wanted = resumes.then(|| Wanted {
            replid: from.replid.clone(),
            applied: from.applied,
        });
        Intake::start(options, wanted, status.clone(), self.ledger.clone())
    }

    fn applier(
        &self,
        parts: &Parts<'_>,
        (marks, applied, guard, view, status): Shared<'_>,
        note: &Note,
        (from, uncertain_until, slots): (Place, u64, &Slots),
    ) -> Applier {
        let retry_for = self.job.prepared.options.retry_for;
        let names = self.names.clone();
        let tools = LaneTools {
            target: self.target.clone(),
            marks: marks.clone(),
            round: parts.round.clone(),
            ledger: self.ledger.clone(),
            status: status.clone(),
            keys_of: Box::new(move |command, db| keys_of(&names, command, db)),
            retry_for,
            tag: parts.tag.clone(),
        };
        let composer = Composer::new(Arc::new(tools), applied.clone(), parts.processes.to_vec());
        let parts = ApplierParts {
            composer,
            marks: marks.clone(),
            names: self.names.clone(),
            guard: guard.clone(),
            knows: parts.knows.clone(),
            habits: Habits {
                may_flush: parts.is_whole && self.facts.target_was_empty,
                forwards_messages: self.live.forwards_messages,
                functions: self.job.prepared.options.functions,
            },
            slots: (!parts.is_whole).then(|| slots.slots.clone()),
            asks: SourceAsks::new(self.source.clone(), view.clone(), retry_for),
            note: note.clone(),
            round: parts.round.clone(),
            ledger: self.ledger.clone(),
        };
        Applier::new(parts, from, uncertain_until)
    }

    async fn start_rereader(
        &self,
        (marks, applied, guard, view, status): Shared<'_>,
        parts: &Parts<'_>,
        beside: &mut JoinSet<()>,
    ) -> Result<(), GaveUp> {
        let mut way = self
            .job
            .open_tagged_way(&self.ledger, Some(parts.tag.clone()))
            .await?;
        let outlet = way.outlet.take().ok_or(GaveUp)?;
        let rereader = Rereader {
            site: self.source.clone(),
            view: view.clone(),
            marks: marks.clone(),
            applied: applied.clone(),
            outlet: outlet.guarded_by(guard.clone()),
            round: parts.round.clone(),
            status: status.clone(),
            ledger: self.ledger.clone(),
            sizes: self.job.options().mem_limit.and(self.job.live_sizes()),
            retry_for: self.job.prepared.options.retry_for,
        };
        beside.spawn(async move {
            // Held as long as its outlet: the lanes end with it.
            let _way = way;
            // Who gives up has halted the job.
            let _ = rereader.run().await;
        });
        Ok(())
    }

    fn lock_barred(&self) -> std::sync::MutexGuard<'_, Vec<(SlotSet, Arc<Marks>)>> {
        self.barred.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the shards of a round have in common.
struct Parts<'a> {
    round: &'a Arc<Round>,
    drain: &'a CancellationToken,
    processes: &'a [(String, String)],
    knows: &'a TargetKnows,
    tag: &'a RunTag,
    /// The shard is the whole source.
    is_whole: bool,
    /// The target may hold keys of a snapshot before.
    needs_sweep: bool,
}

/// What the tasks of a shard share.
type Shared<'a> = (
    &'a Arc<Marks>,
    &'a Arc<Applied>,
    &'a Arc<Guard>,
    &'a Arc<SourceView>,
    &'a Arc<ShardStatus>,
);

/// Returns a while after everything was to end.
async fn ended_for_long(round: &Round, stop: &CancellationToken) {
    tokio::select! {
        () = round.ended() => {}
        () = stop.cancelled() => {}
    }
    tokio::time::sleep(END_GRACE).await;
}

/// Slots that move on the source end the round: what two nodes say of one key has no order.
async fn watch_slots(source: Arc<Site>, before: String, round: Arc<Round>) {
    while !round.has_ended() {
        tokio::time::sleep(LOOK_INTERVAL).await;
        match source.routing.refresh_now().await {
            Ok(now) if !now.open_slots.is_empty() || layout(&now) != before => {
                round.begin_again("slots move on the source".into());
            }
            Ok(_) => {}
            Err(e) => tracing::info!("source: {}", keyhaul_client::chain(&e)),
        }
    }
}

/// The shards of a topology.
fn slots_of(topology: &Topology) -> Vec<Slots> {
    let of = |slots: SlotSet| {
        let first = slots.iter().next().map(Slot::index);
        first.map(|first| Slots { slots, first })
    };
    match topology.mode {
        Mode::Standalone => of(SlotSet::all()).into_iter().collect(),
        Mode::Cluster => {
            let owned = |index: usize| {
                let mut slots = SlotSet::empty();
                for slot in SlotSet::all().iter() {
                    if topology.owner_index(slot).is_ok_and(|owner| owner == index) {
                        slots.insert(slot);
                    }
                }
                slots
            };
            let nodes = 0..topology.primaries.len();
            nodes.filter_map(|index| of(owned(index))).collect()
        }
    }
}

/// Which slots belong together: the same before and after a failover.
fn layout(topology: &Topology) -> String {
    let mut text = String::new();
    let mut last = None;
    for slot in SlotSet::all().iter() {
        let owner = topology.owner_index(slot).ok();
        if topology.mode == Mode::Cluster && (owner != last || slot.index() == 0) {
            // Nodes by the first slot that they have.
            let first = SlotSet::all()
                .iter()
                .find(|other| topology.owner_index(*other).ok() == owner);
            let first = first.map_or(0, Slot::index);
            text.push_str(&format!("{}:{first} ", slot.index()));
            last = owner;
        }
    }
    if text.is_empty() { "all".into() } else { text }
}

fn halt(ledger: &Ledger, error: &std::io::Error) -> GaveUp {
    ledger.halt(format!(
        "cannot keep where the job is in the state folder ({error}): free space there, or name another folder by --state-dir"
    ));
    GaveUp
}

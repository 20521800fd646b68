//! Goes over all primaries of the source, and goes again over what moved meanwhile.
//!
//! SCAN promises the keys that stay in one node from its start to its end. A slot that moves during
//! a run may leave a node before its turn and arrive at another after it. So the topology is looked
//! at before and after a round, and the slots that moved, or were on the move, are scanned again:
//!
//! - A slot has another owner, or its owner took over slots (its epoch grew; this one may have left
//!   and come back): again.
//! - A slot is on the move before or after a round in which the nodes were scanned side by side: again.
//! - From the second round on, nodes are scanned one after the other, those that give slots away
//!   first. A key that moves from the first to the second during that is seen by one of the two, so
//!   a slot that stays on the move in one direction is complete.

use std::sync::Arc;
use std::time::Duration;

use keyhaul_client::{ClientError, Mode, SlotSet, Topology};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::checkpoint::{Checkpoint, ScanPosition};
use crate::ledger::Ledger;
use crate::patience::{GaveUp, Patience};
use crate::site::{Site, SourceLink};
use crate::source::reader::KeyQueue;
use crate::source::scan::{ScanEnd, ScanJob, Scanner};
use crate::source::sieve::Sieve;
use crate::source::track::ScanTrack;

/// Batches of keys between a scan and its workers.
const QUEUE_BATCHES: usize = 4;
/// Rounds over slots that move again and again before the run gives up.
const ROUNDS_MAX: usize = 50;

/// Tasks that work off the keys of one node.
pub(crate) type Workers = JoinSet<Result<ScanEnd, GaveUp>>;

/// A pass over all keys of the source.
pub(crate) struct Pass {
    pub site: Arc<Site>,
    pub job: ScanJob,
    pub sieve: Sieve,
    /// Where an earlier run left off, and what writes down how far this one comes; `None`: nothing does.
    pub resume: Option<Resume>,
    pub retry_for: Duration,
    pub ledger: Arc<Ledger>,
}

/// Positions of an earlier run, and the checkpoint of this one.
#[derive(Debug, Clone)]
pub(crate) struct Resume {
    pub checkpoint: Arc<Checkpoint>,
    pub positions: Vec<ScanPosition>,
}

impl Pass {
    /// Runs to the end; `workers` starts what works off the keys of a node.
    ///
    /// # Errors
    /// [`GaveUp`] when the job was halted or is to stop.
    pub(crate) async fn run(
        &self,
        workers: impl Fn(&str, KeyQueue, &mut Workers),
    ) -> Result<(), GaveUp> {
        let mut rounds = Rounds::begin(&self.site, self.retry_for, &self.ledger).await?;
        while let Some(round) = rounds.next() {
            let lost = self
                .scan_nodes(round.nodes, round.slots, round.order, &workers)
                .await?;
            rounds.finish(&lost).await?;
        }
        Ok(())
    }

    /// Scans these nodes; returns the ids of those that ceased to be primaries.
    async fn scan_nodes(
        &self,
        nodes: Vec<String>,
        slots: Option<SlotSet>,
        order: Order,
        workers: &impl Fn(&str, KeyQueue, &mut Workers),
    ) -> Result<Vec<String>, GaveUp> {
        let mut running: Vec<(String, Workers)> = Vec::new();
        let mut lost = Vec::new();
        for node_id in nodes {
            let (output, queue) = mpsc::channel(QUEUE_BATCHES);
            let mut tasks = Workers::new();
            workers(&node_id, Arc::new(Mutex::new(queue)), &mut tasks);
            let link = SourceLink::new(self.site.clone(), node_id.clone(), self.retry_for);
            let job = ScanJob {
                slots: slots.clone(),
                ..self.job.clone()
            };
            let (sieve, ledger) = (self.sieve.clone(), self.ledger.clone());
            // What is scanned again for moved slots is scanned again after a stop too.
            let resume = self.resume.as_ref().filter(|_| slots.is_none());
            let track = resume.map(|resume| {
                let checkpoint = resume.checkpoint.clone();
                Arc::new(ScanTrack::new(checkpoint, self.ledger.clone()))
            });
            let start = resume.and_then(|resume| {
                // The dbs are scanned in their order.
                let positions = resume.positions.iter();
                let own = positions.filter(|position| position.node_id == node_id);
                own.max_by_key(|position| position.db).cloned()
            });
            tasks.spawn(
                Scanner {
                    link,
                    job,
                    sieve,
                    ledger,
                    output,
                    track,
                    start,
                }
                .run(),
            );
            if order == Order::GiversFirst {
                lost.extend(join_node(node_id, tasks, &self.ledger).await?);
            } else {
                running.push((node_id, tasks));
            }
        }
        let mut gave_up = false;
        for (node_id, tasks) in running {
            match join_node(node_id, tasks, &self.ledger).await {
                Ok(one) => lost.extend(one),
                Err(GaveUp) => gave_up = true, // the others are joined all the same
            }
        }
        if gave_up { Err(GaveUp) } else { Ok(lost) }
    }
}

/// Waits for all tasks of one node; `Some`: the node ceased to be a primary.
///
/// # Errors
/// [`GaveUp`] when the job was halted or is to stop.
pub(crate) async fn join_node(
    node_id: String,
    mut tasks: Workers,
    ledger: &Ledger,
) -> Result<Option<String>, GaveUp> {
    let (mut is_lost, mut gave_up) = (false, false);
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok(Ok(ScanEnd::Complete)) => {}
            Ok(Ok(ScanEnd::NodeLost)) => is_lost = true,
            Ok(Err(GaveUp)) => gave_up = true,
            Err(e) => {
                ledger.halt(format!("a task failed: {e}"));
                gave_up = true;
            }
        }
    }
    // A lost node ends its other tasks too; only a stop ends the whole.
    if gave_up && (ledger.stop.is_cancelled() || !is_lost) {
        return Err(GaveUp);
    }
    Ok(is_lost.then_some(node_id))
}

/// The rounds of one pass: which nodes are to be scanned next, and for which slots.
#[derive(Debug)]
pub(crate) struct Rounds<'a> {
    site: &'a Site,
    retry_for: Duration,
    ledger: &'a Ledger,
    /// As it was before the round.
    topology: Arc<Topology>,
    /// So many rounds were begun.
    begun: usize,
    /// Slots that are to be scanned again.
    moved: SlotSet,
}

/// One round.
#[derive(Debug)]
pub(crate) struct Round {
    /// Ids of the nodes to be scanned; empty of a standalone server.
    pub nodes: Vec<String>,
    /// Only these slots; `None`: all.
    pub slots: Option<SlotSet>,
    pub order: Order,
}

impl<'a> Rounds<'a> {
    /// # Errors
    /// [`GaveUp`] when the job was halted or is to stop.
    pub(crate) async fn begin(
        site: &'a Site,
        retry_for: Duration,
        ledger: &'a Ledger,
    ) -> Result<Self, GaveUp> {
        let topology = match site.routing.mode() {
            Mode::Standalone => site.routing.topology(),
            Mode::Cluster => topology_now(site, retry_for, ledger).await?,
        };
        Ok(Self {
            site,
            retry_for,
            ledger,
            topology,
            begun: 0,
            moved: SlotSet::empty(),
        })
    }

    /// The round to be gone now; `None`: all was scanned. [`Rounds::finish`] ends it.
    pub(crate) fn next(&mut self) -> Option<Round> {
        let is_first = self.begun == 0;
        if !is_first && self.moved.is_empty() {
            return None;
        }
        self.begun += 1;
        let order = match is_first {
            true => Order::SideBySide,
            false => Order::GiversFirst,
        };
        Some(Round {
            nodes: in_order(&self.topology, order),
            slots: (!is_first).then(|| self.moved.clone()),
            order,
        })
    }

    /// The round is over; these nodes ceased to be primaries.
    ///
    /// # Errors
    /// [`GaveUp`] when the job was halted or is to stop, or slots keep moving.
    pub(crate) async fn finish(&mut self, lost: &[String]) -> Result<(), GaveUp> {
        if self.topology.mode == Mode::Standalone {
            return Ok(());
        }
        let order = match self.begun {
            1 => Order::SideBySide,
            _ => Order::GiversFirst,
        };
        let after = topology_now(self.site, self.retry_for, self.ledger).await?;
        self.moved = moved_slots(&self.topology, &after, order, lost);
        self.topology = after;
        if self.moved.is_empty() {
            return Ok(());
        }
        self.ledger.remark(format!(
            "{} slots of the source moved during the run: they are scanned again",
            self.moved.len()
        ));
        if self.begun == ROUNDS_MAX {
            self.ledger.halt(format!(
                "source: slots kept moving through {ROUNDS_MAX} rounds"
            ));
            return Err(GaveUp);
        }
        Ok(())
    }
}

/// The topology as it is now; half a cluster is waited for like a server that is away.
///
/// # Errors
/// [`GaveUp`] when the job was halted or is to stop.
pub(crate) async fn topology_now(
    site: &Site,
    retry_for: Duration,
    ledger: &Ledger,
) -> Result<Arc<Topology>, GaveUp> {
    let mut patience = Patience::new(retry_for);
    loop {
        match site.routing.refresh_now().await {
            Ok(topology) => {
                let Some(slot) = topology.uncovered().iter().next() else {
                    return Ok(topology);
                };
                let error = ClientError::UncoveredSlot { slot };
                site.recover(&error, &mut patience, ledger).await?;
            }
            Err(e) => site.recover(&e, &mut patience, ledger).await?,
        }
    }
}

/// The slots of which keys may be missing when all nodes were read side by side between two looks.
pub(crate) fn moved_between(before: &Topology, after: &Topology) -> SlotSet {
    match before.mode {
        Mode::Standalone => SlotSet::empty(),
        Mode::Cluster => moved_slots(before, after, Order::SideBySide, &[]),
    }
}

/// How the nodes of a round are gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// All at the same time.
    SideBySide,
    /// One after the other, those first that give slots away.
    GiversFirst,
}

/// The node ids; for [`Order::GiversFirst`] those that give slots away before the others.
fn in_order(topology: &Topology, order: Order) -> Vec<String> {
    let gives = |index: usize| topology.open_slots.iter().any(|open| open.from == index);
    let mut nodes: Vec<(bool, &str)> = topology
        .primaries
        .iter()
        .enumerate()
        .map(|(index, node)| {
            (
                order == Order::GiversFirst && !gives(index),
                node.id.as_str(),
            )
        })
        .collect();
    nodes.sort_by_key(|(takes, _)| *takes);
    nodes.into_iter().map(|(_, id)| id.to_owned()).collect()
}

/// The slots that a round may have missed keys of.
fn moved_slots(before: &Topology, after: &Topology, order: Order, lost: &[String]) -> SlotSet {
    let mut moved = SlotSet::empty();
    let owner = |topology: &Topology, slot| topology.owner(slot).map(|node| node.id.clone());
    for slot in SlotSet::all().iter() {
        let (old, new) = (owner(before, slot), owner(after, slot));
        if old != new {
            moved.insert(slot);
        }
    }
    for node_id in lost {
        moved.extend(&before.slots_of(node_id));
    }
    for node in &after.primaries {
        // A slot that left and came back: the import that brought it back raised the epoch, unless it
        // was the highest already, and then the other node's import had raised it before.
        let grew = before
            .node(&node.id)
            .is_some_and(|old| old.epoch < node.epoch);
        if grew {
            moved.extend(&after.slots_of(&node.id));
        }
    }
    for (one, other) in [(before, after), (after, before)] {
        for open in &one.open_slots {
            let giver = one.primaries.get(open.from).map(|node| &node.id);
            let stays_open = other.open_slots.iter().any(|same| {
                same.slot == open.slot && other.primaries.get(same.from).map(|n| &n.id) == giver
            });
            if order == Order::SideBySide || !stays_open {
                moved.insert(open.slot);
            }
        }
    }
    moved
}

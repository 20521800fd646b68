//! Puts portions together: what goes to which node of the target, and what is settled with it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use keyhaul_client::{ExpiryCommand, Mode, SLOT_COUNT, Slot, Topology};
use keyhaul_resp::{Value, encode};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::follow::applied::{Applied, Place, Share};
use crate::follow::lane::{CommandLane, Keys, LaneTools, Look, Pieces, Portion, QUEUE, Sent};

/// Commands of a portion before it is handed on, however little of the stream they are.
const COMMANDS_MAX: usize = 8192;

/// The way to the nodes of the target for the commands of one shard.
pub(crate) struct Composer {
    tools: Arc<LaneTools>,
    applied: Arc<Applied>,
    topology: Arc<Topology>,
    lanes: Vec<LaneOut>,
    /// The lane of each slot of a cluster.
    lane_of_slot: Vec<usize>,
    /// The process of each node that holds what was written so far.
    processes: Vec<(String, String)>,
    tasks: JoinSet<()>,
}

/// What is on its way into a lane.
struct LaneOut {
    node_id: String,
    inlet: mpsc::Sender<Portion>,
    /// The db that is selected where the portion ends; `None`: it is empty.
    db: Option<u32>,
    pieces: Pieces,
    sent: Vec<Sent>,
}

impl Composer {
    pub(crate) fn new(
        tools: Arc<LaneTools>,
        applied: Arc<Applied>,
        processes: Vec<(String, String)>,
    ) -> Self {
        let topology = tools.target.routing.topology();
        let mut composer = Self {
            tools,
            applied,
            topology: topology.clone(),
            lanes: Vec::new(),
            lane_of_slot: Vec::new(),
            processes,
            tasks: JoinSet::new(),
        };
        composer.learn(topology);
        composer
    }

    /// Whether the target is one server, which takes keys of all slots in one command.
    pub(crate) fn is_standalone(&self) -> bool {
        self.topology.mode == Mode::Standalone
    }

    /// How the target tells when a key expires.
    pub(crate) fn target_expiry(&self) -> ExpiryCommand {
        self.tools.target.expiry
    }

    /// Looks where the slots are now. Not within a portion.
    pub(crate) fn refresh(&mut self) {
        let now = self.tools.target.routing.topology();
        if !Arc::ptr_eq(&now, &self.topology) {
            self.learn(now);
        }
    }

    /// How many nodes there are.
    pub(crate) fn lane_count(&self) -> usize {
        self.lanes.len()
    }

    /// The lane of a key of the target.
    pub(crate) fn lane_of(&self, target_key: &[u8]) -> usize {
        match self.topology.mode {
            Mode::Standalone => 0,
            Mode::Cluster => {
                let slot = Slot::of_key(target_key).index();
                self.lane_of_slot.get(slot).copied().unwrap_or(0)
            }
        }
    }

    fn learn(&mut self, topology: Arc<Topology>) {
        let mut index_of = Vec::new();
        for node in &topology.primaries {
            let known = self.lanes.iter().position(|lane| lane.node_id == node.id);
            let index = known.unwrap_or_else(|| {
                let lane = self.open(node.id.clone());
                self.lanes.push(lane);
                self.lanes.len() - 1
            });
            index_of.push(index);
        }
        if topology.mode == Mode::Cluster {
            self.lane_of_slot.resize(SLOT_COUNT, 0);
            for (slot, lane) in self.lane_of_slot.iter_mut().enumerate() {
                let slot = Slot::new(slot as u64);
                let owner = slot.and_then(|slot| topology.owner_index(slot).ok());
                // Nobody's slot: whoever is asked says where it is.
                *lane = owner.and_then(|at| index_of.get(at).copied()).unwrap_or(0);
            }
        }
        self.topology = topology;
    }

    fn open(&mut self, node_id: String) -> LaneOut {
        let (inlet, portions) = mpsc::channel(QUEUE);
        let mut known = self.processes.iter();
        let run_id = known.find(|(id, _)| *id == node_id);
        let run_id = run_id
            .map(|(_, run)| run.clone())
            .filter(|run| !run.is_empty());
        let lane = CommandLane::new(self.tools.clone(), node_id.clone(), run_id, portions);
        self.tasks.spawn(lane.run());
        LaneOut {
            node_id,
            inlet,
            db: None,
            pieces: Pieces::default(),
            sent: Vec::new(),
        }
    }

    /// Appends one encoded command.
    pub(crate) fn push(&mut self, lane: usize, db: u32, command: &Bytes, sent: Sent) {
        let select = self.topology.mode == Mode::Standalone;
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.select(db, select);
            lane.pieces.push(command);
            lane.sent.push(sent);
        }
    }

    /// Appends encoded commands that `write` writes, and as many replies to expect.
    pub(crate) fn push_written(
        &mut self,
        lane: usize,
        db: u32,
        sent: Vec<Sent>,
        write: impl FnOnce(&mut BytesMut),
    ) {
        let select = self.topology.mode == Mode::Standalone;
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.select(db, select);
            write(lane.pieces.buffer());
            lane.sent.extend(sent);
        }
    }

    /// Whether so many commands are held that they should go.
    pub(crate) fn is_full(&self) -> bool {
        self.lanes
            .iter()
            .any(|lane| lane.sent.len() >= COMMANDS_MAX)
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.sent.is_empty())
    }

    /// Drops all that is held: it is of a history that ended.
    pub(crate) fn clear(&mut self) {
        for lane in &mut self.lanes {
            drop(lane.take(0, None, None));
        }
    }

    /// Hands all that is held to the lanes, as the portion of the stream that ends at `end`.
    pub(crate) async fn flush(&mut self, end: Place) {
        let share = self.applied.hand_out(end);
        for lane in &mut self.lanes {
            if !lane.sent.is_empty() {
                let portion = lane.take(end.offset, Some(share.clone()), None);
                // A lane that has ended, ended with all.
                let _ = lane.inlet.send(portion).await;
            }
        }
        share.settle();
    }

    /// Sends `commands` to a node, behind what was handed on before, and waits for the replies. `None`: the connection broke,
    /// and they may have been executed or not. Nothing may be held.
    pub(crate) async fn ask(
        &mut self,
        lane: usize,
        db: u32,
        commands: Vec<Vec<Bytes>>,
    ) -> Option<Vec<Value>> {
        let select = self.topology.mode == Mode::Standalone;
        let lane = self.lanes.get_mut(lane)?;
        lane.select(db, select);
        for command in &commands {
            let args: Vec<&[u8]> = command.iter().map(|arg| &arg[..]).collect();
            encode::command(lane.pieces.buffer(), &args);
            lane.sent.push(Sent {
                keys: Keys::None,
                look: Look::Answer,
            });
        }
        let (answer, replies) = oneshot::channel();
        let portion = lane.take(0, None, Some(answer));
        lane.inlet.send(portion).await.ok()?;
        replies.await.ok()
    }
}

impl LaneOut {
    /// Sees to it that what follows is for this db. Each portion selects anew: the connection may be another one by then.
    fn select(&mut self, db: u32, can_select: bool) {
        if self.db == Some(db) || !can_select {
            self.db = Some(db);
            return;
        }
        self.db = Some(db);
        let number = db.to_string();
        encode::command(self.pieces.buffer(), &[b"SELECT", number.as_bytes()]);
        self.sent.push(Sent {
            keys: Keys::None,
            look: Look::Select,
        });
    }

    fn take(
        &mut self,
        end: u64,
        share: Option<Share>,
        answer: Option<oneshot::Sender<Vec<Value>>>,
    ) -> Portion {
        self.db = None;
        Portion {
            bytes: self.pieces.take(),
            sent: std::mem::take(&mut self.sent),
            end,
            share,
            answer,
        }
    }
}

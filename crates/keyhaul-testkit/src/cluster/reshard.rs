//! Moving slots and primaries while something else uses the cluster.

use std::time::Duration;

use redis::{Connection, cmd};

use super::Cluster;
use crate::{Server, wait_until};

/// Keys moved by one MIGRATE.
const MIGRATE_KEYS: usize = 100;
/// What one MIGRATE may take.
const MIGRATE_DEADLINE_MS: u32 = 60_000;
const FAILOVER_DEADLINE: Duration = Duration::from_secs(60);

impl Cluster {
    /// Moves slots with their keys from one node to another, both given by their index in
    /// [`Cluster::nodes`], one slot after the other, by the same steps as `redis-cli --cluster
    /// reshard`. Clients see ASK and TRYAGAIN meanwhile, then MOVED.
    ///
    /// # Panics
    /// If the source does not own a slot, or a step fails.
    pub fn move_slots(&self, source: usize, target: usize, slots: &[u16]) {
        let mut mover = SlotMover::between(self, source, target);
        let others: Vec<&Server> = self.primaries();
        for &slot in slots {
            mover.mark(slot);
            mover.move_keys(slot);
            mover.hand_over(slot);
            for node in &others {
                // The owners have been told already; saying it twice does no harm.
                drop(set_slot(slot, "NODE", &mover.target_id).exec(&mut node.client()));
            }
        }
    }

    /// Opens a slot's move and leaves it half done: the first `keys` keys are on the target, the
    /// others on the source, and neither end knows an end of it. [`Cluster::move_slots`] finishes
    /// it.
    pub fn begin_moving_slot(&self, source: usize, target: usize, slot: u16, keys: usize) {
        let mut mover = SlotMover::between(self, source, target);
        mover.mark(slot);
        let names = mover.keys(slot, keys);
        mover.migrate(&names);
    }

    /// Makes a replica, given by its index in [`Cluster::nodes`], the primary of its shard, and
    /// waits until every node says so.
    ///
    /// # Panics
    /// If that takes more than a minute.
    pub fn fail_over_to(&self, replica: usize) {
        let id = self.node_id(replica);
        let mut client = self.nodes[replica].client();
        cmd("CLUSTER")
            .arg("FAILOVER")
            .exec(&mut client)
            .expect("a replica can take over");
        wait_until(
            "the replica is a primary everywhere",
            FAILOVER_DEADLINE,
            || {
                self.live_nodes().all(|mut connection| {
                    let nodes: String = cmd("CLUSTER")
                        .arg("NODES")
                        .query(&mut connection)
                        .expect("is answered");
                    nodes
                        .lines()
                        .any(|line| line.starts_with(&id) && line.contains("master"))
                })
            },
        );
    }
}

struct SlotMover {
    source: Connection,
    source_id: String,
    target: Connection,
    target_id: String,
    target_port: u16,
    auth: Option<String>,
}

impl SlotMover {
    fn between(cluster: &Cluster, source: usize, target: usize) -> SlotMover {
        let (source_node, target_node) = (&cluster.nodes[source], &cluster.nodes[target]);
        SlotMover {
            source: source_node.client(),
            source_id: cluster.node_id(source),
            target: target_node.client(),
            target_id: cluster.node_id(target),
            target_port: target_node.any_port(),
            auth: source_node.password().map(Into::into),
        }
    }

    /// First the target, so that no client is sent to a node that does not expect it.
    fn mark(&mut self, slot: u16) {
        run(
            &set_slot(slot, "IMPORTING", &self.source_id),
            &mut self.target,
        );
        run(
            &set_slot(slot, "MIGRATING", &self.target_id),
            &mut self.source,
        );
    }

    fn keys(&mut self, slot: u16, keys_max: usize) -> Vec<Vec<u8>> {
        cmd("CLUSTER")
            .arg("GETKEYSINSLOT")
            .arg(slot)
            .arg(keys_max)
            .query(&mut self.source)
            .expect("GETKEYSINSLOT is answered")
    }

    fn move_keys(&mut self, slot: u16) {
        loop {
            let keys = self.keys(slot, MIGRATE_KEYS);
            if keys.is_empty() {
                return;
            }
            self.migrate(&keys);
        }
    }

    fn migrate(&mut self, keys: &[Vec<u8>]) {
        if keys.is_empty() {
            return;
        }
        let mut command = cmd("MIGRATE");
        command
            .arg("127.0.0.1")
            .arg(self.target_port)
            .arg("")
            .arg(0)
            .arg(MIGRATE_DEADLINE_MS);
        if let Some(password) = &self.auth {
            command.arg("AUTH").arg(password);
        }
        run(command.arg("KEYS").arg(keys), &mut self.source);
    }

    /// First the target: if the process ended in between, no slot would be without an owner.
    fn hand_over(&mut self, slot: u16) {
        run(&set_slot(slot, "NODE", &self.target_id), &mut self.target);
        run(&set_slot(slot, "NODE", &self.target_id), &mut self.source);
    }
}

fn set_slot(slot: u16, what: &str, node_id: &str) -> redis::Cmd {
    let mut command = cmd("CLUSTER");
    command.arg("SETSLOT").arg(slot).arg(what).arg(node_id);
    command
}

fn run(command: &redis::Cmd, connection: &mut Connection) {
    command
        .exec(connection)
        .unwrap_or_else(|error| panic!("moving a slot: {error}"));
}

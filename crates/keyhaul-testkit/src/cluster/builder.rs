//! What a cluster is to be like, and how it is put together.

use std::time::Duration;

use redis::cmd;

use super::Cluster;
use crate::server::Mode;
use crate::{Server, ServerBuilder, Tls, Version, wait_until};

/// How long the nodes may take to know one another and agree.
const FORM_DEADLINE: Duration = Duration::from_secs(60);

/// Options of a cluster; [`ClusterBuilder::start`] starts it.
#[derive(Debug, Clone)]
pub struct ClusterBuilder {
    version: Version,
    primaries: usize,
    replicas: usize,
    node: ServerBuilder,
    tls: bool,
}

/// What the nodes announce as their address in CLUSTER SLOTS and redirects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announce {
    /// This address; the nodes use it among themselves too, so it must be one of this machine
    /// (127.0.0.x).
    Ip(String),
    /// This host name. Redis >= 7.0.
    Hostname(String),
    /// Nothing: clients are to use the address that they connected to. Redis >= 7.0.
    UnknownEndpoint,
}

impl ClusterBuilder {
    pub(super) fn new(version: Version) -> ClusterBuilder {
        let node = ServerBuilder::new(version, Mode::ClusterNode).tcp();
        ClusterBuilder {
            version,
            primaries: 3,
            replicas: 0,
            node,
            tls: false,
        }
    }

    /// How many primaries (3). The slots are shared out evenly, in order.
    pub fn primaries(mut self, count: usize) -> ClusterBuilder {
        self.primaries = count;
        self
    }

    /// How many replicas each primary has (0).
    pub fn replicas(mut self, count: usize) -> ClusterBuilder {
        self.replicas = count;
        self
    }

    /// Sets an option of every node.
    pub fn arg(mut self, name: &str, value: impl ToString) -> ClusterBuilder {
        self.node = self.node.arg(name, value);
        self
    }

    /// Demands a password, of clients and of nodes that replicate.
    pub fn password(mut self, password: &str) -> ClusterBuilder {
        self.node = self.node.password(password).arg("masterauth", password);
        self
    }

    /// What the nodes announce as their address.
    pub fn announce(self, announce: Announce) -> ClusterBuilder {
        match announce {
            Announce::Ip(address) => self.arg("cluster-announce-ip", address),
            Announce::Hostname(name) => self
                .arg("cluster-announce-hostname", name)
                .arg("cluster-preferred-endpoint-type", "hostname"),
            Announce::UnknownEndpoint => {
                self.arg("cluster-preferred-endpoint-type", "unknown-endpoint")
            }
        }
    }

    /// Serves clients, the bus and replication by TLS alone.
    pub fn tls(mut self, tls: &Tls) -> ClusterBuilder {
        let node = self.node.tls(tls).without_tcp();
        self.node = node.arg("tls-cluster", "yes").arg("tls-replication", "yes");
        self.tls = true;
        self
    }

    /// Starts the nodes, makes them one cluster, and waits until all agree.
    ///
    /// # Panics
    /// If they do not within a minute.
    pub fn start(self) -> Cluster {
        let count = self.primaries * (1 + self.replicas);
        let nodes: Vec<Server> = (0..count).map(|_| self.node.clone().start()).collect();
        let cluster = Cluster {
            nodes,
            version: self.version,
            tls: self.tls,
        };
        self.assign_slots(&cluster);
        introduce(&cluster);
        wait_until("every node knows all others", FORM_DEADLINE, || {
            cluster.nodes.iter().all(|node| known_nodes(node) == count)
        });
        self.attach_replicas(&cluster);
        wait_until("every node says cluster_state:ok", FORM_DEADLINE, || {
            cluster
                .nodes
                .iter()
                .all(|node| agrees(node, self.primaries, self.replicas))
        });
        cluster
    }

    fn assign_slots(&self, cluster: &Cluster) {
        for (index, node) in cluster.nodes.iter().enumerate() {
            let mut client = node.client();
            run(
                cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(index + 1),
                &mut client,
            );
            if index < self.primaries {
                let share = |index: usize| index * 16384 / self.primaries;
                let slots: Vec<usize> = (share(index)..share(index + 1)).collect();
                run(cmd("CLUSTER").arg("ADDSLOTS").arg(slots), &mut client);
            }
        }
    }

    /// Nodes after the primaries are replicas, of the first primary, the second, and so on, then
    /// again.
    fn attach_replicas(&self, cluster: &Cluster) {
        for (index, node) in cluster.nodes.iter().enumerate().skip(self.primaries) {
            let primary = &cluster.nodes[index % self.primaries];
            let id: String = cmd("CLUSTER")
                .arg("MYID")
                .query(&mut primary.client())
                .expect("has an id");
            run(cmd("CLUSTER").arg("REPLICATE").arg(id), &mut node.client());
        }
    }
}

/// Every node is told of every other: waiting for gossip would take seconds.
fn introduce(cluster: &Cluster) {
    for (index, node) in cluster.nodes.iter().enumerate() {
        let mut client = node.client();
        for other in &cluster.nodes[index + 1..] {
            run(
                cmd("CLUSTER")
                    .arg("MEET")
                    .arg("127.0.0.1")
                    .arg(other.any_port()),
                &mut client,
            );
        }
    }
}

/// How many nodes it knows and is connected to, itself included.
fn known_nodes(node: &Server) -> usize {
    let lines = cluster_nodes(node);
    let good = |line: &&String| !line.contains("handshake") && line.contains(" connected");
    lines.iter().filter(good).count()
}

fn agrees(node: &Server, primaries: usize, replicas: usize) -> bool {
    let info: String = cmd("CLUSTER")
        .arg("INFO")
        .query(&mut node.client())
        .expect("CLUSTER INFO is answered");
    let replica_count = cluster_nodes(node)
        .iter()
        .filter(|line| line.contains("slave"))
        .count();
    let linked = node.info("role") == "master" || node.info("master_link_status") == "up";
    info.contains("cluster_state:ok")
        && info.contains("cluster_slots_ok:16384")
        && info.contains(&format!("cluster_size:{primaries}\r"))
        && replica_count == primaries * replicas
        && linked
}

fn cluster_nodes(node: &Server) -> Vec<String> {
    let text: String = cmd("CLUSTER")
        .arg("NODES")
        .query(&mut node.client())
        .expect("CLUSTER NODES is answered");
    text.lines().map(Into::into).collect()
}

fn run(command: &redis::Cmd, client: &mut redis::Connection) {
    command
        .exec(client)
        .unwrap_or_else(|error| panic!("forming the cluster: {error}"));
}

//! A real cluster on this machine: nodes on TCP ports, formed by direct commands.

mod builder;
mod reshard;
mod slot;

use redis::{Connection, cmd};

pub use builder::{Announce, ClusterBuilder};
pub use slot::key_slot;
pub(crate) use slot::owned_slots;

use crate::{Endpoint, Server, Version};

/// A running cluster; its nodes are killed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Server>,
    version: Version,
    tls: bool,
}

impl Cluster {
    /// Starts a cluster without replicas.
    ///
    /// # Panics
    /// If it does not form within a minute.
    pub fn start(version: Version, primaries: usize) -> Cluster {
        Cluster::builder(version).primaries(primaries).start()
    }

    /// Options for a cluster of this version: three primaries, no replicas.
    pub fn builder(version: Version) -> ClusterBuilder {
        ClusterBuilder::new(version)
    }

    /// The version of its nodes.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The URI of the first node.
    pub fn uri(&self) -> String {
        self.nodes[0].uri()
    }

    /// `host:port` of every node, primaries first, comma separated, after the scheme.
    pub fn seeds(&self) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let hosts: Vec<String> = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.any_port()))
            .collect();
        format!("{scheme}://{}", hosts.join(","))
    }

    /// All nodes: those that were started as primaries, then their replicas.
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// A node, to stop or restart it.
    pub fn node_mut(&mut self, index: usize) -> &mut Server {
        &mut self.nodes[index]
    }

    /// The nodes that run and own slots now.
    pub fn primaries(&self) -> Vec<&Server> {
        self.nodes
            .iter()
            .filter(|node| !slots_of(node).is_empty())
            .collect()
    }

    /// The slots that a node, given by its index in [`Cluster::nodes`], owns now.
    pub fn slots_of(&self, node: usize) -> Vec<u16> {
        slots_of(&self.nodes[node])
    }

    /// The index of the running node that owns the key's slot in its own view.
    ///
    /// # Panics
    /// If there is none.
    pub fn owner_of(&self, key: &[u8]) -> usize {
        let slot = key_slot(key);
        let owns = |node: &Server| slots_of(node).contains(&slot);
        self.nodes
            .iter()
            .position(owns)
            .unwrap_or_else(|| panic!("nobody owns slot {slot}"))
    }

    /// A connection to the node that owns the key's slot.
    pub fn connection_for(&self, key: &[u8]) -> Connection {
        self.nodes[self.owner_of(key)].client()
    }

    /// The endpoint of the owner of each slot: index is the slot.
    ///
    /// # Panics
    /// If a slot has no owner that runs.
    pub fn slot_owners(&self) -> Vec<Endpoint> {
        let mut owners: Vec<Option<Endpoint>> = vec![None; 16384];
        for node in &self.nodes {
            for slot in slots_of(node) {
                owners[usize::from(slot)] = Some(node.endpoint());
            }
        }
        owners
            .into_iter()
            .map(|owner| owner.expect("every slot has an owner"))
            .collect()
    }

    /// All keys of all primaries, sorted; keys that a move has left on two nodes once.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        let mut keys = std::collections::BTreeSet::new();
        for node in self.primaries() {
            let mut client = node.client();
            let mut cursor = 0_u64;
            loop {
                let (next, page): (u64, Vec<Vec<u8>>) = cmd("SCAN")
                    .arg(cursor)
                    .arg("COUNT")
                    .arg(1000)
                    .query(&mut client)
                    .expect("SCAN is answered");
                keys.extend(page);
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        keys.into_iter().collect()
    }

    fn node_id(&self, index: usize) -> String {
        let mut client = self.nodes[index].client();
        cmd("CLUSTER")
            .arg("MYID")
            .query(&mut client)
            .expect("CLUSTER MYID is answered")
    }

    fn live_nodes(&self) -> impl Iterator<Item = Connection> {
        self.nodes
            .iter()
            .filter_map(|node| node.endpoint().try_connection(0).ok())
    }
}

fn slots_of(node: &Server) -> Vec<u16> {
    match node.endpoint().try_connection(0) {
        Ok(mut connection) => owned_slots(&mut connection),
        Err(_) => Vec::new(),
    }
}

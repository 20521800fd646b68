//! Which keys there are, and the connection that each is read by.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use redis::{Connection, cmd};

use crate::cluster::{key_slot, owned_slots};
use crate::{Cluster, Endpoint, Server};

const SCAN_COUNT: u32 = 1000;

/// A key in a db.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Number of the db.
    pub db: u32,
    /// The key.
    pub key: Vec<u8>,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "db {} key \"{}\"", self.db, self.key.escape_ascii())
    }
}

/// What is compared: a server, one db of it, or a cluster.
#[derive(Debug, Clone)]
pub struct View {
    nodes: Vec<Endpoint>,
    shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Dbs(Option<u32>),
    Cluster,
}

impl View {
    /// All dbs of a server.
    pub fn server(server: &Server) -> View {
        View::endpoint(server.endpoint())
    }

    /// All dbs of the server at this endpoint.
    pub fn endpoint(endpoint: Endpoint) -> View {
        View {
            nodes: vec![endpoint],
            shape: Shape::Dbs(None),
        }
    }

    /// One db of a server; its number stays.
    pub fn db(server: &Server, db: u32) -> View {
        View {
            nodes: vec![server.endpoint()],
            shape: Shape::Dbs(Some(db)),
        }
    }

    /// What clients of the cluster see. Its nodes' roles are asked at the time of the comparison.
    pub fn cluster(cluster: &Cluster) -> View {
        let nodes = cluster.nodes().iter().map(Server::endpoint).collect();
        View {
            nodes,
            shape: Shape::Cluster,
        }
    }
}

/// The keys of a view at one moment, and how to read them.
pub(super) struct Keyspace {
    nodes: Vec<Node>,
    /// Where a key lives: index into `nodes`.
    homes: BTreeMap<Name, usize>,
}

/// One primary.
pub(super) struct Node {
    endpoint: Endpoint,
    connections: HashMap<u32, Connection>,
    pub(super) can: Abilities,
}

/// Commands that not every version has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Abilities {
    pub(super) pexpiretime: bool,
    pub(super) hpexpiretime: bool,
}

impl Keyspace {
    pub(super) fn scan(view: &View) -> Keyspace {
        let mut keyspace = Keyspace {
            nodes: Vec::new(),
            homes: BTreeMap::new(),
        };
        match view.shape {
            Shape::Dbs(db) => keyspace.scan_node(&view.nodes[0], db, |_| true),
            Shape::Cluster => keyspace.scan_cluster(&view.nodes),
        }
        keyspace
    }

    fn scan_cluster(&mut self, endpoints: &[Endpoint]) {
        let mut owners = vec![0_u8; 16384];
        for endpoint in endpoints {
            // Nodes may be down; that nothing is lost with them is checked by the slots below.
            let Ok(mut connection) = endpoint.try_connection(0) else {
                continue;
            };
            let slots = owned_slots(&mut connection);
            slots
                .iter()
                .for_each(|&slot| owners[usize::from(slot)] += 1);
            let mut owned = vec![false; 16384];
            slots
                .iter()
                .for_each(|&slot| owned[usize::from(slot)] = true);
            if !slots.is_empty() {
                // Keys left behind in slots that the node no longer owns are invisible to clients.
                self.scan_node(endpoint, None, |key| owned[usize::from(key_slot(key))]);
            }
        }
        let odd = owners.iter().position(|&count| count != 1);
        assert!(
            odd.is_none(),
            "slot {odd:?} has {} owners",
            owners[odd.unwrap_or(0)]
        );
    }

    fn scan_node(&mut self, endpoint: &Endpoint, db: Option<u32>, visible: impl Fn(&[u8]) -> bool) {
        let mut node = Node::connect(endpoint);
        let index = self.nodes.len();
        let dbs = db.map_or_else(|| node.dbs(), |db| vec![db]);
        for db in dbs {
            for key in node.keys(db) {
                if visible(&key) {
                    self.homes.insert(Name { db, key }, index);
                }
            }
        }
        self.nodes.push(node);
    }

    /// All keys, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.homes.keys()
    }

    /// The indexes of `names`, grouped by the node and the db that they are read from. Names that
    /// are not there are in no group.
    pub(super) fn group(
        &self,
        names: impl Iterator<Item = Name>,
    ) -> BTreeMap<(usize, u32), Vec<usize>> {
        let mut groups: BTreeMap<(usize, u32), Vec<usize>> = BTreeMap::new();
        for (index, name) in names.enumerate() {
            if let Some(&node) = self.homes.get(&name) {
                groups.entry((node, name.db)).or_default().push(index);
            }
        }
        groups
    }

    pub(super) fn node(&mut self, index: usize) -> &mut Node {
        &mut self.nodes[index]
    }
}

impl Node {
    fn connect(endpoint: &Endpoint) -> Node {
        let mut connection = endpoint.connection(0);
        let mut knows = |name: &str| {
            let rows: Vec<redis::Value> = cmd("COMMAND")
                .arg("INFO")
                .arg(name)
                .query(&mut connection)
                .expect("is answered");
            rows.iter().any(|row| !matches!(row, redis::Value::Nil))
        };
        let can = Abilities {
            pexpiretime: knows("PEXPIRETIME"),
            hpexpiretime: knows("HPEXPIRETIME"),
        };
        Node {
            endpoint: endpoint.clone(),
            connections: HashMap::new(),
            can,
        }
    }

    pub(super) fn connection(&mut self, db: u32) -> &mut Connection {
        self.connections
            .entry(db)
            .or_insert_with(|| self.endpoint.connection(db))
    }

    fn dbs(&mut self) -> Vec<u32> {
        let info: String = cmd("INFO")
            .arg("keyspace")
            .query(self.connection(0))
            .expect("INFO is answered");
        info.lines()
            .filter_map(|line| line.strip_prefix("db")?.split_once(':')?.0.parse().ok())
            .collect()
    }

    fn keys(&mut self, db: u32) -> Vec<Vec<u8>> {
        let connection = self.connection(db);
        let mut keys = Vec::new();
        let mut cursor = 0_u64;
        loop {
            let (next, page): (u64, Vec<Vec<u8>>) = cmd("SCAN")
                .arg(cursor)
                .arg("COUNT")
                .arg(SCAN_COUNT)
                .query(connection)
                .expect("SCAN is answered");
            keys.extend(page);
            if next == 0 {
                return keys;
            }
            cursor = next;
        }
    }
}

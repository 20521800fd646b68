//! Finds the primaries of an endpoint and keeps knowing them while they move: cluster slots,
//! failovers, Sentinel, several seeds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::connector::Connector;
use crate::endpoint::{Address, Seeds};
use crate::error::ClientError;
use crate::sentinel;
use crate::slot::Slot;
use crate::topology::{Mode, Node, Topology, own_id};

/// The topology is asked for at most this often, however many connections ask.
const REFRESH_PAUSE: Duration = Duration::from_millis(100);

/// The way to the primaries of one endpoint. Shared by all connections of that side.
#[derive(Debug)]
pub struct Routing {
    connector: Connector,
    topology: RwLock<Arc<Topology>>,
    /// Nodes that we reach at a seed's address, whatever they announce: node id -> address.
    dialled: Mutex<HashMap<String, Address>>,
    last_refresh: tokio::sync::Mutex<Instant>,
}

impl Routing {
    /// Finds out what the endpoint is. Returns the connection over which it was found out.
    ///
    /// # Errors
    /// The error of the only seed; [`ClientError::NoPrimary`] with every reason if there are several.
    pub async fn probe(connector: Connector) -> Result<(Self, Connection), ClientError> {
        let dialled = Mutex::new(HashMap::new());
        let (topology, connection) = find(&connector, &dialled, &[]).await?;
        let routing = Self {
            connector,
            topology: RwLock::new(Arc::new(topology)),
            dialled,
            last_refresh: tokio::sync::Mutex::new(Instant::now()),
        };
        Ok((routing, connection))
    }

    /// The latest topology.
    pub fn topology(&self) -> Arc<Topology> {
        self.topology
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Standalone server or cluster; never changes during a job.
    pub fn mode(&self) -> Mode {
        self.topology().mode
    }

    /// The connector of this side.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Asks for the topology anew, unless somebody did a moment ago.
    ///
    /// # Errors
    /// As [`Routing::probe`]; the old topology stays.
    pub async fn refresh(&self) -> Result<Arc<Topology>, ClientError> {
        let mut last = self.last_refresh.lock().await;
        if last.elapsed() < REFRESH_PAUSE {
            return Ok(self.topology());
        }
        let found = self.find_now().await;
        *last = Instant::now();
        found
    }

    /// Asks for the topology anew, in any case.
    ///
    /// # Errors
    /// As [`Routing::probe`]; the old topology stays.
    pub async fn refresh_now(&self) -> Result<Arc<Topology>, ClientError> {
        let _last = self.last_refresh.lock().await;
        self.find_now().await
    }

    async fn find_now(&self) -> Result<Arc<Topology>, ClientError> {
        let known: Vec<Address> = self
            .topology()
            .primaries
            .iter()
            .map(|node| node.address.clone())
            .collect();
        let (topology, _) = find(&self.connector, &self.dialled, &known).await?;
        let topology = Arc::new(topology);
        *self
            .topology
            .write()
            .unwrap_or_else(PoisonError::into_inner) = topology.clone();
        Ok(topology)
    }

    /// Remembers what a MOVED reply said.
    pub fn moved(&self, slot: Slot, announced: &str) {
        let mut guard = self
            .topology
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if guard
            .owner(slot)
            .is_some_and(|node| node.announced == announced)
        {
            return;
        }
        let mut topology = Topology::clone(&guard);
        if topology.give(slot, announced) {
            *guard = Arc::new(topology);
        }
    }

    /// The node that a redirection names; an unknown name is dialled as it stands.
    pub fn named(&self, announced: &str) -> Option<Address> {
        if let Some(node) = self.topology().announced(announced) {
            return Some(node.address.clone());
        }
        let (host, port) = announced.rsplit_once(':')?;
        let port = port.parse().ok()?;
        if host.is_empty() {
            return None;
        }
        Some(Address::Tcp {
            host: host.to_owned(),
            port,
        })
    }

    /// The primary that serves a slot at present.
    ///
    /// # Errors
    /// [`ClientError::UncoveredSlot`].
    pub fn owner(&self, slot: Slot) -> Result<Node, ClientError> {
        self.topology()
            .owner(slot)
            .cloned()
            .ok_or(ClientError::UncoveredSlot { slot })
    }
}

/// Asks Sentinels, known nodes and seeds in turn until one tells the topology.
async fn find(
    connector: &Connector,
    dialled: &Mutex<HashMap<String, Address>>,
    known: &[Address],
) -> Result<(Topology, Connection), ClientError> {
    let seeds = match &connector.endpoint().seeds {
        Seeds::Servers(seeds) => seeds.clone(),
        Seeds::Sentinels {
            addresses,
            primary_name,
        } => {
            vec![sentinel::primary_address(connector, addresses, primary_name).await?]
        }
    };
    let is_sentinel = matches!(connector.endpoint().seeds, Seeds::Sentinels { .. });
    let mut candidates = seeds.clone();
    if !is_sentinel {
        candidates.extend(
            known
                .iter()
                .filter(|address| !seeds.contains(address))
                .cloned(),
        );
    }
    let mut errors: Vec<ClientError> = Vec::new();
    let mut replica: Option<(Topology, Connection)> = None;
    for address in &candidates {
        match ask(connector, dialled, address, &seeds).await {
            Ok((topology, connection)) => {
                let is_replica = connection.greeting.role.as_deref() == Some("replica")
                    || connection.greeting.role.as_deref() == Some("slave");
                if topology.mode == Mode::Standalone && is_replica && candidates.len() > 1 {
                    // Of several standalone servers the primary is meant.
                    replica.get_or_insert((topology, connection));
                    continue;
                }
                if is_sentinel && is_replica {
                    let endpoint = connector.endpoint().to_string();
                    let reason = format!("{address} is still a replica");
                    return Err(ClientError::NoPrimary { endpoint, reason });
                }
                return Ok((topology, connection));
            }
            Err(e) => errors.push(e),
        }
    }
    match (replica, errors.len()) {
        (Some(found), _) => Ok(found),
        (None, 1) => Err(errors.remove(0)),
        (None, _) => {
            let reason = errors
                .iter()
                .map(|e| crate::chain(e))
                .collect::<Vec<_>>()
                .join("; ");
            Err(ClientError::NoPrimary {
                endpoint: connector.endpoint().to_string(),
                reason,
            })
        }
    }
}

/// Connects to one server and reads the topology that it knows.
async fn ask(
    connector: &Connector,
    dialled: &Mutex<HashMap<String, Address>>,
    address: &Address,
    seeds: &[Address],
) -> Result<(Topology, Connection), ClientError> {
    let mut connection = connector.connect(address).await?;
    let is_cluster = connection
        .greeting
        .mode
        .as_deref()
        .map(|mode| mode == "cluster");
    if is_cluster == Some(false) {
        return Ok((Topology::standalone(address.clone()), connection));
    }
    let slots = match connection.call(&[b"CLUSTER", b"SLOTS"]).await {
        Ok(slots) => slots,
        Err(ClientError::Server { .. }) if is_cluster.is_none() => {
            return Ok((Topology::standalone(address.clone()), connection));
        }
        Err(e) => return Err(e),
    };
    let nodes = cluster_nodes(&mut connection).await?;
    learn(dialled, &nodes, address);
    if seeds.len() > 1 && known_count(dialled) < 2 {
        for seed in seeds.iter().filter(|seed| *seed != address) {
            if let Ok(mut other) = connector.connect(seed).await {
                learn(dialled, &cluster_nodes(&mut other).await?, seed);
            }
        }
    }
    let dial = |id: &str| {
        dialled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    };
    let mut topology = Topology::from_cluster_slots(&slots, address, dial)
        .ok_or_else(|| connection.unexpected("CLUSTER SLOTS"))?;
    topology.add_cluster_nodes(&nodes);
    // Only a node itself tells which of its slots are on the move.
    let own = own_id(&nodes).unwrap_or_default().to_owned();
    let others: Vec<Address> = topology
        .primaries
        .iter()
        .filter(|node| node.id != own)
        .map(|node| node.address.clone())
        .collect();
    for other in others {
        if let Ok(mut other) = connector.connect(&other).await {
            topology.add_cluster_nodes(&cluster_nodes(&mut other).await?);
        }
    }
    Ok((topology, connection))
}

/// The text of CLUSTER NODES; empty where this user may not ask.
async fn cluster_nodes(connection: &mut Connection) -> Result<String, ClientError> {
    match connection.call(&[b"CLUSTER", b"NODES"]).await {
        Ok(reply) => match reply.as_bytes() {
            Some(text) => Ok(String::from_utf8_lossy(text).into_owned()),
            None => Err(connection.unexpected("CLUSTER NODES")),
        },
        Err(ClientError::Server { .. }) => Ok(String::new()),
        Err(e) => Err(e),
    }
}

fn learn(dialled: &Mutex<HashMap<String, Address>>, nodes: &str, address: &Address) {
    if let Some(id) = own_id(nodes) {
        let mut dialled = dialled.lock().unwrap_or_else(PoisonError::into_inner);
        dialled.insert(id.to_owned(), address.clone());
    }
}

fn known_count(dialled: &Mutex<HashMap<String, Address>>) -> usize {
    dialled.lock().unwrap_or_else(PoisonError::into_inner).len()
}

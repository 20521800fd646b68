//! Where writes go: a server, or the nodes of a cluster by slot.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::Connection;

use crate::cluster::{key_slot, owned_slots};
use crate::{Cluster, Endpoint, Server};

/// A server or a cluster, as threads that write to it reach it. A server that restarts keeps its place.
#[derive(Debug, Clone)]
pub struct Place {
    nodes: Vec<Endpoint>,
    shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Standalone,
    Cluster,
}

/// Pause before a node that does not answer is tried again.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(20);

impl Place {
    /// One server.
    pub fn server(server: &Server) -> Place {
        Place {
            nodes: vec![server.endpoint()],
            shape: Shape::Standalone,
        }
    }

    /// A cluster; who owns a slot is asked again when a node says that it does not.
    pub fn cluster(cluster: &Cluster) -> Place {
        Place {
            nodes: cluster.nodes().iter().map(Server::endpoint).collect(),
            shape: Shape::Cluster,
        }
    }

    pub(super) fn nodes(&self) -> &[Endpoint] {
        &self.nodes
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.shape == Shape::Cluster
    }

    /// For each slot the index of its owner among [`Place::nodes`]; None where nobody who answers owns it.
    pub(super) fn owners(&self) -> Vec<Option<usize>> {
        if !self.is_cluster() {
            return vec![Some(0); 16384];
        }
        let mut owners = vec![None; 16384];
        for (index, node) in self.nodes.iter().enumerate() {
            if let Ok(mut connection) = node.try_connection(0) {
                for slot in owned_slots(&mut connection) {
                    owners[usize::from(slot)] = Some(index);
                }
            }
        }
        owners
    }

    /// The nodes that serve keys now.
    pub(super) fn serving(&self) -> Vec<&Endpoint> {
        let indexes: BTreeSet<usize> = self.owners().into_iter().flatten().collect();
        indexes
            .into_iter()
            .map(|index| &self.nodes[index])
            .collect()
    }

    /// A connection for this key; for looking at a place at rest.
    ///
    /// # Panics
    /// If nobody serves it.
    pub(super) fn connection_for(&self, key: &[u8]) -> Connection {
        let owner = self.owners()[usize::from(key_slot(key))];
        let owner = owner.unwrap_or_else(|| panic!("nobody owns {}", key.escape_ascii()));
        self.nodes[owner].connection(0)
    }
}

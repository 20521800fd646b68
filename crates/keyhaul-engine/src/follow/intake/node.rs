//! Which node a shard is read from at present.

use std::sync::Arc;

use keyhaul_client::{Address, ClientError, Slot};

use crate::ledger::Ledger;
use crate::replicas::open_replica;
use crate::site::Site;

/// What identifies a shard, whatever node serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeChoice {
    /// The one primary of a source that is no cluster.
    Standalone,
    /// The primary that owns this slot.
    Slot(Slot),
}

/// Finds the node to read.
pub(super) struct NodeFinder {
    pub site: Arc<Site>,
    pub node: NodeChoice,
    pub prefers_replica: bool,
    /// The replica that was read last: it may go on where it was.
    pub replica: Option<Address>,
}

impl NodeFinder {
    /// Where it is at present, by the topology that is known. A replica is asked whether it follows its primary.
    ///
    /// # Errors
    /// No primary serves the shard; any of the primary, when it is asked for its replicas.
    pub(super) async fn find(&mut self, ledger: &Ledger) -> Result<Address, ClientError> {
        let primary = match self.node {
            NodeChoice::Standalone => self.site.address_of_node("")?,
            NodeChoice::Slot(slot) => self.site.routing.owner(slot)?.address,
        };
        if !self.prefers_replica {
            return Ok(primary);
        }
        let found = open_replica(&self.site, &primary, self.replica.as_ref(), ledger).await?;
        self.replica = found.map(|connection| connection.address().clone());
        Ok(self.replica.clone().unwrap_or(primary))
    }
}

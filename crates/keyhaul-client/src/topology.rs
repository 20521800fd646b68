//! What a deployment looks like at one moment: its primaries, who owns which slot, what is moving.
//!
//! Data and parsing only; [`crate::routing`] asks for it and keeps it up to date.

use keyhaul_resp::Value;

use crate::endpoint::Address;
use crate::error::ClientError;
use crate::slot::{SLOT_COUNT, Slot, SlotSet};

/// Standalone server or cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One primary that owns every key, in numbered dbs.
    Standalone,
    /// Redis Cluster: slots over primaries, db 0 only.
    Cluster,
}

/// One primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The node id of a cluster node; empty on a standalone server.
    pub id: String,
    /// Where we dial it.
    pub address: Address,
    /// The address under which the cluster's redirections name it, `host:port`.
    pub announced: String,
    /// Its configuration epoch: grows whenever it takes over slots.
    pub epoch: u64,
}

/// A slot that is on its way from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenSlot {
    /// The slot.
    pub slot: Slot,
    /// Index in [`Topology::primaries`] of the node that gives it away.
    pub from: usize,
}

/// The deployment at one moment.
#[derive(Debug, Clone)]
pub struct Topology {
    /// Standalone server or cluster.
    pub mode: Mode,
    /// All primaries that own slots (all there is for a standalone server).
    pub primaries: Vec<Node>,
    /// Per slot the index of its owner; `None` where no node serves it.
    owners: Vec<Option<u16>>,
    /// Slots that are being moved, as far as the nodes let us see.
    pub open_slots: Vec<OpenSlot>,
    /// CLUSTER NODES was answered, which alone tells of slots on the move.
    pub tells_moves: bool,
}

impl Topology {
    /// One server that owns everything.
    pub(crate) fn standalone(address: Address) -> Self {
        let announced = announced_name(&address);
        let node = Node {
            id: String::new(),
            address,
            announced,
            epoch: 0,
        };
        let owners = vec![Some(0); SLOT_COUNT];
        Self {
            mode: Mode::Standalone,
            primaries: vec![node],
            owners,
            open_slots: Vec::new(),
            tells_moves: false,
        }
    }

    /// The primary that owns a slot.
    pub fn owner(&self, slot: Slot) -> Option<&Node> {
        let index = self.owners.get(slot.index()).copied().flatten()?;
        self.primaries.get(usize::from(index))
    }

    /// The index in [`Topology::primaries`] of the owner of a slot.
    ///
    /// # Errors
    /// [`ClientError::UncoveredSlot`].
    pub fn owner_index(&self, slot: Slot) -> Result<usize, ClientError> {
        let index = self.owners.get(slot.index()).copied().flatten();
        index
            .map(usize::from)
            .ok_or(ClientError::UncoveredSlot { slot })
    }

    /// All slots of one primary.
    pub fn slots_of(&self, node_id: &str) -> SlotSet {
        let mut set = SlotSet::empty();
        for slot in SlotSet::all().iter() {
            if self.owner(slot).is_some_and(|node| node.id == node_id) {
                set.insert(slot);
            }
        }
        set
    }

    /// Slots that no primary serves.
    pub fn uncovered(&self) -> SlotSet {
        let mut set = SlotSet::empty();
        for slot in SlotSet::all()
            .iter()
            .filter(|slot| self.owner(*slot).is_none())
        {
            set.insert(slot);
        }
        set
    }

    /// The primary with this node id, while it is one.
    pub fn node(&self, node_id: &str) -> Option<&Node> {
        self.primaries.iter().find(|node| node.id == node_id)
    }

    /// The primary that redirections name `host:port`.
    pub fn announced(&self, name: &str) -> Option<&Node> {
        self.primaries.iter().find(|node| node.announced == name)
    }

    /// Gives a slot to the node of that name, as a MOVED reply demands. `false`: unknown node.
    pub(crate) fn give(&mut self, slot: Slot, announced: &str) -> bool {
        let index = self
            .primaries
            .iter()
            .position(|node| node.announced == announced);
        match (index, self.owners.get_mut(slot.index())) {
            (Some(index), Some(owner)) => {
                *owner = u16::try_from(index).ok();
                true
            }
            _ => false,
        }
    }

    /// Reads a reply to CLUSTER SLOTS. `asked` is the node that answered: servers leave the host
    /// out (empty or null) where they do not know under which name they are reached.
    /// `dial` may replace the announced address of a node id by a better one.
    pub(crate) fn from_cluster_slots(
        reply: &Value,
        asked: &Address,
        dial: impl Fn(&str) -> Option<Address>,
    ) -> Option<Self> {
        let mut primaries: Vec<Node> = Vec::new();
        let mut owners = vec![None; SLOT_COUNT];
        for range in reply.as_list()? {
            let [first, last, primary, ..] = range.as_list()? else {
                return None;
            };
            let (first, last) = (slot_index(first)?, slot_index(last)?);
            let [host, port, rest @ ..] = primary.as_list()? else {
                return None;
            };
            let port = u16::try_from(port.as_int()?).ok()?;
            let host = host
                .as_bytes()
                .map(|h| String::from_utf8_lossy(h).into_owned());
            let host = host.filter(|host| !host.is_empty() && host != "?");
            let id = rest.first().and_then(Value::as_bytes);
            let id = id
                .map(|id| String::from_utf8_lossy(id).into_owned())
                .unwrap_or_default();
            let host = host.unwrap_or_else(|| match asked {
                Address::Tcp { host, .. } => host.clone(),
                Address::Unix(_) => "127.0.0.1".to_owned(),
            });
            let address = Address::Tcp { host, port };
            let announced = announced_name(&address);
            let known = primaries
                .iter()
                .position(|node| node.announced == announced);
            let index = known.unwrap_or_else(|| {
                let address = dial(&id).unwrap_or(address);
                primaries.push(Node {
                    id,
                    address,
                    announced,
                    epoch: 0,
                });
                primaries.len() - 1
            });
            for owner in owners.get_mut(first..=last)? {
                *owner = u16::try_from(index).ok();
            }
        }
        Some(Self {
            mode: Mode::Cluster,
            primaries,
            owners,
            open_slots: Vec::new(),
            tells_moves: false,
        })
    }

    /// Adds what CLUSTER NODES of one node knows beyond CLUSTER SLOTS: configuration epochs, and
    /// the slots which that node itself is giving away or taking in.
    pub(crate) fn add_cluster_nodes(&mut self, text: &str) {
        self.tells_moves |= !text.is_empty();
        // id ip:port@cport flags primary ping pong epoch link slots...
        for line in text.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [id, _, flags, _, _, _, epoch, _, slots @ ..] = fields.as_slice() else {
                continue;
            };
            let Some(index) = self.primaries.iter().position(|node| node.id == *id) else {
                continue;
            };
            if let (Some(node), Ok(epoch)) = (self.primaries.get_mut(index), epoch.parse()) {
                node.epoch = node.epoch.max(epoch);
            }
            if !flags.split(',').any(|flag| flag == "myself") {
                continue;
            }
            for open in slots
                .iter()
                .filter_map(|slot| slot.strip_prefix('[')?.strip_suffix(']'))
            {
                let giving = open.split_once("->-").map(|(slot, _)| (slot, index));
                let taking = open.split_once("-<-").and_then(|(slot, id)| {
                    Some((slot, self.primaries.iter().position(|node| node.id == id)?))
                });
                let Some((slot, from)) = giving.or(taking) else {
                    continue;
                };
                let Some(slot) = slot.parse().ok().and_then(Slot::new) else {
                    continue;
                };
                let open = OpenSlot { slot, from };
                if !self.open_slots.contains(&open) {
                    self.open_slots.push(open);
                }
            }
        }
    }
}

/// The id of the node that answered CLUSTER NODES.
pub(crate) fn own_id(text: &str) -> Option<&str> {
    let own = text.lines().find(|line| {
        line.split(' ')
            .nth(2)
            .is_some_and(|flags| flags.split(',').any(|f| f == "myself"))
    })?;
    own.split(' ').next()
}

/// `host:port` as MOVED and ASK write it: IPv6 addresses without brackets.
fn announced_name(address: &Address) -> String {
    match address {
        Address::Tcp { host, port } => format!("{host}:{port}"),
        Address::Unix(path) => path.display().to_string(),
    }
}

fn slot_index(value: &Value) -> Option<usize> {
    Slot::new(u64::try_from(value.as_int()?).ok()?).map(Slot::index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn bulk(text: &str) -> Value {
        Value::Bulk(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn range(first: i64, last: i64, host: Value, port: i64, id: &str) -> Value {
        let node = Value::Array(vec![host, Value::Int(port), bulk(id)]);
        Value::Array(vec![Value::Int(first), Value::Int(last), node])
    }

    #[test]
    fn cluster_slots_and_nodes() {
        let reply = Value::Array(vec![
            range(0, 99, bulk("10.0.0.1"), 1, "aaa"),
            range(100, 16000, bulk(""), 2, "bbb"),
            range(16001, 16001, bulk("10.0.0.1"), 1, "aaa"),
            range(16002, 16382, Value::Null, 3, "ccc"),
        ]);
        let asked = Address::parse("seed:7", 1).unwrap();
        let dial = |id: &str| (id == "aaa").then(|| Address::parse("nat:11", 1).unwrap());
        let mut topology = Topology::from_cluster_slots(&reply, &asked, dial).unwrap();
        let shown: Vec<String> = topology
            .primaries
            .iter()
            .map(|n| format!("{} {}", n.address, n.announced))
            .collect();
        assert_eq!(
            shown,
            ["nat:11 10.0.0.1:1", "seed:2 seed:2", "seed:3 seed:3"]
        );
        assert_eq!(topology.slots_of("aaa").len(), 101);
        assert_eq!(topology.uncovered().len(), 1);
        topology.add_cluster_nodes(
            "bbb 10.0.0.2:2@12,host myself,master - 0 0 9 connected 100-16000 [100->-ccc] [16002-<-ccc]\n\
             aaa 10.0.0.1:1@11 master - 0 0 4 connected 0-99 16001\njunk\n",
        );
        let epochs: Vec<u64> = topology.primaries.iter().map(|n| n.epoch).collect();
        assert_eq!(epochs, [4, 9, 0]);
        let open: Vec<_> = topology
            .open_slots
            .iter()
            .map(|o| (o.slot.index(), o.from))
            .collect();
        assert_eq!(open, [(100, 1), (16002, 2)]);
        assert!(topology.give(Slot::new(5).unwrap(), "seed:3"));
        assert!(!topology.give(Slot::new(5).unwrap(), "unknown:3"));
        assert_eq!(topology.owner(Slot::new(5).unwrap()).unwrap().id, "ccc");
    }

    #[test]
    fn replies_that_are_no_slots() {
        let asked = Address::parse("seed:7", 1).unwrap();
        for reply in [
            Value::Null,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(0, 16384, bulk("h"), 1, "a")]),
            Value::Array(vec![range(9, 3, bulk("h"), 1, "a")]),
            Value::Array(vec![range(-1, 3, bulk("h"), 1, "a")]),
            Value::Array(vec![range(0, 3, bulk("h"), 70000, "a")]),
        ] {
            let parsed = Topology::from_cluster_slots(&reply, &asked, |_| None);
            assert!(parsed.is_none(), "{reply:?}");
        }
    }
}

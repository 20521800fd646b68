//! Connections to the nodes of a place: commands go to who owns their slot.

use std::collections::{BTreeMap, HashMap};

use redis::{Cmd, Connection, ConnectionLike, Value};

use super::place::{Place, RETRY_PAUSE};

/// Commands of one slot that stay together and in order.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) slot: u16,
    pub(super) commands: Vec<Cmd>,
}

/// The connections of one thread.
pub(super) struct Links {
    place: Place,
    owners: Vec<Option<usize>>,
    connections: HashMap<(usize, u32), Connection>,
}

impl Links {
    pub(super) fn new(place: &Place) -> Links {
        Links {
            owners: place.owners(),
            place: place.clone(),
            connections: HashMap::new(),
        }
    }

    /// Sends calls, pipelined to each node, and gives the replies of each call; fewer than it has commands where
    /// the link broke. None: the call was not sent. When a node is gone, or does not own a slot, it is asked who
    /// does before this returns.
    pub(super) fn send(&mut self, db: u32, calls: &[Call]) -> Vec<Option<Vec<Value>>> {
        let mut outcomes: Vec<Option<Vec<Value>>> = vec![None; calls.len()];
        let mut by_node: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut all_owned = true;
        for (index, call) in calls.iter().enumerate() {
            match self.owners[usize::from(call.slot)] {
                Some(node) => by_node.entry(node).or_default().push(index),
                None => all_owned = false,
            }
        }
        for (node, indexes) in by_node {
            let commands = indexes.iter().flat_map(|&index| &calls[index].commands);
            let Some(replies) = self.send_to(node, db, commands) else {
                all_owned = false;
                continue;
            };
            let mut replies = replies.into_iter();
            for index in indexes {
                let wanted = calls[index].commands.len();
                let replies: Vec<Value> = replies.by_ref().take(wanted).collect();
                all_owned &= replies.len() == wanted && !replies.iter().any(is_moved);
                outcomes[index] = Some(replies);
            }
        }
        if !all_owned {
            std::thread::sleep(RETRY_PAUSE);
            self.owners = self.place.owners();
        }
        outcomes
    }

    /// The replies, fewer where the link broke; None if nothing was sent.
    fn send_to<'a>(
        &mut self,
        node: usize,
        db: u32,
        commands: impl Iterator<Item = &'a Cmd>,
    ) -> Option<Vec<Value>> {
        let mut packed = Vec::new();
        let mut count = 0;
        for command in commands {
            packed.extend(command.get_packed_command());
            count += 1;
        }
        let mut connection = match self.connections.remove(&(node, db)) {
            Some(connection) => connection,
            None => self.place.nodes()[node].try_connection(db).ok()?,
        };
        // The replies before the one that an error stands for are lost: they count as not known.
        let replies = connection
            .req_packed_commands(&packed, 0, count)
            .unwrap_or_default();
        if replies.len() == count {
            self.connections.insert((node, db), connection);
        }
        Some(replies)
    }
}

fn is_moved(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "MOVED")
}

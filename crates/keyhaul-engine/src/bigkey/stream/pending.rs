//! Ids that are pending in any group, in their order: those among them that are no entries have vanished.

use std::collections::VecDeque;

use keyhaul_client::{Page, ReadConnection, StreamInfo};

use super::id::StreamId;
use super::text;
use crate::bigkey::Broken;

/// Ids that are asked for at a time.
const IDS_MAX: u64 = 1000;

/// All ids that are pending from one on.
pub(super) struct Vanished<'a> {
    connection: &'a mut ReadConnection,
    key: &'a [u8],
    groups: Vec<Group>,
    /// The id that was asked about last: it is an entry.
    last_entry: Option<StreamId>,
}

/// What is pending in one group.
struct Group {
    name: Vec<u8>,
    ids: VecDeque<StreamId>,
    /// Where to go on; `None`: at the end.
    next: Option<StreamId>,
}

impl<'a> Vanished<'a> {
    pub(super) async fn begin(
        connection: &'a mut ReadConnection,
        key: &'a [u8],
        from: Option<StreamId>,
    ) -> Result<Self, Broken> {
        let reply = connection.stream_info(key, StreamInfo::Groups).await;
        let reply = reply.map_err(Broken::Source)?;
        let groups = reply.as_list().unwrap_or_default().iter();
        let with_pending = groups.filter(|group| {
            super::field(group, b"pending").and_then(|pending| pending.as_int()) != Some(0)
        });
        let groups = with_pending
            .filter_map(|group| super::field(group, b"name")?.as_bytes().cloned())
            .map(|name| Group {
                name: name.to_vec(),
                ids: VecDeque::new(),
                next: from,
            });
        Ok(Self {
            groups: groups.collect(),
            connection,
            key,
            last_entry: None,
        })
    }

    /// The lowest id that is pending, lies below `entry` and is no entry; `None`: there is none left. `entry`
    /// is the next one of the stream, or nothing at the end of it.
    pub(super) async fn below(
        &mut self,
        entry: Option<StreamId>,
    ) -> Result<Option<StreamId>, Broken> {
        loop {
            let mut lowest = None;
            for group in &mut self.groups {
                if group.ids.is_empty() && group.next.is_some() {
                    fill(self.connection, self.key, group).await?;
                }
                let first = group.ids.front().copied();
                lowest = match (lowest, first) {
                    (Some(lowest), Some(first)) => Some(first.min(lowest)),
                    (lowest, first) => lowest.or(first),
                };
            }
            let Some(lowest) = lowest.filter(|id| entry.is_none_or(|entry| *id < entry)) else {
                self.last_entry = entry;
                return Ok(None);
            };
            for group in &mut self.groups {
                if group.ids.front() == Some(&lowest) {
                    group.ids.pop_front();
                }
            }
            if self.last_entry != Some(lowest) {
                return Ok(Some(lowest));
            }
        }
    }
}

async fn fill(
    connection: &mut ReadConnection,
    key: &[u8],
    group: &mut Group,
) -> Result<(), Broken> {
    let Some(first) = group.next.take() else {
        return Ok(());
    };
    let first = first.to_string();
    let page = Page::Pending {
        group: &group.name,
        first: first.as_bytes(),
        last: b"+",
        count: IDS_MAX,
    };
    connection
        .ask_page(key, page)
        .await
        .map_err(Broken::Source)?;
    let reply = connection.next_reply().await.map_err(Broken::Source)?;
    let rows = reply.as_list().unwrap_or_default();
    for row in rows {
        let id = row.as_list().and_then(|row| row.first()?.as_bytes());
        match id.and_then(|id| StreamId::parse(id)) {
            Some(id) => group.ids.push_back(id),
            None => return Err(Broken::Source(connection.unexpected("XPENDING"))),
        }
    }
    if rows.len() as u64 == IDS_MAX {
        group.next = group.ids.back().and_then(|last| last.next());
    }
    Ok(())
}

/// The name of a group or consumer.
pub(super) fn name(map: &keyhaul_resp::Value) -> Option<bytes::Bytes> {
    super::field(map, b"name")?.as_bytes().cloned()
}

/// A number of a group, as text.
pub(super) fn id_text(map: &keyhaul_resp::Value, field: &[u8]) -> Option<String> {
    text(map, field)
}

/// The ids of these pages of XPENDING from one on, each once, in their order.
pub(super) fn ids<'a>(
    pages: impl Iterator<Item = &'a keyhaul_resp::Value>,
    from: Option<StreamId>,
) -> Vec<StreamId> {
    let rows = pages.flat_map(|page| page.as_list().unwrap_or_default());
    let id = |row: &keyhaul_resp::Value| StreamId::parse(row.as_list()?.first()?.as_bytes()?);
    let ids = rows.filter_map(id).filter(|id| Some(*id) >= from);
    let mut ids: Vec<StreamId> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

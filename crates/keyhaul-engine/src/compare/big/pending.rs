//! What a stream is beside its entries, as its server tells it.
//!
//! XPENDING tells how long ago an entry was delivered, not when. XINFO STREAM FULL tells the absolute time of the
//! first one of each group; that gives the moment at which a page of XPENDING was made, to the millisecond, and so the
//! time of all of its rows. Each page begins with the last row of the one before. An entry that was delivered in the
//! same millisecond, or by a clock that is ahead, is told as 0 ms old: when it was delivered is not known then, and the
//! value counts as written.

use std::collections::HashMap;

use bytes::Bytes;
use keyhaul_client::{Page, StreamInfo};
use keyhaul_rdb::StreamId;
use keyhaul_resp::Value;

use super::page::{Halt, PageReader};

/// Rows of XPENDING that are asked for at a time.
const ROWS_MAX: u64 = 1000;

/// A stream, without its entries and what is pending.
#[derive(Debug)]
pub(super) struct Told {
    pub last_id: StreamId,
    pub deleted_id: StreamId,
    pub entries_added: u64,
    /// By name.
    pub groups: Vec<ToldGroup>,
}

/// A group.
#[derive(Debug)]
pub(super) struct ToldGroup {
    pub name: Bytes,
    pub last_id: StreamId,
    /// -1: not known.
    pub entries_read: i64,
    /// In the order of their names.
    pub consumers: Vec<Bytes>,
    /// When the first pending entry was delivered, Unix ms.
    first_time: Option<i64>,
}

/// A row of XPENDING.
#[derive(Debug)]
pub(super) struct Row {
    pub id: StreamId,
    pub consumer: Bytes,
    /// Unix ms.
    pub delivered_at_ms: i64,
    pub deliveries: i64,
}

/// Asks for all but entries and what is pending.
pub(super) async fn told(reader: &mut PageReader<'_>) -> Result<Told, Halt> {
    let key = reader.key;
    let info = reader.connection.stream_info(key, StreamInfo::Stream);
    let info = info.await?;
    let groups = reader.connection.stream_info(key, StreamInfo::Groups);
    let groups = groups.await?.into_list().unwrap_or_default();
    let times = match groups.is_empty() {
        true => HashMap::new(),
        false => {
            let full = reader.connection.stream_info(key, StreamInfo::Full);
            first_times(&full.await?)
        }
    };
    let number = |name| field(&info, name).and_then(Value::as_int);
    let Some(last_id) = id_field(&info, b"last-generated-id") else {
        return Err(reader.unexpected("XINFO STREAM"));
    };
    let mut told = Told {
        last_id,
        deleted_id: id_field(&info, b"max-deleted-entry-id").unwrap_or_default(),
        entries_added: number(b"entries-added").map_or(0, i64::cast_unsigned),
        groups: Vec::new(),
    };
    for group in &groups {
        let name = field(group, b"name").and_then(|name| name.as_bytes().cloned());
        let last_id = id_field(group, b"last-delivered-id");
        let (Some(name), Some(last_id)) = (name, last_id) else {
            return Err(reader.unexpected("XINFO GROUPS"));
        };
        let info = StreamInfo::Consumers(&name);
        let consumers = reader.connection.stream_info(key, info).await?;
        let consumers = consumers.as_list().unwrap_or_default().iter();
        let consumers = consumers.filter_map(|one| field(one, b"name")?.as_bytes().cloned());
        let mut consumers: Vec<Bytes> = consumers.collect();
        consumers.sort_unstable();
        told.groups.push(ToldGroup {
            last_id,
            entries_read: field(group, b"entries-read")
                .and_then(Value::as_int)
                .unwrap_or(-1),
            consumers,
            first_time: times.get(&name).copied(),
            name,
        });
    }
    told.groups
        .sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(told)
}

/// Goes through what is pending in a group.
#[derive(Debug)]
pub(super) struct PendingPages {
    group: Bytes,
    /// The id with which the next page begins; `None`: there is no further page.
    from: Option<Bytes>,
    /// When the entry of that id was delivered; `None`: not known.
    known_time: Option<i64>,
    is_first: bool,
}

impl PendingPages {
    pub(super) fn new(group: &ToldGroup) -> Self {
        Self {
            group: group.name.clone(),
            from: Some(Bytes::from_static(b"-")),
            known_time: group.first_time,
            is_first: true,
        }
    }

    /// The next rows; `None`: there are no more.
    pub(super) async fn next(
        &mut self,
        reader: &mut PageReader<'_>,
    ) -> Result<Option<Vec<Row>>, Halt> {
        let Some(from) = self.from.take() else {
            return Ok(None);
        };
        let page = Page::Pending {
            group: &self.group,
            first: &from,
            last: b"+",
            count: ROWS_MAX,
        };
        reader.ask(page).await?;
        let reply = reader.connection.next_reply().await;
        reader.end_reply();
        let reply = reply?;
        let told = reply.as_list().unwrap_or_default();
        let mut rows: Vec<Row> = Vec::with_capacity(told.len());
        let mut now_ms: Option<i64> = None;
        for row in told {
            let Some((id, consumer, idle_ms, deliveries)) = row_of(row) else {
                return Err(reader.unexpected("XPENDING"));
            };
            if idle_ms == 0 {
                return Err(Halt::Written);
            }
            let now_ms = match now_ms {
                Some(now_ms) => now_ms,
                // The first row, whose time is known unless the group has changed.
                None => {
                    let time = self.known_time.ok_or(Halt::Written)?;
                    *now_ms.insert(time.saturating_add(idle_ms))
                }
            };
            rows.push(Row {
                id,
                consumer,
                delivered_at_ms: now_ms.saturating_sub(idle_ms),
                deliveries,
            });
        }
        if told.len() as u64 == ROWS_MAX
            && let Some(last) = rows.last()
        {
            self.known_time = Some(last.delivered_at_ms);
            self.from = Some(Bytes::from(last.id.to_string()));
        }
        if !std::mem::take(&mut self.is_first) && !rows.is_empty() {
            rows.remove(0);
        }
        Ok(Some(rows))
    }
}

fn row_of(row: &Value) -> Option<(StreamId, Bytes, i64, i64)> {
    match row.as_list()? {
        [id, consumer, idle, deliveries] => Some((
            parse_id(id.as_bytes()?)?,
            consumer.as_bytes()?.clone(),
            idle.as_int()?,
            deliveries.as_int()?,
        )),
        _ => None,
    }
}

/// When the first pending entry of each group was delivered, Unix ms; from XINFO STREAM FULL.
fn first_times(full: &Value) -> HashMap<Bytes, i64> {
    let groups = field(full, b"groups").and_then(Value::as_list);
    let mut times = HashMap::new();
    for group in groups.unwrap_or_default() {
        let pending = field(group, b"pending").and_then(Value::as_list);
        let first = pending.and_then(|rows| rows.first()?.as_list());
        let time = first.and_then(|row| row.get(2)?.as_int());
        let name = field(group, b"name").and_then(|name| name.as_bytes().cloned());
        if let (Some(name), Some(time)) = (name, time) {
            times.insert(name, time);
        }
    }
    times
}

/// The field of a map of this name.
fn field<'a>(map: &'a Value, name: &[u8]) -> Option<&'a Value> {
    let mut pairs = map.pairs()?;
    let found = pairs.find(|(n, _)| n.as_bytes().is_some_and(|n| n == name));
    found.map(|(_, value)| value)
}

fn id_field(map: &Value, name: &[u8]) -> Option<StreamId> {
    parse_id(field(map, name)?.as_bytes()?)
}

/// `milliseconds-sequence`.
pub(super) fn parse_id(text: &[u8]) -> Option<StreamId> {
    let (ms, seq) = std::str::from_utf8(text).ok()?.split_once('-')?;
    Some(StreamId {
        ms: ms.parse().ok()?,
        seq: seq.parse().ok()?,
    })
}

/// The id after this one; `None`: there is none.
pub(super) fn next_id(id: StreamId) -> Option<StreamId> {
    match id.seq.checked_add(1) {
        Some(seq) => Some(StreamId { seq, ..id }),
        None => Some(StreamId {
            ms: id.ms.checked_add(1)?,
            seq: 0,
        }),
    }
}

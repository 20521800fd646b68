//! Groups of a stream, their consumers, and what is pending.
//!
//! XPENDING tells how long ago an entry was delivered, not when. XINFO STREAM FULL tells the absolute time of
//! the first one of each group; that gives the moment at which a page of XPENDING was made, and so the
//! time of all of its rows. Each page begins with the last row of the one before.

use std::collections::HashMap;

use bytes::Bytes;
use keyhaul_client::{Page, ReadConnection, StreamInfo, StreamMoment};
use keyhaul_resp::Value;

use super::field;
use super::pending::{id_text, name};
use crate::bigkey::chunk::{Chunk, Words};
use crate::bigkey::sink::Sink;
use crate::bigkey::{Abilities, Broken};

pub(super) const CREATE: Words = &[b"XGROUP", b"CREATE"];
const CREATE_CONSUMER: Words = &[b"XGROUP", b"CREATECONSUMER"];
pub(super) const DESTROY: Words = &[b"XGROUP", b"DESTROY"];
const SETID: Words = &[b"XGROUP", b"SETID"];
const XCLAIM: Words = &[b"XCLAIM"];

/// Rows of XPENDING that are asked for at a time.
const ROWS_MAX: u64 = 1000;

/// Copies the groups of a stream.
pub(super) struct GroupReader<'a> {
    pub connection: &'a mut ReadConnection,
    pub key: &'a [u8],
    pub abilities: Abilities,
    /// Groups that were made.
    pub created: Vec<Bytes>,
}

/// A group that was made.
pub(super) struct GroupMade {
    pub name: Bytes,
    pub last_id: String,
    pub entries_read: Option<i64>,
    /// How much is pending.
    pub pending: u64,
}

/// A row of XPENDING.
struct Row {
    id: Bytes,
    consumer: Bytes,
    idle_ms: i64,
    deliveries: i64,
}

impl GroupReader<'_> {
    /// Makes all groups on the target.
    ///
    /// # Errors
    /// [`Broken`].
    pub(super) async fn copy(&mut self, sink: &mut Sink<'_>) -> Result<Vec<GroupMade>, Broken> {
        let groups = self.info(StreamInfo::Groups).await?;
        let groups = groups.into_list().unwrap_or_default();
        let times = match groups.is_empty() {
            true => HashMap::new(),
            false => first_times(&self.info(StreamInfo::Full).await?),
        };
        let mut all = Vec::new();
        for group in &groups {
            let Some(mut made) = made(group) else {
                return Err(Broken::Source(self.connection.unexpected("XINFO GROUPS")));
            };
            let consumers = self.info(StreamInfo::Consumers(&made.name)).await?;
            create(sink, &made, &consumers, self.abilities).await?;
            self.created.push(made.name.clone());
            let time = times.get(&made.name).copied();
            made.pending = self.claim_all(sink, &made.name, time).await?;
            all.push(made);
        }
        Ok(all)
    }

    async fn info(&mut self, info: StreamInfo<'_>) -> Result<Value, Broken> {
        let reply = self.connection.stream_info(self.key, info).await;
        reply.map_err(Broken::Source)
    }

    /// Makes all that is pending in a group; returns how much.
    async fn claim_all(
        &mut self,
        sink: &mut Sink<'_>,
        group: &Bytes,
        first_time: Option<i64>,
    ) -> Result<u64, Broken> {
        let Some(mut known_time) = first_time else {
            return Ok(0);
        };
        let (mut from, mut count) = (Bytes::from_static(b"-"), 0);
        loop {
            let rows = self.page(group, &from).await?;
            // The first row's time is known, and with it the moment of the page.
            let Some(now_ms) = rows.first().map(|row| known_time + row.idle_ms) else {
                return Ok(count);
            };
            let again = usize::from(count > 0);
            let mut chunk = Chunk::default();
            count += claim(
                &mut chunk,
                group,
                rows.get(again..).unwrap_or_default(),
                now_ms,
            );
            let is_last = (rows.len() as u64) < ROWS_MAX;
            if let Some(last) = rows.last() {
                (from, known_time) = (last.id.clone(), now_ms - last.idle_ms);
            }
            send(sink, chunk).await?;
            if is_last {
                return Ok(count);
            }
        }
    }

    async fn page(&mut self, group: &Bytes, first: &Bytes) -> Result<Vec<Row>, Broken> {
        let page = Page::Pending {
            group,
            first,
            last: b"+",
            count: ROWS_MAX,
        };
        let asked = self.connection.ask_page(self.key, page).await;
        asked.map_err(Broken::Source)?;
        let reply = self.connection.next_reply().await.map_err(Broken::Source)?;
        let rows = reply.as_list().unwrap_or_default().iter().map(row);
        let rows: Option<Vec<Row>> = rows.collect();
        rows.ok_or_else(|| Broken::Source(self.connection.unexpected("XPENDING")))
    }
}

/// Appends what makes these rows pending; returns how many they are.
fn claim(chunk: &mut Chunk, group: &Bytes, rows: &[Row], now_ms: i64) -> u64 {
    for row in rows {
        let (time, deliveries) = (now_ms - row.idle_ms, row.deliveries.to_string());
        let args: [&[u8]; 10] = [
            group,
            &row.consumer,
            b"0",
            &row.id,
            b"TIME",
            &time.to_string().into_bytes(),
            b"RETRYCOUNT",
            deliveries.as_bytes(),
            b"FORCE",
            b"JUSTID",
        ];
        chunk.command(XCLAIM, &args);
    }
    rows.len() as u64
}

/// Makes all groups of a stream as it was at one moment.
///
/// # Errors
/// [`Broken`].
pub(super) async fn copy_moment(
    moment: &StreamMoment,
    abilities: Abilities,
    sink: &mut Sink<'_>,
) -> Result<Vec<GroupMade>, Broken> {
    let times = first_times(&moment.full);
    let mut all = Vec::new();
    let groups = moment.groups.as_list().unwrap_or_default();
    for (group, (consumers, pending)) in groups.iter().zip(&moment.of_groups) {
        let mut made = made(group).ok_or(Broken::Written)?;
        create(sink, &made, consumers, abilities).await?;
        let rows = pending.as_list().unwrap_or_default().iter().map(row);
        let rows: Vec<Row> = rows.collect::<Option<_>>().ok_or(Broken::Written)?;
        let first_time = times.get(&made.name).copied();
        if let (Some(time), Some(first)) = (first_time, rows.first()) {
            let now_ms = time + first.idle_ms;
            for rows in rows.chunks(ROWS_MAX as usize) {
                let mut chunk = Chunk::default();
                made.pending += claim(&mut chunk, &made.name, rows, now_ms);
                send(sink, chunk).await?;
            }
        }
        all.push(made);
    }
    Ok(all)
}

/// From XINFO GROUPS.
fn made(group: &Value) -> Option<GroupMade> {
    Some(GroupMade {
        name: name(group)?,
        last_id: id_text(group, b"last-delivered-id")?,
        entries_read: field(group, b"entries-read").and_then(|read| read.as_int()),
        pending: 0,
    })
}

/// When the first pending entry of each group was delivered, Unix ms; from XINFO STREAM FULL.
fn first_times(full: &Value) -> HashMap<Bytes, i64> {
    let groups = field(full, b"groups").and_then(|groups| groups.as_list());
    let mut times = HashMap::new();
    for group in groups.unwrap_or_default() {
        let pending = field(group, b"pending").and_then(|pending| pending.as_list());
        let first = pending.and_then(|rows| rows.first()?.as_list());
        let time = first.and_then(|row| row.get(2)?.as_int());
        if let (Some(name), Some(time)) = (name(group), time) {
            times.insert(name, time);
        }
    }
    times
}

/// Makes one group and its consumers.
async fn create(
    sink: &mut Sink<'_>,
    group: &GroupMade,
    consumers: &Value,
    abilities: Abilities,
) -> Result<(), Broken> {
    let mut chunk = Chunk::default();
    chunk.command(
        CREATE,
        &[&group.name, group.last_id.as_bytes(), b"MKSTREAM"],
    );
    for consumer in consumers.as_list().unwrap_or_default() {
        let consumer = name(consumer).ok_or(Broken::Written)?;
        if abilities.creates_consumers {
            chunk.command(CREATE_CONSUMER, &[&group.name, &consumer]);
        }
    }
    send(sink, chunk).await
}

/// Sets the groups' positions, once the stream itself is as it must be: a server corrects what a group has read
/// by what the stream holds.
pub(super) fn set_positions(chunk: &mut Chunk, groups: &[GroupMade], abilities: Abilities) {
    for group in groups {
        let read = group.entries_read.map(|read| read.to_string());
        let mut args: Vec<&[u8]> = vec![&group.name, group.last_id.as_bytes()];
        if abilities.stream_offsets
            && let Some(read) = &read
        {
            args.extend([&b"ENTRIESREAD"[..], read.as_bytes()]);
        }
        chunk.command(SETID, &args);
    }
}

fn row(row: &Value) -> Option<Row> {
    match row.as_list()? {
        [id, consumer, idle, deliveries] => Some(Row {
            id: id.as_bytes()?.clone(),
            consumer: consumer.as_bytes()?.clone(),
            idle_ms: idle.as_int()?,
            deliveries: deliveries.as_int()?,
        }),
        _ => None,
    }
}

async fn send(sink: &mut Sink<'_>, mut chunk: Chunk) -> Result<(), Broken> {
    if chunk.is_empty() {
        return Ok(());
    }
    chunk.elements_after = sink.builder.built.elements;
    sink.builder.send(chunk).await?;
    sink.builder.drain().await
}

/// Removes groups that were made for a state of the stream that is past.
pub(super) async fn destroy(groups: &[Bytes], sink: &mut Sink<'_>) -> Result<(), Broken> {
    let mut chunk = Chunk::default();
    for group in groups {
        chunk.command(DESTROY, &[group]);
    }
    send(sink, chunk).await
}

/// Removes all groups of the staging key.
pub(super) async fn clear(sink: &mut Sink<'_>) -> Result<(), Broken> {
    if !exist(sink).await? {
        return Ok(());
    }
    let staging = sink.builder.staging();
    let groups = sink.builder.call(&[b"XINFO", b"GROUPS", &staging]).await?;
    let names = groups.as_list().unwrap_or_default().iter().filter_map(name);
    let names: Vec<Bytes> = names.collect();
    destroy(&names, sink).await
}

/// Whether the staging key is there, by its groups.
pub(super) async fn exist(sink: &mut Sink<'_>) -> Result<bool, Broken> {
    let staging = sink.builder.staging();
    Ok(sink.builder.call(&[b"EXISTS", &staging]).await?.as_int() == Some(1))
}

//! Reads streams: entries first, then groups, then what remains of entries that are no longer there.
//!
//! Entries never change and their ids only grow, so a stream that is written all the time can still be had as
//! it was at one moment: entries are copied without regard to writes, and only the rest - the newest entries,
//! groups, what is pending - is read while WATCH tells that nothing is written. An entry that was trimmed or
//! deleted meanwhile shows by length and first id.
//!
//! An entry may be pending that the stream no longer holds. Servers since 7.0 take such a thing only while
//! the entry is there, so an entry of its id is put in its place in the order of ids, and deleted at the end.

mod entries;
mod groups;
mod id;
mod pending;

use std::time::Duration;

use keyhaul_client::{KeyExpiry, ReadConnection, StreamInfo, ValueKind};
use keyhaul_resp::Value;

use crate::bigkey::chunk::{Chunk, Words};
use crate::bigkey::sink::Sink;
use crate::bigkey::{Abilities, Broken};

use entries::EntryReader;
use groups::GroupReader;
use id::StreamId;
use pending::Vanished;

const XDEL: Words = &[b"XDEL"];
const XTRIM: Words = &[b"XTRIM"];
const XSETID: Words = &[b"XSETID"];

/// How often the rest is read because the stream was written meanwhile.
const REST_TRIES_MAX: u32 = 20;
/// Ids in one XDEL.
const IDS_MAX: usize = 1000;

/// Reads a stream.
pub(crate) struct StreamReader<'a> {
    pub connection: &'a mut ReadConnection,
    /// For what is pending, while a page of entries is under way.
    pub side: &'a mut ReadConnection,
    pub key: &'a [u8],
    pub abilities: Abilities,
    /// What an entry takes, as far as the size of the whole tells, bytes.
    pub mean_bytes: u64,
}

/// What a stream says of itself.
struct Facts {
    last_id: String,
    max_deleted_id: Option<String>,
    entries_added: Option<i64>,
}

impl StreamReader<'_> {
    /// Reads all of the stream into the sink; returns how many entries it has, and when it expires. The staging
    /// key is as it must be then, and what was read is one state of the stream.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn run(mut self, sink: &mut Sink<'_>) -> Result<(u64, KeyExpiry), Broken> {
        let mut entries = EntryReader::new(self.key, self.mean_bytes);
        // Its ids are those of stand-ins.
        let mut stand_ins = Vec::new();
        self.copy_entries(&mut entries, &mut stand_ins, sink)
            .await?;
        for _ in 0..REST_TRIES_MAX {
            let name = self
                .connection
                .watch(self.key)
                .await
                .map_err(Broken::Source)?;
            if ValueKind::of_type_name(&name) != Some(ValueKind::Stream) {
                return Err(Broken::Written);
            }
            let facts = self.facts().await?;
            self.copy_entries(&mut entries, &mut stand_ins, sink)
                .await?;
            let mut groups = GroupReader {
                connection: self.connection,
                key: self.key,
                abilities: self.abilities,
                created: Vec::new(),
            };
            let pending = groups.copy(sink).await?;
            let created = groups.created;
            let first = self.first_id().await?;
            let expiry = self.connection.key_expiry(self.key).await;
            let expiry = expiry.map_err(Broken::Source)?;
            let length = self
                .connection
                .unchanged_length(ValueKind::Stream, self.key)
                .await
                .map_err(Broken::Source)?;
            if let Some(length) = length {
                self.settle(sink, &facts, stand_ins, length).await?;
                check(sink, first, length, &pending).await?;
                return Ok((length, expiry));
            }
            groups::destroy(&created, sink).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(Broken::Written)
    }

    async fn copy_entries(
        &mut self,
        entries: &mut EntryReader<'_>,
        stand_ins: &mut Vec<StreamId>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Broken> {
        let mut vanished = Vanished::begin(self.side, self.key, entries.next_id()).await?;
        entries
            .run(self.connection, &mut vanished, stand_ins, sink)
            .await?;
        sink.finish().await
    }

    async fn facts(&mut self) -> Result<Facts, Broken> {
        let reply = self.connection.stream_info(self.key, StreamInfo::Stream);
        let reply = reply.await.map_err(Broken::Source)?;
        let last_id = text(&reply, b"last-generated-id");
        let Some(last_id) = last_id else {
            return Err(Broken::Source(self.connection.unexpected("XINFO STREAM")));
        };
        Ok(Facts {
            last_id,
            max_deleted_id: text(&reply, b"max-deleted-entry-id"),
            entries_added: field(&reply, b"entries-added").and_then(|value| value.as_int()),
        })
    }

    /// The id of the first entry of the source.
    async fn first_id(&mut self) -> Result<Option<StreamId>, Broken> {
        entries::first_id(self.connection, self.key).await
    }

    /// Takes out what is not in the stream any more and sets its counters.
    async fn settle(
        &self,
        sink: &mut Sink<'_>,
        facts: &Facts,
        stand_ins: Vec<StreamId>,
        length: u64,
    ) -> Result<(), Broken> {
        let staging_exists = sink.total() > 0 || sink.builder.built.elements > 0;
        let mut chunk = Chunk::default();
        if !staging_exists && !groups::exist(sink).await? {
            // Neither entries nor groups: a stream all the same.
            chunk.command(&[b"XADD"], &[b"1-1", b"f", b"v"]);
            chunk.command(XDEL, &[b"1-1"]);
        }
        for ids in stand_ins.chunks(IDS_MAX) {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            let args: Vec<&[u8]> = ids.iter().map(|id| id.as_bytes()).collect();
            chunk.command(XDEL, &args);
        }
        let length = length.to_string();
        chunk.command(XTRIM, &[b"MAXLEN", length.as_bytes()]);
        let mut args: Vec<&[u8]> = vec![facts.last_id.as_bytes()];
        let added = facts.entries_added.map(|added| added.to_string());
        if self.abilities.stream_offsets
            && let (Some(added), Some(deleted)) = (&added, &facts.max_deleted_id)
        {
            args.extend([&b"ENTRIESADDED"[..], added.as_bytes()]);
            args.extend([&b"MAXDELETEDID"[..], deleted.as_bytes()]);
        }
        chunk.command(XSETID, &args);
        chunk.elements_after = sink.builder.built.elements;
        sink.builder.send(chunk).await?;
        sink.builder.drain().await
    }
}

/// Whether the staging key holds what the source held: as many entries from the same one on, as much pending.
async fn check(
    sink: &mut Sink<'_>,
    first: Option<StreamId>,
    length: u64,
    pending: &[(Vec<u8>, u64)],
) -> Result<(), Broken> {
    let staging = sink.builder.staging();
    let found = sink
        .builder
        .call(&[b"XRANGE", &staging, b"-", b"+", b"COUNT", b"1"])
        .await?;
    let found_first = found
        .as_list()
        .and_then(|entries| entries.first()?.as_list()?.first()?.as_bytes())
        .and_then(|id| StreamId::parse(id));
    let found_length = sink.builder.call(&[b"XLEN", &staging]).await?.as_int();
    if found_first != first || found_length != i64::try_from(length).ok() {
        return Err(Broken::Written);
    }
    for (group, count) in pending {
        let summary = sink.builder.call(&[b"XPENDING", &staging, group]).await?;
        let found = summary.as_list().and_then(|list| list.first()?.as_int());
        if found != i64::try_from(*count).ok() {
            return Err(Broken::Written);
        }
    }
    Ok(())
}

/// The field of a map of this name.
fn field<'a>(map: &'a Value, name: &[u8]) -> Option<&'a Value> {
    let mut pairs = map.pairs()?;
    let found = pairs.find(|(n, _)| n.as_bytes().is_some_and(|n| n == name));
    found.map(|(_, value)| value)
}

fn text(map: &Value, name: &[u8]) -> Option<String> {
    let bytes = field(map, name)?.as_bytes()?;
    String::from_utf8(bytes.to_vec()).ok()
}

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

use bytes::Bytes;
use keyhaul_client::{KeyExpiry, MomentAsk, ReadConnection, StreamInfo, ValueKind};
use keyhaul_resp::Value;

use crate::bigkey::chunk::{Chunk, Words};
use crate::bigkey::sink::Sink;
use crate::bigkey::{Abilities, Broken};

use entries::EntryReader;
use groups::{GroupMade, GroupReader};
use id::StreamId;
use pending::Vanished;

const XDEL: Words = &[b"XDEL"];
const XTRIM: Words = &[b"XTRIM"];
const XSETID: Words = &[b"XSETID"];

/// How often the rest is read because the stream was written meanwhile.
const REST_TRIES_MAX: u32 = 20;
/// Entries and rows of what is pending in a group that are read in one transaction at most.
const MOMENT_ENTRIES_MAX: u64 = 1000;
const MOMENT_ROWS_MAX: u64 = 10_000;
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

/// What was read at the end, all of one moment.
struct Rest {
    facts: Facts,
    /// The first entry.
    first: Option<StreamId>,
    length: u64,
    expiry: KeyExpiry,
    pending: Vec<GroupMade>,
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
        if sink.is_comparing() {
            // An earlier run may have come to them; what they were then is past.
            groups::clear(sink).await?;
        }
        self.copy_entries(&mut entries, &mut stand_ins, sink)
            .await?;
        for _ in 0..REST_TRIES_MAX {
            if let Some(rest) = self
                .rest_at_once(&mut entries, &mut stand_ins, sink)
                .await?
            {
                return self.settle(sink, rest, stand_ins).await;
            }
            if let Some(rest) = self
                .rest_watched(&mut entries, &mut stand_ins, sink)
                .await?
            {
                return self.settle(sink, rest, stand_ins).await;
            }
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

    /// The newest entries and the groups in one transaction, where they are few enough for that: however
    /// often the stream is written. `None`: they are not.
    async fn rest_at_once(
        &mut self,
        entries: &mut EntryReader<'_>,
        stand_ins: &mut Vec<StreamId>,
        sink: &mut Sink<'_>,
    ) -> Result<Option<Rest>, Broken> {
        let groups = self.connection.stream_info(self.key, StreamInfo::Groups);
        let groups = groups.await.map_err(Broken::Source)?;
        let groups = groups.as_list().unwrap_or_default();
        let few = |group: &Value| {
            let pending = field(group, b"pending").and_then(|pending| pending.as_int());
            pending.is_some_and(|pending| (pending as u64) < MOMENT_ROWS_MAX)
        };
        let Some(first) = entries.next_id().filter(|_| groups.iter().all(few)) else {
            return Ok(None);
        };
        let names: Vec<Bytes> = groups.iter().filter_map(pending::name).collect();
        let first = first.to_string();
        let ask = MomentAsk {
            first: first.as_bytes(),
            entries_max: MOMENT_ENTRIES_MAX,
            groups: &names,
            rows_max: MOMENT_ROWS_MAX,
        };
        let moment = self.connection.stream_moment(self.key, ask).await;
        let moment = moment.map_err(Broken::Source)?;
        let rows = |reply: &Value| reply.as_list().map_or(0, <[Value]>::len) as u64;
        let groups = moment.groups.as_list().unwrap_or_default();
        let same_groups = groups
            .iter()
            .filter_map(pending::name)
            .eq(names.iter().cloned());
        let is_whole = rows(&moment.entries) < MOMENT_ENTRIES_MAX
            && entries::are_whole(&moment.entries)
            && moment
                .of_groups
                .iter()
                .all(|(_, pending)| rows(pending) < MOMENT_ROWS_MAX);
        let (Some(expiry), true, true) = (moment.expiry, same_groups, is_whole) else {
            // More came than fits a moment: they are copied as the others were.
            self.copy_entries(entries, stand_ins, sink).await?;
            return Ok(None);
        };
        let facts = self.facts(&moment.info)?;
        let pending = moment.of_groups.iter().map(|(_, pending)| pending);
        let vanished = pending::ids(pending, entries.next_id());
        entries
            .take(&moment.entries, vanished, stand_ins, sink)
            .await?;
        sink.finish().await?;
        let pending = groups::copy_moment(&moment, self.abilities, sink).await?;
        Ok(Some(Rest {
            facts,
            first: entries::id_of_first(&moment.first),
            length: moment.length,
            expiry,
            pending,
        }))
    }

    /// The same page by page, while nothing is written. `None`: something was.
    async fn rest_watched(
        &mut self,
        entries: &mut EntryReader<'_>,
        stand_ins: &mut Vec<StreamId>,
        sink: &mut Sink<'_>,
    ) -> Result<Option<Rest>, Broken> {
        let name = self.connection.watch(self.key).await;
        let name = name.map_err(Broken::Source)?;
        if ValueKind::of_type_name(&name) != Some(ValueKind::Stream) {
            return Err(Broken::Written);
        }
        let info = self
            .connection
            .stream_info(self.key, StreamInfo::Stream)
            .await;
        let facts = self.facts(&info.map_err(Broken::Source)?)?;
        // WATCH does not tell what becomes of groups.
        let before = self.groups_now().await?;
        self.copy_entries(entries, stand_ins, sink).await?;
        let mut groups = GroupReader {
            connection: self.connection,
            key: self.key,
            abilities: self.abilities,
            created: Vec::new(),
        };
        let pending = groups.copy(sink).await?;
        let created = groups.created;
        let first = entries::first_id(self.connection, self.key).await?;
        let expiry = self.connection.key_expiry(self.key).await;
        let expiry = expiry.map_err(Broken::Source)?;
        let length = self
            .connection
            .unchanged_length(ValueKind::Stream, self.key)
            .await
            .map_err(Broken::Source)?;
        let is_as_before = self.groups_now().await? == before;
        let Some(length) = length.filter(|_| is_as_before) else {
            groups::destroy(&created, sink).await?;
            return Ok(None);
        };
        Ok(Some(Rest {
            facts,
            first,
            length,
            expiry,
            pending,
        }))
    }

    /// What the source says of the groups, and of who has how much of each.
    async fn groups_now(&mut self) -> Result<Vec<Value>, Broken> {
        let groups = self.connection.stream_info(self.key, StreamInfo::Groups);
        let groups = groups.await.map_err(Broken::Source)?;
        let names = groups.as_list().unwrap_or_default().iter();
        let names: Vec<Bytes> = names.filter_map(pending::name).collect();
        let mut all = vec![groups];
        for name in names {
            let pending = self
                .connection
                .stream_info(self.key, StreamInfo::Pending(&name))
                .await;
            all.push(pending.map_err(Broken::Source)?);
        }
        Ok(all)
    }

    fn facts(&self, info: &Value) -> Result<Facts, Broken> {
        let Some(last_id) = text(info, b"last-generated-id") else {
            return Err(Broken::Source(self.connection.unexpected("XINFO STREAM")));
        };
        Ok(Facts {
            last_id,
            max_deleted_id: text(info, b"max-deleted-entry-id"),
            entries_added: field(info, b"entries-added").and_then(|value| value.as_int()),
        })
    }

    /// Takes out what is not in the stream any more, sets its counters, and looks whether all is right.
    async fn settle(
        &self,
        sink: &mut Sink<'_>,
        rest: Rest,
        mut stand_ins: Vec<StreamId>,
    ) -> Result<(u64, KeyExpiry), Broken> {
        // A trim takes those before the first entry off without a trace, as it did on the source.
        stand_ins.retain(|id| rest.first.is_some_and(|first| *id > first));
        let facts = &rest.facts;
        let staging_exists = sink.total() > 0 || sink.builder.built.elements > 0;
        let mut chunk = Chunk::default();
        if !staging_exists && !groups::exist(sink).await? {
            // Neither entries nor groups: a stream all the same.
            chunk.command(groups::CREATE, &[b"g", b"0", b"MKSTREAM"]);
            chunk.command(groups::DESTROY, &[b"g"]);
        }
        for ids in stand_ins.chunks(IDS_MAX) {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            let args: Vec<&[u8]> = ids.iter().map(|id| id.as_bytes()).collect();
            chunk.command(XDEL, &args);
        }
        let length = rest.length.to_string();
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
        groups::set_positions(&mut chunk, &rest.pending, self.abilities);
        chunk.elements_after = sink.builder.built.elements;
        sink.builder.send(chunk).await?;
        sink.builder.drain().await?;
        check(sink, &rest).await?;
        Ok((rest.length, rest.expiry))
    }
}

/// Whether the staging key holds what the source held: as many entries from the same one on, as much pending.
async fn check(sink: &mut Sink<'_>, rest: &Rest) -> Result<(), Broken> {
    let staging = sink.builder.staging();
    let args: [&[u8]; 6] = [b"XRANGE", &staging, b"-", b"+", b"COUNT", b"1"];
    let found = sink.builder.call(&args).await?;
    let found_length = sink.builder.call(&[b"XLEN", &staging]).await?.as_int();
    if entries::id_of_first(&found) != rest.first || found_length != i64::try_from(rest.length).ok()
    {
        return Err(Broken::Written);
    }
    for group in &rest.pending {
        let args: [&[u8]; 3] = [b"XPENDING", &staging, &group.name];
        let summary = sink.builder.call(&args).await?;
        let found = summary.as_list().and_then(|list| list.first()?.as_int());
        if found != i64::try_from(group.pending).ok() {
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

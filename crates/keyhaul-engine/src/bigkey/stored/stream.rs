//! Commands that make a stream of what a file tells of one: entries, groups, consumers, what is pending.
//!
//! An entry may be pending that the stream no longer holds; see [`crate::bigkey::stream`] for its stand-in. A file
//! tells what is pending behind the entries, so the ids of it are collected on a first way through.

use std::iter::Peekable;
use std::vec::IntoIter;

use keyhaul_rdb::{Element, EntryFields, StreamFacts, StreamId};

use super::cutter::Cutter;
use crate::bigkey::Broken;
use crate::bigkey::builder::Builder;
use crate::bigkey::chunk::{Chunk, Words};

const XADD: Words = &[b"XADD"];
const XDEL: Words = &[b"XDEL"];
const XTRIM: Words = &[b"XTRIM"];
const XSETID: Words = &[b"XSETID"];
const XCLAIM: Words = &[b"XCLAIM"];
const CREATE: Words = &[b"XGROUP", b"CREATE"];
const CREATE_CONSUMER: Words = &[b"XGROUP", b"CREATECONSUMER"];

/// Ids in one XDEL.
const IDS_MAX: usize = 1000;

/// What was told of a stream so far.
pub(super) struct StreamCutter {
    /// Ids that are pending and were not reached yet.
    pending: Peekable<IntoIter<StreamId>>,
    stand_ins: Vec<StreamId>,
    entries: u64,
    first: Option<StreamId>,
    last: Option<StreamId>,
    facts: StreamFacts,
    /// Names of groups and how much is pending in them.
    groups: Vec<(Vec<u8>, u64)>,
    consumer: Vec<u8>,
    /// What is pending in the last group: id, time, count.
    deliveries: Vec<(StreamId, u64, u64)>,
}

impl Default for StreamCutter {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl StreamCutter {
    /// `pending`: the ids that are pending in any group, in their order, each once.
    pub(super) fn new(pending: Vec<StreamId>) -> Self {
        Self {
            pending: pending.into_iter().peekable(),
            stand_ins: Vec::new(),
            entries: 0,
            first: None,
            last: None,
            facts: StreamFacts::default(),
            groups: Vec::new(),
            consumer: Vec::new(),
            deliveries: Vec::new(),
        }
    }

    /// Entries that the stream holds.
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    pub(super) fn take(&mut self, cutter: &mut Cutter, element: Element<'_>) {
        match element {
            Element::Entry { id, fields } => self.entry(cutter, id, &fields),
            Element::Stream(facts) => self.end_entries(cutter, facts),
            Element::Group {
                name,
                last_id,
                entries_read,
            } => self.group(cutter, name, last_id, entries_read),
            Element::Pending {
                id,
                delivered_at_ms,
                deliveries,
            } => {
                self.deliveries.push((id, delivered_at_ms, deliveries));
                if let Some((_, count)) = self.groups.last_mut() {
                    *count += 1;
                }
            }
            Element::Consumer { name, .. } => self.consumer(cutter, name),
            Element::Owned(id) => self.claim(cutter, id),
            _ => cutter.refuse("a stream holds what no stream has".into()),
        }
    }

    fn entry(&mut self, cutter: &mut Cutter, id: StreamId, fields: &EntryFields<'_>) {
        while let Some(gone) = self.pending.next_if(|pending| *pending < id) {
            self.stand_in(cutter, gone);
        }
        self.pending.next_if_eq(&id);
        let text = id.to_string();
        cutter.put(text.as_bytes());
        fields.for_each(|name, value| {
            cutter.put(name);
            cutter.put(value);
        });
        cutter.chunk.end_command(XADD, 1 + fields.count() * 2);
        cutter.chunk.last_id = Some(text);
        self.entries += 1;
        self.first = self.first.or(Some(id));
        self.last = Some(id);
        cutter.total += 1;
        cutter.count();
    }

    fn stand_in(&mut self, cutter: &mut Cutter, id: StreamId) {
        let text = id.to_string();
        cutter.chunk.command(XADD, &[text.as_bytes(), b"", b""]);
        cutter.chunk.last_id = Some(text);
        self.stand_ins.push(id);
        cutter.total += 1;
        cutter.count();
    }

    /// The entries end.
    fn end_entries(&mut self, cutter: &mut Cutter, facts: StreamFacts) {
        while let Some(gone) = self.pending.next() {
            self.stand_in(cutter, gone);
        }
        self.pending = Vec::new().into_iter().peekable();
        if cutter.total == 0 {
            // No entries, and yet a stream: one is put in, and trimmed at the end.
            self.stand_in(cutter, StreamId { ms: 0, seq: 1 });
        }
        self.facts = facts;
        // How far the entries came is known by their number, and what follows does not change that.
        cutter.drain();
    }

    fn group(
        &mut self,
        cutter: &mut Cutter,
        name: &[u8],
        last_id: StreamId,
        entries_read: Option<i64>,
    ) {
        self.deliveries.clear();
        self.groups.push((name.to_vec(), 0));
        let read = entries_read.filter(|read| *read >= 0 && cutter.abilities.stream_offsets);
        let read = read.map(|read| read.to_string());
        let last_id = last_id.to_string();
        cutter.put(name);
        cutter.put(last_id.as_bytes());
        let mut args = 2;
        if let Some(read) = read {
            cutter.put(b"ENTRIESREAD");
            cutter.put(read.as_bytes());
            args += 2;
        }
        cutter.chunk.end_command(CREATE, args);
        cutter.count();
    }

    fn consumer(&mut self, cutter: &mut Cutter, name: &[u8]) {
        self.consumer.clear();
        self.consumer.extend_from_slice(name);
        // In their order already, as servers keep them so.
        self.deliveries.sort_unstable();
        let Some((group, _)) = self.groups.last() else {
            return;
        };
        if cutter.abilities.creates_consumers {
            cutter.put(group);
            cutter.put(name);
            cutter.chunk.end_command(CREATE_CONSUMER, 2);
            cutter.count();
        }
    }

    fn claim(&mut self, cutter: &mut Cutter, id: StreamId) {
        let found = self.deliveries.binary_search_by_key(&id, |(id, ..)| *id);
        let delivery = found.ok().and_then(|index| self.deliveries.get(index));
        let (Some((group, _)), Some((_, time, count))) = (self.groups.last(), delivery) else {
            return cutter
                .refuse("a consumer has an entry that is not pending in its group".into());
        };
        let (id, time, count) = (id.to_string(), time.to_string(), count.to_string());
        let args: [&[u8]; 10] = [
            group,
            &self.consumer,
            b"0",
            id.as_bytes(),
            b"TIME",
            time.as_bytes(),
            b"RETRYCOUNT",
            count.as_bytes(),
            b"FORCE",
            b"JUSTID",
        ];
        cutter.chunk.command(XCLAIM, &args);
        cutter.count();
    }

    /// Takes the stand-ins out and sets the counters, in one step.
    pub(super) fn end(&mut self, cutter: &mut Cutter) {
        cutter.drain();
        let mut chunk = Chunk::default();
        // A trim takes those before the first entry off without a trace, as it did on the source.
        let first = self.first;
        self.stand_ins
            .retain(|id| first.is_some_and(|first| *id > first));
        for ids in self.stand_ins.chunks(IDS_MAX) {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            let args: Vec<&[u8]> = ids.iter().map(|id| id.as_bytes()).collect();
            chunk.command(XDEL, &args);
        }
        let (length, last_id) = (self.entries.to_string(), self.facts.last_id.to_string());
        chunk.command(XTRIM, &[b"MAXLEN", length.as_bytes()]);
        // Files of before RDB 10 do not tell the two; servers load them so.
        let added = self.facts.entries_added.unwrap_or(self.entries).to_string();
        let deleted = self.facts.deleted_id.unwrap_or_default().to_string();
        let mut args: Vec<&[u8]> = vec![last_id.as_bytes()];
        if cutter.abilities.stream_offsets {
            args.extend([&b"ENTRIESADDED"[..], added.as_bytes()]);
            args.extend([&b"MAXDELETEDID"[..], deleted.as_bytes()]);
        }
        chunk.command(XSETID, &args);
        // By these it shows whether it was applied.
        chunk.elements_after = self.entries;
        chunk.last_id = self.last.map(|last| last.to_string());
        cutter.send(chunk);
        cutter.drain();
    }

    /// Whether as much is pending on the target.
    ///
    /// # Errors
    /// [`Broken::Lost`] if not.
    pub(super) async fn check(&self, builder: &mut Builder) -> Result<(), Broken> {
        for (group, count) in &self.groups {
            let staging = builder.staging();
            let summary = builder.call(&[b"XPENDING", &staging, group]).await?;
            let found = summary.as_list().and_then(|list| list.first()?.as_int());
            if found != i64::try_from(*count).ok() {
                return Err(Broken::Lost);
            }
        }
        Ok(())
    }
}

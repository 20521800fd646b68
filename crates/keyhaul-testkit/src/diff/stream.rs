//! Streams as XINFO STREAM FULL shows them: entries, ids, groups, consumers and what is pending.
//!
//! Consumers' seen and active times are not compared: every look at a stream changes them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::DiffOptions;
use super::value::{bytes, elements, fields, sequence_difference, show};

/// All of a stream that must be equal.
pub(super) struct Stream {
    entries: Vec<Entry>,
    /// Named facts that every version shows: ids, groups, consumers, pending entries.
    facts: BTreeMap<String, String>,
    /// Named facts that came with Redis 7.0; compared where both sides have them.
    counters: BTreeMap<String, String>,
    /// Consumers to whom nothing is pending: their names as facts.
    idle_consumers: BTreeSet<String>,
}

/// Id, then fields and values in turn.
type Entry = (String, Vec<Vec<u8>>);
type Fields = HashMap<String, redis::Value>;

impl Stream {
    /// From the reply to XINFO STREAM key FULL COUNT 0.
    pub(super) fn decode(reply: redis::Value) -> Stream {
        let mut reply = fields(reply);
        let mut stream = Stream {
            entries: Vec::new(),
            facts: BTreeMap::new(),
            counters: BTreeMap::new(),
            idle_consumers: BTreeSet::new(),
        };
        for entry in elements(take(&mut reply, "entries")) {
            let mut parts = elements(entry).into_iter();
            let id = text(parts.next().expect("an entry has an id"));
            let fields = elements(parts.next().expect("an entry has fields"));
            stream
                .entries
                .push((id, fields.into_iter().map(bytes).collect()));
        }
        let last_id = text(take(&mut reply, "last-generated-id"));
        stream.facts.insert("last id".into(), last_id);
        for name in ["max-deleted-entry-id", "entries-added"] {
            if let Some(value) = reply.remove(name) {
                stream.counters.insert(name.into(), text(value));
            }
        }
        for group in elements(take(&mut reply, "groups")) {
            stream.add_group(fields(group));
        }
        stream
    }

    fn add_group(&mut self, mut group: Fields) {
        let name = show(&bytes(take(&mut group, "name")));
        let last_id = text(take(&mut group, "last-delivered-id"));
        self.facts.insert(format!("group {name} last id"), last_id);
        if let Some(value) = group.remove("entries-read") {
            self.counters
                .insert(format!("group {name} entries read"), text(value));
        }
        // The group's own list names the consumer of each: [id, consumer, delivery time, delivery
        // count].
        for pending in elements(take(&mut group, "pending")) {
            let mut parts = elements(pending).into_iter().map(bytes);
            let mut next = || parts.next().expect("a pending entry has four parts");
            let id = String::from_utf8(next()).expect("ids are text");
            let (consumer, time, count) = (next(), next(), next());
            let fact = format!(
                "{} delivered at {} for the {} time",
                show(&consumer),
                time.escape_ascii(),
                count.escape_ascii(),
            );
            self.facts
                .insert(format!("group {name} pending {id}"), fact);
        }
        for consumer in elements(take(&mut group, "consumers")) {
            let mut consumer = fields(consumer);
            let consumer_name = show(&bytes(take(&mut consumer, "name")));
            let count = elements(take(&mut consumer, "pending")).len();
            let fact = format!("group {name} consumer {consumer_name}");
            if count == 0 {
                self.idle_consumers.insert(fact.clone());
            }
            self.facts.insert(fact, format!("{count} pending"));
        }
    }

    /// The first parts that differ, as text. None if equal.
    pub(super) fn first_difference<'a>(
        &'a self,
        other: &'a Stream,
        options: &DiffOptions,
    ) -> Option<(String, String)> {
        let show_entry = |(id, fields): &Entry| {
            let fields: Vec<String> = fields.iter().map(|field| show(field)).collect();
            format!("{id} {}", fields.join(" "))
        };
        if let Some(difference) =
            sequence_difference(&self.entries, &other.entries, |a, b| a == b, show_entry)
        {
            return Some(difference);
        }
        let names = self.facts.keys().chain(other.facts.keys());
        let left_out = |stream: &Stream, name: &String| {
            options.ignore_idle_consumers && stream.idle_consumers.contains(name)
        };
        let fact = |stream: &'a Stream, name: &String| {
            let there = stream.facts.get(name);
            there.filter(|_| !left_out(stream, name))
        };
        let differing_fact = names
            .into_iter()
            .find(|name| fact(self, name) != fact(other, name));
        if let Some(name) = differing_fact {
            return Some(both_sides(
                name,
                self.facts.get(name),
                other.facts.get(name),
            ));
        }
        if options.ignore_stream_counters {
            return None;
        }
        self.counters.iter().find_map(|(name, value)| {
            let value_there = other.counters.get(name)?;
            (value != value_there).then(|| both_sides(name, Some(value), Some(value_there)))
        })
    }
}

fn both_sides(name: &str, a: Option<&String>, b: Option<&String>) -> (String, String) {
    let side = |value: Option<&String>| match value {
        Some(value) => format!("{name}: {value}"),
        None => format!("no {name}"),
    };
    (side(a), side(b))
}

fn take(fields: &mut Fields, name: &str) -> redis::Value {
    fields
        .remove(name)
        .unwrap_or_else(|| panic!("XINFO STREAM FULL shows no {name}"))
}

fn text(reply: redis::Value) -> String {
    bytes(reply).escape_ascii().to_string()
}

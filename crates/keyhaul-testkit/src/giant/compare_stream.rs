//! Whether two streams are the same: entries, ids and counters, groups, consumers, pending entries.
//!
//! When and how often an entry was delivered is compared twice: for all by XPENDING, whose times are
//! relative and so exact to a few milliseconds, and exactly for the first thousand of each group, which
//! is what XINFO STREAM FULL can show without the whole list in one reply. Lag is not compared: it
//! follows from the rest, and versions compute it differently. Neither is when a consumer was seen.

use std::collections::BTreeMap;

use redis::{Connection, Value, cmd};

use super::compare::{Compared, equal};
use super::reply::{Both, fields, parse, show};

/// Entries, or pending entries, per window.
const WINDOW: usize = 5000;
/// What XINFO STREAM FULL shows of each list.
const FULL_COUNT: usize = 1000;
/// What a time that is computed from a relative one may be off by, besides the time a reply takes.
const CLOCK_SLACK_MS: i64 = 3;
/// What XINFO STREAM tells that is no detail of memory, as far as a version tells it.
const FACTS: [&str; 8] = [
    "length",
    "last-generated-id",
    "max-deleted-entry-id",
    "entries-added",
    "recorded-first-entry-id",
    "groups",
    "first-entry",
    "last-entry",
];
const GROUP_FACTS: [&str; 5] = [
    "name",
    "consumers",
    "pending",
    "last-delivered-id",
    "entries-read",
];
const CONSUMER_FACTS: [&str; 2] = ["name", "pending"];

pub(super) fn compare(both: &mut Both, key: &str) -> Compared {
    let (ours, theirs): (Value, Value) = both.ask(cmd("XINFO").arg("STREAM").arg(key));
    facts("XINFO STREAM", &FACTS, ours, theirs)?;
    entries(both, key)?;
    let groups = rows(both, "GROUPS", &[key], &GROUP_FACTS)?;
    for group in &groups {
        rows(both, "CONSUMERS", &[key, group], &CONSUMER_FACTS)?;
        pending(both, key, group)?;
    }
    let mut full = cmd("XINFO");
    full.arg("STREAM").arg(key).arg("FULL");
    full.arg("COUNT").arg(FULL_COUNT);
    let (ours, theirs): (Value, Value) = both.ask(&full);
    equal("exact deliveries", &(deliveries(ours), deliveries(theirs)))
}

/// Compares the named facts that both sides tell.
fn facts(what: &str, names: &[&str], ours: Value, theirs: Value) -> Compared {
    let (ours, theirs) = (fields(ours), fields(theirs));
    for name in names {
        if let (Some(one), Some(other)) = (ours.get(*name), theirs.get(*name)) {
            equal(&format!("{what} {name}"), &(one, other))?;
        }
    }
    Ok(())
}

/// Compares a list of XINFO row by row; says the names in it.
fn rows(both: &mut Both, list: &str, args: &[&str], names: &[&str]) -> Result<Vec<String>, String> {
    let (ours, theirs): (Vec<Value>, Vec<Value>) = both.ask(cmd("XINFO").arg(list).arg(args));
    equal(list, &(ours.len(), theirs.len()))?;
    let mut found = Vec::new();
    for (one, other) in ours.into_iter().zip(theirs) {
        if let Some(name) = fields(one.clone()).remove("name") {
            found.push(parse(name));
        }
        facts(&format!("XINFO {list} {args:?}"), names, one, other)?;
    }
    Ok(found)
}

fn entries(both: &mut Both, key: &str) -> Compared {
    type Entry = (String, Vec<Vec<u8>>);
    let mut start = "-".to_owned();
    loop {
        let mut command = cmd("XRANGE");
        command.arg(key).arg(&start).arg("+");
        command.arg("COUNT").arg(WINDOW);
        let (ours, theirs): (Vec<Entry>, Vec<Entry>) = both.ask(&command);
        let differing = ours.iter().zip(&theirs).find(|(a, b)| a != b);
        if let Some((one, other)) = differing {
            let text = |entry: &Entry| {
                let words: Vec<String> = entry.1.iter().map(|word| show(word)).collect();
                format!("{} {}", entry.0, words.join(" "))
            };
            return Err(format!("entries: {} and {}", text(one), text(other)));
        }
        equal("entries in a window", &(ours.len(), theirs.len()))?;
        match ours.last() {
            Some((id, _)) if ours.len() == WINDOW => start = format!("({id}"),
            _ => return Ok(()),
        }
    }
}

/// Id, consumer, the range of Unix milliseconds of the delivery, the number of deliveries.
type Pending = (String, String, (i64, i64), u64);

fn pending(both: &mut Both, key: &str, group: &str) -> Compared {
    let mut start = "-".to_owned();
    loop {
        let ours = pending_of(&mut both.a, key, group, &start);
        let theirs = pending_of(&mut both.b, key, group, &start);
        for (one, other) in ours.iter().zip(&theirs) {
            let same_time = one.2.0 <= other.2.1 && other.2.0 <= one.2.1;
            let same = (&one.0, &one.1, one.3) == (&other.0, &other.1, other.3);
            if !same || !same_time {
                return Err(format!("pending in {group}: {one:?} and {other:?}"));
            }
        }
        let what = format!("pending in a window of {group}");
        equal(&what, &(ours.len(), theirs.len()))?;
        match ours.last() {
            Some((id, ..)) if ours.len() == WINDOW => start = format!("({id}"),
            _ => return Ok(()),
        }
    }
}

fn pending_of(connection: &mut Connection, key: &str, group: &str, start: &str) -> Vec<Pending> {
    let mut pipe = redis::pipe();
    pipe.cmd("TIME");
    pipe.cmd("XPENDING").arg(key).arg(group);
    pipe.arg(start).arg("+").arg(WINDOW);
    pipe.cmd("TIME");
    type Time = (i64, i64);
    type Row = (String, String, i64, u64);
    let (before, rows, after): (Time, Vec<Row>, Time) =
        pipe.query(connection).expect("the group is there");
    let ms = |(seconds, micros): Time| seconds * 1000 + micros / 1000;
    let (first_ms, last_ms) = (ms(before) - CLOCK_SLACK_MS, ms(after) + CLOCK_SLACK_MS);
    rows.into_iter()
        .map(|(id, consumer, idle_ms, count)| {
            (id, consumer, (first_ms - idle_ms, last_ms - idle_ms), count)
        })
        .collect()
}

/// The pending lists of the groups of XINFO STREAM FULL: id, consumer, time and number of deliveries.
fn deliveries(full: Value) -> BTreeMap<String, Vec<(String, String, i64, u64)>> {
    let groups = fields(full).remove("groups");
    let groups: Vec<Value> = parse(groups.expect("FULL shows groups"));
    groups
        .into_iter()
        .map(|group| {
            let mut group = fields(group);
            let mut take = |name| group.remove(name).expect("FULL shows it");
            (parse(take("name")), parse(take("pending")))
        })
        .collect()
}

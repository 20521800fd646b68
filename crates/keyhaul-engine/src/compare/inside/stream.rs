//! Streams: entries by their ids, and what a stream is beside them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};

use keyhaul_rdb::{Element, Flaw, StreamDetail, StreamId};

use super::text::{self, Lines, Side, Text};
use super::{Part, Steps};

/// An entry: its id, names and values.
pub(crate) type Entry = (StreamId, Vec<(Text, Text)>);

/// What a stream is beside its entries.
#[derive(Debug, Default)]
pub(crate) struct About {
    pub last_id: StreamId,
    /// The highest id that was deleted.
    pub deleted_id: StreamId,
    /// Entries that were ever added.
    pub entries_added: u64,
    /// By name.
    pub groups: BTreeMap<Vec<u8>, Group>,
}

/// A consumer group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub last_id: StreamId,
    /// How many entries it has read; -1: not known.
    pub entries_read: i64,
    /// Names of its consumers.
    pub consumers: Vec<Vec<u8>>,
    /// In the order of ids.
    pub pending: Vec<Pending>,
}

impl Group {
    /// The name of the consumer that has the entry.
    fn consumer(&self, row: &Pending) -> Option<&Vec<u8>> {
        self.consumers.get(row.consumer)
    }
}

/// An entry that was delivered and not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    pub id: StreamId,
    /// Unix ms.
    pub delivered_at_ms: i64,
    pub deliveries: u64,
    /// Which of the group's consumers has it.
    pub consumer: usize,
}

/// Two streams.
pub(super) fn compare(
    source: Part<'_>,
    target: Part<'_>,
    detail: StreamDetail,
    lines: &mut Lines,
) -> Result<(), Flaw> {
    let (mut ours, mut theirs) = (Steps::new(source, entry)?, Steps::new(target, entry)?);
    let mut lengths = [0_u64; 2];
    let mut differing = Lines::new(lines.room());
    loop {
        let order = match (ours.peek()?, theirs.peek()?) {
            (Some(one), Some(other)) => one.0.cmp(&other.0),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => break,
        };
        let one = match order {
            Ordering::Greater => None,
            _ => ours.next()?,
        };
        let other = match order {
            Ordering::Less => None,
            _ => theirs.next()?,
        };
        lengths[0] += u64::from(one.is_some());
        lengths[1] += u64::from(other.is_some());
        entry_differences(one.as_ref(), other.as_ref(), &mut differing);
    }
    if lengths[0] != lengths[1] {
        lines.push(|| text::lengths("length", lengths[0], lengths[1]));
    }
    lines.append(differing);
    about_differences(&about(source)?, &about(target)?, detail, lines);
    Ok(())
}

/// What differs between two entries of the same id, or that one side has none of it.
pub(crate) fn entry_differences(source: Option<&Entry>, target: Option<&Entry>, lines: &mut Lines) {
    match (source, target) {
        (Some((id, fields)), Some((_, other))) => {
            if fields != other
                && let Some(line) = text::entries(*id, fields, other)
            {
                lines.push(|| line);
            }
        }
        (Some((id, _)), None) => lines.push(|| text::only("entry", &id.to_string(), Side::Source)),
        (None, Some((id, _))) => lines.push(|| text::only("entry", &id.to_string(), Side::Target)),
        (None, None) => {}
    }
}

fn entry(element: Element<'_>) -> Option<Entry> {
    let Element::Entry { id, fields } = element else {
        return None;
    };
    let mut texts = Vec::with_capacity(fields.count());
    fields.for_each(|name, value| texts.push((Text::whole(name), Text::whole(value))));
    Some((id, texts))
}

/// Takes all but the entries out of a stream.
fn about(part: Part<'_>) -> Result<About, Flaw> {
    let mut about = About::default();
    let mut open: Option<(Vec<u8>, Group)> = None;
    part.for_each(|element| match element {
        Element::Stream(facts) => {
            about.last_id = facts.last_id;
            about.deleted_id = facts.deleted_id.unwrap_or_default();
            about.entries_added = facts.entries_added.unwrap_or_default();
        }
        Element::Group {
            name,
            last_id,
            entries_read,
        } => {
            let group = Group {
                last_id,
                entries_read: entries_read.unwrap_or(-1),
                ..Group::default()
            };
            about.groups.extend(open.replace((name.to_vec(), group)));
        }
        Element::Pending {
            id,
            delivered_at_ms,
            deliveries,
        } => {
            if let Some((_, group)) = &mut open {
                group.pending.push(Pending {
                    id,
                    delivered_at_ms: delivered_at_ms.cast_signed(),
                    deliveries,
                    consumer: usize::MAX,
                });
            }
        }
        Element::Consumer { name, .. } => {
            if let Some((_, group)) = &mut open {
                group.consumers.push(name.to_vec());
            }
        }
        Element::Owned(id) => {
            if let Some((_, group)) = &mut open {
                let consumer = group.consumers.len().wrapping_sub(1);
                let found = group.pending.binary_search_by_key(&id, |row| row.id);
                if let Ok(index) = found
                    && let Some(row) = group.pending.get_mut(index)
                {
                    row.consumer = consumer;
                }
            }
        }
        _ => {}
    })?;
    about.groups.extend(open);
    Ok(about)
}

/// What differs beside the entries.
pub(crate) fn about_differences(
    source: &About,
    target: &About,
    detail: StreamDetail,
    lines: &mut Lines,
) {
    let has_offsets = detail >= StreamDetail::Offsets;
    ids("last id", source.last_id, target.last_id, lines);
    if has_offsets {
        ids(
            "max deleted id",
            source.deleted_id,
            target.deleted_id,
            lines,
        );
        let (added, other) = (source.entries_added, target.entries_added);
        if added != other {
            lines.push(|| text::lengths("entries added", added, other));
        }
    }
    for (name, group) in &source.groups {
        let what = format!("group {}", text::shown(name));
        match target.groups.get(name) {
            None => lines.push(|| text::only("group", &text::shown(name), Side::Source)),
            Some(other) => {
                ids(
                    &format!("{what}: last id"),
                    group.last_id,
                    other.last_id,
                    lines,
                );
                if has_offsets && group.entries_read != other.entries_read {
                    let shown = |read: i64| match read {
                        -1 => "not known".to_owned(),
                        read => read.to_string(),
                    };
                    let read = text::both(&shown(group.entries_read), &shown(other.entries_read));
                    lines.push(|| format!("{what}: entries read: {read}"));
                }
                group_differences(&what, group, other, lines);
            }
        }
    }
    for name in target.groups.keys() {
        if !source.groups.contains_key(name) {
            lines.push(|| text::only("group", &text::shown(name), Side::Target));
        }
    }
}

fn ids(what: &str, source: StreamId, target: StreamId, lines: &mut Lines) {
    if source != target {
        let both = text::both(&source.to_string(), &target.to_string());
        lines.push(|| format!("{what}: {both}"));
    }
}

/// Consumers and what they have.
fn group_differences(what: &str, source: &Group, target: &Group, lines: &mut Lines) {
    let consumer = format!("{what}: consumer");
    for (ours, theirs, side) in [
        (source, target, Side::Source),
        (target, source, Side::Target),
    ] {
        let theirs: HashSet<&Vec<u8>> = theirs.consumers.iter().collect();
        for name in &ours.consumers {
            if !theirs.contains(name) {
                lines.push(|| text::only(&consumer, &text::shown(name), side));
            }
        }
    }
    let pending = format!("{what}: pending entry");
    let (mut ours, mut theirs) = (
        source.pending.iter().peekable(),
        target.pending.iter().peekable(),
    );
    loop {
        let order = match (ours.peek(), theirs.peek()) {
            (Some(one), Some(other)) => one.id.cmp(&other.id),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return,
        };
        match order {
            Ordering::Less => {
                if let Some(row) = ours.next() {
                    lines.push(|| text::only(&pending, &row.id.to_string(), Side::Source));
                }
            }
            Ordering::Greater => {
                if let Some(row) = theirs.next() {
                    lines.push(|| text::only(&pending, &row.id.to_string(), Side::Target));
                }
            }
            Ordering::Equal => {
                if let (Some(row), Some(other)) = (ours.next(), theirs.next()) {
                    let consumers = (source.consumer(row), target.consumer(other));
                    let same_row = (row.delivered_at_ms, row.deliveries)
                        == (other.delivered_at_ms, other.deliveries);
                    if !same_row || consumers.0 != consumers.1 {
                        let (one, two) = (described(row, source), described(other, target));
                        lines.push(|| format!("{pending} {}: {}", row.id, text::both(&one, &two)));
                    }
                }
            }
        }
    }
}

fn described(row: &Pending, group: &Group) -> String {
    let consumer = group.consumer(row);
    let consumer = consumer.map_or("nobody's".to_owned(), |name| text::shown(name));
    format!(
        "{consumer}, delivered {} times, last at {} (Unix ms)",
        row.deliveries, row.delivered_at_ms
    )
}

//! A value as the lines of a truth, by way of its elements.

use std::collections::HashMap;

use keyhaul_rdb::{
    Element, ElementReader, Flaw, Form, KeyType, RdbError, StreamDetail, StreamFacts, StreamId,
};

use super::truth::escaped;

/// How large a value may become in lines; mutated ones may hold a million copies of a field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit(pub(crate) usize);

/// The lines of a value that lies together; none for a module's.
pub(crate) fn lines(form: Form, value: &[u8]) -> Result<Vec<String>, RdbError> {
    lines_in_portions(form, value, &mut || usize::MAX, Limit(usize::MAX))
}

/// The same of a value that comes in portions; what the reader leaves goes in front of the next.
pub(crate) fn lines_in_portions(
    form: Form,
    value: &[u8],
    portions: &mut dyn FnMut() -> usize,
    limit: Limit,
) -> Result<Vec<String>, RdbError> {
    if form == Form::Module {
        return Ok(Vec::new());
    }
    let error = |flaw: Flaw, offset: usize| RdbError {
        offset: offset as u64,
        flaw,
    };
    let mut reader = ElementReader::new(form).map_err(|flaw| error(flaw, 0))?;
    assert_eq!(reader.key_type(), form.key_type());
    let mut rows = Rows::default();
    let (mut used, mut known) = (0, 0);
    loop {
        let input = &value[used..known];
        let bytes = reader
            .push(input, usize::MAX, &mut |element| rows.add(element, limit))
            .map_err(|(flaw, offset)| {
                assert!(offset <= input.len());
                error(flaw, used + offset)
            })?;
        used += bytes;
        assert!(used <= known, "it used up more than there was");
        if reader.is_done() {
            break;
        }
        if known == value.len() {
            return Err(error(Flaw::Truncated, used));
        }
        known = known.saturating_add(portions().max(1)).min(value.len());
    }
    match used == value.len() {
        true => Ok(rows.finish(form.key_type())),
        false => Err(error(Flaw::Trailing, used)),
    }
}

/// The lines without what streams of less detail do not have, and with one zero only.
pub(crate) fn reduced(lines: &[String], detail: StreamDetail) -> Vec<String> {
    let reduce = |line: &String| {
        let mut columns: Vec<&str> = line.split('\t').collect();
        let unknown = match (columns[0], detail) {
            ("stream", StreamDetail::Basic) => 3,
            ("group", StreamDetail::Basic) => 1,
            ("consumer", StreamDetail::Basic | StreamDetail::Offsets) => 2,
            _ => 0,
        };
        let len = columns.len();
        columns[len - unknown..].fill("-");
        if columns[0] == "score" && columns[2] == "-0.0" {
            columns[2] = "0.0";
        }
        columns.join("\t")
    };
    lines.iter().map(reduce).collect()
}

#[derive(Debug, Default)]
struct Rows {
    string: Vec<u8>,
    /// In the order in which they came.
    rows: Vec<Row>,
    facts: Option<StreamFacts>,
    groups: Vec<Group>,
    bytes: usize,
}

#[derive(Debug)]
struct Row {
    score: f64,
    name: Vec<u8>,
    line: String,
}

#[derive(Debug, Default)]
struct Group {
    line: String,
    pending: Vec<(StreamId, u64, u64)>,
    owners: HashMap<StreamId, Vec<u8>>,
    consumers: Vec<(Vec<u8>, u64, Option<u64>)>,
}

impl Rows {
    fn add(&mut self, element: Element<'_>, limit: Limit) {
        if self.bytes > limit.0 {
            return;
        }
        let dash = || "-".to_owned();
        match element {
            Element::String(part) => {
                self.bytes += part.len();
                self.string.extend_from_slice(part);
            }
            Element::Item(item) => self.row(0.0, item, format!("item\t{}", escaped(item))),
            Element::Member(member) => {
                self.row(0.0, member, format!("member\t{}", escaped(member)));
            }
            Element::Scored { member, score } => {
                self.row(
                    score,
                    member,
                    format!("score\t{}\t{score:?}", escaped(member)),
                );
            }
            Element::Field {
                field,
                value,
                expire_at_ms,
            } => {
                let at = expire_at_ms.map_or_else(dash, |at| at.to_string());
                let line = format!("field\t{}\t{}\t{at}", escaped(field), escaped(value));
                self.row(0.0, field, line);
            }
            Element::Entry { id, fields } => {
                let mut columns = String::new();
                fields.for_each(|name, value| {
                    columns += &format!("\t{}\t{}", escaped(name), escaped(value));
                });
                self.row(0.0, b"", format!("entry\t{id}{columns}"));
            }
            Element::Stream(facts) => self.facts = Some(facts),
            Element::Group {
                name,
                last_id,
                entries_read,
            } => {
                let read = entries_read.filter(|read| *read != -1);
                let read = read.map_or_else(dash, |read| read.to_string());
                self.groups.push(Group {
                    line: format!("group\t{}\t{last_id}\t{read}", escaped(name)),
                    ..Group::default()
                });
            }
            Element::Pending {
                id,
                delivered_at_ms,
                deliveries,
            } => self.group().pending.push((id, delivered_at_ms, deliveries)),
            Element::Consumer {
                name,
                seen_at_ms,
                active_at_ms,
            } => self
                .group()
                .consumers
                .push((name.to_vec(), seen_at_ms, active_at_ms)),
            Element::Owned(id) => {
                let group = self.group();
                let owner = group.consumers.last().unwrap().0.clone();
                group.owners.insert(id, owner);
            }
            _ => panic!("an element of a new kind: {element:?}"),
        }
    }

    fn row(&mut self, score: f64, name: &[u8], line: String) {
        self.bytes += line.len();
        let name = name.to_vec();
        self.rows.push(Row { score, name, line });
    }

    fn group(&mut self) -> &mut Group {
        self.groups.last_mut().unwrap()
    }

    fn finish(mut self, key_type: KeyType) -> Vec<String> {
        match key_type {
            KeyType::String => return vec![format!("value\t{}", escaped(&self.string))],
            KeyType::Set | KeyType::Hash => self.rows.sort_by(|one, two| one.name.cmp(&two.name)),
            KeyType::SortedSet => self.rows.sort_by(|one, two| {
                let scores = one.score.partial_cmp(&two.score).unwrap();
                scores.then_with(|| one.name.cmp(&two.name))
            }),
            _ => {}
        }
        let mut lines = Vec::new();
        if let Some(facts) = self.facts {
            let id = |id: Option<StreamId>| id.map_or("-".to_owned(), |id| id.to_string());
            let added = facts
                .entries_added
                .map_or("-".to_owned(), |added| added.to_string());
            let (first, deleted) = (id(facts.first_id), id(facts.deleted_id));
            lines.push(format!(
                "stream\t{}\t{}\t{first}\t{deleted}\t{added}",
                facts.length, facts.last_id
            ));
        }
        lines.extend(self.rows.into_iter().map(|row| row.line));
        for group in self.groups {
            group.finish(&mut lines);
        }
        lines
    }
}

impl Group {
    fn finish(self, lines: &mut Vec<String>) {
        lines.push(self.line);
        for (id, at, deliveries) in self.pending {
            let owner = self
                .owners
                .get(&id)
                .map(|name| escaped(name))
                .unwrap_or_default();
            lines.push(format!("pending\t{id}\t{owner}\t{at}\t{deliveries}"));
        }
        for (name, seen, active) in self.consumers {
            let active = active.map_or("-".to_owned(), |at| at.cast_signed().to_string());
            lines.push(format!("consumer\t{}\t{seen}\t{active}", escaped(&name)));
        }
    }
}

//! The text of a truth by key, and what of it another server can show.

use std::collections::BTreeMap;

use keyhaul_rdb::StreamDetail;
use keyhaul_testkit::Version;

use super::rdb_version_of;
use crate::common::reduced;

/// Db and name, escaped.
pub(crate) type Name = (u32, String);

/// What a server holds (see `fixtures/README.md`).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Truth {
    pub(crate) functions: Vec<String>,
    /// The lines of each, that with its type and expiry first.
    pub(crate) keys: BTreeMap<Name, Vec<String>>,
}

impl Truth {
    pub(crate) fn parse(text: &str) -> Self {
        let mut truth = Self {
            functions: Vec::new(),
            keys: BTreeMap::new(),
        };
        let mut lines: Option<&mut Vec<String>> = None;
        for line in text.split_terminator('\n') {
            let columns: Vec<&str> = line.split('\t').collect();
            match columns[0] {
                "function" => truth.functions.push(line.to_owned()),
                "script" | "idle" | "freq" => continue,
                "key" => {
                    let name = (columns[1].parse().unwrap(), columns[2].to_owned());
                    lines = Some(truth.keys.entry(name).or_default());
                }
                _ => {}
            }
            if let Some(lines) = &mut lines {
                lines.push(line.to_owned());
            }
        }
        truth
    }

    /// 0: does not expire.
    pub(crate) fn expire_at_ms(&self, db: u32, key: &str) -> i64 {
        let lines = &self.keys[&(db, key.to_owned())];
        let at = lines[0].rsplit('\t').next().unwrap();
        at.parse().unwrap_or(0)
    }
}

/// Whether fields of a key expire, by its truth.
pub(crate) fn has_field_expiry(lines: &[String]) -> bool {
    let mut lines = lines.iter();
    lines.any(|line| line.starts_with("field\t") && !line.ends_with("\t-"))
}

/// What a server shows of a key that another server had.
pub(crate) fn expected(lines: &[String], source: Version, target: Version) -> Vec<String> {
    let without_expiry = |line: &String| match line.rsplit_once('\t') {
        Some((field, _)) if line.starts_with("field\t") && !target.has_field_ttls() => {
            format!("{field}\t-")
        }
        _ => line.clone(),
    };
    let lines: Vec<String> = lines.iter().map(without_expiry).collect();
    known_to_both(&lines, source, target)
}

/// What the forms of both servers have of a stream; what only one has, the other guesses or lacks.
pub(crate) fn known_to_both(lines: &[String], source: Version, target: Version) -> Vec<String> {
    let detail = |version| match rdb_version_of(version) {
        ..=9 => StreamDetail::Basic,
        10 => StreamDetail::Offsets,
        _ => StreamDetail::ActiveTimes,
    };
    reduced(lines, detail(source).min(detail(target)))
}

/// Both must say the same of the same keys.
pub(crate) fn assert_same(
    what: &str,
    expected: &BTreeMap<Name, Vec<String>>,
    found: &BTreeMap<Name, Vec<String>>,
) {
    for (name, lines) in expected {
        let found = found
            .get(name)
            .unwrap_or_else(|| panic!("{what}: {name:?} is not there"));
        assert_eq!(lines, found, "{what}: {name:?}");
    }
    for name in found.keys() {
        assert!(expected.contains_key(name), "{what}: {name:?} is there");
    }
}

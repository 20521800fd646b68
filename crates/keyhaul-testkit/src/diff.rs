//! The independent keyspace diff: proves that two keyspaces hold the same, or lists every
//! difference.
//!
//! Reads every key by SCAN and every value by the commands of its type, never by DUMP. Both sides
//! must be at rest. Names are held in memory, values only a batch at a time.

mod difference;
mod keyspace;
mod options;
mod read;
mod stream;
mod value;

use std::collections::{BTreeMap, BTreeSet};

use redis::cmd;

pub use difference::{Difference, DifferenceKind};
pub use keyspace::{Name, View};
pub use options::DiffOptions;

use crate::Server;
use keyspace::Keyspace;

/// Keys whose type and expiry are read in one go.
const BATCH_KEYS: usize = 256;
/// Memory, as the servers count it, of the values that are read in one go; one key may exceed it.
const BATCH_BYTES: u64 = 16 * 1024 * 1024;
/// How many differences a failed assertion prints.
const PRINTED_MAX: usize = 20;

/// Every difference between what `source` holds and what `target` holds; sorted by source db and
/// key, with the extra keys last.
///
/// # Panics
/// If a server does not answer, or two source keys are mapped to one target key.
pub fn keyspaces(source: &View, target: &View, options: &DiffOptions) -> Vec<Difference> {
    let mut source = Keyspace::scan(source);
    let mut target = Keyspace::scan(target);
    let (pairs, expected) = pair_up(&source, options);

    let mut differences = Vec::new();
    for batch in pairs.chunks(BATCH_KEYS) {
        differences.extend(compare_batch(&mut source, &mut target, batch, options));
    }
    for name in target.names().filter(|name| !expected.contains(*name)) {
        if !(options.extra_allowed)(name.db, &name.key) {
            differences.push(Difference::new(
                name,
                DifferenceKind::Extra,
                "no key",
                "a key",
            ));
        }
    }
    differences
}

/// Fails the test, printing up to 20 differences, unless the two keyspaces are equal in everything.
///
/// # Panics
/// If they differ.
#[track_caller]
pub fn assert_equal(source: &View, target: &View) {
    assert_equal_with(source, target, &DiffOptions::default());
}

/// As [`assert_equal`], with options.
///
/// # Panics
/// If they differ.
#[track_caller]
pub fn assert_equal_with(source: &View, target: &View, options: &DiffOptions) {
    let differences = keyspaces(source, target, options);
    if differences.is_empty() {
        return;
    }
    let lines: Vec<String> = differences
        .iter()
        .take(PRINTED_MAX)
        .map(ToString::to_string)
        .collect();
    panic!(
        "{} differences, the first:\n{}",
        differences.len(),
        lines.join("\n")
    );
}

/// The function libraries of a server: name -> code. Empty before Redis 7.0.
pub fn functions(server: &Server) -> BTreeMap<String, String> {
    if !server.version().has_redis_feature(7, 0) {
        return BTreeMap::new();
    }
    let libraries: Vec<redis::Value> = cmd("FUNCTION")
        .arg("LIST")
        .arg("WITHCODE")
        .query(&mut server.client())
        .expect("is answered");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("functions are text");
    libraries
        .into_iter()
        .map(|library| {
            let mut fields = value::fields(library);
            let mut take = |name: &str| text(value::bytes(fields.remove(name).expect(name)));
            (take("library_name"), take("library_code"))
        })
        .collect()
}

type Pair = (Name, Name);

/// The selected source keys with the names that they should have on the target.
fn pair_up(source: &Keyspace, options: &DiffOptions) -> (Vec<Pair>, BTreeSet<Name>) {
    let mut expected = BTreeSet::new();
    let mut pairs = Vec::new();
    for name in source
        .names()
        .filter(|name| (options.only)(name.db, &name.key))
    {
        let mapped = Name {
            db: (options.map_db)(name.db),
            key: (options.map_key)(&name.key),
        };
        assert!(
            expected.insert(mapped.clone()),
            "two source keys are mapped to {mapped}"
        );
        pairs.push((name.clone(), mapped));
    }
    (pairs, expected)
}

fn compare_batch(
    source: &mut Keyspace,
    target: &mut Keyspace,
    batch: &[Pair],
    options: &DiffOptions,
) -> Vec<Difference> {
    let (source_names, target_names): (Vec<Name>, Vec<Name>) = batch.iter().cloned().unzip();
    let source_heads = read::heads(source, &source_names);
    let target_heads = read::heads(target, &target_names);
    let mut differences = Vec::new();
    let mut same_type: Vec<(&Pair, String, u64)> = Vec::new();
    for (pair, (expected, got)) in batch.iter().zip(source_heads.into_iter().zip(target_heads)) {
        let report =
            |kind, expected: &str, got: &str| Difference::new(&pair.0, kind, expected, got);
        match (expected, got) {
            // It has expired since the scan; so must its copy have.
            (None, None) => {}
            (None, Some(_)) => differences.push(report(DifferenceKind::Extra, "no key", "a key")),
            (Some(expected), None) => {
                differences.push(report(DifferenceKind::Missing, &expected.kind, "no key"));
            }
            (Some(expected), Some(got)) => {
                if !expected
                    .expiry
                    .agrees(&got.expiry, options.ignore_expiry_tolerance_ms)
                {
                    let texts = (expected.expiry.to_string(), got.expiry.to_string());
                    differences.push(report(DifferenceKind::Expiry, &texts.0, &texts.1));
                }
                if expected.kind == got.kind {
                    let bytes = expected.memory_bytes.max(got.memory_bytes);
                    same_type.push((pair, expected.kind, bytes));
                } else {
                    differences.push(report(DifferenceKind::Type, &expected.kind, &got.kind));
                }
            }
        }
    }
    for part in split_by_bytes(&same_type) {
        differences.extend(compare_values(source, target, part, options));
    }
    differences.sort_by(|a, b| (a.db, &a.key).cmp(&(b.db, &b.key)));
    differences
}

fn compare_values(
    source: &mut Keyspace,
    target: &mut Keyspace,
    part: &[(&Pair, String, u64)],
    options: &DiffOptions,
) -> Vec<Difference> {
    let names = |pick: fn(&Pair) -> &Name| -> Vec<(Name, &str)> {
        part.iter()
            .map(|(pair, kind, _)| (pick(pair).clone(), kind.as_str()))
            .collect()
    };
    let expected = read::values(source, &names(|pair| &pair.0));
    let got = read::values(target, &names(|pair| &pair.1));
    part.iter()
        .zip(expected.iter().zip(&got))
        .filter_map(|((pair, kind, _), (expected, got))| {
            if expected.is_unreadable() {
                let text = format!("a value of type {kind}, which the diff cannot read");
                return Some(Difference::new(
                    &pair.0,
                    DifferenceKind::Unreadable,
                    &text,
                    &text,
                ));
            }
            let (expected, got) = expected.first_difference(got, options)?;
            Some(Difference::new(
                &pair.0,
                DifferenceKind::Value,
                &expected,
                &got,
            ))
        })
        .collect()
}

fn split_by_bytes<'a, 'b>(
    keys: &'b [(&'a Pair, String, u64)],
) -> Vec<&'b [(&'a Pair, String, u64)]> {
    let mut parts = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, (_, _, key_bytes)) in keys.iter().enumerate() {
        if index > start && bytes + key_bytes > BATCH_BYTES {
            parts.push(&keys[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += key_bytes;
    }
    parts.push(&keys[start..]);
    parts
}

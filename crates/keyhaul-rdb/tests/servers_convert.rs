//! Payloads of every server, converted for every other: each is taken and reads back as it was, and
//! what is refused is what the target has no place for.
//!
//! `KEYHAUL_TEST_LONG=1` goes over all pairs of versions.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failure is a panic with a message"
)]

mod common;
mod servers_common;

use std::collections::BTreeMap;

use keyhaul_rdb::{Converted, FieldExpiry, Refusal};
use keyhaul_testkit::redis::cmd;
use keyhaul_testkit::truth::{Hints, truth};
use keyhaul_testkit::{Family, Server, Version, require};
use servers_common::{
    Key, Origin, Truth, assert_same, expected, has_field_expiry, is_long, known_to_both, origins,
    reader, restore,
};

/// What is tried in every run: folder of the source, target.
const PAIRS: [(&str, Version); 7] = [
    ("redis-7.0.15", Version::VALKEY_8_0),
    ("valkey-8.0.1", Version::REDIS_7_0),
    ("redis-8.2.3", Version::VALKEY_8_0),
    ("redis-7.0.15", Version::REDIS_6_0),
    ("valkey-9.1.2", Version::REDIS_8_2),
    ("redis-8.2.3", Version::VALKEY_9_1),
    ("redis-8.2.3", Version::REDIS_8_0),
];

#[test]
fn every_payload_goes_over_or_is_refused_for_a_reason() {
    let mut pairs = 0;
    for origin in origins() {
        for target in Version::ALL {
            let is_asked = PAIRS
                .iter()
                .any(|(folder, version)| origin.folder.starts_with(folder) && *version == target);
            if (is_long() || is_asked) && require(target) {
                go_over(&origin, target);
                pairs += 1;
            }
        }
    }
    eprintln!("{pairs} pairs");
    assert!(pairs > 0);
}

fn go_over(origin: &Origin, target: Version) {
    let what = format!("{} to {target}", origin.folder);
    let mut server = Server::start(target);
    let mut there: BTreeMap<_, _> = BTreeMap::new();
    for key in &origin.keys {
        let name = (key.db, key.escaped.clone());
        let lines = &origin.truth.keys[&name];
        let Some(payload) = converted(&what, key, lines, target) else {
            continue;
        };
        let command = restore(&key.name, &payload, key.expire_at_ms);
        let taken = command.exec(&mut server.connection(key.db));
        if is_taken(origin, key, target) {
            taken.unwrap_or_else(|error| panic!("{what}: {name:?}: {error}"));
            there.insert(name, expected(lines, origin.version, target));
        } else {
            let error = taken.expect_err(&what).to_string();
            assert!(error.contains("Bad data format"), "{what}: {error}");
        }
    }
    let hints = Hints {
        expire_at_ms: origin.expiries(),
        ..Hints::default()
    };
    let first = truth(&server, &hints);
    let mut found = Truth::parse(&first).keys;
    for lines in found.values_mut() {
        *lines = known_to_both(lines, origin.version, target);
    }
    assert_same(&what, &there, &found);

    // What was loaded is sound: it can be written to a file, read from there, and is the same.
    cmd("SAVE").exec(&mut server.client()).unwrap();
    server.restart();
    assert_eq!(first, truth(&server, &hints), "{what}: after a restart");
}

/// What is sent to the target; `None`: nothing, and rightly so.
fn converted(what: &str, key: &Key, lines: &[String], target: Version) -> Option<Vec<u8>> {
    let strict = reader(target, FieldExpiry::Refuse);
    let mut out = Vec::new();
    let outcome = strict.convert(&key.payload, &mut out);
    let loses_expiries = has_field_expiry(lines) && !target.has_field_ttls();
    let has_vector_sets = target.is_at_least(Family::Redis, 8, 0);
    let name = &key.escaped;
    match outcome {
        Ok(_) => {
            assert!(!loses_expiries, "{what}: {name} loses expiries");
            assert!(has_vector_sets || !key.is_vector_set(), "{what}: {name}");
        }
        Err(Refusal::FieldExpiry) => assert!(loses_expiries, "{what}: {name} loses nothing"),
        Err(Refusal::Module(module)) => {
            assert_eq!(module, "vectorset", "{what}: {name}");
            assert!(key.is_vector_set() && !has_vector_sets, "{what}: {name}");
            return None;
        }
        Err(refusal) => panic!("{what}: {name}: {refusal}"),
    }
    if loses_expiries {
        assert!(out.is_empty(), "{what}: {name}: something was written");
        let lossy = reader(target, FieldExpiry::Drop);
        let outcome = lossy.convert(&key.payload, &mut out);
        assert_eq!(outcome, Ok(Converted::Written), "{what}: {name}");
        return Some(out);
    }
    Some(match outcome {
        Ok(Converted::Unchanged) => key.payload.clone(),
        _ => out,
    })
}

/// Redis 8.0.2 cannot read the vector sets of later releases; nothing in a payload tells them apart.
fn is_taken(origin: &Origin, key: &Key, target: Version) -> bool {
    let is_newer = origin.version == Version::REDIS_8_0_NEWEST
        || origin.version.is_at_least(Family::Redis, 8, 2);
    !(key.is_vector_set() && is_newer && target == Version::REDIS_8_0)
}

//! Between versions of both families, up and down: what the target can hold is equal, the rest is listed.

#![allow(
    clippy::print_stderr,
    reason = "says which pair it is at, and what is skipped"
)]

mod common;

use std::collections::BTreeSet;

use common::copying::{copy, run};
use keyhaul_testkit::diff::{self, DiffOptions, View};
use keyhaul_testkit::{Dataset, Family, Server, Version, require};

/// Set to 1 for all versions at hand.
const LONG: &str = "KEYHAUL_TEST_LONG";

fn filled(version: Version, keys: usize) -> Server {
    let server = Server::start(version);
    let dataset = Dataset {
        seed: 81,
        keys,
        dbs: vec![0, 2],
        field_ttls: true,
        ..Dataset::default()
    };
    dataset.fill(&server);
    server
}

fn is_long() -> bool {
    std::env::var(LONG).is_ok_and(|value| value == "1")
}

/// Copies twice; what the target can hold is equal, the rest is listed with its reason, and the target
/// lives.
fn copy_pair(source_version: Version, target_version: Version) {
    eprintln!("{source_version} to {target_version}");
    let source = filled(source_version, 2 * Dataset::EVERY_KIND + 200);
    let target = Server::start(target_version);
    // A hash with fields that expire cannot be held by a server without them.
    let lost = match (
        expires_fields(source_version),
        expires_fields(target_version),
    ) {
        (true, false) => hashes_with_expiring_fields(&source),
        _ => BTreeSet::new(),
    };
    for _ in 0..2 {
        let code = if lost.is_empty() { 0 } else { 4 };
        let ran = copy(&source.uri(), &target.uri(), &[]).exits_with(code);
        let listed: BTreeSet<(u64, String)> = ran.not_moved().into_iter().collect();
        assert_eq!(
            listed,
            lost.iter()
                .map(|(db, key)| (u64::from(*db), shown(key)))
                .collect(),
            "{ran:#?}"
        );
        if !lost.is_empty() {
            ran.reasons_say("fields of the hash expire");
        }
        let is_lost = lost.clone();
        let options = DiffOptions {
            // A server without these counters makes them up for streams that have none.
            ignore_stream_counters: !(source_version.has_redis_feature(7, 0)
                && target_version.has_redis_feature(7, 0)),
            only: Box::new(move |db, key| !is_lost.contains(&(db, key.to_vec()))),
            ..DiffOptions::default()
        };
        diff::assert_equal_with(&View::server(&source), &View::server(&target), &options);
    }
}

/// A key as the report writes it (docs/guide/report.md).
fn shown(key: &[u8]) -> String {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("\\x{b:02X}")).collect() };
    let one = |c: char| match c {
        '\\' => "\\\\".to_owned(),
        c if c.is_control() => hex(c.to_string().as_bytes()),
        c => c.to_string(),
    };
    key.utf8_chunks()
        .map(|chunk| chunk.valid().chars().map(one).collect::<String>() + &hex(chunk.invalid()))
        .collect()
}

fn expires_fields(version: Version) -> bool {
    version.is_at_least(Family::Redis, 8, 0) || version.is_at_least(Family::Valkey, 9, 0)
}

/// Hashes of which at least one field expires, asked one by one.
fn hashes_with_expiring_fields(server: &Server) -> BTreeSet<(u32, Vec<u8>)> {
    let mut found = BTreeSet::new();
    for db in [0, 2] {
        let mut connection = server.connection(db);
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS")
            .arg("*")
            .query(&mut connection)
            .expect("is answered");
        for key in keys {
            let kind: String = redis::cmd("TYPE")
                .arg(&key)
                .query(&mut connection)
                .expect("is answered");
            if kind != "hash" {
                continue;
            }
            let fields: Vec<Vec<u8>> = redis::cmd("HKEYS")
                .arg(&key)
                .query(&mut connection)
                .expect("is answered");
            let mut command = redis::cmd("HPEXPIRETIME");
            command
                .arg(&key)
                .arg("FIELDS")
                .arg(fields.len())
                .arg(&fields);
            let expiries: Vec<i64> = command.query(&mut connection).expect("is answered");
            if expiries.iter().any(|at| *at > 0) {
                found.insert((db, key));
            }
        }
    }
    found
}

#[test]
fn redis_7_0_to_valkey_8_0() {
    copy_pair(Version::REDIS_7_0, Version::VALKEY_8_0);
}

#[test]
fn valkey_8_0_down_to_redis_7_0() {
    copy_pair(Version::VALKEY_8_0, Version::REDIS_7_0);
}

#[test]
fn redis_8_2_to_valkey_8_0() {
    if require(Version::REDIS_8_2) {
        copy_pair(Version::REDIS_8_2, Version::VALKEY_8_0);
    }
}

#[test]
fn redis_7_0_down_to_6_0() {
    if require(Version::REDIS_6_0) {
        copy_pair(Version::REDIS_7_0, Version::REDIS_6_0);
    }
}

#[test]
fn between_the_families_of_today() {
    if require(Version::REDIS_8_2) && require(Version::VALKEY_9_1) {
        copy_pair(Version::REDIS_8_2, Version::VALKEY_9_1);
        copy_pair(Version::VALKEY_9_1, Version::REDIS_8_2);
    }
}

#[test]
fn fields_that_expire_stay_for_ever_where_that_is_accepted() {
    if !require(Version::REDIS_8_2) {
        return;
    }
    let (source, target) = (
        Server::start(Version::REDIS_8_2),
        Server::start(Version::VALKEY_8_0),
    );
    run(&source, 0, "HSET h f 1 g 2");
    run(&source, 0, "HPEXPIREAT h 4102444800000 FIELDS 1 f");
    let options = ["--accept-loss", "field-ttl"];
    copy(&source.uri(), &target.uri(), &options).exits_with(0);
    let fields: std::collections::BTreeMap<String, String> = redis::cmd("HGETALL")
        .arg("h")
        .query(&mut target.client())
        .expect("is there");
    let expected = [("f", "1"), ("g", "2")].map(|(f, v)| (f.to_owned(), v.to_owned()));
    assert_eq!(fields, expected.into_iter().collect());
}

#[test]
fn every_pair_of_versions() {
    if !is_long() {
        eprintln!("SKIPPED: {LONG}=1 takes all pairs of versions");
        return;
    }
    let versions: Vec<Version> = Version::ALL
        .into_iter()
        .filter(|version| require(*version))
        .collect();
    for source in &versions {
        for target in &versions {
            copy_pair(*source, *target);
        }
    }
}

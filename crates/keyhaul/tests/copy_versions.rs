//! Between versions: what passes as it is, and payloads that the target refuses.

mod common;

use common::copying::{Ran, copy, copy_twice, key_count, run};
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

/// The RDB version that a server writes into its payloads.
fn rdb_version(version: Version) -> u32 {
    match (version.family(), version.number()) {
        (Family::Redis, (..=6, _)) => 9,
        (Family::Redis, (7, 0)) => 10,
        (Family::Redis, _) => 12,
        (Family::Valkey, (8, _)) => 11,
        (Family::Valkey, _) => 80,
    }
}

fn is_long() -> bool {
    std::env::var(LONG).is_ok_and(|value| value == "1")
}

fn copy_and_compare(source: Version, target: Version) {
    let source = filled(source, 2 * Dataset::EVERY_KIND + 200);
    let target = Server::start(target);
    copy_twice(&source.uri(), &target.uri(), &[], || {
        diff::assert_equal(&View::server(&source), &View::server(&target));
    });
}

/// All keys are listed, none is written, and what the target held is as it was.
fn refused(source: Version, target: Version) -> Ran {
    let (source, target) = (filled(source, 1200), Server::start(target));
    run(&target, 9, "SET there before");
    let mut ran = None;
    for _ in 0..2 {
        let once = copy(&source.uri(), &target.uri(), &[]).exits_with(4);
        assert_eq!(once.report["outcome"], "not_all_moved");
        assert_eq!(once.count("not_moved"), 1200, "{once:#?}");
        assert_eq!(once.not_moved().len(), 1200, "{once:#?}");
        once.reasons_say("payload");
        for (count, expected) in [
            ("missing", 1200),
            ("listed_as_not_moved", 1200),
            ("unexplained", 0),
        ] {
            assert_eq!(once.verified(count), expected, "{count}: {once:#?}");
        }
        assert_eq!(key_count(&target), 1, "it lives, and holds what it held");
        ran = Some(once);
    }
    ran.expect("it ran twice")
}

#[test]
fn redis_7_0_to_valkey_8_0() {
    copy_and_compare(Version::REDIS_7_0, Version::VALKEY_8_0);
}

#[test]
fn valkey_8_0_to_redis_7_0_is_refused_key_by_key() {
    let ran = refused(Version::VALKEY_8_0, Version::REDIS_7_0);
    for text in ["RDB version 11", "up to 10"] {
        assert!(ran.outcome.stderr.contains(text), "{text}: {ran:#?}");
    }
}

#[test]
fn refused_keys_leave_the_target_what_it_had() {
    let source = filled(Version::VALKEY_8_0, 300);
    let target = Server::start(Version::REDIS_7_0);
    run(&source, 0, "SET rival of-the-source");
    run(&target, 0, "SET rival of-the-target");
    let ran = copy(&source.uri(), &target.uri(), &["--on-conflict", "replace"]).exits_with(4);
    assert!(ran.not_moved().contains(&(0, "rival".into())), "{ran:#?}");
    let value: String = redis::cmd("GET")
        .arg("rival")
        .query(&mut target.client())
        .expect("is there");
    assert_eq!(value, "of-the-target");
}

#[test]
fn redis_8_2_to_7_0_is_refused_key_by_key() {
    if is_long() && require(Version::REDIS_8_2) {
        refused(Version::REDIS_8_2, Version::REDIS_7_0);
    }
}

/// From 12 on the two families number their RDB versions apart.
#[test]
fn between_the_families_of_today_is_refused_key_by_key() {
    if is_long() && require(Version::REDIS_8_2) && require(Version::VALKEY_9_1) {
        refused(Version::REDIS_8_2, Version::VALKEY_9_1);
        refused(Version::VALKEY_9_1, Version::REDIS_8_2);
    }
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
            // From 12 on the two families number their RDB versions apart.
            let same_family = source.family() == target.family() || rdb_version(*source) < 12;
            if same_family && rdb_version(*source) <= rdb_version(*target) {
                eprintln!("{source} to {target}");
                copy_pair(*source, *target);
            }
        }
    }
}

/// Hash fields that expire may be on one side only where both can hold them.
fn copy_pair(source_version: Version, target_version: Version) {
    let source = filled(source_version, 2 * Dataset::EVERY_KIND + 100);
    let target = Server::start(target_version);
    let options = || DiffOptions {
        // A server without these counters makes them up for streams that have none.
        ignore_stream_counters: !source_version.has_redis_feature(7, 0),
        ..DiffOptions::default()
    };
    copy_twice(&source.uri(), &target.uri(), &[], || {
        diff::assert_equal_with(&View::server(&source), &View::server(&target), &options());
    });
}

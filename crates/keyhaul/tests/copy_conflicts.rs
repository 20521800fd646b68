//! Keys that the target already holds, and keys that are too large to be wanted.

mod common;

use common::copying::{copy, copy_twice, key_count, listed, noise, run};
use keyhaul_testkit::diff::{self, DiffOptions, View};
use keyhaul_testkit::{Dataset, Server, Version};
use redis::cmd;

/// A source with keys of every kind, an empty target.
fn servers() -> (Server, Server) {
    (
        filled(Version::REDIS_7_0),
        Server::start(Version::VALKEY_8_0),
    )
}

fn filled(version: Version) -> Server {
    let source = Server::start(version);
    let dataset = Dataset {
        seed: 31,
        keys: 500,
        ..Dataset::default()
    };
    dataset.fill(&source);
    source
}

fn assert_equal(source: &Server, target: &Server) {
    diff::assert_equal(&View::server(source), &View::server(target));
}

/// Keys that exist on both sides: same, with another value, another type, another expiry.
fn add_rivals(source: &Server, target: &Server) {
    for (ours, theirs) in [
        ("SET r:same 1", "SET r:same 1"),
        ("SET r:value 1", "SET r:value 2"),
        ("SET r:type 1", "RPUSH r:type 1"),
        (
            "SET r:expiry 1 PXAT 4102444800001",
            "SET r:expiry 1 PXAT 4102444800002",
        ),
        (
            "SET r:persistent 1",
            "SET r:persistent 1 PXAT 4102444800001",
        ),
        ("SADD r:set a b c", "SADD r:set a b d"),
    ] {
        run(source, 0, ours);
        run(target, 0, theirs);
    }
}

#[test]
fn replaced() {
    let (source, target) = servers();
    add_rivals(&source, &target);
    run(&target, 0, "SET of-the-target-alone 1");
    let with_extra = DiffOptions {
        extra_allowed: Box::new(|_, key| key == b"of-the-target-alone"),
        ..DiffOptions::default()
    };
    copy_twice(
        &source.uri(),
        &target.uri(),
        &["--on-conflict", "replace"],
        || {
            diff::assert_equal_with(&View::server(&source), &View::server(&target), &with_extra);
        },
    );
}

#[test]
fn skipped() {
    let (source, target) = servers();
    add_rivals(&source, &target);
    for run_index in 0..2 {
        let ran = copy(&source.uri(), &target.uri(), &["--on-conflict", "skip"]).exits_with(0);
        let skipped = if run_index == 0 { 6 } else { 506 };
        assert_eq!(ran.count("skipped"), skipped, "{ran:#?}");
        assert_eq!(ran.count("copied"), 506 - skipped, "{ran:#?}");
        let others = DiffOptions {
            only: Box::new(|_, key| !key.starts_with(b"r:") || key == b"r:same"),
            extra_allowed: Box::new(|_, key| key.starts_with(b"r:")),
            ..DiffOptions::default()
        };
        diff::assert_equal_with(&View::server(&source), &View::server(&target), &others);
        assert_untouched(&target);
    }
}

#[test]
fn listed_as_not_moved() {
    let source = Server::start(Version::REDIS_7_0);
    let target = Server::start(Version::VALKEY_8_0);
    (0..500).for_each(|n| drop(run(&source, 0, &format!("SET key:{n} {n}"))));
    add_rivals(&source, &target);
    for _ in 0..2 {
        let ran = copy(&source.uri(), &target.uri(), &["--on-conflict", "fail"]).exits_with(4);
        let names = ["r:value", "r:type", "r:expiry", "r:persistent", "r:set"];
        assert_eq!(ran.not_moved(), listed(0, &names), "{ran:#?}");
        assert_eq!(ran.count("not_moved"), 5, "{ran:#?}");
        assert_eq!(ran.report["outcome"], "not_all_moved");
        let others = DiffOptions {
            only: Box::new(|_, key| !key.starts_with(b"r:") || key == b"r:same"),
            extra_allowed: Box::new(|_, key| key.starts_with(b"r:")),
            ..DiffOptions::default()
        };
        diff::assert_equal_with(&View::server(&source), &View::server(&target), &others);
        assert_untouched(&target);
    }
}

/// The target's own values of the rivals.
#[track_caller]
fn assert_untouched(target: &Server) {
    let mut client = target.client();
    let value: String = cmd("GET")
        .arg("r:value")
        .query(&mut client)
        .expect("is there");
    let kind: String = cmd("TYPE")
        .arg("r:type")
        .query(&mut client)
        .expect("is there");
    let at: i64 = cmd("PEXPIRETIME")
        .arg("r:expiry")
        .query(&mut client)
        .expect("is there");
    let has: bool = cmd("SISMEMBER")
        .arg("r:set")
        .arg("d")
        .query(&mut client)
        .expect("is there");
    assert_eq!(
        (value.as_str(), kind.as_str(), at, has),
        ("2", "list", 4_102_444_800_002, true)
    );
}

#[test]
fn fail_and_an_identical_target_of_the_same_version() {
    fail_and_an_identical_target(Version::REDIS_7_0, Version::REDIS_7_0);
}

#[test]
fn fail_and_an_identical_target_of_another_version() {
    fail_and_an_identical_target(Version::REDIS_7_0, Version::VALKEY_8_0);
}

/// Values of every kind. Some payloads differ where the values do not, by the order of a hash table or
/// by the version: those keys are listed, the others are known to be the same; nothing changes.
fn fail_and_an_identical_target(source: Version, target: Version) {
    let (source, target) = (filled(source), Server::start(target));
    let options = ["--on-conflict", "fail"];
    copy(&source.uri(), &target.uri(), &options).exits_with(0);
    assert_equal(&source, &target);
    let again = copy(&source.uri(), &target.uri(), &options);
    let listed = again.not_moved();
    assert_eq!(again.count("copied"), 0, "{again:#?}");
    // Values above 512 KB are not compared; all others are the same, in whatever encoding.
    assert!(
        listed
            .iter()
            .all(|(_, key)| key.starts_with("StringAboveMb")),
        "{again:#?}"
    );
    again.exits_with(4);
    assert_equal(&source, &target);
}

#[test]
fn fail_and_large_values() {
    let source = Server::start(Version::REDIS_7_0);
    let target = Server::start(Version::VALKEY_8_0);
    for (key, bytes) in [("a", 600_000), ("b", 5_000_000)] {
        let value = noise(bytes, 7);
        cmd("SET")
            .arg(key)
            .arg(value)
            .exec(&mut source.client())
            .expect("is taken");
    }
    copy(&source.uri(), &target.uri(), &["--on-conflict", "fail"]).exits_with(0);
    assert_equal(&source, &target);
    run(&target, 0, "SETRANGE b 4000000 other");
    run(&target, 0, "PEXPIREAT a 4102444800001");
    let ran = copy(&source.uri(), &target.uri(), &["--on-conflict", "fail"]).exits_with(4);
    assert_eq!(ran.not_moved(), listed(0, &["a", "b"]), "{ran:#?}");
    copy(&source.uri(), &target.uri(), &[]).exits_with(0);
    assert_equal(&source, &target);
}

#[test]
fn keys_above_the_memory_limit_are_listed_and_shown_as_missing() {
    let (source, target) = servers();
    let mut client = source.client();
    let keys: Vec<Vec<u8>> = cmd("KEYS")
        .arg("*")
        .query(&mut client)
        .expect("is answered");
    let mut large = Vec::new();
    for key in keys {
        let bytes: u64 = cmd("MEMORY")
            .arg("USAGE")
            .arg(&key)
            .query(&mut client)
            .expect("is there");
        if bytes > 64 * 1024 {
            large.push(key);
        }
    }
    assert!(large.len() >= 3, "{large:?}");
    let count = large.len() as u64;
    for _ in 0..2 {
        let ran = copy(&source.uri(), &target.uri(), &["--mem-limit", "64kb"]).exits_with(4);
        assert_eq!(ran.report["outcome"], "not_all_moved");
        assert_eq!(ran.count("not_moved"), count, "{ran:#?}");
        assert_eq!(ran.not_moved().len() as u64, count, "{ran:#?}");
        ran.reasons_say("above the limit of 65536");
        let verify =
            ["missing", "listed_as_not_moved", "unexplained"].map(|name| ran.verified(name));
        assert_eq!(verify, [count, count, 0], "{ran:#?}");
        assert_eq!(key_count(&target), 500 - count);
        let large = large.clone();
        let small_only = DiffOptions {
            only: Box::new(move |_, key| !large.iter().any(|name| name == key)),
            ..DiffOptions::default()
        };
        diff::assert_equal_with(&View::server(&source), &View::server(&target), &small_only);
    }
    // Where nothing can be above the limit, nothing is left out.
    copy_twice(
        &source.uri(),
        &target.uri(),
        &["--mem-limit", "1gb"],
        || {
            assert_equal(&source, &target);
        },
    );
}

#[test]
fn keys_above_what_the_target_takes_are_listed() {
    let (source, _) = servers();
    let target = Server::builder(Version::VALKEY_8_0)
        .arg("proto-max-bulk-len", "1mb")
        .start();
    for (key, bytes) in [
        ("below", 900_000),
        ("above", 1_200_000),
        ("far-above", 30_000_000),
    ] {
        let value = noise(bytes, 5);
        cmd("SET")
            .arg(key)
            .arg(value)
            .exec(&mut source.client())
            .expect("is taken");
    }
    for _ in 0..2 {
        let ran = copy(&source.uri(), &target.uri(), &["--key-pattern", "*a*"]).exits_with(4);
        let not_moved = ran.not_moved();
        for name in ["above", "far-above"] {
            assert!(not_moved.contains(&(0, name.into())), "{name}: {ran:#?}");
        }
        assert!(!not_moved.contains(&(0, "below".into())), "{ran:#?}");
    }
    let ran = copy(&source.uri(), &target.uri(), &[]).exits_with(4);
    let not_moved: Vec<Vec<u8>> = ran
        .not_moved()
        .into_iter()
        .map(|(_, key)| key.into_bytes())
        .collect();
    let rest = DiffOptions {
        only: Box::new(move |_, key| !not_moved.iter().any(|name| name == key)),
        ..DiffOptions::default()
    };
    diff::assert_equal_with(&View::server(&source), &View::server(&target), &rest);
}

//! What goes over: every type and encoding, odd names, all dbs, expiries, functions, large values.

mod common;

use common::copying::{Ran, copy, copy_twice, key_count, key_counts, noise, run};
use keyhaul_testkit::diff::{self, View};
use keyhaul_testkit::{Dataset, Server, Version};
use redis::cmd;

const MB: u64 = 1024 * 1024;
/// The memory that keyhaul may take, whatever it copies.
const RSS_MAX: u64 = 64 * MB;

#[test]
fn every_type_and_encoding_in_all_dbs_with_expiries_and_functions() {
    let source = Server::start(Version::REDIS_7_0);
    let target = Server::start(Version::VALKEY_8_0);
    let dataset = Dataset {
        seed: 11,
        keys: 3 * Dataset::EVERY_KIND + 3000,
        dbs: vec![0, 1, 15],
        ttl_share: 0.4,
        ..Dataset::default()
    };
    dataset.fill(&source);
    for name in ["one", "two"] {
        let code = format!(
            "#!lua name={name}\nredis.register_function('f_{name}', function() return 1 end)"
        );
        let load = cmd("FUNCTION")
            .arg("LOAD")
            .arg(code)
            .exec(&mut source.client());
        load.expect("is taken");
    }
    let compare = || {
        diff::assert_equal(&View::server(&source), &View::server(&target));
        assert_eq!(diff::functions(&source), diff::functions(&target));
        assert_eq!(key_counts(&source), key_counts(&target));
    };
    let ran = copy_twice(&source.uri(), &target.uri(), &[], compare);
    assert_eq!(diff::functions(&target).len(), 2);
    check_report(&ran, &source, &target);
}

/// The fields of the report after a copy without any difference.
#[track_caller]
fn check_report(ran: &Ran, source: &Server, target: &Server) {
    let keys = key_count(source);
    for (field, expected) in [
        ("schema", 1.into()),
        ("keyhaul", env!("CARGO_PKG_VERSION").into()),
        ("outcome", "done".into()),
        ("exit_code", 0.into()),
        ("error", serde_json::Value::Null),
        ("functions", 2.into()),
        ("not_moved", serde_json::json!([])),
    ] {
        assert_eq!(ran.report[field], expected, "{field}: {ran:#?}");
    }
    for (count, expected) in [
        ("found", keys),
        ("copied", keys),
        ("skipped", 0),
        ("gone", 0),
        ("not_moved", 0),
        ("retries", 0),
    ] {
        assert_eq!(ran.count(count), expected, "{count}: {ran:#?}");
    }
    for (count, expected) in [
        ("checked", keys),
        ("same", keys),
        ("missing", 0),
        ("type_differs", 0),
        ("expiry_differs", 0),
        ("errors", 0),
        ("unexplained", 0),
    ] {
        assert_eq!(ran.verified(count), expected, "{count}: {ran:#?}");
    }
    for (side, server) in [("source", source), ("target", target)] {
        let socket = server.socket().display().to_string();
        let shown = ran.report[side].as_str().expect("is text");
        assert!(shown.contains(&socket), "{side}: {shown}");
    }
    assert!(ran.report["bytes"].as_u64() > Some(MB), "{ran:#?}");
    let seconds = |part: &str| ran.report["seconds"][part].as_f64().expect("is a number");
    let parts = seconds("copy") + seconds("verify");
    assert!((seconds("total") - parts).abs() < 0.01, "{ran:#?}");
}

#[test]
fn a_dry_run_writes_nothing() {
    let source = Server::start(Version::REDIS_7_0);
    let target = Server::start(Version::VALKEY_8_0);
    Dataset::default().fill(&source);
    let code = "#!lua name=one\nredis.register_function('f', function() return 1 end)";
    let load = cmd("FUNCTION")
        .arg("LOAD")
        .arg(code)
        .exec(&mut source.client());
    load.expect("is taken");
    run(&target, 2, "SET there before");
    let ran = copy(&source.uri(), &target.uri(), &["--dry-run"]).exits_with(0);
    assert_eq!(ran.report["outcome"], "planned");
    for text in ["Redis 7.0", "Valkey 8.0", "the target is not empty"] {
        assert!(ran.outcome.stdout.contains(text), "{text}: {ran:#?}");
    }
    assert_eq!(key_counts(&target), [(2, 1)].into());
    assert!(diff::functions(&target).is_empty());
    assert_eq!(key_count(&source), 1000);
}

#[test]
fn several_connections_on_each_side() {
    let source = Server::start(Version::REDIS_7_0);
    let target = Server::start(Version::REDIS_7_0);
    let dataset = Dataset {
        seed: 12,
        keys: 6000,
        dbs: vec![0, 5],
        ..Dataset::default()
    };
    dataset.fill(&source);
    let options = [
        "--read-threads",
        "3",
        "--threads",
        "3",
        "--scan-count",
        "100",
    ];
    let ran = copy_twice(&source.uri(), &target.uri(), &options, || {
        diff::assert_equal(&View::server(&source), &View::server(&target));
    });
    assert_eq!(
        (ran.count("copied"), ran.count("retries")),
        (6000, 0),
        "{ran:#?}"
    );
}

/// A string that no server compresses.
fn append_string(server: &Server, key: &str, bytes: usize) {
    // Compression looks back 8 KB only: a repeated block of 1 MB is as good as none.
    let block = noise(bytes.min(MB as usize), bytes as u64);
    let mut client = server.client();
    let mut left = bytes;
    while left > 0 {
        let part = &block[..left.min(block.len())];
        cmd("APPEND")
            .arg(key)
            .arg(part)
            .exec(&mut client)
            .expect("is taken");
        left -= part.len();
    }
}

/// A collection of this many members of 10,000 bytes.
fn add_members(server: &Server, key: &str, members: usize) {
    let mut client = server.client();
    let kind = key.split(':').next().expect("names its type");
    for chunk in (0..members).collect::<Vec<_>>().chunks(100) {
        let mut pipe = redis::pipe();
        for index in chunk {
            let member = noise(10_000, *index as u64);
            match kind {
                "list" => pipe.cmd("RPUSH").arg(key),
                "set" => pipe.cmd("SADD").arg(key),
                "zset" => pipe.cmd("ZADD").arg(key).arg(index),
                "hash" => pipe.cmd("HSET").arg(key).arg(index),
                _ => pipe
                    .cmd("XADD")
                    .arg(key)
                    .arg(format!("5-{}", index + 1))
                    .arg("f"),
            };
            pipe.arg(member).ignore();
        }
        pipe.exec(&mut client).expect("is taken");
    }
}

#[test]
fn large_payloads_of_every_type_in_little_memory() {
    let source = Server::start(Version::REDIS_7_0);
    let target = Server::start(Version::VALKEY_8_0);
    // Around the size from which payloads come in parts, and far above.
    for bytes in [524_200, 524_270, 524_288, 600_000, 3_000_000, 60_000_000] {
        append_string(&source, &format!("string:{bytes}"), bytes);
    }
    for (key, members) in [
        ("list:large", 3000),
        ("set:large", 300),
        ("zset:large", 300),
        ("hash:large", 2000),
        ("stream:large", 300),
    ] {
        add_members(&source, key, members);
    }
    run(&source, 0, "PEXPIREAT string:600000 4102444800123");
    run(&source, 0, "PEXPIREAT list:large 4102444800321");
    Dataset::default().fill(&source);
    let ran = copy_twice(&source.uri(), &target.uri(), &[], || {
        diff::assert_equal(&View::server(&source), &View::server(&target));
    });
    assert_below(&ran, RSS_MAX);
}

#[test]
fn a_string_of_300_mb_in_little_memory() {
    let source = Server::start(Version::REDIS_7_0);
    let target = Server::start(Version::REDIS_7_0);
    append_string(&source, "huge", 300_000_000);
    run(&source, 0, "SET small value");
    let ran = copy(&source.uri(), &target.uri(), &[]).exits_with(0);
    diff::assert_equal(&View::server(&source), &View::server(&target));
    assert_below(&ran, RSS_MAX);
    let again = copy(&source.uri(), &target.uri(), &["--on-conflict", "skip"]).exits_with(0);
    assert_eq!(again.count("skipped"), 2, "{again:#?}");
    assert_below(&again, RSS_MAX);
    diff::assert_equal(&View::server(&source), &View::server(&target));
}

#[track_caller]
fn assert_below(ran: &Ran, bytes_max: u64) {
    let peak = ran.outcome.peak_rss_bytes;
    assert!(peak < bytes_max, "{peak} bytes: {ran:#?}");
}

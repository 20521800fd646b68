//! Links that break, servers that restart, Ctrl-C, and how much memory it takes.

#![allow(clippy::print_stderr, reason = "says how much memory it took")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::big::net_input;
use common::compare::{Compared, Comparing, Row, compare, rows, script, twin};
use common::copying::noise;
use common::rdb::populate;
use keyhaul_testkit::{Dataset, Direction, Proxy, Server, Version, wait_until};
use redis::cmd;

const PATIENCE: Duration = Duration::from_secs(20);
const RSS_BYTES_MAX: u64 = 64 << 20;
/// Keys that differ, and as many that are missing.
const FEW: usize = 30;
/// So that something can happen meanwhile.
const SLOWLY: [&str; 2] = ["--rate-limit", "4mb"];

/// Two servers that differ in what is told.
fn ends() -> (Server, Server, BTreeSet<Row>) {
    let source = Server::start(Version::REDIS_7_0);
    let dataset = Dataset {
        seed: 581,
        keys: 6_000,
        dbs: vec![0, 2],
        small_only: true,
        ..Dataset::default()
    };
    dataset.fill(&source);
    for n in 0..2 {
        let value = noise(700_000, n);
        cmd("SET")
            .arg(format!("large:{n}"))
            .arg(value)
            .exec(&mut source.client())
            .expect("is taken");
    }
    let planted = [
        ("missing", "SET @ a", "DEL @"),
        ("value", "600*HSET @ f{} v{}", "HSET @ f77 w"),
        (
            "large:1",
            "",
            "SETBIT @ 77 1 | SETBIT @ 78 1 | SETBIT @ 79 1 | SETBIT @ 80 1",
        ),
        ("extra", "", "SET @ a"),
    ];
    for (key, words, _) in planted {
        script(&mut source.client(), key, words);
    }
    let target = twin(&source);
    for (key, _, words) in planted {
        script(&mut target.client(), key, words);
    }
    let mut expected = rows(&["-missing", "*value", "*large:1", "+extra"]);
    // So many that some were found before something happens, and some are found afterwards.
    for n in 0..FEW {
        let (differs, missing) = (format!("differs:{n}"), format!("missing:{n}"));
        script(&mut source.client(), &differs, "SET @ a");
        script(&mut target.client(), &differs, "SET @ b");
        script(&mut source.client(), &missing, "SET @ a");
        expected.extend(rows(&[&format!("*{differs}"), &format!("-{missing}")]));
    }
    (source, target, expected)
}

/// Cuts the link to one side after each of these bytes, one cut after the other.
fn cut(side: &str, direction: Direction, offsets: &[u64], options: &[&str]) {
    let (source, target, expected) = ends();
    let proxy = Proxy::start(if side == "source" { &source } else { &target });
    let (from, to) = match side {
        "source" => (proxy.uri(), target.uri()),
        _ => (source.uri(), proxy.uri()),
    };
    let options = [&SLOWLY[..], options].concat();
    let comparing = Comparing::start(&from, &to, &options);
    // What is broken while both ends are looked at is another story.
    comparing.wait_until("values pass", || {
        proxy.bytes(Direction::FromServer) > 100_000
    });
    for offset in offsets {
        proxy.cut_after_bytes(direction, *offset);
        comparing.wait_until("the link is cut", || proxy.has_cut(direction));
    }
    comparing.finish().finds(&expected);
}

#[test]
fn the_source_is_cut_off() {
    cut(
        "source",
        Direction::FromServer,
        &[1, 4_097, 300_001, 77],
        &[],
    );
    cut("source", Direction::ToServer, &[3, 10_000, 1], &[]);
}

#[test]
fn the_target_is_cut_off() {
    cut(
        "target",
        Direction::FromServer,
        &[2, 50_001, 300_001, 1],
        &[],
    );
    cut("target", Direction::ToServer, &[9, 10_003, 5], &[]);
}

#[test]
fn cut_off_by_elements() {
    let options = ["--chunk-threshold", "10kb", "--chunk-size", "50"];
    cut(
        "source",
        Direction::FromServer,
        &[1, 50_001, 300_001],
        &options,
    );
    cut(
        "target",
        Direction::FromServer,
        &[1, 50_001, 300_001],
        &options,
    );
}

/// The server comes back with what it had.
fn restart(of_source: bool) {
    let (mut source, mut target, expected) = ends();
    let comparing = Comparing::start(&source.uri(), &target.uri(), &SLOWLY);
    let server = if of_source { &mut source } else { &mut target };
    let before = net_input(server);
    comparing.wait_until("keys are looked at", || {
        net_input(server) > before + 100_000
    });
    server.shutdown_save();
    server.restart();
    comparing.finish().finds(&expected);
}

#[test]
fn the_source_restarts() {
    restart(true);
}

#[test]
fn the_target_restarts() {
    restart(false);
}

/// A target that comes back without its data is found out: no key of it is called the same.
#[test]
fn a_target_that_forgets() {
    let (source, mut target, _) = ends();
    let comparing = Comparing::start(&source.uri(), &target.uri(), &SLOWLY);
    let before = net_input(&target);
    comparing.wait_until("keys are looked at", || {
        net_input(&target) > before + 100_000
    });
    target.stop();
    drop(std::fs::remove_file(target.dir().join("dump.rdb")));
    target.restart();
    let ran = comparing.finish().exits_with(1);
    assert!(ran.count("missing") > 0, "{ran:#?}");
}

#[test]
fn an_interrupt_stops_it() {
    let (source, target, _) = ends();
    let comparing = Comparing::start(&source.uri(), &target.uri(), &SLOWLY);
    let before = net_input(&target);
    comparing.wait_until("keys are looked at", || {
        net_input(&target) > before + 50_000
    });
    comparing.process.interrupt();
    let ran = comparing.finish().exits_with(5);
    assert_eq!(ran.report["outcome"], "stopped", "{ran:#?}");
}

#[test]
fn a_target_that_stays_away_ends_it() {
    let (source, mut target, _) = ends();
    let options = [&SLOWLY[..], &["--retry-for", "2s"]].concat();
    let comparing = Comparing::start(&source.uri(), &target.uri(), &options);
    let before = net_input(&target);
    comparing.wait_until("keys are looked at", || {
        net_input(&target) > before + 50_000
    });
    target.stop();
    comparing.finish().exits_with(5);
}

#[test]
fn a_link_that_stalls() {
    let (source, target, expected) = ends();
    let proxy = Proxy::start(&target);
    let comparing = Comparing::start(&source.uri(), &proxy.uri(), &SLOWLY);
    comparing.wait_until("bytes pass", || {
        proxy.bytes(Direction::FromServer) > 100_000
    });
    proxy.stall(true);
    let stalled = proxy.bytes(Direction::FromServer);
    wait_until("it asks in vain", PATIENCE, || {
        proxy.bytes(Direction::FromServer) == stalled
    });
    proxy.stall(false);
    comparing.finish().finds(&expected);
}

#[test]
fn many_keys_and_a_large_value_in_little_memory() {
    let source = Server::start(Version::REDIS_7_0);
    populate(&source, 100_000, 100);
    let mut client = source.client();
    let part = noise(1_000_000, 5);
    for _ in 0..60 {
        cmd("APPEND")
            .arg("large")
            .arg(&part)
            .exec(&mut client)
            .expect("is taken");
    }
    let target = twin(&source);
    let ways: [&[&str]; 2] = [&[], &["--chunk-threshold", "1gb"]];
    for options in ways {
        let ran = compare(&source.uri(), &target.uri(), options).equal(100_001);
        little_memory(&ran);
    }
    // In the last byte, and in one of the many.
    script(&mut target.client(), "large", "SETRANGE @ 59999999 end");
    script(
        &mut target.client(),
        "key:77777",
        "SETBIT @ 7 0 | SETBIT @ 6 1",
    );
    script(&mut target.client(), "key:0", "DEL @");
    let expected = rows(&["*large", "*key:77777", "-key:0"]);
    little_memory(&compare(&source.uri(), &target.uri(), &[]).finds(&expected));
    // A great many differences take no more.
    script(&mut target.client(), "key", "FLUSHALL");
    populate(&target, 80_000, 100);
    let ran = compare(&source.uri(), &target.uri(), &[]).exits_with(1);
    assert_eq!(ran.count("missing"), 20_001, "{ran:#?}");
    let lines = ran.lines.as_ref().map(BTreeSet::len);
    assert_eq!(lines, Some(20_001));
    little_memory(&ran);
}

#[track_caller]
fn little_memory(ran: &Compared) {
    let peak = ran.outcome.peak_rss_bytes;
    let seconds = ran.outcome.elapsed.as_secs_f64();
    eprintln!("{peak} bytes, {seconds:.1} s");
    assert!(peak < RSS_BYTES_MAX, "{peak}: {ran:#?}");
}

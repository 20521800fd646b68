//! Links that break while keys are on their way: the run goes on, and nothing is lost.

mod common;

use std::time::Duration;

use common::copying::noise;
use common::running::Running;
use keyhaul_testkit::diff::{View, assert_equal};
use keyhaul_testkit::{Dataset, Direction, Proxy, Server, Version, wait_until};
use redis::cmd;

const PATIENCE: Duration = Duration::from_secs(20);

fn source() -> Server {
    let source = Server::start(Version::REDIS_7_0);
    let dataset = Dataset {
        keys: 30_000,
        dbs: vec![0, 2],
        ..Dataset::default()
    };
    dataset.fill(&source);
    for n in 0..4 {
        let value = noise(3_000_000, n);
        cmd("SET")
            .arg(format!("large:{n}"))
            .arg(value)
            .exec(&mut source.client())
            .expect("is taken");
    }
    source
}

/// Cuts a link after each of these bytes, one cut after the other, while a copy runs.
fn cut_and_compare(side: &str, direction: Direction, offsets: &[u64], options: &[&str]) {
    let (source, target) = (source(), Server::start(Version::VALKEY_8_0));
    let proxy = Proxy::start(if side == "source" { &source } else { &target });
    let proxied = proxy.uri();
    let (from, to) = match side {
        "source" => (proxied, target.uri()),
        _ => (source.uri(), proxied),
    };
    let options = [&["--rate-limit", "12mb"], options].concat();
    let running = Running::start(&from, &to, &options);
    for offset in offsets {
        proxy.cut_after_bytes(direction, *offset);
        wait_until("the link is cut", PATIENCE, || proxy.has_cut(direction));
    }
    let ran = running.finish().exits_with(0);
    assert!(ran.count("retries") > 0, "{ran:#?}");
    assert_equal(&View::server(&source), &View::server(&target));
}

#[test]
fn the_source_is_cut_off_in_its_replies() {
    cut_and_compare(
        "source",
        Direction::FromServer,
        &[1, 4_097, 50_000, 1_000_001, 77],
        &[],
    );
}

#[test]
fn the_source_is_cut_off_in_our_requests() {
    cut_and_compare("source", Direction::ToServer, &[3, 10_000, 33_333, 1], &[]);
}

#[test]
fn the_target_is_cut_off_in_its_replies() {
    cut_and_compare("target", Direction::FromServer, &[2, 999, 5_001, 1], &[]);
}

#[test]
fn the_target_is_cut_off_in_our_requests() {
    cut_and_compare(
        "target",
        Direction::ToServer,
        &[9, 100_003, 1_500_000, 5, 300_000],
        &[],
    );
}

#[test]
fn a_lost_reply_is_no_conflict_when_keys_are_kept() {
    let options = ["--on-conflict", "skip"];
    cut_and_compare(
        "target",
        Direction::FromServer,
        &[2_002, 10, 3_000],
        &options,
    );
}

#[test]
fn a_link_that_stalls_and_one_that_is_refused_for_a_while() {
    let (source, target) = (source(), Server::start(Version::VALKEY_8_0));
    let proxy = Proxy::start(&target);
    let options = ["--rate-limit", "12mb", "--verbose"];
    let mut running = Running::start(&source.uri(), &proxy.uri(), &options);
    let passed = proxy.bytes(Direction::ToServer);
    wait_until("bytes pass", PATIENCE, || {
        proxy.bytes(Direction::ToServer) > passed
    });
    proxy.stall(true);
    proxy.stall(false);
    proxy.refuse(true);
    proxy.cut_all();
    running.process.wait_for_output("cannot connect", PATIENCE);
    proxy.refuse(false);
    let ran = running.finish().exits_with(0);
    assert!(ran.count("retries") > 0, "{ran:#?}");
    assert_equal(&View::server(&source), &View::server(&target));
}

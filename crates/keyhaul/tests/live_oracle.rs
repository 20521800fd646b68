//! A real replica of the same source is the oracle: at the same offset our target holds what it holds.

mod common;

use common::live::{
    Live, PATIENCE, Side, assert_nothing_of_ours, at_full_length, offset_of, sum, writes_for,
};
use keyhaul_testkit::diff::{
    self, DiffOptions, Difference, DifferenceKind, View, assert_equal_with,
};
use keyhaul_testkit::writes::{Writer, wait_until_short_lived_are_gone};
use keyhaul_testkit::{Server, Version, require, wait_until};
use redis::cmd;

/// While changes are followed, an expiry time of the next quarter of an hour is held so much later on the target.
const HELD_MS: u64 = 24 * 3600 * 1000;

fn rounds() -> u64 {
    if at_full_length() { 20 } else { 2 }
}

fn replica_of(source: &Server) -> Server {
    let replica = Server::start(source.version());
    cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg(source.port())
        .exec(&mut replica.client())
        .expect("REPLICAOF");
    replica
}

/// Before 7.0 expiry is relative in the stream: a real replica has it later by as much as it is behind.
fn as_a_replica(version: Version) -> DiffOptions {
    let is_exact = version.has_redis_feature(7, 0);
    DiffOptions {
        ignore_expiry_tolerance_ms: if is_exact { 0 } else { 5000 },
        ..DiffOptions::as_a_replica()
    }
}

/// Whether it is nothing but a time that is held; the end of the job sets it to what it is.
fn is_held(difference: &Difference, options: &DiffOptions) -> bool {
    let at_ms = |text: &str| -> Option<u64> {
        let number = text.split(' ').find(|word| word.parse::<u64>().is_ok());
        number?.parse().ok()
    };
    let (Some(expected), Some(got)) = (at_ms(&difference.expected), at_ms(&difference.got)) else {
        return false;
    };
    // What a server without PEXPIRETIME leaves uncertain.
    let tolerance_ms = options.ignore_expiry_tolerance_ms + 20;
    difference.kind == DifferenceKind::Expiry && got.abs_diff(expected + HELD_MS) <= tolerance_ms
}

/// Writes, lets both come to the same offset, compares all three, and again.
fn agrees(version: Version, seed: u64) {
    if !require(version) {
        return;
    }
    let (source, target) = (Side::one(version), Side::one(version));
    source.fill_for(&target, 2000);
    let live = Live::new(&source.uri(), &target.uri(), &["--method", "psync"]);
    let follower = live.start();
    let replica = replica_of(source.server());
    for round in 0..rounds() {
        let options = writes_for(&source, &target);
        let writer = Writer::start(&source.place(), version, seed + round, &options);
        writer.wait_for(5000, PATIENCE);
        writer.stop();
        wait_until_short_lived_are_gone(&source.place());
        follower.wait_applied(&source, &target);
        // Nothing is written any more; what still moves are the source's PINGs to its replicas.
        wait_until("the replica has come as far", PATIENCE, || {
            replica.info("slave_repl_offset") == source.server().info("master_repl_offset")
        });
        let status = follower.wait_status("we have come as far", |status| {
            sum(status, "applied_offset") >= offset_of(source.server())
        });
        assert_eq!(
            status["live"]["shards"].as_array().map(Vec::len),
            Some(1),
            "{status}"
        );
        let oracle = View::server(&replica);
        assert_equal_with(&oracle, &source.view(), &as_a_replica(version));
        for (side, options) in [
            (&source.view(), DiffOptions::as_a_replica()),
            (&oracle, as_a_replica(version)),
        ] {
            let mut differences = diff::keyspaces(side, &target.view(), &options);
            differences.retain(|difference| !is_held(difference, &options));
            assert_eq!(differences, Vec::new(), "round {round}");
        }
        assert_nothing_of_ours(&target);
    }
    follower.ends_equal(&source, &target);
}

#[test]
fn redis_7_0() {
    agrees(Version::REDIS_7_0, 31);
}

#[test]
fn valkey_8_0() {
    agrees(Version::VALKEY_8_0, 41);
}

#[test]
fn redis_8_2() {
    agrees(Version::REDIS_8_2, 51);
}

#[test]
fn redis_6_2() {
    agrees(Version::REDIS_6_2, 61);
}

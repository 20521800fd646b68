//! A real replica of the same source is the oracle: at the same offset our target holds what it holds.

mod common;

use common::live::{Live, PATIENCE, Side, assert_same, at_full_length, offset_of, sum, writes_for};
use keyhaul_testkit::diff::{DiffOptions, View, assert_equal_with};
use keyhaul_testkit::writes::{Writer, wait_until_short_lived_are_gone};
use keyhaul_testkit::{Server, Version, require, wait_until};
use redis::cmd;

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

/// Writes, lets both come to the same offset, compares all three, and again.
#[track_caller]
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
        let replica_view = View::server(&replica);
        assert_equal_with(&replica_view, &source.view(), &DiffOptions::as_a_replica());
        assert_equal_with(&replica_view, &target.view(), &DiffOptions::as_a_replica());
        assert_same(&source, &target);
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

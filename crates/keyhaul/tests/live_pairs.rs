//! Random writes of every kind while the copy runs and after it: at the end both sides hold the same, between
//! versions, between a server and a cluster, between clusters of other sizes, by PSYNC and without.

mod common;

use common::live::{Live, Side, at_full_length, writes_for};
use keyhaul_testkit::writes::Writer;
use keyhaul_testkit::{Version, require};

/// Keys that are there before.
const KEYS: usize = 3000;

/// Commands that are sent while the copy runs, and again after it.
fn commands() -> u64 {
    if at_full_length() { 200_000 } else { 6_000 }
}

#[track_caller]
fn follows(source: &Side, target: &Side, method: &str, seed: u64) {
    source.fill_for(target, KEYS);
    let writer = Writer::start(
        &source.place(),
        source.version(),
        seed,
        &writes_for(source, target),
    );
    writer.wait_for(500, common::live::PATIENCE);
    let live = Live::new(&source.uri(), &target.uri(), &["--method", method]);
    let follower = live.start();
    writer.wait_for(commands(), common::live::PATIENCE);
    follower.wait_following();
    writer.wait_for(commands(), common::live::PATIENCE);
    let stats = writer.stop();
    assert!(stats.values().map(|count| count.ok).sum::<u64>() > commands());
    follower.ends_equal(source, target);
}

fn servers(source: Version, target: Version, method: &str, seed: u64) {
    if require(source) && require(target) {
        follows(&Side::one(source), &Side::one(target), method, seed);
    }
}

#[test]
fn the_same_version_by_psync() {
    servers(Version::REDIS_7_0, Version::REDIS_7_0, "psync", 1);
}

#[test]
fn the_same_version_by_scan() {
    servers(Version::REDIS_7_0, Version::REDIS_7_0, "scan", 2);
}

#[test]
fn redis_7_0_to_valkey_8_0_by_psync() {
    servers(Version::REDIS_7_0, Version::VALKEY_8_0, "psync", 3);
}

#[test]
fn redis_7_0_to_valkey_8_0_by_scan() {
    servers(Version::REDIS_7_0, Version::VALKEY_8_0, "scan", 4);
}

#[test]
fn redis_8_2_to_7_0_by_psync() {
    servers(Version::REDIS_8_2, Version::REDIS_7_0, "psync", 5);
}

#[test]
fn redis_8_2_to_7_0_by_scan() {
    servers(Version::REDIS_8_2, Version::REDIS_7_0, "scan", 6);
}

#[test]
fn redis_6_2_to_8_2_by_psync() {
    servers(Version::REDIS_6_2, Version::REDIS_8_2, "psync", 7);
}

#[test]
fn redis_6_2_to_8_2_by_scan() {
    servers(Version::REDIS_6_2, Version::REDIS_8_2, "scan", 8);
}

#[test]
fn every_version_to_itself_and_to_the_newest() {
    if !at_full_length() {
        return;
    }
    for version in Version::all_available() {
        for target in [version, Version::REDIS_8_2, Version::VALKEY_9_1] {
            servers(version, target, "psync", 9);
            servers(version, target, "scan", 10);
        }
    }
}

//! As `live_pairs.rs`, where one side or both are clusters: commands with keys of several slots are taken apart or
//! their keys read again.

mod common;

use common::live::{Live, PATIENCE, Side, at_full_length, writes_for};
use keyhaul_testkit::Version;
use keyhaul_testkit::writes::Writer;

const KEYS: usize = 2000;

fn commands() -> u64 {
    if at_full_length() { 100_000 } else { 4_000 }
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
    writer.wait_for(500, PATIENCE);
    let live = Live::new(&source.uri(), &target.uri(), &["--method", method]);
    let follower = live.start();
    writer.wait_for(commands(), PATIENCE);
    follower.wait_following();
    writer.wait_for(commands(), PATIENCE);
    writer.stop();
    follower.ends_equal(source, target);
}

#[test]
fn a_server_to_a_cluster_by_psync() {
    let (source, target) = (
        Side::one(Version::REDIS_7_0),
        Side::many(Version::VALKEY_8_0, 3),
    );
    follows(&source, &target, "psync", 21);
}

#[test]
fn a_server_to_a_cluster_by_scan() {
    let (source, target) = (
        Side::one(Version::REDIS_7_0),
        Side::many(Version::VALKEY_8_0, 3),
    );
    follows(&source, &target, "scan", 22);
}

#[test]
fn a_cluster_to_a_smaller_one_by_psync() {
    let (source, target) = (
        Side::many(Version::REDIS_7_0, 3),
        Side::many(Version::VALKEY_8_0, 2),
    );
    follows(&source, &target, "psync", 23);
}

#[test]
fn a_cluster_to_a_smaller_one_by_scan() {
    let (source, target) = (
        Side::many(Version::REDIS_7_0, 3),
        Side::many(Version::VALKEY_8_0, 2),
    );
    follows(&source, &target, "scan", 24);
}

#[test]
fn a_cluster_to_a_server_by_psync() {
    let (source, target) = (
        Side::many(Version::REDIS_7_0, 3),
        Side::one(Version::VALKEY_8_0),
    );
    follows(&source, &target, "psync", 25);
}

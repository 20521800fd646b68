//! As `live_pairs.rs`, without PSYNC: the server tells which keys change.

mod common;

use common::live::{Side, at_full_length, follows};
use keyhaul_testkit::{Version, require};

const METHOD: &str = "scan";

fn servers(source: Version, target: Version, seed: u64) {
    if require(source) && require(target) {
        follows(&Side::one(source), &Side::one(target), METHOD, seed);
    }
}

#[test]
fn the_same_version_by_scan() {
    servers(Version::REDIS_7_0, Version::REDIS_7_0, 2);
}

#[test]
fn redis_7_0_to_valkey_8_0_by_scan() {
    servers(Version::REDIS_7_0, Version::VALKEY_8_0, 4);
}

#[test]
fn redis_8_2_to_7_0_by_scan() {
    servers(Version::REDIS_8_2, Version::REDIS_7_0, 6);
}

#[test]
fn redis_6_2_to_8_2_by_scan() {
    servers(Version::REDIS_6_2, Version::REDIS_8_2, 8);
}

#[test]
fn every_version_to_itself_and_to_the_newest() {
    if !at_full_length() {
        return;
    }
    for version in Version::all_available() {
        for target in [version, Version::REDIS_8_2, Version::VALKEY_9_1] {
            servers(version, target, 10);
        }
    }
}

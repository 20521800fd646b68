//! As `live_pairs.rs`, where one side or both are clusters: commands with keys of several slots are taken apart or
//! their keys read again.

mod common;

use common::live::{Side, follows};
use keyhaul_testkit::Version;

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

//! Clusters whose slots move and whose nodes fail over while changes are followed.

mod common;

use common::live::{Live, PATIENCE, Side, writes_for};
use keyhaul_testkit::diff::DiffOptions;
use keyhaul_testkit::writes::{Exact, Writer};
use keyhaul_testkit::{Cluster, Version};

const KEYS: usize = 3000;

/// When something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Copy,
    Following,
}

/// Follows while `change` is done to the ends.
#[track_caller]
fn follows(source: &Side, target: &Side, phase: Phase, change: impl FnOnce()) {
    source.fill_for(target, KEYS);
    let place = source.place();
    let writer = Writer::start(&place, source.version(), 101, &writes_for(source, target));
    let exact = Exact::start(&place, "slots", 6, Some(100));
    let live = Live::new(&source.uri(), &target.uri(), &["--method", "psync"]);
    let follower = live.start();
    match phase {
        Phase::Copy => follower.wait_copying(),
        Phase::Following => follower.wait_following(),
    }
    change();
    writer.wait_for(3000, PATIENCE);
    follower.wait_following();
    writer.stop();
    let books = exact.stop();
    // Slots are moved by MIGRATE, which sends relative expiries: they may be off by a little there.
    let moved = DiffOptions {
        ignore_expiry_tolerance_ms: 50,
        ..DiffOptions::as_a_replica()
    };
    follower.ends_equal_but_for(source, target, &moved);
    books.assert_same(&place, &target.place());
}

/// Moves some slots around.
fn reshard(cluster: &Cluster) {
    let first: Vec<u16> = cluster.slots_of(0).into_iter().take(150).collect();
    let second: Vec<u16> = cluster.slots_of(1).into_iter().take(150).collect();
    cluster.move_slots(0, 1, &first);
    cluster.move_slots(1, 0, &second);
    cluster.move_slots(1, 0, &first[..50]);
}

#[test]
fn slots_of_the_source_move_while_changes_are_followed() {
    let (source, target) = (
        Side::many(Version::REDIS_7_0, 2),
        Side::one(Version::VALKEY_8_0),
    );
    follows(&source, &target, Phase::Following, || {
        reshard(source.cluster())
    });
}

#[test]
fn slots_of_the_source_move_during_the_copy() {
    let (source, target) = (
        Side::many(Version::REDIS_7_0, 2),
        Side::one(Version::VALKEY_8_0),
    );
    follows(&source, &target, Phase::Copy, || reshard(source.cluster()));
}

#[test]
fn slots_of_the_target_move_while_changes_are_followed() {
    let (source, target) = (
        Side::one(Version::REDIS_7_0),
        Side::many(Version::VALKEY_8_0, 2),
    );
    follows(&source, &target, Phase::Following, || {
        reshard(target.cluster())
    });
}

#[test]
fn slots_of_the_target_move_during_the_copy() {
    let (source, target) = (
        Side::one(Version::REDIS_7_0),
        Side::many(Version::VALKEY_8_0, 2),
    );
    follows(&source, &target, Phase::Copy, || reshard(target.cluster()));
}

#[test]
fn a_node_of_the_source_fails_over() {
    let builder = Cluster::builder(Version::REDIS_7_0)
        .primaries(2)
        .replicas(1);
    let source = Side::clustered(builder);
    let target = Side::one(Version::VALKEY_8_0);
    follows(&source, &target, Phase::Following, || {
        source.cluster().fail_over_to(2)
    });
}

#[test]
fn a_node_of_the_target_fails_over() {
    let source = Side::one(Version::REDIS_7_0);
    let builder = Cluster::builder(Version::VALKEY_8_0)
        .primaries(2)
        .replicas(1);
    let target = Side::clustered(builder);
    follows(&source, &target, Phase::Following, || {
        target.cluster().fail_over_to(2)
    });
}

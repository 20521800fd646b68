//! Clusters whose slots move and whose nodes fail over while keys are on their way.

mod common;

use std::time::Duration;

use common::running::Running;
use keyhaul_testkit::diff::{DiffOptions, View, assert_equal, assert_equal_with};
use keyhaul_testkit::{Cluster, Dataset, Server, Version, wait_until};

const PATIENCE: Duration = Duration::from_secs(20);
const SLOWLY: [&str; 2] = ["--rate-limit", "1mb"];

fn dataset() -> Dataset {
    Dataset {
        keys: 25_000,
        small_only: true,
        ttl_share: 0.1,
        ..Dataset::default()
    }
}

/// Slots are moved by MIGRATE, which sends relative expiries: they may be off by a little there.
fn moved() -> DiffOptions {
    DiffOptions {
        ignore_expiry_tolerance_ms: 50,
        ..DiffOptions::default()
    }
}

#[test]
fn slots_of_the_source_move_there_and_back() {
    let source = Cluster::start(Version::REDIS_7_0, 3);
    dataset().fill_cluster(&source);
    let target = Server::start(Version::VALKEY_8_0);
    let running = Running::start(&source.uri(), &target.uri(), &SLOWLY);
    let first: Vec<u16> = source.slots_of(0).into_iter().take(600).collect();
    let second: Vec<u16> = source.slots_of(1).into_iter().take(600).collect();
    source.move_slots(0, 2, &first);
    source.move_slots(1, 0, &second);
    source.move_slots(2, 0, &first[..300]);
    let ran = running.finish();
    assert!(matches!(ran.outcome.code, Some(0 | 1)), "{ran:#?}");
    assert_eq!(ran.verified("missing"), 0, "{ran:#?}");
    assert_equal_with(&View::cluster(&source), &View::server(&target), &moved());
}

#[test]
fn slots_of_the_target_move_there_and_back() {
    let source = Server::start(Version::REDIS_7_0);
    dataset().fill(&source);
    let target = Cluster::start(Version::VALKEY_8_0, 3);
    let running = Running::start(&source.uri(), &target.uri(), &SLOWLY);
    let first: Vec<u16> = target.slots_of(0).into_iter().take(600).collect();
    target.move_slots(0, 1, &first);
    target.move_slots(1, 2, &first[..300]);
    let ran = running.finish();
    assert!(matches!(ran.outcome.code, Some(0 | 1)), "{ran:#?}");
    assert_eq!(ran.verified("missing"), 0, "{ran:#?}");
    assert_equal_with(&View::server(&source), &View::cluster(&target), &moved());
}

#[test]
fn slots_that_stay_half_moved_lose_nothing() {
    let (source, target) = (
        Cluster::start(Version::REDIS_7_0, 2),
        Cluster::start(Version::VALKEY_8_0, 2),
    );
    dataset().fill_cluster(&source);
    for slot in source.slots_of(0).into_iter().take(20) {
        source.begin_moving_slot(0, 1, slot, 1);
    }
    for slot in target.slots_of(1).into_iter().take(20) {
        target.begin_moving_slot(1, 0, slot, 1);
    }
    let ran = Running::start(&source.uri(), &target.uri(), &[])
        .finish()
        .exits_with(0);
    assert!(ran.not_moved().is_empty(), "{ran:#?}");
    for slot in source.slots_of(0).into_iter().take(20) {
        source.move_slots(0, 1, &[slot]);
    }
    for slot in target.slots_of(1).into_iter().take(20) {
        target.move_slots(1, 0, &[slot]);
    }
    assert_equal_with(&View::cluster(&source), &View::cluster(&target), &moved());
}

#[test]
fn nodes_of_both_sides_fail_over() {
    let builder = |version| Cluster::builder(version).primaries(2).replicas(1).start();
    let (source, target) = (builder(Version::REDIS_7_0), builder(Version::VALKEY_8_0));
    dataset().fill_cluster(&source);
    let running = Running::start(&source.uri(), &target.uri(), &SLOWLY);
    source.fail_over_to(2);
    target.fail_over_to(2);
    let ran = running.finish().exits_with(0);
    assert!(ran.not_moved().is_empty(), "{ran:#?}");
    assert_equal(&View::cluster(&source), &View::cluster(&target));
}

#[test]
fn a_node_of_the_target_dies_and_its_replica_takes_over() {
    let source = Server::start(Version::REDIS_7_0);
    dataset().fill(&source);
    let mut target = Cluster::builder(Version::VALKEY_8_0)
        .primaries(3)
        .replicas(1)
        .start();
    let options = [&SLOWLY[..], &["--retry-for", "60s"]].concat();
    let running = Running::start(&source.uri(), &target.uri(), &options);
    let first = target.uri();
    let dead = (0..3).find(|index| !first.contains(&target.nodes()[*index].port().to_string()));
    let dead = dead.expect("another node than the seed");
    wait_until("keys arrive", PATIENCE, || {
        redis::cmd("DBSIZE")
            .query::<u64>(&mut target.nodes()[dead].client())
            .expect("a number")
            > 500
    });
    target.node_mut(dead).stop();
    let ran = running.finish();
    // Replication is asynchronous: what the dead node had not passed on must be found out.
    assert!(matches!(ran.outcome.code, Some(0 | 1)), "{ran:#?}");
    assert_eq!(
        ran.outcome.code == Some(0),
        ran.verified("missing") == 0,
        "{ran:#?}"
    );
}

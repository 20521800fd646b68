//! A source that is followed by what it tells: everything that is done to it arrives.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::copying::{key_count, key_counts, run};
use common::tracking::{
    SOON, assert_equal, churn, dataset, remarked, start, stop, wait_for_marker,
    wait_until_following, wait_until_synced,
};
use keyhaul_testkit::diff::{self, View};
use keyhaul_testkit::{Server, Version, require, wait_until};

/// Random commands while the keys are copied, and while they are followed.
fn everything_arrives(source: Version, target: Version, seed: u64) {
    if !require(source) || !require(target) {
        return;
    }
    let (source, target) = (Server::start(source), Server::start(target));
    dataset(seed).fill(&source);
    churn(&mut source.connection(3), seed, 1000);
    let is_over = AtomicBool::new(false);
    let running = thread::scope(|scope| {
        let mut writers = Vec::new();
        for db in [0, 3, 5] {
            let (source, is_over) = (&source, &is_over);
            writers.push(scope.spawn(move || {
                let mut client = source.connection(db);
                let mut round = seed * 1000 + u64::from(db);
                while !is_over.load(Ordering::Relaxed) {
                    churn(&mut client, round, 100);
                    round += 10;
                }
            }));
        }
        let mut running = start(&source.uri(), &target.uri(), &[]);
        wait_until_following(&mut running);
        churn(&mut source.connection(0), seed + 1, 1000);
        is_over.store(true, Ordering::Relaxed);
        running
    });
    stop(running);
    assert_equal(&source, &target);
}

#[test]
fn redis_6_2_to_8_2() {
    everything_arrives(Version::REDIS_6_2, Version::REDIS_8_2, 62);
}

#[test]
fn redis_7_0_to_valkey_8_0() {
    everything_arrives(Version::REDIS_7_0, Version::VALKEY_8_0, 70);
}

#[test]
fn redis_8_2_to_8_2() {
    everything_arrives(Version::REDIS_8_2, Version::REDIS_8_2, 82);
}

#[test]
fn valkey_8_0_to_redis_7_0() {
    everything_arrives(Version::VALKEY_8_0, Version::REDIS_7_0, 80);
}

/// What no server tells by itself.
#[test]
fn emptied_and_swapped_dbs_functions_and_groups() {
    if !require(Version::REDIS_7_0) {
        return;
    }
    let (source, target) = (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::REDIS_7_0),
    );
    dataset(7).fill(&source);
    run(&source, 0, "XADD stream 1-1 f v");
    run(&source, 0, "XADD stream 2-1 f v");
    let mut running = start(&source.uri(), &target.uri(), &[]);
    wait_until_following(&mut running);
    run(&source, 0, "XGROUP CREATE stream group 0");
    run(
        &source,
        0,
        "XREADGROUP GROUP group one COUNT 1 STREAMS stream >",
    );
    common::rights::load_function(&source);
    wait_until("groups and functions come over", SOON, || {
        let view = |server| View::server(server);
        diff::functions(&source) == diff::functions(&target)
            && diff::keyspaces(&view(&source), &view(&target), &Default::default()).is_empty()
    });
    run(&source, 0, "SWAPDB 0 4");
    wait_until("the dbs are swapped", SOON, || {
        key_counts(&source) == key_counts(&target)
    });
    wait_until_synced(&mut running);
    run(&source, 3, "FLUSHDB");
    wait_for_marker(&source, &target, "flushed");
    wait_until_synced(&mut running);
    let ran = stop(running);
    assert_equal(&source, &target);
    remarked(&ran, "SWAPDB");
    remarked(&ran, "FLUSHDB");

    let mut running = start(&source.uri(), &target.uri(), &[]);
    wait_until_following(&mut running);
    run(&source, 0, "FLUSHALL");
    wait_until("nothing is left", SOON, || key_count(&target) == 0);
    wait_until_synced(&mut running);
    stop(running);
}

//! A source that is followed by what it tells: everything that is done to it arrives.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::copying::{key_count, run};
use common::tracking::{
    SOON, churn, remarked, start, stop, wait_for_marker, wait_until_following, wait_until_synced,
};
use keyhaul_testkit::diff::{self, View};
use keyhaul_testkit::{Dataset, Server, Version, require, wait_until};

fn assert_equal(source: &Server, target: &Server) {
    diff::assert_equal(&View::server(source), &View::server(target));
}

fn dataset(seed: u64) -> Dataset {
    Dataset {
        seed,
        keys: 300,
        dbs: vec![0, 3],
        ..Dataset::default()
    }
}

/// Random commands while the keys are copied, and while they are followed.
fn everything_arrives(source: Version, target: Version, seed: u64) {
    if !require(source) || !require(target) {
        return;
    }
    println!("seed {seed}");
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
    wait_for_marker(&source, &target, "swapped");
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

/// The link that tells is cut: what was done in between arrives, deletions too.
#[test]
fn a_link_that_is_cut() {
    if !require(Version::VALKEY_8_0) {
        return;
    }
    let (source, target) = (
        Server::start(Version::VALKEY_8_0),
        Server::start(Version::VALKEY_8_0),
    );
    dataset(5).fill(&source);
    churn(&mut source.connection(0), 5, 1000);
    let mut running = start(&source.uri(), &target.uri(), &[]);
    wait_until_following(&mut running);
    wait_for_marker(&source, &target, "first");
    // In one step, so that nobody is told of the deletions.
    let mut client = source.client();
    redis::pipe()
        .atomic()
        .cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("normal")
        .arg("SKIPME")
        .arg("yes")
        .ignore()
        .cmd("DEL")
        .arg(&["n:1", "n:2", "n:3", "s:1", "s:2", "s:3", "s:4", "s:5"])
        .ignore()
        .exec(&mut client)
        .expect("is done");
    wait_for_marker(&source, &target, "second");
    wait_until_synced(&mut running);
    let ran = stop(running);
    assert_equal(&source, &target);
    remarked(&ran, "all keys are copied again");
}

/// More keys change at once than there is room for.
#[test]
fn more_changes_than_there_is_room_for() {
    if !require(Version::REDIS_8_2) {
        return;
    }
    let (source, target) = (
        Server::start(Version::REDIS_8_2),
        Server::start(Version::REDIS_8_2),
    );
    dataset(9).fill(&source);
    let mut running = start(&source.uri(), &target.uri(), &["--memory", "4MB"]);
    wait_until_following(&mut running);
    redis::cmd("EVAL")
        .arg("for i=1,30000 do redis.call('SET','key:'..i,i) end for i=1,15000 do redis.call('DEL','key:'..i) end")
        .arg(0)
        .exec(&mut source.client())
        .expect("is done");
    wait_for_marker(&source, &target, "second");
    wait_until_synced(&mut running);
    let ran = stop(running);
    assert_equal(&source, &target);
    remarked(&ran, "there is no room for more");
}

/// A target that forgets all it was given.
#[test]
fn a_target_that_is_restarted() {
    if !require(Version::REDIS_7_0) {
        return;
    }
    let source = Server::start(Version::REDIS_7_0);
    let mut target = Server::start(Version::REDIS_7_0);
    dataset(11).fill(&source);
    let mut running = start(&source.uri(), &target.uri(), &[]);
    wait_until_following(&mut running);
    target.stop();
    churn(&mut source.connection(0), 11, 500);
    target.restart();
    wait_for_marker(&source, &target, "second");
    wait_until_synced(&mut running);
    let ran = stop(running);
    assert_equal(&source, &target);
    remarked(&ran, "the target was restarted");
}

/// The same command once more: nobody knows what changed meanwhile, so all keys are copied, and what is gone is deleted.
#[test]
fn stopped_and_begun_again() {
    if !require(Version::REDIS_6_2) {
        return;
    }
    let (source, target) = (
        Server::start(Version::REDIS_6_2),
        Server::start(Version::REDIS_6_2),
    );
    dataset(13).fill(&source);
    churn(&mut source.connection(0), 13, 1000);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let state = ["--state-dir", folder.path().to_str().expect("is text")];
    let mut running = start(&source.uri(), &target.uri(), &state);
    wait_until_following(&mut running);
    stop(running);
    assert_equal(&source, &target);
    churn(&mut source.connection(0), 14, 1000);
    run(&source, 3, "FLUSHDB");
    let mut running = start(&source.uri(), &target.uri(), &state);
    wait_until_following(&mut running);
    wait_for_marker(&source, &target, "second");
    wait_until_synced(&mut running);
    let ran = stop(running);
    assert_equal(&source, &target);
    remarked(&ran, "an earlier run of this command stopped");
}

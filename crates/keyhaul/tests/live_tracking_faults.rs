//! A source that is followed by what it tells: links that break, servers that are restarted, jobs that are stopped or killed.

mod common;

use common::copying::run;
use common::tracking::{
    assert_equal, churn, dataset, remarked, start, stop, wait_for_marker, wait_until_following,
    wait_until_synced,
};
use keyhaul_testkit::{Server, Version, require};

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

/// The source comes back with its keys, and without whoever was told.
#[test]
fn a_source_that_is_restarted() {
    if !require(Version::REDIS_7_0) {
        return;
    }
    let mut source = Server::start(Version::REDIS_7_0);
    let target = Server::start(Version::REDIS_7_0);
    dataset(17).fill(&source);
    let mut running = start(&source.uri(), &target.uri(), &[]);
    wait_until_following(&mut running);
    source.shutdown_save();
    source.restart();
    run(&source, 3, "FLUSHDB");
    churn(&mut source.connection(0), 17, 500);
    wait_for_marker(&source, &target, "second");
    wait_until_synced(&mut running);
    stop(running);
    assert_equal(&source, &target);
}

/// Killed again and again, in the copy and later; the last one ends well.
#[test]
fn killed_again_and_again() {
    if !require(Version::VALKEY_8_0) {
        return;
    }
    let (source, target) = (
        Server::start(Version::VALKEY_8_0),
        Server::start(Version::VALKEY_8_0),
    );
    dataset(19).fill(&source);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let state = ["--state-dir", folder.path().to_str().expect("is text")];
    for round in 0..5 {
        let mut running = start(&source.uri(), &target.uri(), &state);
        if round % 2 == 0 {
            wait_until_following(&mut running);
        }
        churn(&mut source.connection(0), 19 + round, 300);
        running.process.kill();
        drop(running.finish());
        churn(&mut source.connection(3), 19 + round, 300);
    }
    run(&source, 3, "FLUSHDB");
    let mut running = start(&source.uri(), &target.uri(), &state);
    wait_until_following(&mut running);
    wait_until_synced(&mut running);
    stop(running);
    assert_equal(&source, &target);
}

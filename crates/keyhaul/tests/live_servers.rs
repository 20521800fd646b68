//! Servers that restart, with their data and without, and dbs that are emptied while changes are followed.

mod common;

use common::copying::Ran;
use common::live::{Live, PATIENCE, Side, ends, writer, writes_for};
use keyhaul_testkit::writes::{Exact, Writer};
use keyhaul_testkit::{Server, Version, wait_until};
use redis::cmd;

const KEYS: usize = common::live::KEYS;

/// A server that writes each command to the disk before it answers.
fn durable(version: Version) -> Side {
    let builder = Server::builder(version).arg("appendonly", "yes");
    Side::built(builder.arg("appendfsync", "always"))
}

#[track_caller]
fn says_that_all_is_copied_again(ran: &Ran) {
    let remarks = ran.report["remarks"].to_string();
    assert!(remarks.contains("copied again"), "{ran:#?}");
}

#[test]
fn a_target_that_restarts_with_its_data_is_gone_on_with() {
    let (source, mut target) = (Side::one(Version::REDIS_7_0), durable(Version::VALKEY_8_0));
    source.fill_for(&target, KEYS);
    let live = Live::new(&source.uri(), &target.uri(), &["--method", "psync"]);
    let follower = live.start();
    let (writer, exact) = (
        writer(&source, &target, 81),
        Exact::start(&source.place(), "t", 2, Some(300)),
    );
    follower.wait_following();
    target.server_mut().stop();
    writer.wait_for(1000, PATIENCE);
    target.server_mut().restart();
    writer.wait_for(2000, PATIENCE);
    writer.stop();
    let books = exact.stop();
    follower.ends_equal(&source, &target);
    books.assert_held_by(&target.place());
}

#[test]
fn a_target_that_comes_back_empty_is_filled_again() {
    let (source, mut target) = ends();
    let live = Live::new(&source.uri(), &target.uri(), &["--method", "psync"]);
    let follower = live.start();
    let writer = writer(&source, &target, 82);
    follower.wait_following();
    target.server_mut().stop();
    target.server_mut().restart();
    // Most of them lie on the source alone: nobody writes to them.
    wait_until("they come again", PATIENCE, || {
        target.key_count() > KEYS as u64 / 2
    });
    writer.wait_for(2000, PATIENCE);
    writer.stop();
    follower.wait_following();
    let ran = follower.ends_equal(&source, &target);
    says_that_all_is_copied_again(&ran);
}

#[test]
fn a_source_that_restarts_with_its_data_is_gone_on_with() {
    let (mut source, target) = ends();
    let live = Live::new(&source.uri(), &target.uri(), &["--method", "psync"]);
    let follower = live.start();
    follower.wait_following();
    let before = writer(&source, &target, 83);
    before.wait_for(2000, PATIENCE);
    before.stop();
    source.server_mut().shutdown_save();
    source.server_mut().restart();
    let after = writer(&source, &target, 84);
    after.wait_for(2000, PATIENCE);
    after.stop();
    follower.ends_equal(&source, &target);
}

#[test]
fn a_source_that_lost_its_data_is_followed_all_the_same() {
    let (mut source, target) = ends();
    let live = Live::new(&source.uri(), &target.uri(), &["--method", "psync"]);
    let follower = live.start();
    follower.wait_following();
    source.server_mut().stop();
    source.server_mut().restart();
    let after = writer(&source, &target, 85);
    after.wait_for(2000, PATIENCE);
    after.stop();
    // Keys that the source no longer has are taken off the target.
    let ran = follower.ends_equal(&source, &target);
    says_that_all_is_copied_again(&ran);
}

#[test]
fn a_source_that_empties_and_swaps_its_dbs() {
    let (source, target) = ends();
    let live = Live::new(&source.uri(), &target.uri(), &["--method", "psync"]);
    let follower = live.start();
    let mut options = writes_for(&source, &target);
    options.flushes = true;
    let writer = Writer::start(&source.place(), source.version(), 86, &options);
    writer.wait_for(3000, PATIENCE);
    follower.wait_following();
    let swap = cmd("SWAPDB")
        .arg(0)
        .arg(2)
        .exec(&mut source.server().client());
    swap.expect("SWAPDB");
    writer.wait_for(3000, PATIENCE);
    writer.stop();
    follower.ends_equal(&source, &target);
}

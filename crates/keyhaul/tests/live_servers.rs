//! Servers that restart, fail over or fill the spool while changes are followed.

mod common;

use common::copying::{Ran, noise};
use common::live::{Live, PATIENCE, Side, sum, writes_for};
use keyhaul_testkit::writes::{Exact, Writer};
use keyhaul_testkit::{Proxy, Sentinel, Server, Version, wait_until};
use redis::cmd;

const KEYS: usize = 3000;

fn ends() -> (Side, Side) {
    let (source, target) = (
        Side::one(Version::REDIS_7_0),
        Side::one(Version::VALKEY_8_0),
    );
    source.fill_for(&target, KEYS);
    (source, target)
}

/// A server that writes each command to the disk before it answers.
fn durable(version: Version) -> Side {
    let builder = Server::builder(version).arg("appendonly", "yes");
    Side::built(builder.arg("appendfsync", "always"))
}

fn writer(source: &Side, target: &Side, seed: u64) -> Writer {
    Writer::start(
        &source.place(),
        source.version(),
        seed,
        &writes_for(source, target),
    )
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

#[test]
fn a_replica_that_is_promoted_by_sentinel_is_followed() {
    let source = Side::Watched(Sentinel::start(Version::REDIS_7_0, 1));
    let target = Side::one(Version::VALKEY_8_0);
    source.fill_for(&target, KEYS);
    let live = Live::new(&source.uri(), &target.uri(), &["--method", "psync"]);
    let follower = live.start();
    follower.wait_following();
    let before = writer(&source, &target, 87);
    before.wait_for(1000, PATIENCE);
    before.stop();
    let Side::Watched(sentinel) = &source else {
        unreachable!("it is watched");
    };
    sentinel.failover();
    let after = writer(&source, &target, 88);
    after.wait_for(1000, PATIENCE);
    after.stop();
    follower.ends_equal(&source, &target);
}

#[test]
fn a_replica_that_is_promoted_behind_an_address_is_gone_on_with() {
    let (source, target) = ends();
    let replica = Side::one(Version::REDIS_7_0);
    let link = cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg(source.server().port())
        .exec(&mut replica.server().client());
    link.expect("REPLICAOF");
    let proxy = Proxy::start(source.server());
    let live = Live::new(&proxy.uri(), &target.uri(), &["--method", "psync"]);
    let follower = live.start();
    follower.wait_following();
    let before = writer(&source, &target, 89);
    before.wait_for(1000, PATIENCE);
    before.stop();
    wait_until("the replica is up to date", PATIENCE, || {
        replica.server().info("slave_repl_offset") == source.server().info("master_repl_offset")
    });
    let promoted = cmd("REPLICAOF")
        .arg("NO")
        .arg("ONE")
        .exec(&mut replica.server().client());
    promoted.expect("REPLICAOF NO ONE");
    proxy.redirect(replica.server());
    proxy.cut_all();
    let after = writer(&replica, &target, 90);
    after.wait_for(1000, PATIENCE);
    after.stop();
    let resumed = follower.wait_status("it goes on", |status| sum(status, "partial_resyncs") >= 1);
    assert_eq!(sum(&resumed, "full_resyncs"), 1, "{resumed}");
    follower.ends_equal(&replica, &target);
}

#[test]
fn a_spool_that_is_full_is_waited_for() {
    let (source, target) = ends();
    let proxy = Proxy::start(target.server());
    let options = ["--method", "psync", "--spool-limit", "64mb"];
    let live = Live::new(&source.uri(), &proxy.uri(), &options);
    let follower = live.start();
    follower.wait_following();
    proxy.stall(true);
    let mut client = source.server().client();
    // More than the limit, of what cannot be compressed.
    for n in 0..160_u64 {
        let value = noise(500_000, n);
        cmd("SET")
            .arg(format!("noise:{n}"))
            .arg(value)
            .exec(&mut client)
            .expect("SET");
    }
    assert!(
        live.bytes_on_disk() < 80_000_000,
        "{}",
        live.bytes_on_disk()
    );
    proxy.stall(false);
    let writer = writer(&source, &target, 91);
    writer.wait_for(1000, PATIENCE);
    writer.stop();
    follower.ends_equal(&source, &target);
    assert!(live.bytes_on_disk() < 2_000_000, "{}", live.bytes_on_disk());
}

#[test]
fn a_disk_that_is_full_for_the_spool_is_waited_for() {
    let (source, target) = ends();
    let proxy = Proxy::start(target.server());
    let live = Live::new(&source.uri(), &proxy.uri(), &["--method", "psync"]);
    // Some MB: far less than a file of the spool.
    let follower = live.start_with_file_limit(8192);
    follower.wait_following();
    proxy.stall(true);
    let mut client = source.server().client();
    for n in 0..60_u64 {
        let value = noise(500_000, n);
        let mut set = cmd("SET");
        set.arg(format!("noise:{n}")).arg(value);
        set.exec(&mut client).expect("SET");
    }
    assert!(
        live.bytes_on_disk() < 20_000_000,
        "{}",
        live.bytes_on_disk()
    );
    proxy.stall(false);
    let writer = writer(&source, &target, 92);
    writer.wait_for(1000, PATIENCE);
    writer.stop();
    follower.ends_equal(&source, &target);
}

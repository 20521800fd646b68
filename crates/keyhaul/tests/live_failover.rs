//! A replica takes over from the source while changes are followed.

mod common;

use common::live::{Live, PATIENCE, Side, at_full_length, ends, sum, writer};
use keyhaul_testkit::{Proxy, Sentinel, Version, wait_until};
use redis::cmd;

const KEYS: usize = common::live::KEYS;

#[test]
fn a_replica_that_is_promoted_by_sentinel_is_followed() {
    if !at_full_length() {
        // Sentinels take half a minute to find one another and to agree.
        return;
    }
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

//! Sentinels find a primary and its replicas, and move the primary's role.

use std::time::Duration;

use keyhaul_testkit::{Sentinel, Version, require, wait_until};
use redis::cmd;

#[test]
fn failovers_move_the_role() {
    for version in [
        Version::REDIS_6_0,
        Version::REDIS_7_0,
        Version::VALKEY_8_0,
        Version::VALKEY_9_1,
    ] {
        if !require(version) {
            continue;
        }
        let watched = Sentinel::start(version, 1);
        let first = watched.primary().port();
        assert!(watched.uri().starts_with("redis-sentinel://127.0.0.1:"));
        assert!(watched.uri().ends_with("/mymaster"));
        cmd("SET")
            .arg("key")
            .arg("before")
            .exec(&mut watched.primary().client())
            .unwrap();
        // Only what the replica has is there after a failover.
        let mut replica = watched.servers()[1].client();
        wait_until("the write is replicated", Duration::from_secs(10), || {
            let value: Option<String> = cmd("GET").arg("key").query(&mut replica).unwrap();
            value.is_some()
        });
        watched.failover();
        assert_ne!(watched.primary().port(), first, "{version}");
        cmd("SET")
            .arg("key")
            .arg("after")
            .exec(&mut watched.primary().client())
            .unwrap();
    }
}

#[test]
fn a_dead_primary_is_replaced() {
    let mut watched = Sentinel::start_several(Version::REDIS_7_0, 1, 2);
    assert_eq!(watched.sentinels().len(), 2);
    let port = watched.primary().port();
    watched.server_mut(0).stop();
    watched.wait_until_primary_is_not(port);
    assert_eq!(watched.primary().port(), watched.servers()[1].port());
}

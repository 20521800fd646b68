//! Expiry: a key that is renewed on the source never vanishes on the target, one that has expired does not live on,
//! and at the end the times are equal. `live_clock.rs` does so between servers whose clocks differ.

mod common;

use common::live::{Live, PATIENCE, Side};
use common::renewals::{count, none_vanishes};
use keyhaul_testkit::{Version, require, wait_until};
use redis::cmd;

#[test]
fn renewed_keys_outlive_a_slow_copy_by_psync() {
    let (source, target) = (
        Side::one(Version::REDIS_7_0),
        Side::one(Version::VALKEY_8_0),
    );
    none_vanishes(&source, &target, &["--method", "psync"]);
}

#[test]
fn renewed_keys_outlive_a_slow_copy_from_6_2_by_psync() {
    if require(Version::REDIS_6_2) {
        let (source, target) = (Side::one(Version::REDIS_6_2), Side::one(Version::REDIS_7_0));
        none_vanishes(&source, &target, &["--method", "psync"]);
    }
}

#[test]
fn keys_that_expire_go_and_others_keep_their_time() {
    let (source, target) = (
        Side::one(Version::REDIS_7_0),
        Side::one(Version::VALKEY_8_0),
    );
    source.fill_for(&target, 2000);
    let live = Live::new(&source.uri(), &target.uri(), &["--method", "psync"]);
    let mut client = source.server().client();
    let mut set = |key: String, ttl_ms: u64| {
        let mut command = cmd("SET");
        command.arg(key).arg("v").arg("PX").arg(ttl_ms);
        command.exec(&mut client).expect("SET");
    };
    let short: Vec<String> = (0..100).map(|n| format!("short:{n}")).collect();
    // Within a second, within the day for which deadlines are put off meanwhile, and beyond it.
    short.iter().for_each(|key| set(key.clone(), 1500));
    (0..100).for_each(|n| set(format!("hour:{n}"), 3_600_000 + n));
    (0..100).for_each(|n| set(format!("week:{n}"), 604_800_000 + n));
    let follower = live.start();
    follower.wait_following();
    wait_until("they expire", PATIENCE, || count(&source, &short) == 0);
    follower.wait_applied(&source, &target);
    assert_eq!(count(&target, &short), 0);
    follower.ends_equal(&source, &target);
}

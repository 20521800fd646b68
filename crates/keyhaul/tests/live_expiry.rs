//! Expiry: a key that is renewed on the source never vanishes on the target, one that has expired does not live on,
//! and at the end the times are equal; also between servers whose clocks differ by an hour.

mod common;

use common::live::{Live, PATIENCE, Side, is_past_copy};
use keyhaul_testkit::diff::{DiffOptions, assert_equal_with};
use keyhaul_testkit::writes::Renewer;
use keyhaul_testkit::{Direction, Proxy, Server, Version, require, wait_until};
use redis::cmd;

/// Keys that are there before: what a slow copy is busy with.
const KEYS: usize = 20_000;
const RENEWED: usize = 200;
/// What the slow way to the target lets through, bytes a second: the copy alone would take half a minute.
const SLOWLY: u32 = 200_000;
/// An hour.
const HOUR_SECONDS: i64 = 3600;

fn renewals(source: &Side) -> i64 {
    let value: Option<i64> = cmd("GET")
        .arg("renewed:0")
        .query(&mut source.server().client())
        .expect("GET");
    value.unwrap_or(0)
}

fn shifted(version: Version, seconds: i64) -> Side {
    Side::built(Server::builder(version).clock_shift_seconds(seconds))
}

/// Renews keys through a copy that takes several of their lives, and while changes are followed.
#[track_caller]
fn none_vanishes(source: &Side, target: &Side, options: &[&str]) {
    source.fill_for(target, KEYS);
    let mut renewer = Renewer::start(&source.place(), RENEWED);
    let proxy = Proxy::start(target.server());
    proxy.throttle(Direction::ToServer, Some(SLOWLY));
    let live = Live::new(&source.uri(), &proxy.uri(), options);
    let follower = live.start();
    renewer.watch(&target.place());
    follower.wait_copying();
    let before = renewals(source);
    let still_copied = || {
        follower
            .status()
            .is_some_and(|status| !is_past_copy(&status))
    };
    wait_until("keys outlive two lives", PATIENCE, || {
        renewals(source) >= before + 4
    });
    assert!(still_copied(), "the copy was too fast to show anything");
    proxy.throttle(Direction::ToServer, None);
    follower.wait_following();
    wait_until("all renewed keys are there", PATIENCE, || {
        renewer.absent(&target.place()).is_empty()
    });
    let before = renewals(source);
    wait_until("they are renewed", PATIENCE, || {
        renewals(source) >= before + 3
    });
    let keys = renewer.keys().to_vec();
    assert_eq!(renewer.stop(), Vec::new());
    // Nobody renews them any more: they go on the source, and so on the target.
    wait_until("they expire on the source", PATIENCE, || {
        count(source, &keys) == 0
    });
    follower.wait_applied(source, target);
    assert_eq!(count(target, &keys), 0);
    follower.ends_equal(source, target);
}

fn count(side: &Side, keys: &[String]) -> u64 {
    let mut exists = cmd("EXISTS");
    keys.iter().for_each(|key| {
        exists.arg(key);
    });
    exists.query(&mut side.server().client()).expect("EXISTS")
}

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
fn renewed_keys_outlive_a_slow_copy_to_a_clock_an_hour_ahead() {
    let (source, target) = (
        Side::one(Version::REDIS_7_0),
        shifted(Version::VALKEY_8_0, HOUR_SECONDS),
    );
    none_vanishes(&source, &target, &["--method", "psync"]);
}

#[test]
fn renewed_keys_outlive_a_slow_copy_to_a_clock_an_hour_behind() {
    let (source, target) = (
        Side::one(Version::REDIS_7_0),
        shifted(Version::VALKEY_8_0, -HOUR_SECONDS),
    );
    none_vanishes(&source, &target, &["--method", "psync"]);
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

#[test]
fn an_hour_between_the_clocks_changes_no_time() {
    for shift_seconds in [HOUR_SECONDS, -HOUR_SECONDS] {
        let (source, target) = (
            Side::one(Version::REDIS_7_0),
            shifted(Version::VALKEY_8_0, shift_seconds),
        );
        source.fill_for(&target, 1000);
        let mut client = source.server().client();
        let mut set = |key: String, seconds: u64| {
            let mut command = cmd("SET");
            command.arg(key).arg("v").arg("EX").arg(seconds);
            command.exec(&mut client).expect("SET");
        };
        (0..50).for_each(|n| set(format!("minutes:{n}"), 600 + n));
        (0..50).for_each(|n| set(format!("day:{n}"), 90_000 + n));
        let live = Live::new(&source.uri(), &target.uri(), &["--method", "psync"]);
        let follower = live.start();
        follower.wait_following();
        (0..50).for_each(|n| set(format!("later:{n}"), 600 + n));
        follower.wait_applied(&source, &target);
        let minutes = (0..50).flat_map(|n| [format!("minutes:{n}"), format!("later:{n}")]);
        assert_eq!(count(&target, &minutes.collect::<Vec<String>>()), 100);
        // A target that is ahead would delete what has less than an hour to live, were it told the time.
        let only = |_, key: &[u8]| !key.starts_with(b"minutes:") && !key.starts_with(b"later:");
        let options = DiffOptions {
            only: Box::new(only),
            extra_allowed: Box::new(move |db, key| !only(db, key)),
            ..DiffOptions::as_a_replica()
        };
        assert_equal_with(&source.view(), &target.view(), &options);
        follower.stop();
    }
}

//! As `live_expiry.rs`, between servers whose clocks differ by an hour.

mod common;

use common::live::{Live, Side};
use common::renewals::{HOUR_SECONDS, count, none_vanishes, shifted};
use keyhaul_testkit::Version;
use keyhaul_testkit::diff::{DiffOptions, assert_equal_with};
use redis::cmd;

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

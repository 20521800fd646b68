//! kill -9 of keyhaul at any moment, the same command again: every write is applied exactly once.

mod common;

use std::time::Duration;

use common::live::{Live, PATIENCE, Side, at_full_length, sum, writes_by, writes_for};
use keyhaul_testkit::writes::{Exact, Writer};
use keyhaul_testkit::{Direction, Proxy, Version};

const KEYS: usize = 5000;

fn kills() -> u64 {
    if at_full_length() { 20 } else { 5 }
}

/// A number without pattern below `bound`, the same in every run.
fn scattered(number: u64, bound: u64) -> u64 {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % bound
}

/// Kills while changes are followed, each time after another amount of them.
#[track_caller]
fn killed_while_following(source: &Side, target: &Side, options: &[&str]) {
    source.fill_for(target, KEYS);
    let place = source.place();
    let method = if options.contains(&"psync") {
        "psync"
    } else {
        "scan"
    };
    let writes = writes_by(method, source, target);
    let writer = Writer::start(&place, source.version(), 111, &writes);
    let exact = Exact::start(&place, "kill", 4, Some(300));
    let live = Live::new(&source.uri(), &target.uri(), options);
    let mut resyncs = 0;
    for number in 0..kills() {
        let follower = live.start();
        follower.wait_following();
        let more = 1 + scattered(number, 1500);
        let status =
            follower.wait_status("more is applied", |status| sum(status, "commands") >= more);
        resyncs += sum(&status, "full_resyncs");
        follower.kill();
    }
    let follower = live.start();
    follower.wait_following();
    writer.wait_for(1000, PATIENCE);
    writer.stop();
    let books = exact.stop();
    follower.ends_equal(source, target);
    books.assert_held_by(&place);
    books.assert_held_by(&target.place());
    // Begun once, gone on with since.
    if options.contains(&"psync") {
        assert_eq!(resyncs, 1);
    }
}

#[test]
fn killed_again_and_again_while_following_by_psync() {
    let (source, target) = (
        Side::one(Version::REDIS_7_0),
        Side::one(Version::VALKEY_8_0),
    );
    killed_while_following(&source, &target, &["--method", "psync"]);
}

#[test]
fn killed_again_and_again_while_following_to_a_cluster() {
    let (source, target) = (
        Side::one(Version::REDIS_7_0),
        Side::many(Version::VALKEY_8_0, 2),
    );
    killed_while_following(&source, &target, &["--method", "psync"]);
}

#[test]
fn killed_again_and_again_while_following_by_scan() {
    let (source, target) = (
        Side::one(Version::REDIS_7_0),
        Side::one(Version::VALKEY_8_0),
    );
    killed_while_following(&source, &target, &["--method", "scan"]);
}

#[test]
fn killed_again_and_again_during_the_copy() {
    let (source, target) = (
        Side::one(Version::REDIS_7_0),
        Side::one(Version::VALKEY_8_0),
    );
    source.fill_for(&target, KEYS);
    let place = source.place();
    let writer = Writer::start(&place, source.version(), 112, &writes_for(&source, &target));
    let exact = Exact::start(&place, "copy", 4, Some(300));
    let proxy = Proxy::start(target.server());
    proxy.throttle(Direction::ToServer, Some(1_000_000));
    let live = Live::new(&source.uri(), &proxy.uri(), &["--method", "psync"]);
    for number in 0..kills() {
        let follower = live.start();
        follower.wait_copying();
        // Another moment each time: what is caught is not to depend on when a state is seen.
        std::thread::sleep(Duration::from_millis(scattered(number, 400)));
        follower.kill();
    }
    proxy.throttle(Direction::ToServer, None);
    let follower = live.start();
    follower.wait_following();
    writer.wait_for(1000, PATIENCE);
    writer.stop();
    let books = exact.stop();
    follower.ends_equal(&source, &target);
    books.assert_held_by(&target.place());
}

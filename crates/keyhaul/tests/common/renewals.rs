//! Short-lived keys that are renewed on the source while a slow copy goes on.

use keyhaul_testkit::writes::Renewer;
use keyhaul_testkit::{Direction, Proxy, Server, Version, wait_until};
use redis::cmd;

use super::live::{Live, PATIENCE, Side, is_past_copy};

/// Keys that are there before: what a slow copy is busy with.
const KEYS: usize = 20_000;
const RENEWED: usize = 200;
/// What the slow way to the target lets through, bytes a second: the copy alone would take half a minute.
const SLOWLY: u32 = 200_000;
/// An hour.
pub(crate) const HOUR_SECONDS: i64 = 3600;

fn renewals(source: &Side) -> i64 {
    let value: Option<i64> = cmd("GET")
        .arg("renewed:0")
        .query(&mut source.server().client())
        .expect("GET");
    value.unwrap_or(0)
}

/// A server whose clock is so much ahead.
pub(crate) fn shifted(version: Version, seconds: i64) -> Side {
    Side::built(Server::builder(version).clock_shift_seconds(seconds))
}

/// Renews keys through a copy that takes several of their lives, and while changes are followed.
#[track_caller]
pub(crate) fn none_vanishes(source: &Side, target: &Side, options: &[&str]) {
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

/// How many of these keys there are.
pub(crate) fn count(side: &Side, keys: &[String]) -> u64 {
    let mut exists = cmd("EXISTS");
    keys.iter().for_each(|key| {
        exists.arg(key);
    });
    exists.query(&mut side.server().client()).expect("EXISTS")
}

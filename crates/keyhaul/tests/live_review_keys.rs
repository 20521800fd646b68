//! Following by PSYNC: keys that the target held before, and keys that it cannot hold.

mod common;

use std::collections::BTreeSet;

use common::copying::{key_count, listed, run};
use common::live::{Follower, Live, PATIENCE, Side, sum};
use common::renewals::count;
use keyhaul_testkit::diff::{DiffOptions, assert_equal_with};
use keyhaul_testkit::{Version, require, wait_until};
use redis::{Value, cmd};

const FOREIGN: u32 = 30;

/// Two ends, where the target holds keys in two dbs that the source does not know.
fn ends_with_foreign_keys() -> (Side, Side) {
    let (source, target) = (
        Side::one(Version::REDIS_7_0),
        Side::one(Version::VALKEY_8_0),
    );
    source.fill_for(&target, 500);
    for n in 0..FOREIGN {
        run(target.server(), n % 2, &format!("SET foreign:{n} {n}"));
    }
    // And one that both have.
    run(target.server(), 0, "SET shared theirs");
    run(source.server(), 0, "SET shared ours");
    (source, target)
}

fn foreign_keys(target: &Side) -> u32 {
    let is_there = |n: &u32| {
        let mut exists = cmd("EXISTS");
        exists.arg(format!("foreign:{n}"));
        let held: u32 = exists
            .query(&mut target.server().connection(n % 2))
            .expect("EXISTS");
        held == 1
    };
    (0..FOREIGN).filter(is_there).count() as u32
}

/// What may be different beside the foreign keys.
fn but_for_foreign_ones() -> DiffOptions {
    DiffOptions {
        extra_allowed: Box::new(|_, key| key.starts_with(b"foreign:")),
        ..DiffOptions::as_a_replica()
    }
}

/// Ends it, and both sides hold the same, but for all of the foreign keys.
#[track_caller]
fn ends_beside_foreign_ones(follower: Follower, source: &Side, target: &Side) {
    follower.wait_applied(source, target);
    follower.stop();
    assert_equal_with(&source.view(), &target.view(), &but_for_foreign_ones());
    assert_eq!(foreign_keys(target), FOREIGN);
}

#[test]
fn emptying_the_source_leaves_what_the_target_held_before() {
    let (source, target) = ends_with_foreign_keys();
    let live = Live::new(&source.uri(), &target.uri(), &["--method", "psync"]);
    let follower = live.start();
    follower.wait_following();
    run(source.server(), 0, "SET later 1");
    follower.wait_applied(&source, &target);
    run(source.server(), 0, "FLUSHALL");
    wait_until("only theirs are left", PATIENCE, || {
        key_count(target.server()) == u64::from(FOREIGN)
    });
    run(source.server(), 0, "SET anew 1");
    ends_beside_foreign_ones(follower, &source, &target);
}

#[test]
fn what_is_deleted_between_two_runs_goes_and_foreign_keys_stay() {
    let (source, target) = ends_with_foreign_keys();
    let deleted = ["gone:1", "gone:2"].map(str::to_owned);
    let set = |keys: &[String]| {
        for key in keys {
            run(source.server(), 0, &format!("SET {key} 1"));
        }
    };
    let delete = |keys: &[String]| {
        for key in keys {
            run(source.server(), 0, &format!("DEL {key}"));
        }
    };
    set(&deleted);
    let live = Live::new(&source.uri(), &target.uri(), &["--method", "psync"]);
    let follower = live.start();
    follower.wait_following();
    ends_beside_foreign_ones(follower, &source, &target);
    // The stream tells of these.
    delete(&deleted);
    let follower = live.start();
    follower.wait_following();
    ends_beside_foreign_ones(follower, &source, &target);
    set(&deleted);
    let follower = live.start();
    follower.wait_following();
    ends_beside_foreign_ones(follower, &source, &target);
    // No stream tells of these: the source has another history then.
    delete(&deleted);
    run(source.server(), 0, "DEBUG CHANGE-REPL-ID");
    let follower = live.start();
    let status = follower.wait_status("all is copied again", |status| {
        sum(status, "full_resyncs") == 1
    });
    follower.wait_following();
    assert_eq!(sum(&status, "full_resyncs"), 1);
    ends_beside_foreign_ones(follower, &source, &target);
}

#[test]
fn what_is_deleted_before_a_restart_of_the_job_stays_and_is_told() {
    let (source, target) = ends_with_foreign_keys();
    let deleted = ["gone:1".to_owned()];
    run(source.server(), 0, "SET gone:1 1");
    let live = Live::new(&source.uri(), &target.uri(), &["--method", "psync"]);
    let follower = live.start();
    follower.wait_following();
    ends_beside_foreign_ones(follower, &source, &target);
    run(source.server(), 0, "DEL gone:1");
    // A new job: for it, this key is the target's own.
    let options = ["--method", "psync", "--restart"];
    let live = Live::new(&source.uri(), &target.uri(), &options);
    let follower = live.start();
    follower.wait_following();
    follower.wait_applied(&source, &target);
    let ran = follower.stop();
    let told = format!(
        "the target holds {} keys that the source does not have",
        FOREIGN + 1
    );
    assert!(
        ran.report["remarks"].to_string().contains(&told),
        "{ran:#?}"
    );
    assert_eq!(count(&target, &deleted), 1);
    assert_eq!(foreign_keys(&target), FOREIGN);
}

/// Ends a run; exactly these keys are listed and absent.
#[track_caller]
fn ends_without(follower: Follower, (source, target): (&Side, &Side), keys: &[&str]) {
    follower.wait_following();
    follower.wait_applied(source, target);
    follower.process.interrupt();
    let ran = follower.finish().exits_with(4);
    assert_eq!(ran.not_moved(), listed(0, keys), "{ran:#?}");
    let absent: BTreeSet<Vec<u8>> = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
    let others = DiffOptions {
        only: Box::new(move |_, key| !absent.contains(key)),
        ..DiffOptions::as_a_replica()
    };
    assert_equal_with(&source.view(), &target.view(), &others);
}

#[test]
fn a_key_that_cannot_be_held_is_listed_until_it_can() {
    if !require(Version::REDIS_8_2) {
        return;
    }
    let (source, target) = (Side::one(Version::REDIS_8_2), Side::one(Version::REDIS_7_0));
    let server = source.server();
    let make = |key: &str| {
        run(server, 0, &format!("HSET {key} f 1 g 2"));
        let expire = run(server, 0, &format!("HEXPIRE {key} 3600 FIELDS 1 f"));
        assert_eq!(expire, Value::Array(vec![Value::Int(1)]));
    };
    let mend = |key: &str| {
        let persisted = run(server, 0, &format!("HPERSIST {key} FIELDS 1 f"));
        assert_eq!(persisted, Value::Array(vec![Value::Int(1)]));
    };
    source.fill_for(&target, 200);
    make("before");
    let live = Live::new(&source.uri(), &target.uri(), &["--method", "psync"]);
    let follower = live.start();
    follower.wait_following();
    make("later");
    run(server, 0, "HINCRBY before g 1");
    ends_without(follower, (&source, &target), &["before", "later"]);
    // Nobody touched them since.
    ends_without(live.start(), (&source, &target), &["before", "later"]);
    let follower = live.start();
    follower.wait_following();
    mend("later");
    ends_without(follower, (&source, &target), &["before"]);
    // While nobody follows.
    mend("before");
    make("last");
    ends_without(live.start(), (&source, &target), &["last"]);
    run(server, 0, "DEL last");
    let follower = live.start();
    follower.wait_following();
    follower.ends_equal(&source, &target);
}

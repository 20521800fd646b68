//! Followed by what the source tells: rights, filters and names, clusters, large keys.

mod common;

use std::time::Duration;

use common::copying::{copy, key_count, run};
use common::rights::{LOGIN, assert_equal, assert_refused, dataset, server};
use common::tracking::{SOON, churn, get, start, stop, wait_for_marker, wait_until_following};
use keyhaul_testkit::diff::{self, DiffOptions, View};
use keyhaul_testkit::{Cluster, Server, Version, require, wait_until};

/// What a user needs on the source and on the target, beside the way in which changes are told.
const SOURCE: &str = "+select +scan +dump +pexpiretime +type +info";
const TARGET: &str = "+select +restore +unlink +pexpiretime +type +info";

#[track_caller]
fn follows_with(source: &Server, target: &Server) {
    dataset().fill(source);
    let mut running = start(&source.uri(), &target.uri(), &LOGIN);
    wait_until_following(&mut running);
    churn(&mut source.connection(0), 3, 500);
    churn(&mut source.connection(3), 4, 500);
    run(source, 0, "DEL s:1 s:2 n:1 n:2 h:1");
    stop(running);
    assert_equal(source, target);
}

#[test]
fn no_right_but_to_read_and_to_be_told() {
    if !require(Version::REDIS_7_0) || !require(Version::REDIS_6_2) {
        return;
    }
    let rights = format!("{SOURCE} +client|tracking");
    let source = server(Version::REDIS_7_0, &rights);
    follows_with(&source, &server(Version::REDIS_7_0, TARGET));
    let source = server(
        Version::REDIS_6_2,
        "+select +scan +dump +pttl +time +type +info +client|tracking",
    );
    let target = server(
        Version::REDIS_6_2,
        "+select +restore +unlink +pttl +time +type +info",
    );
    follows_with(&source, &target);
}

#[test]
fn by_notifications_where_tracking_is_refused() {
    if !require(Version::REDIS_7_0) {
        return;
    }
    let rights = format!("&* {SOURCE} +config|get +psubscribe +ping");
    for flags in ["KEA", "AK"] {
        let rules = common::rights::rules(&rights);
        let source = Server::builder(Version::REDIS_7_0)
            .acl_user("mover", &rules)
            .arg("notify-keyspace-events", flags)
            .start();
        let target = server(Version::REDIS_7_0, TARGET);
        follows_with(&source, &target);
        let mut running = start(&source.uri(), &target.uri(), &LOGIN);
        wait_until_following(&mut running);
        // No notification tells of it.
        run(&source, 3, "FLUSHDB");
        wait_until("the db is empty", SOON, || {
            common::copying::key_counts(&target).get(&3).is_none()
        });
        stop(running);
    }
}

#[test]
fn refused_where_nothing_is_told() {
    if !require(Version::REDIS_7_0) {
        return;
    }
    let target = server(Version::REDIS_7_0, TARGET);
    let live: Vec<&str> = ["--mode", "live", "--method", "scan"]
        .into_iter()
        .chain(LOGIN)
        .collect();
    for (rights, named) in [
        (SOURCE.to_owned(), "+client|tracking"),
        (
            format!("{SOURCE} +config|get +psubscribe"),
            "notify-keyspace-events is",
        ),
    ] {
        let source = server(Version::REDIS_7_0, &rights);
        dataset().fill(&source);
        let ran = copy(&source.uri(), &target.uri(), &live);
        assert!(ran.outcome.stderr.contains(named), "'{named}': {ran:#?}");
        assert_refused(ran, &target, "source", "tracking");
    }
}

#[test]
fn filters_and_other_names() {
    if !require(Version::REDIS_8_2) {
        return;
    }
    let (source, target) = (
        Server::start(Version::REDIS_8_2),
        Server::start(Version::REDIS_8_2),
    );
    run(&source, 0, "MSET old:1 a old:2 b kept:1 c");
    let options = [
        "--rename-prefix",
        "old:=new:",
        "--key-type",
        "string",
        "--key-exclude",
        "no:*",
        "--db-map",
        "1:0",
    ];
    let mut running = start(&source.uri(), &target.uri(), &options);
    wait_until_following(&mut running);
    run(&source, 0, "SET old:3 c");
    run(&source, 0, "SET no:1 x");
    run(&source, 0, "DEL old:1");
    wait_for_marker(&source, &target, "first");
    assert_eq!(get(&target, "new:3").as_deref(), Some("c"));
    assert_eq!((get(&target, "new:1"), get(&target, "no:1")), (None, None));
    // Of another type now, which does not go over.
    run(&source, 0, "DEL kept:1");
    run(&source, 0, "RPUSH kept:1 x");
    wait_until("it is deleted", SOON, || get(&target, "kept:1").is_none());
    // Two keys of one name on the target: the one of the lower db counts while it is there.
    run(&source, 1, "SET both one");
    wait_until("it comes over", SOON, || {
        get(&target, "both").as_deref() == Some("one")
    });
    run(&source, 0, "SET both zero");
    wait_until("the other one counts", SOON, || {
        get(&target, "both").as_deref() == Some("zero")
    });
    run(&source, 1, "SET both one-again");
    run(&source, 0, "SET new:2 rival");
    wait_until("it keeps its name", SOON, || {
        get(&target, "new:2").as_deref() == Some("rival")
    });
    run(&source, 0, "DEL both new:2");
    wait_until("they take turns", SOON, || {
        get(&target, "both").as_deref() == Some("one-again")
            && get(&target, "new:2").as_deref() == Some("b")
    });
    stop(running);
}

#[test]
fn from_a_cluster_that_moves_slots() {
    if !require(Version::REDIS_7_0) {
        return;
    }
    let source = Cluster::builder(Version::REDIS_7_0).primaries(3).start();
    let target = Server::start(Version::REDIS_7_0);
    common::rights::dataset_of_cluster().fill_cluster(&source);
    let mut running = start(&source.uri(), &target.uri(), &[]);
    wait_until_following(&mut running);
    let write = |value: u32| {
        for n in 0..300 {
            let key = format!("k:{n}");
            let mut client = source.connection_for(key.as_bytes());
            let set = redis::cmd("SET").arg(&key).arg(value).exec(&mut client);
            set.expect("the source takes it");
        }
    };
    write(1);
    let slots: Vec<u16> = source.slots_of(0).into_iter().take(200).collect();
    source.move_slots(0, 1, &slots);
    write(2);
    wait_until("the move is noticed", SOON, || {
        running
            .process
            .stderr_so_far()
            .contains("slots of the source moved")
            || get(&target, "k:299").as_deref() == Some("2")
    });
    stop(running);
    diff::assert_equal(&View::cluster(&source), &View::server(&target));
}

/// A key above the threshold that is written all the time is not copied at each write, and is right in the end.
#[test]
fn a_large_key_that_is_written() {
    if !require(Version::VALKEY_8_0) {
        return;
    }
    let (source, target) = (
        Server::start(Version::VALKEY_8_0),
        Server::start(Version::VALKEY_8_0),
    );
    let mut client = source.client();
    let fill = "for i=1,20000 do redis.call('HSET','big',i,string.rep('x',100)) end";
    redis::cmd("EVAL")
        .arg(fill)
        .arg(0)
        .exec(&mut client)
        .expect("is done");
    let mut running = start(&source.uri(), &target.uri(), &["--chunk-threshold", "1MB"]);
    wait_until_following(&mut running);
    for n in 0..40 {
        run(&source, 0, &format!("HSET big {n} other"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let differs = || {
        diff::keyspaces(
            &View::server(&source),
            &View::server(&target),
            &DiffOptions::default(),
        )
    };
    wait_until("it settles", SOON, || {
        key_count(&target) > 0 && differs().is_empty()
    });
    run(&source, 0, "DEL big");
    wait_until("it is deleted", SOON, || key_count(&target) == 0);
    stop(running);
}

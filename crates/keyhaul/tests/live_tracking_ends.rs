//! Followed by what the source tells: rights, filters and names.

mod common;

use common::copying::{copy, run};
use common::rights::{LOGIN, assert_equal, assert_refused, dataset, server};
use common::running::Running;
use common::tracking::{
    SOON, churn, get, remarked, start, stop, wait_for_marker, wait_until_following,
    wait_until_synced,
};
use keyhaul_testkit::{Server, Version, require, wait_until};

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

/// PSYNC is tried first, and `--until synced` ends by itself.
#[test]
fn without_being_asked_where_psync_is_refused() {
    if !require(Version::REDIS_7_0) {
        return;
    }
    let source = server(Version::REDIS_7_0, &format!("{SOURCE} +client|tracking"));
    let target = server(Version::REDIS_7_0, TARGET);
    dataset().fill(&source);
    let live = ["--mode", "live", "--until", "synced"];
    let options: Vec<&str> = live.into_iter().chain(LOGIN).collect();
    copy(&source.uri(), &target.uri(), &options).exits_with(0);
    assert_equal(&source, &target);
}

#[test]
fn only_what_changes_from_now_on() {
    if !require(Version::VALKEY_8_0) {
        return;
    }
    let (source, target) = (
        Server::start(Version::VALKEY_8_0),
        Server::start(Version::VALKEY_8_0),
    );
    run(&source, 0, "MSET old 1 both 1");
    let options = ["--mode", "liveonly", "--method", "scan"];
    let mut running = Running::start_planning(&source.uri(), &target.uri(), &options);
    wait_until_following(&mut running);
    run(&source, 0, "MSET new 2 both 2");
    wait_for_marker(&source, &target, "first");
    stop(running);
    let found = ["old", "both", "new"].map(|key| get(&target, key));
    assert_eq!(found, [None, Some("2".into()), Some("2".into())]);
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
        // It may not look for what only the target has.
        running.process.wait_for_output("full_resyncs=2", SOON);
        wait_until_synced(&mut running);
        remarked(&stop(running), "grant +scan +info");
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

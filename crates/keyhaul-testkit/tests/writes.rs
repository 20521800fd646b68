//! The random writes prove themselves: a real replica of the same version ends up with the same keyspace, and
//! every writing command of every version is called and succeeds.

use std::collections::BTreeSet;
use std::time::Duration;

use keyhaul_testkit::diff::{DiffOptions, View, assert_equal_with};
use keyhaul_testkit::writes::{
    Exact, NOT_CALLED, Place, Renewer, Stats, WriteOptions, Writer,
    wait_until_short_lived_are_gone, write_commands,
};
use keyhaul_testkit::{Cluster, Server, Version, require, wait_until};
use redis::cmd;

const PATIENCE: Duration = Duration::from_secs(30);
/// Enough that each form of each command is sent some times.
const COMMANDS: u64 = 25_000;
const LONG: &str = "KEYHAUL_TEST_LONG";

fn replica_of(primary: &Server) -> Server {
    let replica = Server::start(primary.version());
    cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg(primary.port())
        .exec(&mut replica.client())
        .expect("REPLICAOF");
    wait_until("the replica is linked", PATIENCE, || {
        replica.info("master_link_status") == "up"
    });
    replica
}

/// Stops nothing: the writes must have ended.
fn wait_for_replica(primary: &Server, replica: &Server) {
    wait_until("the replica is up to date", PATIENCE, || {
        primary.info("master_repl_offset") == replica.info("slave_repl_offset")
    });
}

fn assert_all_called(server: &Server, stats: &Stats) {
    let commands = write_commands(&server.endpoint());
    assert_eq!(commands.unknown(), BTreeSet::new(), "{}", server.version());
    let succeeded = |name: &str| {
        stats.iter().any(|(called, count)| {
            count.ok > 0 && (called == name || called.split('|').next() == Some(name))
        })
    };
    let failed: Vec<&String> = commands
        .writing
        .iter()
        .filter(|name| !NOT_CALLED.contains(&name.as_str()) && !succeeded(name))
        .collect();
    let counts: Vec<_> = failed.iter().map(|name| stats.get(*name)).collect();
    assert!(
        failed.is_empty(),
        "{}: {failed:?} {counts:?}",
        server.version()
    );
    let (sent, ok) = stats.values().fold((0, 0), |(sent, ok), count| {
        (sent + count.sent, ok + count.ok)
    });
    assert!(ok * 10 > sent * 7, "{}: {ok} of {sent}", server.version());
}

fn check(version: Version, seed: u64) {
    let primary = Server::builder(version)
        .tcp()
        .arg("repl-diskless-sync-delay", 0)
        .start();
    let replica = replica_of(&primary);
    let place = Place::server(&primary);
    let options = WriteOptions {
        threads: 2,
        dbs: vec![0, 3],
        flushes: true,
        ..WriteOptions::default()
    };
    let writer = Writer::start(&place, version, seed, &options);
    writer.wait_for(COMMANDS, PATIENCE);
    let stats = writer.stop();
    assert_all_called(&primary, &stats);
    wait_until_short_lived_are_gone(&place);
    wait_for_replica(&primary, &replica);
    assert_equal_with(
        &View::server(&primary),
        &View::server(&replica),
        &DiffOptions::as_a_replica(),
    );
    wait_for_replica(&primary, &replica);
}

fn check_if_there(version: Version, seed: u64) {
    if require(version) {
        check(version, seed);
    }
}

#[test]
fn a_replica_of_redis_7_0_agrees_and_all_is_called() {
    check(Version::REDIS_7_0, 7);
}

#[test]
fn a_replica_of_valkey_8_0_agrees_and_all_is_called() {
    check(Version::VALKEY_8_0, 8);
}

#[test]
fn a_replica_of_redis_8_2_agrees_and_all_is_called() {
    check_if_there(Version::REDIS_8_2, 9);
}

#[test]
fn a_replica_of_valkey_9_1_agrees_and_all_is_called() {
    check_if_there(Version::VALKEY_9_1, 10);
}

#[test]
fn replicas_of_every_version_agree_and_all_is_called() {
    if std::env::var_os(LONG).is_none() {
        return;
    }
    for version in Version::all_available() {
        check(version, 11);
    }
}

#[test]
fn a_cluster_takes_random_writes_also_while_slots_move() {
    let cluster = Cluster::start(Version::REDIS_7_0, 3);
    let place = Place::cluster(&cluster);
    let writer = Writer::start(&place, cluster.version(), 9, &WriteOptions::default());
    let exact = Exact::start(&place, "a", 4, Some(2000));
    writer.wait_for(3000, PATIENCE);
    let slots: Vec<u16> = cluster.slots_of(0).into_iter().take(200).collect();
    cluster.move_slots(0, 1, &slots);
    writer.wait_for(3000, PATIENCE);
    exact.wait_for(100, PATIENCE);
    exact.stop().assert_held_by(&place);
    let stats = writer.stop();
    let (sent, ok) = stats.values().fold((0, 0), |(sent, ok), count| {
        (sent + count.sent, ok + count.ok)
    });
    assert!(ok * 10 > sent * 7, "{ok} of {sent}: {stats:#?}");
    assert!(
        cluster
            .nodes()
            .iter()
            .all(|node| node.info("keyspace_hits") != "0")
    );
}

#[test]
fn exact_writes_survive_a_restart_and_tell_what_a_copy_lacks() {
    let mut server = Server::builder(Version::REDIS_7_0)
        .arg("appendonly", "yes")
        .arg("appendfsync", "always")
        .start();
    let place = Place::server(&server);
    let exact = Exact::start(&place, "b", 2, None);
    exact.wait_for(200, PATIENCE);
    server.stop();
    server.restart();
    exact.wait_for(400, PATIENCE);
    let books = exact.stop();
    books.assert_held_by(&place);
    books.assert_same(&place, &place);
    assert!(books.acknowledged() > 500);
    let empty = Server::start(Version::REDIS_7_0);
    let lacks = std::panic::catch_unwind(|| books.assert_held_by(&Place::server(&empty)));
    assert!(lacks.is_err());
}

#[test]
fn a_renewed_key_that_vanishes_is_told() {
    let server = Server::start(Version::REDIS_7_0);
    let place = Place::server(&server);
    let mut renewer = Renewer::start(&place, 40);
    let other = Server::start(Version::REDIS_7_0);
    let other_place = Place::server(&other);
    for key in renewer.keys().iter().skip(1) {
        cmd("SET")
            .arg(key)
            .arg(1)
            .exec(&mut other.client())
            .expect("SET");
    }
    renewer.watch(&place);
    renewer.watch(&other_place);
    assert_eq!(renewer.absent(&other_place), [renewer.keys()[0].clone()]);
    wait_until("the keys were renewed twice", PATIENCE, || {
        let value: Option<i64> = cmd("GET")
            .arg("renewed:0")
            .query(&mut server.client())
            .expect("GET");
        value.is_some_and(|value| value >= 4)
    });
    cmd("DEL")
        .arg("renewed:2")
        .exec(&mut other.client())
        .expect("DEL");
    wait_until("the watcher has looked", PATIENCE, || {
        let hits: u64 = other.info("keyspace_misses").parse().expect("a number");
        hits > 100
    });
    let missing = renewer.stop();
    let keys: BTreeSet<&str> = missing.iter().map(|missing| missing.key.as_str()).collect();
    assert_eq!(keys, BTreeSet::from(["renewed:2"]));
}

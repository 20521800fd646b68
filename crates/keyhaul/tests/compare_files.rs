//! RDB files on either side: a file proves a backup, and what it lacks is told.

mod common;

use std::collections::BTreeSet;

use common::compare::{Row, clone_keys, compare, row, rows, script, twin};
use common::copying::{key_count, noise, run};
use common::rdb::{DUMPS, Folder, fixture, saved, started_with, uri};
use keyhaul_testkit::{Cluster, Dataset, Server, Version, require};

fn filled(version: Version) -> Server {
    let server = Server::start(version);
    let dataset = Dataset {
        seed: 541,
        keys: 3 * (Dataset::EVERY_KIND + 200),
        dbs: vec![0, 2, 9],
        ..Dataset::default()
    };
    dataset.fill(&server);
    let mut link = server.connection(2);
    for (key, words) in MADE {
        script(&mut link, key, words);
    }
    server
}

const MADE: &[(&str, &str)] = &[
    ("value", "SET @ a"),
    ("expiry", "SET @ a PXAT 4102444800123"),
    ("list", "3000*RPUSH @ element:{}"),
    ("hash", "600*HSET @ f{} v{}"),
    ("type", "SET @ a"),
    ("gone", "SET @ a"),
    ("stream", "9*XADD @ 1-{} f v{}"),
];

/// Makes differences in db 2 of a server that holds what [`filled`] makes; tells them, as a target's.
fn change(server: &Server) -> BTreeSet<Row> {
    let mut link = server.connection(2);
    for (key, words) in [
        ("value", "SET @ b"),
        ("expiry", "PEXPIREAT @ 4102444800124"),
        ("list", "LSET @ 1500 element:1501"),
        ("hash", "HSET @ f599 v598"),
        ("type", "DEL @ | RPUSH @ a"),
        ("gone", "DEL @"),
        ("stream", "XSETID @ 7-7"),
        ("come", "SET @ a"),
    ] {
        script(&mut link, key, words);
    }
    run(server, 5, "SET elsewhere a");
    rows(&[
        "2*value",
        "2*expiry",
        "2*list",
        "2*hash",
        "2*type",
        "2-gone",
        "2*stream",
        "2+come",
        "5+elsewhere",
    ])
}

fn turned(found: &BTreeSet<Row>) -> BTreeSet<Row> {
    let turn = |(mark, db, key): &Row| {
        let mark = match mark {
            '-' => '+',
            '+' => '-',
            other => *other,
        };
        (mark, *db, key.clone())
    };
    found.iter().map(turn).collect()
}

#[test]
fn a_server_and_its_own_file() {
    for version in [Version::REDIS_7_0, Version::VALKEY_8_0] {
        let (folder, server) = (Folder::new(), filled(version));
        let file = uri(&saved(&server, &folder, "a.rdb"));
        let keys = key_count(&server);
        compare(&file, &server.uri(), &[]).equal(keys);
        compare(&server.uri(), &file, &[]).equal(keys);
        let options = ["--chunk-threshold", "10kb"];
        compare(&file, &server.uri(), &options).equal(keys);
        let differences = change(&server);
        compare(&file, &server.uri(), &[]).finds(&differences);
        compare(&file, &server.uri(), &options).finds(&differences);
        compare(&server.uri(), &file, &[]).finds(&turned(&differences));
        compare(&server.uri(), &file, &options).finds(&turned(&differences));
    }
}

#[test]
fn two_files() {
    let (folder, server) = (Folder::new(), filled(Version::REDIS_7_0));
    let one = uri(&saved(&server, &folder, "one.rdb"));
    let same = uri(&saved(&server, &folder, "same.rdb"));
    compare(&one, &same, &[]).equal(key_count(&server));
    let differences = change(&server);
    let other = uri(&saved(&server, &folder, "other.rdb"));
    compare(&one, &other, &[]).finds(&differences);
    compare(&other, &one, &[]).finds(&turned(&differences));
    // Existence, type and expiry are left.
    let left = ["2*value", "2*list", "2*hash", "2*stream"].map(row);
    let quick = differences.iter().filter(|one| !left.contains(one));
    compare(&one, &other, &["--quick"]).finds(&quick.cloned().collect());
}

#[test]
fn a_file_and_a_cluster() {
    let (folder, server) = (Folder::new(), Server::start(Version::VALKEY_8_0));
    let dataset = Dataset {
        seed: 542,
        small_only: true,
        ..Dataset::default()
    };
    dataset.fill(&server);
    script(&mut server.client(), "{x}table", "600*SADD @ m{}");
    let file = uri(&saved(&server, &folder, "a.rdb"));
    let cluster = Cluster::start(Version::VALKEY_8_0, 3);
    let target = common::compare::End::Many(cluster);
    let (mut from, mut to) = (common::compare::Reach::server(&server, 0), target.reach());
    clone_keys(&mut from, &mut to);
    compare(&file, &target.uri(), &[]).equal(key_count(&server));
    script(to.of(b"{x}table"), "{x}table", "SREM @ m5 | SADD @ m600");
    script(to.of(b"come"), "come", "SET @ 1");
    compare(&file, &target.uri(), &[]).finds(&rows(&["*{x}table", "+come"]));
    compare(&target.uri(), &file, &[]).finds(&rows(&["*{x}table", "-come"]));
}

/// Files of other versions than the server's.
#[test]
fn files_of_every_version() {
    let server_version = Version::VALKEY_8_0;
    for (name, version) in DUMPS {
        // Its own server has started with it.
        if !require(version) {
            continue;
        }
        let path = fixture(name);
        let file = path.to_str().expect("UTF-8");
        let truth = started_with(version, file);
        // Vector sets are compared elsewhere.
        let vectors = ["--key-exclude", "vectorset:*"];
        let ran = compare(&uri(file), &truth.uri(), &vectors).finds(&BTreeSet::new());
        assert!(ran.count("same") > 50, "{name}: {ran:#?}");
        if version == Version::REDIS_6_2 || version == Version::REDIS_7_0 {
            let newer = started_with(server_version, file);
            compare(&uri(file), &newer.uri(), &[]).equal(key_count(&newer));
            compare(&truth.uri(), &newer.uri(), &[]).equal(key_count(&newer));
        }
    }
}

#[test]
fn damaged_files_are_refused() {
    let (folder, server) = (Folder::new(), filled(Version::REDIS_7_0));
    let path = saved(&server, &folder, "a.rdb");
    let bytes = std::fs::read(&path).expect("is there");
    let mut damaged = bytes.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let cut = &bytes[..bytes.len() - 100];
    for (name, content) in [
        ("damaged.rdb", &damaged[..]),
        ("cut.rdb", cut),
        ("none.rdb", b"no file of a server"),
        ("empty.rdb", b""),
    ] {
        let file = uri(&folder.put(name, content));
        for (source, target) in [(&file, &server.uri()), (&server.uri(), &file)] {
            let ran = compare(source, target, &[]);
            assert_eq!(ran.outcome.code, Some(3), "{name}: {ran:#?}");
            let errors = ran.outcome.stderr.lines();
            let errors: Vec<_> = errors.filter(|line| line.starts_with("error: ")).collect();
            assert_eq!(errors.len(), 1, "{name}: {ran:#?}");
            assert!(errors[0].contains(name), "{name}: {ran:#?}");
        }
    }
    let absent = uri(&folder.path("absent.rdb"));
    for (source, target) in [(&absent, &server.uri()), (&server.uri(), &absent)] {
        let ran = compare(source, target, &[]);
        assert_eq!(ran.outcome.code, Some(3), "{ran:#?}");
        assert!(ran.outcome.stderr.contains("absent.rdb"), "{ran:#?}");
        assert!(!folder.names().contains(&"absent.rdb".into()), "{ran:#?}");
    }
}

/// A value above what comes in one piece, that differs in its last byte.
#[test]
fn a_large_value_in_a_file() {
    let (folder, source) = (Folder::new(), Server::start(Version::REDIS_7_0));
    let value = noise(3_000_000, 1);
    redis::cmd("SET")
        .arg("large")
        .arg(&value)
        .exec(&mut source.client())
        .expect("is taken");
    let target = twin(&source);
    let file = uri(&saved(&source, &folder, "a.rdb"));
    for options in [&[][..], &["--chunk-threshold", "1mb"]] {
        compare(&file, &target.uri(), options).equal(1);
        let last = 8 * value.len() - 1;
        let bit: u8 = redis::cmd("GETBIT")
            .arg("large")
            .arg(last)
            .query(&mut target.client())
            .expect("is answered");
        run(&target, 0, &format!("SETBIT large {last} {}", 1 - bit));
        compare(&file, &target.uri(), options).finds(&rows(&["*large"]));
        compare(&target.uri(), &file, options).finds(&rows(&["*large"]));
        run(&target, 0, &format!("SETBIT large {last} {bit}"));
    }
}

#[test]
fn filters_and_names_of_a_file() {
    let (folder, server) = (Folder::new(), Server::start(Version::REDIS_7_0));
    for (db, words) in [
        (0, "SET app:1 a"),
        (0, "SET app:2 b PXAT 4102444800123"),
        (0, "RPUSH app:list x y"),
        (0, "SET other:1 c"),
        (3, "SET app:1 d"),
    ] {
        run(&server, db, words);
    }
    let file = uri(&saved(&server, &folder, "a.rdb"));
    let target = Server::start(Version::VALKEY_8_0);
    for (db, words) in [
        (1, "SET shop:1 a"),
        (1, "SET shop:2 b PXAT 4102444800123"),
        (1, "RPUSH shop:list x z"),
        (1, "SET other:1 c"),
        (1, "SET shop:3 c"),
    ] {
        run(&target, db, words);
    }
    let names = [
        "--db",
        "0",
        "--db-map",
        "0:1",
        "--rename-prefix",
        "app:=shop:",
    ];
    let ran = compare(&file, &target.uri(), &names);
    ran.finds(&rows(&["*app:list", "1+shop:3"]));
    let options = [&names[..], &["--key-type", "list"]].concat();
    compare(&file, &target.uri(), &options).finds(&rows(&["*app:list"]));
    let options = [&names[..], &["--key-exclude", "app:*"]].concat();
    // What is left out on the source is not extra on the target by another name.
    compare(&file, &target.uri(), &options).equal(1);
    compare(&server.uri(), &target.uri(), &options).equal(1);
}

//! Which keys go over, under which name, into which db.

mod common;

use std::collections::HashMap;

use common::copying::{copy, copy_twice, key_counts, listed, run};
use keyhaul_testkit::diff::{self, DiffOptions, View};
use keyhaul_testkit::{Dataset, Server, Version};
use redis::cmd;

type Takes = fn(u32, &[u8], &str) -> bool;

/// (options, which keys go over by db, name and type)
const ROWS: &[(&[&str], Takes)] = &[
    (&["--key-pattern", "user:*"], |_, key, _| {
        key.starts_with(b"user:")
    }),
    (
        &["--key-pattern", "user:*", "--key-pattern", "cart:?"],
        |_, key, _| key.starts_with(b"user:") || (key.starts_with(b"cart:") && key.len() == 6),
    ),
    (&["--key-exclude", "user:*"], |_, key, _| {
        !key.starts_with(b"user:")
    }),
    (
        &[
            "--key-pattern",
            "user:*",
            "--key-exclude",
            "*[0-4]",
            "--key-exclude",
            "*9",
        ],
        |_, key, _| key.starts_with(b"user:") && (b'5'..=b'8').contains(&key[key.len() - 1]),
    ),
    // Redis' own rules: a class negated, an escape, bytes.
    (&["--key-pattern", "[^a-z]*"], |_, key, _| {
        key.first().is_some_and(|byte| !byte.is_ascii_lowercase())
    }),
    (&["--key-pattern", "odd\\*name"], |_, key, _| {
        key == b"odd*name"
    }),
    (&["--key-pattern", "cart:[1-3]"], |_, key, _| {
        [&b"cart:1"[..], b"cart:2", b"cart:3"].contains(&key)
    }),
    (&["--key-pattern", "no such key"], |_, _, _| false),
    (&["--key-type", "string"], |_, _, kind| kind == "string"),
    (&["--key-type", "list"], |_, _, kind| kind == "list"),
    (&["--key-type", "set"], |_, _, kind| kind == "set"),
    (&["--key-type", "zset"], |_, _, kind| kind == "zset"),
    (&["--key-type", "hash"], |_, _, kind| kind == "hash"),
    (&["--key-type", "stream"], |_, _, kind| kind == "stream"),
    (
        &["--key-type", "hash,zset", "--key-type", "LIST"],
        |_, _, kind| ["hash", "zset", "list"].contains(&kind),
    ),
    (
        &["--key-type", "string", "--key-pattern", "user:*"],
        |_, key, kind| kind == "string" && key.starts_with(b"user:"),
    ),
    (&["--db", "3"], |db, _, _| db == 3),
    (&["--db", "0,3"], |db, _, _| db == 0 || db == 3),
    (&["--db", "9"], |db, _, _| db == 9),
    (&["--db", "all", "--key-type", "set"], |_, _, kind| {
        kind == "set"
    }),
    (&["--db", "7", "--key-exclude", "user:*"], |db, key, _| {
        db == 7 && !key.starts_with(b"user:")
    }),
];

/// A source with keys of every kind, and with names to choose from, in dbs 0, 3 and 7.
fn source() -> Server {
    let server = Server::builder(Version::REDIS_7_0).tcp().start();
    let dataset = Dataset {
        seed: 21,
        keys: 900,
        dbs: vec![0, 3, 7],
        small_only: true,
        ..Dataset::default()
    };
    dataset.fill(&server);
    for db in [0, 3, 7] {
        for n in 0..20 {
            run(&server, db, &format!("SET user:{n} {db}"));
            run(&server, db, &format!("HSET cart:{n} item {db}"));
        }
        run(&server, db, "SET odd*name 1");
        run(&server, db, "SET oddxname 1");
    }
    server
}

fn types(server: &Server) -> HashMap<(u32, Vec<u8>), String> {
    let mut types = HashMap::new();
    for db in key_counts(server).into_keys() {
        let mut client = server.connection(db);
        let keys: Vec<Vec<u8>> = cmd("KEYS")
            .arg("*")
            .query(&mut client)
            .expect("is answered");
        for key in keys {
            let kind = cmd("TYPE")
                .arg(&key)
                .query(&mut client)
                .expect("is answered");
            types.insert((db, key), kind);
        }
    }
    types
}

#[test]
fn patterns_types_and_dbs() {
    let source = source();
    let target = Server::builder(Version::VALKEY_8_0).tcp().start();
    for (options, takes) in ROWS {
        run(&target, 0, "FLUSHALL");
        let types = types(&source);
        let expected = types
            .iter()
            .filter(|((db, key), kind)| takes(*db, key, kind))
            .count();
        let selection = DiffOptions {
            only: Box::new(move |db, key| takes(db, key, &types[&(db, key.to_vec())])),
            ..DiffOptions::default()
        };
        let ran = copy_twice(&source.uri(), &target.uri(), options, || {
            diff::assert_equal_with(&View::server(&source), &View::server(&target), &selection);
        });
        assert_eq!(
            ran.count("copied"),
            expected as u64,
            "{options:?}: {ran:#?}"
        );
        assert_eq!(
            ran.verified("same"),
            expected as u64,
            "{options:?}: {ran:#?}"
        );
    }
}

#[test]
fn dbs_in_uris_and_mappings() {
    let source = source();
    let target = Server::builder(Version::VALKEY_8_0).tcp().start();
    let unix = |server: &Server, db: &str| format!("{}?db={db}", socket_uri(server));
    let tcp = |server: &Server, db: &str| format!("{}/{db}", server.tcp_uri());
    for (source_uri, target_uri, options, from, to) in [
        (tcp(&source, "3"), target.uri(), vec![], 3, 3),
        (unix(&source, "3"), socket_uri(&target), vec![], 3, 3),
        (tcp(&source, "7"), tcp(&target, "2"), vec![], 7, 2),
        (unix(&source, "7"), unix(&target, "0"), vec![], 7, 0),
        (
            source.uri(),
            target.uri(),
            vec!["--db", "3", "--db-map", "3:5"],
            3,
            5,
        ),
        (source.uri(), tcp(&target, "5"), vec!["--db", "0"], 0, 5),
        (
            tcp(&source, "0"),
            target.uri(),
            vec!["--db-map", "0:15"],
            0,
            15,
        ),
    ] {
        run(&target, 0, "FLUSHALL");
        copy_twice(&source_uri, &target_uri, &options, || {
            let mapping = DiffOptions::default().mapping_db(from, to);
            diff::assert_equal_with(&View::server(&source), &View::server(&target), &mapping);
        });
    }
    run(&target, 0, "FLUSHALL");
    copy_twice(
        &source.uri(),
        &target.uri(),
        &["--db-map", "0:3,3:0", "--db-map", "7:8"],
        || {
            let mapping = DiffOptions {
                map_db: Box::new(|db| {
                    [(0, 3), (3, 0), (7, 8)]
                        .into_iter()
                        .find(|m| m.0 == db)
                        .unwrap()
                        .1
                }),
                ..DiffOptions::default()
            };
            diff::assert_equal_with(&View::server(&source), &View::server(&target), &mapping);
        },
    );
}

fn socket_uri(server: &Server) -> String {
    format!("unix://{}", server.socket().display())
}

#[test]
fn a_db_that_the_target_lacks_is_refused() {
    let source = source();
    let target = Server::builder(Version::VALKEY_8_0)
        .arg("databases", 4)
        .start();
    let ran = copy(&source.uri(), &target.uri(), &[])
        .exits_with(3)
        .says("--db-map");
    assert!(ran.outcome.stderr.contains("db 7"), "{ran:#?}");
    assert!(key_counts(&target).is_empty());
    copy_twice(&source.uri(), &target.uri(), &["--db-map", "7:1"], || {
        let mapping = DiffOptions {
            map_db: Box::new(|db| if db == 7 { 1 } else { db }),
            ..DiffOptions::default()
        };
        diff::assert_equal_with(&View::server(&source), &View::server(&target), &mapping);
    });
}

#[test]
fn renaming() {
    let source = source();
    let target = Server::start(Version::VALKEY_8_0);
    for (option, old, new) in [
        ("user::person:", "user:", "person:"),
        ("user:=a:b:user:", "user:", "a:b:user:"),
        ("=tenant:", "", "tenant:"),
        ("user:=", "user:", ""),
    ] {
        run(&target, 0, "FLUSHALL");
        let options = ["--rename-prefix", option];
        copy_twice(&source.uri(), &target.uri(), &options, || {
            let renaming = DiffOptions::default().renaming_prefix(old.as_bytes(), new.as_bytes());
            diff::assert_equal_with(&View::server(&source), &View::server(&target), &renaming);
        });
    }
}

#[test]
fn collisions_are_listed_and_overwrite_nothing() {
    let source = Server::start(Version::REDIS_7_0);
    let target = Server::start(Version::VALKEY_8_0);
    for (db, keys) in [
        (0, "a:1 a:2 b:2 both"),
        (4, "both only4 b:1"),
        (6, "both only6"),
    ] {
        keys.split(' ')
            .for_each(|key| drop(run(&source, db, &format!("SET {key} {key}-of-{db}"))));
    }
    // By a mapping: the lower db goes before.
    for _ in 0..2 {
        let ran = copy(&source.uri(), &target.uri(), &["--db-map", "4:0,6:0"]).exits_with(4);
        let expected: Vec<_> = listed(4, &["both"])
            .into_iter()
            .chain(listed(6, &["both"]))
            .collect();
        assert_eq!(
            ran.not_moved().into_iter().collect::<Vec<_>>(),
            expected,
            "{ran:#?}"
        );
        ran.reasons_say("becomes the same key as \"both\" of db");
        let all_in_0 = DiffOptions {
            map_db: Box::new(|_| 0),
            only: Box::new(|db, key| db == 0 || key != b"both"),
            ..DiffOptions::default()
        };
        diff::assert_equal_with(&View::server(&source), &View::server(&target), &all_in_0);
    }
    // By a renaming: a key that keeps its name goes before.
    run(&target, 0, "FLUSHALL");
    for _ in 0..2 {
        let options = ["--db", "0", "--rename-prefix", "a::b:"];
        let ran = copy(&source.uri(), &target.uri(), &options).exits_with(4);
        assert_eq!(ran.not_moved(), listed(0, &["a:2"]), "{ran:#?}");
        let mut renaming = DiffOptions::default().renaming_prefix(b"a:", b"b:");
        renaming.only = Box::new(|db, key| db == 0 && key != b"a:2");
        diff::assert_equal_with(&View::server(&source), &View::server(&target), &renaming);
    }
    // By both together.
    run(&target, 0, "FLUSHALL");
    let options = ["--db", "0,4", "--db-map", "4:0", "--rename-prefix", "a::b:"];
    let ran = copy(&source.uri(), &target.uri(), &options).exits_with(4);
    let mut expected = listed(0, &["a:2"]);
    expected.extend(listed(4, &["both", "b:1"]));
    assert_eq!(ran.not_moved(), expected, "{ran:#?}");
    assert_eq!(ran.count("not_moved"), 3, "{ran:#?}");
    assert_eq!(key_counts(&target), [(0, 4)].into());
}

#[test]
fn a_key_that_is_not_copied_collides_with_none() {
    let source = Server::start(Version::REDIS_7_0);
    let target = Server::start(Version::VALKEY_8_0);
    run(&source, 0, "SET one a-string");
    run(&source, 4, "HSET one a hash");
    let options = ["--db-map", "4:0", "--key-type", "hash"];
    copy_twice(&source.uri(), &target.uri(), &options, || {
        let mapping = DiffOptions::default().mapping_db(4, 0);
        diff::assert_equal_with(&View::server(&source), &View::server(&target), &mapping);
    });
    run(&target, 0, "FLUSHALL");
    let options = ["--db-map", "4:0", "--db", "4"];
    copy_twice(&source.uri(), &target.uri(), &options, || {
        let mapping = DiffOptions::default().mapping_db(4, 0);
        diff::assert_equal_with(&View::server(&source), &View::server(&target), &mapping);
    });
}

//! The diff finds each kind of difference that is planted, and none where there is none.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests too"
)]

use keyhaul_testkit::diff::{self, DiffOptions, Difference, DifferenceKind, View};
use keyhaul_testkit::{Cluster, Dataset, Server, Version, require};
use redis::cmd;

/// Copies a db by DUMP and RESTORE, with the server's own notion of expiry.
fn copy_db(source: &Server, target: &Server, db: u32) {
    let (mut source, mut target) = (source.connection(db), target.connection(db));
    let keys: Vec<Vec<u8>> = cmd("KEYS").arg("*").query(&mut source).unwrap();
    for key in keys {
        let payload: Vec<u8> = cmd("DUMP").arg(&key).query(&mut source).unwrap();
        let expire_at_ms: i64 = cmd("PEXPIRETIME").arg(&key).query(&mut source).unwrap();
        let mut restore = cmd("RESTORE");
        restore
            .arg(&key)
            .arg(expire_at_ms.max(0))
            .arg(payload)
            .arg("ABSTTL");
        restore.exec(&mut target).unwrap();
    }
}

fn differences(source: &Server, target: &Server) -> Vec<Difference> {
    diff::keyspaces(
        &View::server(source),
        &View::server(target),
        &DiffOptions::default(),
    )
}

fn run(server: &Server, command: &str) {
    let mut words = command.split(' ');
    let mut packed = cmd(words.next().unwrap());
    packed.arg(words.collect::<Vec<_>>());
    let reply: redis::RedisResult<redis::Value> = packed.query(&mut server.client());
    reply.unwrap_or_else(|error| panic!("{command}: {error}"));
}

/// One key of each type, made the same on both sides.
const SETUP: [&str; 15] = [
    "SET string one",
    "SET expiring v PXAT 4102444800001",
    "RPUSH list a b c",
    "SADD set a b c",
    "HSET hash a 1 b 2",
    "ZADD zset 1 a 2 b",
    "ZADD skiplist 0.1 a",
    "XADD stream 1-1 a b",
    "XADD stream 2-1 a b",
    "XGROUP CREATE stream g 0",
    "XREADGROUP GROUP g alice COUNT 1 STREAMS stream >",
    "XCLAIM stream g alice 0 1-1 TIME 1000 RETRYCOUNT 3",
    "XADD trimmed 1-1 a b",
    "XGROUP CREATE trimmed g 0",
    "SET \u{e9} v",
];

#[test]
fn each_planted_difference_is_found_and_nothing_else() {
    use DifferenceKind::{Expiry, Extra, Missing, Type, Value};
    let rows: &[(&[&str], &str, DifferenceKind)] = &[
        (&["DEL string"], "string", Missing),
        (&["SET new v"], "new", Extra),
        (&["DEL string", "RPUSH string one"], "string", Type),
        (&["SET string two"], "string", Value),
        (&["APPEND string +"], "string", Value),
        (&["PERSIST expiring"], "expiring", Expiry),
        (&["PEXPIREAT expiring 4102444800002"], "expiring", Expiry),
        (&["PEXPIREAT string 4102444800002"], "string", Expiry),
        (&["LSET list 1 B"], "list", Value),
        (&["RPUSH list d"], "list", Value),
        (&["LMOVE list list LEFT RIGHT"], "list", Value),
        (&["SREM set a", "SADD set A"], "set", Value),
        (&["HSET hash a 2"], "hash", Value),
        (&["HDEL hash a"], "hash", Value),
        (&["ZADD zset 1.5 a"], "zset", Value),
        (&["ZADD zset 3 c"], "zset", Value),
        (&["ZADD skiplist 0.10000000000000002 a"], "skiplist", Value),
        (&["XADD stream 3-1 a b"], "stream", Value),
        (&["XDEL stream 1-1"], "stream", Value),
        (&["XSETID stream 9-9"], "stream", Value),
        (
            &["XSETID stream 2-1 ENTRIESADDED 7 MAXDELETEDID 0-0"],
            "stream",
            Value,
        ),
        (
            &["XSETID stream 2-1 ENTRIESADDED 2 MAXDELETEDID 0-1"],
            "stream",
            Value,
        ),
        (&["XGROUP CREATE stream g2 0"], "stream", Value),
        (
            &["XGROUP SETID stream g 2-1 ENTRIESREAD 1"],
            "stream",
            Value,
        ),
        (
            &["XGROUP SETID stream g 1-1 ENTRIESREAD 2"],
            "stream",
            Value,
        ),
        (&["XGROUP CREATECONSUMER stream g bob"], "stream", Value),
        (&["XACK stream g 1-1"], "stream", Value),
        (
            &["XCLAIM stream g alice 0 1-1 TIME 1001 RETRYCOUNT 3"],
            "stream",
            Value,
        ),
        (
            &["XCLAIM stream g alice 0 1-1 TIME 1000 RETRYCOUNT 4"],
            "stream",
            Value,
        ),
        (
            &[
                "XGROUP CREATECONSUMER stream g bob",
                "XCLAIM stream g bob 0 1-1 TIME 1000",
            ],
            "stream",
            Value,
        ),
        (
            &["XDEL trimmed 1-1", "XADD trimmed 1-2 a b"],
            "trimmed",
            Value,
        ),
    ];
    for version in Version::DEFAULT {
        let (source, target) = (Server::start(version), Server::start(version));
        SETUP.iter().for_each(|command| run(&source, command));
        for (plants, key, kind) in rows {
            run(&target, "FLUSHALL");
            copy_db(&source, &target, 0);
            assert_eq!(differences(&source, &target), [], "before {plants:?}");
            plants.iter().for_each(|command| run(&target, command));
            let found = differences(&source, &target);
            let names: Vec<(&[u8], DifferenceKind)> = found
                .iter()
                .map(|difference| (&difference.key[..], difference.kind))
                .collect();
            assert_eq!(names, [(key.as_bytes(), *kind)], "{plants:?}: {found:?}");
            assert_ne!(found[0].expected, found[0].got, "{plants:?}");
        }
    }
}

#[test]
fn expiring_fields_are_compared() {
    for version in [Version::REDIS_8_0, Version::VALKEY_9_1] {
        if !require(version) {
            continue;
        }
        let (source, target) = (Server::start(version), Server::start(version));
        for server in [&source, &target] {
            run(server, "HSET hash a 1 b 2");
            run(server, "HPEXPIREAT hash 4102444800001 FIELDS 1 a");
        }
        assert_eq!(differences(&source, &target), []);
        run(&target, "HPEXPIREAT hash 4102444800002 FIELDS 1 a");
        let found = differences(&source, &target);
        assert_eq!(found[0].kind, DifferenceKind::Value);
        assert!(
            found[0].expected.contains("expires at 4102444800001"),
            "{}",
            found[0]
        );
        let tolerant = DiffOptions {
            ignore_expiry_tolerance_ms: 1,
            ..DiffOptions::default()
        };
        assert_eq!(
            diff::keyspaces(&View::server(&source), &View::server(&target), &tolerant),
            []
        );
        run(&target, "HPERSIST hash FIELDS 1 a");
        assert_eq!(differences(&source, &target).len(), 1);
    }
}

#[test]
fn whole_data_sets_copied_by_payload_are_equal() {
    let source = Server::start(Version::REDIS_7_0);
    let target = Server::start(Version::VALKEY_8_0);
    Dataset {
        keys: 1000,
        dbs: vec![0, 9],
        ..Dataset::default()
    }
    .fill(&source);
    copy_db(&source, &target, 0);
    copy_db(&source, &target, 9);
    diff::assert_equal(&View::server(&source), &View::server(&target));

    cmd("DEL").arg("").exec(&mut target.connection(9)).unwrap();
    let found = differences(&source, &target);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].db, &found[0].key[..], found[0].kind),
        (9, &b""[..], DifferenceKind::Missing)
    );
}

#[test]
fn relative_expiry_of_old_versions_is_compared_within_a_few_milliseconds() {
    if !require(Version::REDIS_6_0) {
        return;
    }
    let (source, target) = (
        Server::start(Version::REDIS_6_0),
        Server::start(Version::REDIS_7_0),
    );
    for server in [&source, &target] {
        run(server, "SET key v");
        run(server, "PEXPIREAT key 4102444800001");
    }
    assert_eq!(differences(&source, &target), []);
    run(&target, "PEXPIREAT key 4102444810001");
    assert_eq!(
        differences(&source, &target)[0].kind,
        DifferenceKind::Expiry
    );
}

#[test]
fn dbs_and_names_are_mapped() {
    let (source, target) = (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::REDIS_7_0),
    );
    let set = |server: &Server, db: u32, key: &str| {
        cmd("SET")
            .arg(key)
            .arg("v")
            .exec(&mut server.connection(db))
            .unwrap();
    };
    set(&source, 2, "old:1");
    set(&source, 2, "other");
    set(&source, 4, "left out");
    set(&target, 7, "new:1");
    set(&target, 7, "other");
    let options = || {
        DiffOptions::default()
            .mapping_db(2, 7)
            .renaming_prefix(b"old:", b"new:")
    };
    let (source, target) = (View::server(&source), View::server(&target));
    assert_eq!(diff::keyspaces(&source, &target, &options()), []);
    let only = DiffOptions {
        only: Box::new(|db, key| db == 2 && key != b"other"),
        ..options()
    };
    let found = diff::keyspaces(&source, &target, &only);
    assert_eq!((found.len(), found[0].kind), (1, DifferenceKind::Extra));
    let allowing = DiffOptions {
        only: Box::new(|db, key| db == 2 && key != b"other"),
        extra_allowed: Box::new(|db, key| db == 7 && key == b"other"),
        ..options()
    };
    assert_eq!(diff::keyspaces(&source, &target, &allowing), []);
}

#[test]
fn one_db_is_compared_with_the_same_db() {
    let (source, target) = (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::REDIS_7_0),
    );
    run(&source, "SET a 1");
    assert_eq!(differences(&source, &target).len(), 1);
    diff::assert_equal(&View::db(&source, 1), &View::db(&target, 1));
}

#[test]
fn differences_in_a_cluster_are_found_on_every_node() {
    let cluster = Cluster::start(Version::VALKEY_8_0, 3);
    let server = Server::start(Version::VALKEY_8_0);
    let dataset = Dataset {
        keys: 300,
        small_only: true,
        ..Dataset::default()
    };
    dataset.fill(&server);
    dataset.fill_cluster(&cluster);
    for key in ["a", "b", "c", "d"] {
        cmd("SET")
            .arg(key)
            .arg("v")
            .exec(&mut cluster.connection_for(key.as_bytes()))
            .unwrap();
    }
    let found = diff::keyspaces(
        &View::server(&server),
        &View::cluster(&cluster),
        &DiffOptions::default(),
    );
    let names: Vec<&[u8]> = found.iter().map(|difference| &difference.key[..]).collect();
    assert_eq!(names, [b"a", b"b", b"c", b"d"]);
    let found = diff::keyspaces(
        &View::cluster(&cluster),
        &View::server(&server),
        &DiffOptions::default(),
    );
    assert!(
        found
            .iter()
            .all(|difference| difference.kind == DifferenceKind::Missing)
    );
    assert_eq!(found.len(), 4);
}

#[test]
#[should_panic(expected = "22 differences, the first:\nMissing db 0 key \"\\xff0\"")]
fn assertions_print_what_differs() {
    let (source, target) = (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::REDIS_7_0),
    );
    for index in 0..22 {
        let key = [b"\xff", index.to_string().as_bytes()].concat();
        cmd("SET")
            .arg(key)
            .arg("v")
            .exec(&mut source.client())
            .unwrap();
    }
    diff::assert_equal(&View::server(&source), &View::server(&target));
}

#[test]
fn vector_sets_are_compared_with_their_vectors_and_attributes() {
    let version = Version::REDIS_8_0;
    if !require(version) {
        return;
    }
    let (source, target) = (Server::start(version), Server::start(version));
    for server in [&source, &target] {
        run(server, "VADD vectors VALUES 2 0.5 0.25 a");
        run(server, "VADD other VALUES 2 0.5 0.25 a");
    }
    assert!(differences(&source, &target).is_empty());
    run(&target, "VSETATTR vectors a {\"n\":1}");
    run(&target, "VADD other VALUES 2 0.5 0.75 a");
    let found = differences(&source, &target);
    let kinds: Vec<DifferenceKind> = found.iter().map(|difference| difference.kind).collect();
    assert_eq!(kinds, [DifferenceKind::Value; 2], "{found:?}");
}

#[test]
fn consumers_without_entries_can_be_left_out() {
    let (source, target) = (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::REDIS_7_0),
    );
    for server in [&source, &target] {
        run(server, "XADD s 1-1 f v");
        run(server, "XGROUP CREATE s g 0");
    }
    let as_a_replica = || {
        let options = DiffOptions::as_a_replica();
        diff::keyspaces(&View::server(&source), &View::server(&target), &options)
    };
    run(&source, "XGROUP CREATECONSUMER s g c");
    assert_eq!(differences(&source, &target).len(), 1);
    assert!(as_a_replica().is_empty());
    run(&source, "XREADGROUP GROUP g c STREAMS s >");
    assert_eq!(as_a_replica().len(), 1);
}

#[test]
fn functions_are_listed_with_their_code() {
    let server = Server::start(Version::REDIS_7_0);
    let code = "#!lua name=lib\nredis.register_function('f', function() return 1 end)";
    cmd("FUNCTION")
        .arg("LOAD")
        .arg(code)
        .exec(&mut server.client())
        .unwrap();
    let functions = diff::functions(&server);
    assert_eq!(
        functions.into_iter().collect::<Vec<_>>(),
        [("lib".to_string(), code.to_string())]
    );
    if require(Version::REDIS_6_0) {
        assert!(diff::functions(&Server::start(Version::REDIS_6_0)).is_empty());
    }
}

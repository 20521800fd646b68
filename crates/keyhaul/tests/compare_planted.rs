//! One difference of every kind, as small as it can be, in every type and encoding, beside twins without: all
//! are found, and nothing else, by whole values and by elements, on servers and clusters.

mod common;

use std::collections::BTreeSet;

use common::compare::{Compared, End, Row, clone_keys, compare, rows, script, truth};
use keyhaul_testkit::diff::{self, DiffOptions};
use keyhaul_testkit::{Cluster, Dataset, Server, Version, require};

/// What the key is called, the commands that make it on both sides, and those that change it on the target.
type Plant = (&'static str, &'static str, &'static str);

const PLANTS: &[Plant] = &[
    ("string, int", "SET @ 1000001", "SET @ 1000000"),
    ("string, sign", "SET @ 12", "SET @ -12"),
    ("string, short", "SET @ abcdefgh", "SETBIT @ 7 0"),
    ("string, raw", "SETRANGE @ 99 a", "SETBIT @ 400 1"),
    (
        "string, compressed",
        "SETRANGE @ 9999 a",
        "SETBIT @ 79999 0",
    ),
    ("string, long", "SETRANGE @ 300000 a", "SETBIT @ 1234567 1"),
    ("string, longer by one", "SET @ ab", "APPEND @ x"),
    ("string, digits", "SET @ 7", "SET @ 07"),
    ("string, java", "SET @ Aa", "SET @ BB"),
    ("string, java long", "SET @ user:Aa", "SET @ user:BB"),
    ("list, one element", "5*RPUSH @ e{}", "LSET @ 2 f2"),
    ("list, order", "RPUSH @ a b c", "LSET @ 0 b | LSET @ 1 a"),
    ("list, repeats", "RPUSH @ a a b", "LSET @ 1 b"),
    ("list, borders", "RPUSH @ ab c", "LSET @ 0 a | LSET @ 1 bc"),
    (
        "list, ints",
        "RPUSH @ 127 128",
        "LSET @ 0 128 | LSET @ 1 127",
    ),
    ("list, digits", "RPUSH @ 7 8", "LSET @ 0 07"),
    ("list, shorter", "5*RPUSH @ e{}", "RPOP @"),
    ("list, java", "RPUSH @ Aa x", "LSET @ 0 BB"),
    (
        "list, many nodes",
        "3000*RPUSH @ element:{}",
        "LSET @ 1500 element:1501",
    ),
    (
        "list, order in many nodes",
        "3000*RPUSH @ element:{}",
        "LSET @ 100 element:2900 | LSET @ 2900 element:100",
    ),
    (
        "list, large element",
        "RPUSH @ a {20k} b",
        "LSET @ 1 {20k}x",
    ),
    ("set, 16 bits", "SADD @ 1 2 3", "SREM @ 3 | SADD @ 4"),
    ("set, 32 bits", "SADD @ 100000 2", "SREM @ 2 | SADD @ 3"),
    (
        "set, 64 bits",
        "SADD @ 9223372036854775807 2",
        "SREM @ 2 | SADD @ 3",
    ),
    ("set, sum", "SADD @ 1 4", "DEL @ | SADD @ 2 3"),
    ("set, texts", "5*SADD @ m{}", "SREM @ m3 | SADD @ n3"),
    ("set, java", "SADD @ x Aa", "SREM @ Aa | SADD @ BB"),
    ("set, table", "600*SADD @ m{}", "SREM @ m333 | SADD @ n333"),
    ("set, one more", "600*SADD @ m{}", "SADD @ m600"),
    ("set, one less", "600*SADD @ m{}", "SREM @ m0"),
    ("hash, value", "5*HSET @ f{} v{}", "HSET @ f3 v4"),
    ("hash, name", "5*HSET @ f{} v{}", "HDEL @ f3 | HSET @ g3 v3"),
    ("hash, swapped values", "HSET @ a 1 b 2", "HSET @ a 2 b 1"),
    ("hash, swapped roles", "HSET @ a b", "DEL @ | HSET @ b a"),
    ("hash, borders", "HSET @ ab c", "DEL @ | HSET @ a bc"),
    ("hash, java", "HSET @ Aa BB", "DEL @ | HSET @ BB Aa"),
    ("hash, table", "600*HSET @ f{} v{}", "HSET @ f599 v598"),
    (
        "hash, swapped in a table",
        "600*HSET @ f{} v{}",
        "HSET @ f1 v2 f2 v1",
    ),
    ("hash, one more", "600*HSET @ f{} v{}", "HSET @ f600 v600"),
    (
        "zset, last bit",
        "ZADD @ 0.1 a 7 b",
        "ZADD @ 0.10000000000000002 a",
    ),
    (
        "zset, whole",
        "ZADD @ 9007199254740992 a",
        "ZADD @ 9007199254740994 a",
    ),
    ("zset, sign", "ZADD @ 5e-324 a", "ZADD @ -5e-324 a"),
    (
        "zset, infinite",
        "ZADD @ inf a",
        "ZADD @ 1.7976931348623157e308 a",
    ),
    ("zset, swapped scores", "ZADD @ 1 a 2 b", "ZADD @ 2 a 1 b"),
    ("zset, member", "ZADD @ 1 a 2 b", "ZREM @ b | ZADD @ 2 c"),
    ("zset, java", "ZADD @ 1 Aa", "DEL @ | ZADD @ 1 BB"),
    (
        "zset, many",
        "500*ZADD @ {} m{}",
        "ZADD @ 250.00000000000003 m250",
    ),
    (
        "zset, many members",
        "500*ZADD @ 7 m{}",
        "ZREM @ m250 | ZADD @ 7 n250",
    ),
    (
        "stream, value",
        "3*XADD @ 1-{} f v{}",
        "DEL @ | XADD @ 1-0 f v0 | XADD @ 1-1 f w1 | XADD @ 1-2 f v2",
    ),
    (
        "stream, name",
        "3*XADD @ 1-{} f v{}",
        "DEL @ | XADD @ 1-0 f v0 | XADD @ 1-1 g v1 | XADD @ 1-2 f v2",
    ),
    (
        "stream, id",
        "XADD @ 1-1 f v | XADD @ 1-5 f v",
        "DEL @ | XADD @ 1-2 f v | XADD @ 1-5 f v",
    ),
    (
        "stream, borders",
        "XADD @ 1-1 a b c d",
        "DEL @ | XADD @ 1-1 a bc c d",
    ),
    (
        "stream, one field more",
        "XADD @ 1-1 a b",
        "DEL @ | XADD @ 1-1 a b c d",
    ),
    ("stream, last id", "3*XADD @ 1-{} f v{}", "XSETID @ 1-3"),
    (
        "stream, entries added",
        "3*XADD @ 1-{} f v{}",
        "XSETID @ 1-2 ENTRIESADDED 4",
    ),
    (
        "stream, deleted id",
        "3*XADD @ 1-{} f v{}",
        "XSETID @ 1-2 ENTRIESADDED 3 MAXDELETEDID 0-5",
    ),
    ("stream, deleted entry", "3*XADD @ 1-{} f v{}", "XDEL @ 1-1"),
    (
        "stream, many nodes",
        "300*XADD @ 1-{} f v{}",
        "XDEL @ 1-150",
    ),
    (
        "stream, group",
        "XADD @ 1-1 f v | XGROUP CREATE @ g 0",
        "XGROUP DESTROY @ g",
    ),
    (
        "stream, name of a group",
        "XADD @ 1-1 f v | XGROUP CREATE @ g 0",
        "XGROUP DESTROY @ g | XGROUP CREATE @ h 0",
    ),
    (
        "stream, id of a group",
        "3*XADD @ 1-{} f v{} | XGROUP CREATE @ g 1-1 ENTRIESREAD 2",
        "XGROUP SETID @ g 1-2 ENTRIESREAD 2",
    ),
    (
        "stream, entries read",
        "3*XADD @ 1-{} f v{} | XGROUP CREATE @ g 1-1 ENTRIESREAD 2",
        "XGROUP SETID @ g 1-1 ENTRIESREAD 1",
    ),
    (
        "stream, consumer",
        "XADD @ 1-1 f v | XGROUP CREATE @ g 0 | XGROUP CREATECONSUMER @ g c",
        "XGROUP DELCONSUMER @ g c",
    ),
    ("stream, acknowledged", PENDING, "XACK @ g 1-0"),
    (
        "stream, owner",
        PENDING,
        "XCLAIM @ g d 0 1-0 TIME 1650000000123 RETRYCOUNT 3 JUSTID",
    ),
    (
        "stream, delivered at",
        PENDING,
        "XCLAIM @ g c 0 1-0 TIME 1650000000124 RETRYCOUNT 3 JUSTID",
    ),
    (
        "stream, delivered times",
        PENDING,
        "XCLAIM @ g c 0 1-0 TIME 1650000000123 RETRYCOUNT 4 JUSTID",
    ),
    ("hyperloglog", "50*PFADD @ e{}", "100*PFADD @ f{}"),
    ("bitmap", "SETBIT @ 100000 1", "SETBIT @ 99999 1"),
    (
        "expires 1 ms later",
        "SET @ v PXAT 4102444800123",
        "PEXPIREAT @ 4102444800124",
    ),
    (
        "expires 1 ms sooner",
        "HSET @ f v | PEXPIREAT @ 4102444800123",
        "PEXPIREAT @ 4102444800122",
    ),
    (
        "expires in a table",
        "600*SADD @ m{} | PEXPIREAT @ 4102444800123",
        "PEXPIREAT @ 4102444800124",
    ),
    ("expires no more", "SET @ v PXAT 4102444800123", "PERSIST @"),
    ("expires now", "RPUSH @ a", "PEXPIREAT @ 4102444800123"),
    ("type, string or list", "SET @ a", "DEL @ | RPUSH @ a"),
    ("type, set or list", "SADD @ a", "DEL @ | RPUSH @ a"),
    ("type, hash or zset", "HSET @ a 1", "DEL @ | ZADD @ 1 a"),
    (
        "type, stream or hash",
        "XADD @ 1-1 a 1",
        "DEL @ | HSET @ a 1",
    ),
    ("-missing", "SET @ v", "DEL @"),
    ("-missing table", "600*SADD @ m{}", "DEL @"),
    ("+extra", "", "SET @ v"),
    ("+extra table", "", "600*HSET @ f{} v{}"),
    ("-user:Aa", "SET @ v", "DEL @"),
    ("+user:BB", "", "SET @ v"),
];

const PENDING: &str = "3*XADD @ 1-{} f v{} | XGROUP CREATE @ g 0 | XGROUP CREATECONSUMER @ g d \
    | XREADGROUP GROUP g c COUNT 2 STREAMS @ > \
    | XCLAIM @ g c 0 1-0 TIME 1650000000123 RETRYCOUNT 3 JUSTID";

const FIELD_PLANTS: &[Plant] = &[
    (
        "field expires 1 ms later",
        "5*HSET @ f{} v{} | HPEXPIREAT @ 4102444800123 FIELDS 1 f2",
        "HPEXPIREAT @ 4102444800124 FIELDS 1 f2",
    ),
    (
        "field expires no more",
        "5*HSET @ f{} v{} | HPEXPIREAT @ 4102444800123 FIELDS 1 f2",
        "HPERSIST @ FIELDS 1 f2",
    ),
    (
        "field expires now",
        "5*HSET @ f{} v{}",
        "HPEXPIREAT @ 4102444800123 FIELDS 1 f2",
    ),
    (
        "another field expires",
        "600*HSET @ f{} v{} | HPEXPIREAT @ 4102444800123 FIELDS 1 f2",
        "HPERSIST @ FIELDS 1 f2 | HPEXPIREAT @ 4102444800123 FIELDS 1 f3",
    ),
    (
        "field expires in a table",
        "600*HSET @ f{} v{} | HPEXPIREAT @ 4102444800123 FIELDS 2 f2 f599",
        "HPEXPIREAT @ 4102444800124 FIELDS 1 f599",
    ),
];

/// The name of the key, and the line that tells of it.
fn key_and_line(plant: &Plant) -> (String, String) {
    match plant.0.strip_prefix(['-', '+']) {
        Some(name) => (name.into(), plant.0.into()),
        None => (plant.0.into(), format!("*{}", plant.0)),
    }
}

/// Two ends that differ in the plants alone: each stands beside a twin that is the same on both.
fn plant(source: &End, target: &End, plants: &[Plant]) -> BTreeSet<Row> {
    let (mut from, mut to) = (source.reach(), target.reach());
    for plant in plants {
        let (key, _) = key_and_line(plant);
        for name in [key.clone(), format!("{key}, twin")] {
            script(from.of(name.as_bytes()), &name, plant.1);
        }
    }
    let dataset = Dataset {
        seed: 501,
        keys: Dataset::EVERY_KIND + 40,
        field_ttls: true,
        small_only: true,
        ..Dataset::default()
    };
    match source {
        End::One(server) => dataset.fill(server),
        End::Many(cluster) => dataset.fill_cluster(cluster),
    }
    clone_keys(&mut from, &mut to);
    let mut lines = Vec::new();
    for plant in plants {
        let (key, line) = key_and_line(plant);
        script(to.of(key.as_bytes()), &key, plant.2);
        lines.push(line);
    }
    let expected = rows(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let known = truth(&source.view(), &target.view(), &DiffOptions::default());
    assert_eq!(known, expected, "what was planted is not what was meant");
    expected
}

fn found(source: &End, target: &End, plants: &[Plant], options: &[&[&str]]) {
    let expected = plant(source, target, plants);
    let types = expected
        .iter()
        .filter(|row| row.2.starts_with("type,"))
        .count() as u64;
    let expiries = expected
        .iter()
        .filter(|row| row.2.starts_with("expires"))
        .count() as u64;
    for options in options {
        let ran = compare(&source.uri(), &target.uri(), options).finds(&expected);
        assert_eq!(ran.count("type_differs"), types, "{options:?}: {ran:#?}");
        assert_eq!(
            ran.count("expiry_differs"),
            expiries,
            "{options:?}: {ran:#?}"
        );
        // The other way round what is missing is extra.
        let turned = expected.iter().cloned().map(turn).collect();
        compare(&target.uri(), &source.uri(), options).finds(&turned);
    }
}

fn turn((mark, db, key): Row) -> Row {
    let mark = match mark {
        '-' => '+',
        '+' => '-',
        other => other,
    };
    (mark, db, key)
}

fn one(version: Version) -> End {
    End::one(Server::start(version))
}

fn three(version: Version) -> End {
    End::Many(Cluster::start(version, 3))
}

#[test]
fn between_servers() {
    let version = Version::REDIS_7_0;
    let options: [&[&str]; 2] = [&[], &["--threads", "2", "--read-threads", "2"]];
    found(&one(version), &one(version), PLANTS, &options);
}

/// Above a threshold of 10 KB, and with one of 1 every value, goes by elements.
#[test]
fn by_elements() {
    let version = Version::VALKEY_8_0;
    let options: [&[&str]; 2] = [
        &["--chunk-threshold", "10kb"],
        &["--chunk-threshold", "1", "--chunk-size", "7"],
    ];
    found(&one(version), &one(version), PLANTS, &options);
}

#[test]
fn from_a_server_to_a_cluster() {
    let version = Version::REDIS_7_0;
    let options: [&[&str]; 1] = [&[]];
    found(&one(version), &three(version), PLANTS, &options);
}

#[test]
fn between_clusters() {
    let version = Version::VALKEY_8_0;
    let options: [&[&str]; 2] = [&[], &["--chunk-threshold", "1"]];
    found(&three(version), &three(version), PLANTS, &options);
}

#[test]
fn fields_that_expire() {
    let options: [&[&str]; 2] = [&[], &["--chunk-threshold", "1"]];
    for version in [Version::REDIS_8_2, Version::VALKEY_9_1] {
        if require(version) {
            found(&one(version), &one(version), FIELD_PLANTS, &options);
        }
    }
}

fn load(server: &Server, library: &str, result: u32) {
    let code = format!(
        "#!lua name={library}\nredis.register_function('f_{library}', function() return {result} end)"
    );
    let load = redis::cmd("FUNCTION")
        .arg("LOAD")
        .arg("REPLACE")
        .arg(code)
        .exec(&mut server.client());
    load.expect("is taken");
}

#[test]
fn functions() {
    let (source, target) = (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::VALKEY_8_0),
    );
    let differ = |count: u64, says: &[&str]| {
        let ran: Compared = compare(&source.uri(), &target.uri(), &[]);
        let ran = ran.exits_with(i32::from(count > 0));
        assert_eq!(ran.count("functions_differ"), count, "{ran:#?}");
        for text in says {
            assert!(ran.outcome.stdout.contains(text), "{text}: {ran:#?}");
        }
    };
    load(&source, "one", 1);
    load(&target, "one", 1);
    assert_eq!(diff::functions(&source), diff::functions(&target));
    differ(0, &[]);
    load(&target, "one", 2);
    differ(1, &["one"]);
    load(&source, "lonely", 1);
    differ(2, &["one", "lonely"]);
    load(&target, "surplus", 1);
    differ(3, &["one", "lonely", "surplus"]);
}

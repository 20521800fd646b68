//! The same data in other encodings, and on other versions of both families: no false difference, and one that is
//! there is found.

#![allow(
    clippy::print_stderr,
    reason = "says which pair it is at, and what is skipped"
)]

mod common;

use common::compare::{compare, rows, script};
use common::copying::{copy, key_count};
use keyhaul_testkit::{Dataset, Server, ServerBuilder, Version, require};

/// Set to 1 for all versions at hand.
const LONG: &str = "KEYHAUL_TEST_LONG";

fn is_long() -> bool {
    std::env::var(LONG).is_ok_and(|value| value == "1")
}

fn filled(builder: ServerBuilder) -> Server {
    let server = builder.start();
    let dataset = Dataset {
        seed: 531,
        keys: 2 * (Dataset::EVERY_KIND + 200),
        dbs: vec![0, 2],
        ..Dataset::default()
    };
    dataset.fill(&server);
    server
}

/// What keyhaul has copied is equal, by values and by elements; then one key of each type is changed.
fn equal_after_a_copy(source: &Server, target: &Server) {
    copy(&source.uri(), &target.uri(), &["--verify", "none"]).exits_with(0);
    for (key, words) in PLANTED {
        script(&mut source.connection(2), key, words);
        script(&mut target.connection(2), key, words);
    }
    let ways: [&[&str]; 2] = [&[], &["--chunk-threshold", "1"]];
    for options in ways {
        compare(&source.uri(), &target.uri(), options).equal(key_count(source));
        compare(&target.uri(), &source.uri(), options).equal(key_count(source));
    }
    for (key, _) in PLANTED {
        let words = CHANGES.iter().find(|row| row.0 == *key).expect("is there");
        script(&mut target.connection(2), key, words.1);
    }
    let lines: Vec<String> = PLANTED.iter().map(|row| format!("2*{}", row.0)).collect();
    let lines = rows(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    for options in ways {
        compare(&source.uri(), &target.uri(), options).finds(&lines);
    }
}

const PLANTED: &[(&str, &str)] = &[
    ("p:list", "300*RPUSH @ e{}"),
    ("p:set", "100*SADD @ {}"),
    ("p:hash", "100*HSET @ f{} v{}"),
    ("p:zset", "100*ZADD @ {} m{}"),
    ("p:stream", "20*XADD @ 1-{} f v{}"),
];

const CHANGES: &[(&str, &str)] = &[
    ("p:list", "LSET @ 150 e151"),
    ("p:set", "SREM @ 50 | SADD @ 150"),
    ("p:hash", "HSET @ f50 v51"),
    ("p:zset", "ZADD @ 50.5 m50"),
    ("p:stream", "XDEL @ 1-10"),
];

/// Everything in its large encoding, in short nodes.
fn large(version: Version) -> ServerBuilder {
    let mut builder = Server::builder(version).arg("list-max-ziplist-size", 1);
    for option in [
        "hash-max-ziplist-entries",
        "zset-max-ziplist-entries",
        "set-max-intset-entries",
    ] {
        builder = builder.arg(option, 0);
    }
    builder
        .arg("stream-node-max-entries", 3)
        .arg("list-compress-depth", 1)
}

/// Everything compact.
fn compact(version: Version) -> ServerBuilder {
    let mut builder = Server::builder(version).arg("list-max-ziplist-size", -5);
    for option in [
        "hash-max-ziplist-entries",
        "hash-max-ziplist-value",
        "zset-max-ziplist-entries",
        "zset-max-ziplist-value",
        "set-max-intset-entries",
    ] {
        builder = builder.arg(option, 1_000_000);
    }
    builder
        .arg("stream-node-max-entries", 0)
        .arg("rdbcompression", "no")
}

/// A target that takes a plain hash in makes it compact again.
#[test]
fn other_encodings() {
    for version in [Version::REDIS_7_0, Version::VALKEY_8_0] {
        let source = filled(large(version));
        let target = compact(version).start();
        equal_after_a_copy(&source, &target);
        assert_ne!(encoding(&source), encoding(&target), "{version}");
    }
}

fn encoding(server: &Server) -> Vec<String> {
    let encoding = |(key, _): &(&str, &str)| {
        let mut link = server.connection(2);
        let reply = redis::cmd("OBJECT")
            .arg("ENCODING")
            .arg(*key)
            .query(&mut link);
        reply.expect("is answered")
    };
    PLANTED[1..4].iter().map(encoding).collect()
}

/// What is made by commands has the encoding that the server likes: no DUMP carries it over.
#[test]
fn encodings_of_each_server_its_own() {
    let (source, target) = (
        large(Version::REDIS_7_0).start(),
        compact(Version::VALKEY_8_0).start(),
    );
    for server in [&source, &target] {
        let mut link = server.client();
        for (key, words) in PLANTED {
            script(&mut link, key, words);
        }
        script(&mut link, "large", "2000*RPUSH @ {} text{}");
        script(&mut link, "set:texts", "100*SADD @ text{} {}");
        script(&mut link, "hash:numbers", "100*HSET @ {} {}");
        script(&mut link, "zset:ties", "100*ZADD @ 1 m{} 0.{} n{}");
        script(&mut link, "number", "SET @ 12345");
        script(
            &mut link,
            "deleted",
            "50*XADD @ 1-{} f {} g{} h | XDEL @ 1-7 1-49",
        );
    }
    script(&mut target.client(), "number", "APPEND @ 6");
    script(&mut source.client(), "number", "SET @ 123456");
    let keys = key_count(&source);
    for options in [&[][..], &["--chunk-threshold", "1"]] {
        compare(&source.uri(), &target.uri(), options).equal(keys);
    }
}

fn pair(source: Version, target: Version) {
    if !(require(source) && require(target)) {
        return;
    }
    eprintln!("{source} to {target}");
    let source = filled(Server::builder(source));
    equal_after_a_copy(&source, &Server::start(target));
}

#[test]
fn redis_6_2_to_valkey_9_1() {
    pair(Version::REDIS_6_2, Version::VALKEY_9_1);
}

#[test]
fn redis_8_2_down_to_6_2() {
    pair(Version::REDIS_8_2, Version::REDIS_6_2);
}

#[test]
fn redis_7_0_to_8_2() {
    pair(Version::REDIS_7_0, Version::REDIS_8_2);
}

#[test]
fn fields_that_expire_between_the_families() {
    if !(require(Version::REDIS_8_2) && require(Version::VALKEY_9_1)) {
        return;
    }
    for (one, other) in [
        (Version::REDIS_8_2, Version::VALKEY_9_1),
        (Version::VALKEY_9_1, Version::REDIS_8_2),
    ] {
        let (source, target) = (Server::start(one), Server::start(other));
        let dataset = Dataset {
            seed: 532,
            field_ttls: true,
            ..Dataset::default()
        };
        dataset.fill(&source);
        equal_after_a_copy(&source, &target);
    }
}

/// A server puts the nodes of a vector set that it takes in into another order.
#[test]
fn vector_sets() {
    if !require(Version::REDIS_8_2) {
        return;
    }
    let version = Version::REDIS_8_2;
    let (source, target) = (Server::start(version), Server::start(version));
    let kinds = ["NOQUANT", "Q8", "BIN"];
    for kind in kinds {
        let words = format!("50*VADD @ REDUCE 2 VALUES 3 {{}} 2 0.{{}} e{{}} {kind}");
        script(&mut source.client(), &format!("reduced:{kind}"), &words);
        let words = format!("50*VADD @ VALUES 3 {{}} 2 0.{{}} e{{}} {kind} SETATTR a{{}}");
        for name in ["same", "vector", "attributes", "fewer", "gone"] {
            script(&mut source.client(), &format!("{name}:{kind}"), &words);
        }
    }
    copy(&source.uri(), &target.uri(), &["--verify", "full"]).exits_with(0);
    compare(&source.uri(), &target.uri(), &[]).equal(key_count(&source));
    let mut expected = rows(&[]);
    for kind in kinds {
        for (mark, name, words) in [
            (
                "*",
                "vector",
                format!("VADD @ VALUES 3 77 -2 0.5 e7 {kind} SETATTR a7"),
            ),
            ("*", "attributes", "VSETATTR @ e7 b".to_owned()),
            ("*", "fewer", "VREM @ e7".to_owned()),
            ("-", "gone", "DEL @".to_owned()),
        ] {
            let key = format!("{name}:{kind}");
            script(&mut target.client(), &key, &words);
            expected.extend(rows(&[&format!("{mark}{key}")]));
        }
    }
    compare(&source.uri(), &target.uri(), &[]).finds(&expected);
}

#[test]
fn every_pair_of_versions() {
    if !is_long() {
        eprintln!("SKIPPED: {LONG}=1 takes all pairs of versions");
        return;
    }
    let versions = Version::ALL.into_iter().filter(|version| require(*version));
    let versions: Vec<Version> = versions.collect();
    for source in &versions {
        for target in &versions {
            pair(*source, *target);
        }
    }
}

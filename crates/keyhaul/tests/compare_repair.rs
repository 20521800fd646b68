//! `--repair`: what is missing or differs is copied, what is extra goes only if that was asked for, and a dry run
//! changes nothing.

mod common;

use std::collections::BTreeSet;

use common::big::staging_keys;
use common::compare::{Compared, End, Row, clone_keys, compare, rows, script, truth, twin};
use common::copying::{copy, noise, run};
use keyhaul_testkit::diff::{DiffOptions, View, assert_equal, assert_equal_with};
use keyhaul_testkit::{Cluster, Dataset, Server, Version};
use redis::cmd;

/// Key, how it is made on both sides, how it is changed on the target; the last column is the line that tells.
const PLANTED: &[(&str, &str, &str, &str)] = &[
    ("missing", "SET @ a PXAT 4102444800123", "DEL @", "-missing"),
    (
        "missing big",
        "10000*HSET @ f{} value{}",
        "DEL @",
        "-missing big",
    ),
    ("value", "SET @ a", "SET @ b", "*value"),
    (
        "big list",
        "10000*RPUSH @ e{}",
        "LSET @ 5000 other",
        "*big list",
    ),
    ("big zset", "10000*ZADD @ {} m{}", "ZREM @ m0", "*big zset"),
    (
        "expiry",
        "SET @ a PXAT 4102444800123",
        "PERSIST @",
        "*expiry",
    ),
    (
        "big expiry",
        "9000*SADD @ m{} | PEXPIREAT @ 4102444800123",
        "PEXPIREAT @ 4102444800124",
        "*big expiry",
    ),
    ("type", "RPUSH @ a", "DEL @ | SET @ a", "*type"),
    (
        "stream",
        "9*XADD @ 1-{} f v | XGROUP CREATE @ g 1-3",
        "XGROUP SETID @ g 1-4",
        "*stream",
    ),
];
const EXTRA: &[(&str, &str, &str, &str)] = &[
    ("extra", "", "SET @ a", "+extra"),
    ("extra big", "", "10000*SADD @ m{}", "+extra big"),
];
/// Above it are those that are called big.
const BIG: [&str; 2] = ["--chunk-threshold", "50kb"];

fn planted(source: &End, target: &End) {
    let dataset = Dataset {
        seed: 561,
        keys: 500,
        small_only: true,
        ..Dataset::default()
    };
    match source {
        End::One(server) => dataset.fill(server),
        End::Many(cluster) => dataset.fill_cluster(cluster),
    }
    let (mut from, mut to) = (source.reach(), target.reach());
    for (key, words, _, _) in PLANTED {
        script(from.of(key.as_bytes()), key, words);
    }
    clone_keys(&mut from, &mut to);
    for (key, _, words, _) in PLANTED.iter().chain(EXTRA) {
        script(to.of(key.as_bytes()), key, words);
    }
}

fn expected(parts: &[&[(&str, &str, &str, &'static str)]]) -> BTreeSet<Row> {
    let lines: Vec<&str> = parts
        .iter()
        .flat_map(|part| part.iter().map(|row| row.3))
        .collect();
    rows(&lines)
}

fn differences(source: &End, target: &End) -> BTreeSet<Row> {
    truth(&source.view(), &target.view(), &DiffOptions::default())
}

fn repair(source: &End, target: &End, more: &[&str]) -> Compared {
    let options = [&["--repair"], &BIG[..], more].concat();
    compare(&source.uri(), &target.uri(), &options)
}

/// A count of what was found before the repair, or of what it did.
#[track_caller]
fn number(ran: &Compared, part: &str, name: &str) -> u64 {
    let number = ran.report[part][name].as_u64();
    assert!(number.is_some(), "no {part}.{name}: {ran:#?}");
    number.unwrap_or_default()
}

fn repaired(source: &End, target: &End) {
    planted(source, target);
    let all = expected(&[PLANTED, EXTRA]);
    assert_eq!(differences(source, target), all);

    let ran = repair(source, target, &["--dry-run", "--delete-extra"]).exits_with(1);
    assert_eq!(differences(source, target), all, "{ran:#?}");
    for row in &all {
        assert!(
            ran.lines.as_ref().is_some_and(|lines| lines.contains(row)),
            "{ran:#?}"
        );
    }

    let ran = repair(source, target, &[]).exits_with(1);
    assert_eq!(differences(source, target), expected(&[EXTRA]), "{ran:#?}");
    assert_eq!(number(&ran, "before_repair", "missing"), 2, "{ran:#?}");
    assert_eq!(number(&ran, "before_repair", "extra"), 2, "{ran:#?}");
    assert_eq!(number(&ran, "repaired", "copied"), 9, "{ran:#?}");
    assert_eq!(number(&ran, "repaired", "deleted"), 0, "{ran:#?}");
    assert_eq!(number(&ran, "repaired", "left"), 2, "{ran:#?}");
    assert_eq!(
        (ran.count("missing"), ran.count("extra")),
        (0, 2),
        "{ran:#?}"
    );
    assert_eq!(
        ran.count("value_differs") + ran.count("type_differs"),
        0,
        "{ran:#?}"
    );

    let ran = repair(source, target, &["--delete-extra"]).exits_with(0);
    assert_eq!(number(&ran, "repaired", "copied"), 0, "{ran:#?}");
    assert_eq!(number(&ran, "repaired", "deleted"), 2, "{ran:#?}");
    assert_equal(&source.view(), &target.view());
    // Nothing is left to do, and nothing lies about.
    repair(source, target, &["--delete-extra"]).exits_with(0);
    assert_equal(&source.view(), &target.view());
    if let End::One(server) = target {
        assert_eq!(staging_keys(server), Vec::<(u32, String)>::new());
    }
}

#[test]
fn between_servers() {
    let version = Version::REDIS_7_0;
    let one = || End::one(Server::start(version));
    repaired(&one(), &one());
}

#[test]
fn between_clusters() {
    let version = Version::VALKEY_8_0;
    let two = || End::Many(Cluster::start(version, 2));
    repaired(&two(), &two());
}

/// All of a data set, to another version, at once.
#[test]
fn an_empty_target_is_filled() {
    let source = Server::start(Version::REDIS_7_0);
    let target = Server::start(Version::VALKEY_8_0);
    let dataset = Dataset {
        seed: 562,
        keys: 2 * (Dataset::EVERY_KIND + 500),
        dbs: vec![0, 4],
        ..Dataset::default()
    };
    dataset.fill(&source);
    let ran = compare(&source.uri(), &target.uri(), &["--repair"]).exits_with(0);
    assert_eq!(
        number(&ran, "repaired", "copied"),
        dataset.keys as u64,
        "{ran:#?}"
    );
    assert_equal(&View::server(&source), &View::server(&target));
}

/// Names and filters hold for the repair too: what is left out is not touched.
#[test]
fn other_names_and_filters() {
    let version = Version::REDIS_7_0;
    let (source, target) = (Server::start(version), Server::start(version));
    for n in 0..6 {
        script(&mut source.client(), &format!("a:{n}"), "HSET @ f v");
        script(&mut source.client(), &format!("z:{n}"), "HSET @ f v");
    }
    let mut to = target.connection(4);
    script(&mut to, "b:1", "HSET @ f w");
    script(&mut to, "b:9", "HSET @ f w");
    script(&mut to, "z:1", "HSET @ f kept");
    script(&mut to, "z:9", "HSET @ f kept");
    script(&mut target.client(), "a:1", "HSET @ f kept");
    let names = ["--db", "0", "--db-map", "0:4", "--rename-prefix", "a::b:"];
    let more = ["--key-pattern", "a:*", "--repair", "--delete-extra"];
    compare(&source.uri(), &target.uri(), &[&names[..], &more].concat()).exits_with(0);
    let mut options = DiffOptions::default()
        .mapping_db(0, 4)
        .renaming_prefix(b"a:", b"b:");
    options.only = Box::new(|_, key| key.starts_with(b"a:"));
    options.extra_allowed = Box::new(|_, key| [&b"z:1"[..], b"z:9", b"a:1"].contains(&key));
    assert_equal_with(&View::server(&source), &View::server(&target), &options);
    for (db, key) in [(4, "z:1"), (4, "z:9"), (0, "a:1")] {
        let words = format!("HGET {key} f");
        let kept = redis::Value::BulkString(b"kept".to_vec());
        assert_eq!(run(&target, db, &words), kept, "{key}");
    }
}

/// Only what an earlier run has found is mended.
#[test]
fn only_the_keys_of_a_file() {
    let version = Version::REDIS_7_0;
    let source = Server::start(version);
    for n in 0..10 {
        script(&mut source.client(), &format!("key:{n}"), "SET @ a");
    }
    let target = twin(&source);
    script(&mut target.client(), "key:1", "SET @ b");
    script(&mut target.client(), "extra", "SET @ b");
    let first = compare(&source.uri(), &target.uri(), &[]).exits_with(1);
    script(&mut target.client(), "key:2", "SET @ b");
    let file = first.diff_file().display().to_string();
    let options = ["--only-keys", &file, "--repair", "--delete-extra"];
    compare(&source.uri(), &target.uri(), &options).exits_with(0);
    compare(&source.uri(), &target.uri(), &[]).finds(&rows(&["*key:2"]));
}

/// A payload above what comes in one piece, with default options.
#[test]
fn a_large_value() {
    let (source, target) = (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::REDIS_7_0),
    );
    let mut value = noise(3_000_000, 7);
    for server in [&source, &target] {
        redis::cmd("SET")
            .arg("large")
            .arg(&value)
            .exec(&mut server.client())
            .expect("is taken");
        value[2_999_999] ^= 1;
    }
    compare(&source.uri(), &target.uri(), &["--repair"]).exits_with(0);
    assert_equal(&View::server(&source), &View::server(&target));
}

const LIBRARY: &str =
    "#!lua name=NAME\nredis.register_function('fNAME', function() return VALUE end)";

fn load(server: &Server, name: &str, value: &str) {
    let code = LIBRARY.replace("NAME", name).replace("VALUE", value);
    cmd("FUNCTION")
        .arg("LOAD")
        .arg("REPLACE")
        .arg(code)
        .exec(&mut server.client())
        .expect("is taken");
}

#[test]
fn function_libraries() {
    let version = Version::REDIS_7_0;
    let (source, target) = (Server::start(version), Server::start(version));
    for (server, name, value) in [
        (&source, "same", "1"),
        (&target, "same", "1"),
        (&source, "other", "1"),
        (&target, "other", "2"),
        (&source, "missing", "1"),
        (&target, "extra", "1"),
    ] {
        load(server, name, value);
    }
    let repair = |more: &[&str]| {
        let options = [&["--repair"], more].concat();
        compare(&source.uri(), &target.uri(), &options)
    };
    let ran = repair(&["--delete-extra", "--dry-run"]).exits_with(1);
    assert_eq!(number(&ran, "repaired", "functions_copied"), 2, "{ran:#?}");
    assert_eq!(number(&ran, "repaired", "functions_deleted"), 1, "{ran:#?}");
    let ran = repair(&[]).exits_with(1);
    let left = ran.report["functions"].to_string();
    assert_eq!(left, "[\"function library 'extra' is only on the target\"]");
    let ran = repair(&["--delete-extra"]).exits_with(0);
    assert_eq!(number(&ran, "repaired", "functions_deleted"), 1, "{ran:#?}");
    compare(&source.uri(), &target.uri(), &[]).exits_with(0);
    // And where one end is a file.
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("f.rdb").display().to_string();
    copy(&source.uri(), &file, &[]).exits_with(0);
    compare(&file, &target.uri(), &[]).exits_with(0);
    load(&target, "other", "3");
    let ran = compare(&file, &target.uri(), &[]).exits_with(1);
    let found = ran.report["functions"].to_string();
    assert_eq!(found, "[\"function library 'other' differs\"]", "{ran:#?}");
    compare(&file, &target.uri(), &["--repair"]).exits_with(0);
}

/// A key of the same name in another db is none of a repair's business.
#[test]
fn the_same_name_in_another_db() {
    let version = Version::REDIS_7_0;
    let (source, target) = (Server::start(version), Server::start(version));
    for db in [0, 1] {
        for server in [&source, &target] {
            script(&mut server.connection(db), "key", "SET @ a");
        }
    }
    script(&mut target.connection(1), "key", "SET @ b");
    let diffs = tempfile::NamedTempFile::new().expect("a file can be made");
    std::fs::write(diffs.path(), "*\t1\tkey\n").expect("takes a line");
    let only = diffs.path().display().to_string();
    // Differs since, and was not asked for.
    script(&mut target.connection(0), "key", "SET @ c");
    let ran = compare(
        &source.uri(),
        &target.uri(),
        &["--repair", "--only-keys", &only],
    );
    ran.exits_with(0);
    let value = |db| -> String {
        let mut connection = target.connection(db);
        cmd("GET")
            .arg("key")
            .query(&mut connection)
            .expect("is text")
    };
    assert_eq!((value(0), value(1)), ("c".to_owned(), "a".to_owned()));
}

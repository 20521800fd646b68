//! `keyhaul keystats report`: its numbers against those that a plain client finds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::process::Command;

use common::DEADLINE;
use common::keystats::{keystats, shards_of, sizes_of};
use keyhaul_testkit::{Cluster, Dataset, Server, Version, process};
use redis::{Value as Reply, cmd};
use serde_json::{Value, json};

/// The report as JSON.
fn report(args: &[&str]) -> Value {
    let args = [&["report", "--json"], args].concat();
    serde_json::from_str(&keystats(&args).stdout).expect("is JSON")
}

/// What a plain client finds out of one key.
#[derive(Debug)]
struct Known {
    db: u32,
    name: Vec<u8>,
    bytes: u64,
    type_name: String,
    encoding: String,
    elements: u64,
    expire_at_ms: i64,
}

fn known(server: &Server, db: u32) -> Vec<Known> {
    let mut link = server.connection(db);
    let mut ask = |words: &[&str], name: &[u8]| -> Reply {
        let mut command = cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(word);
        });
        command.arg(name).query(&mut link).unwrap()
    };
    let text = |reply: Reply| redis::from_redis_value::<String>(reply).unwrap();
    let number = |reply: Reply| redis::from_redis_value::<i64>(reply).unwrap();
    let sizes = sizes_of(server, db).into_iter();
    sizes
        .map(|(name, bytes)| {
            let type_name = text(ask(&["TYPE"], &name));
            let length = match type_name.as_str() {
                "string" => "STRLEN",
                "list" => "LLEN",
                "set" => "SCARD",
                "zset" => "ZCARD",
                "hash" => "HLEN",
                "stream" => "XLEN",
                other => panic!("{other}"),
            };
            Known {
                db,
                bytes,
                encoding: text(ask(&["OBJECT", "ENCODING"], &name)),
                elements: number(ask(&[length], &name)) as u64,
                expire_at_ms: number(ask(&["PEXPIRETIME"], &name)),
                type_name,
                name,
            }
        })
        .collect()
}

fn sum<'a>(keys: impl Iterator<Item = &'a Known>) -> Value {
    let (keys, bytes) = keys.fold((0, 0), |(keys, bytes), key| (keys + 1, bytes + key.bytes));
    json!({ "keys": keys, "bytes": bytes })
}

/// A row of a report holds this sum.
fn check_sum(row: &Value, expected: &Value, what: &str) {
    let got = json!({ "keys": row["keys"], "bytes": row["bytes"] });
    assert_eq!(&got, expected, "{what}");
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().expect("is a list")
}

#[test]
fn what_a_plain_client_finds() {
    for version in [Version::REDIS_7_0, Version::VALKEY_8_0] {
        let server = Server::start(version);
        let dataset = Dataset {
            seed: 611,
            keys: 1500,
            dbs: vec![0, 3],
            ..Dataset::default()
        };
        dataset.fill(&server);
        let mut keys = known(&server, 0);
        keys.extend(known(&server, 3));
        let report = report(&[&server.uri()]);
        check_sum(&report["totals"], &sum(keys.iter()), "totals");
        let of_others = keys.iter().filter(|key| key.type_name != "string");
        let elements: u64 = of_others.map(|key| key.elements).sum();
        assert_eq!(report["totals"]["elements"], elements);
        for row in rows(&report["dbs"]) {
            let of_db = keys.iter().filter(|key| row["db"] == key.db);
            check_sum(row, &sum(of_db), "dbs");
        }
        for row in rows(&report["types"]) {
            check_type(row, &keys);
        }
        let stays = keys.iter().filter(|key| key.expire_at_ms == -1);
        check_sum(&report["expiry"]["without"], &sum(stays), "stays");
        let goes = keys.iter().filter(|key| key.expire_at_ms > 0);
        check_sum(&report["expiry"]["with"], &sum(goes), "goes");
        check_prefixes(&report["prefixes"], "", &keys);
    }
}

fn check_type(row: &Value, keys: &[Known]) {
    let of_type = || keys.iter().filter(|key| row["type"] == key.type_name);
    check_sum(row, &sum(of_type()), "types");
    assert_eq!(
        row["elements"],
        of_type().map(|key| key.elements).sum::<u64>()
    );
    for encoding in rows(&row["encodings"]) {
        let encoded = of_type().filter(|key| encoding["encoding"] == key.encoding);
        check_sum(encoding, &sum(encoded), "encodings");
    }
    let listed = rows(&row["biggest_by_bytes"]).iter();
    let listed: Vec<u64> = listed.filter_map(|key| key["bytes"].as_u64()).collect();
    let mut bytes: Vec<u64> = of_type().map(|key| key.bytes).collect();
    bytes.sort_unstable_by(|a, b| b.cmp(a));
    bytes.truncate(20);
    assert_eq!(listed, bytes);
}

fn check_prefixes(row: &Value, path: &str, keys: &[Known]) {
    let below = keys
        .iter()
        .filter(|key| key.name.starts_with(path.as_bytes()));
    check_sum(row, &sum(below), path);
    for child in rows(&row["children"]) {
        let name = child["name"].as_str().expect("is text");
        // Names that are no text are shown otherwise.
        if !name.contains(['\\', '…']) {
            check_prefixes(child, &format!("{path}{name}:"), keys);
        }
    }
}

#[test]
fn a_cluster_and_one_server_with_the_same_data() {
    let version = Version::VALKEY_8_0;
    let (cluster, server) = (Cluster::start(version, 3), Server::start(version));
    let mut link = server.client();
    for n in 0..900 {
        let name = format!("a:{}:{n}", n % 7);
        for link in [&mut link, &mut cluster.connection_for(name.as_bytes())] {
            let value = "v".repeat(n % 90);
            let () = cmd("SET").arg(&name).arg(value).query(link).unwrap();
        }
    }
    let of_cluster = report(&[&cluster.uri(), "--shards", "140"]);
    let of_server = report(&[&server.uri(), "--shards", "140"]);
    let sizes = cluster
        .nodes()
        .iter()
        .flat_map(|node| sizes_of(node, 0))
        .collect();
    let shards: Vec<[u64; 4]> = shards_of(&sizes, 140);
    let told = rows(&of_cluster["shards"])
        .iter()
        .filter(|row| row["keys"] != 0);
    let told: Vec<[Option<u64>; 4]> = told
        .map(|row| ["shard", "slot_start", "slot_end", "bytes"].map(|name| row[name].as_u64()))
        .collect();
    assert_eq!(
        told,
        shards.iter().map(|row| row.map(Some)).collect::<Vec<_>>()
    );
    for field in ["totals", "types", "prefixes"] {
        assert_eq!(
            of_cluster[field]["keys"], of_server[field]["keys"],
            "{field}"
        );
    }
    assert_eq!(of_cluster["prefixes"]["children"][0]["keys"], 900);
}

#[test]
fn pages_and_tables_beside_it() {
    let server = Server::start(Version::REDIS_7_0);
    let mut link = server.client();
    let evil = "</script><img src=x onerror=alert(1)>";
    for name in ["user:1", "user:2", evil] {
        let () = cmd("SET").arg(name).arg("value").query(&mut link).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (html, csv) = (path("r.html"), path("tables"));
    let ran = keystats(&["report", &server.uri(), "--html", &html, "--csv", &csv]);
    assert!(
        ran.stdout.contains("  keys             3\n"),
        "{}",
        ran.stdout
    );
    assert!(ran.stderr.contains("done: 3 keys"), "{}", ran.stderr);
    let page = std::fs::read_to_string(html).unwrap();
    assert!(page.contains("\\u003c/script\\u003e\\u003cimg") && !page.contains(evil));
    let totals = std::fs::read_to_string(path("tables/totals.csv")).unwrap();
    assert!(totals.starts_with("name,value\nkeys,3\n"), "{totals}");
}

#[test]
fn an_output_that_cannot_be_written() {
    let server = Server::start(Version::VALKEY_8_0);
    let mut link = server.client();
    let () = cmd("SET").arg("a:1").arg("b").query(&mut link).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (html, csv, state) = (path("r.html"), path("tables"), path("state"));
    let uri = server.uri();
    let args = [
        "report",
        &uri,
        "--html",
        &html,
        "--csv",
        &csv,
        "--state-dir",
        &state,
    ];
    let binary = env!("CARGO_BIN_EXE_keyhaul");
    let mut shell = Command::new("bash");
    let line = format!("{binary} keystats {} > /dev/full", args.join(" "));
    shell.args(["-c", &line]);
    let ran = process::run(shell, DEADLINE);
    assert_eq!(ran.code, Some(5), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("cannot write to standard output"),
        "{}",
        ran.stderr
    );
    for file in [
        &html,
        &path("tables/totals.csv"),
        &path("tables/shards.csv"),
    ] {
        std::fs::remove_file(file).expect("was written");
    }
    // The same command reads nothing again: not even what is new.
    let () = cmd("SET").arg("a:2").arg("b").query(&mut link).unwrap();
    let ran = keystats(&args);
    assert!(
        ran.stderr.contains("goes on where an earlier run"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stdout.contains("  keys             1\n"),
        "{}",
        ran.stdout
    );
    assert!(std::fs::read_to_string(&html).unwrap().contains("a:1"));
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0);
    assert!(keystats(&args).stdout.contains("  keys             2\n"));
}

#[test]
fn what_a_server_evicts_stays_as_it_was() {
    for (version, policy, lengths, remark) in [
        (
            Version::REDIS_7_0,
            "allkeys-lru",
            0,
            "so that elements of its keys are not known",
        ),
        (
            Version::REDIS_7_0,
            "noeviction",
            1,
            "touches each key's LRU or LFU record",
        ),
        (Version::VALKEY_8_0, "allkeys-lfu", 1, ""),
    ] {
        let server = Server::builder(version)
            .arg("maxmemory", "200mb")
            .arg("maxmemory-policy", policy)
            .start();
        let mut link = server.client();
        let () = cmd("RPUSH")
            .arg("l")
            .arg(&[1, 2, 3])
            .query(&mut link)
            .unwrap();
        let () = cmd("CONFIG").arg("RESETSTAT").query(&mut link).unwrap();
        let ran = keystats(&["report", "--json", &server.uri()]);
        let stats: String = cmd("INFO").arg("commandstats").query(&mut link).unwrap();
        // One more was the question whether it may be asked.
        let calls = format!("cmdstat_llen:calls={},", lengths + 1);
        assert!(stats.contains(&calls), "{version} {policy}: {stats}");
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(report["totals"]["elements"], 3 * lengths);
        assert_eq!(report["totals"]["keys"], 1);
        assert!(ran.stderr.contains(remark), "{}", ran.stderr);
        let names_it = ran.stderr.contains("CLIENT NO-TOUCH");
        assert_eq!(names_it, !remark.is_empty(), "{}", ran.stderr);
    }
}

#[test]
fn an_rdb_file_says_what_its_server_held() {
    let server = Server::start(Version::REDIS_7_0);
    let dataset = Dataset {
        seed: 612,
        keys: 800,
        dbs: vec![0, 3],
        ..Dataset::default()
    };
    dataset.fill(&server);
    let mut keys = known(&server, 0);
    keys.extend(known(&server, 3));
    let mut link = server.client();
    let () = cmd("SAVE").query(&mut link).unwrap();
    let (folder, name): (Vec<String>, Vec<String>) = (
        cmd("CONFIG")
            .arg("GET")
            .arg("dir")
            .query(&mut link)
            .unwrap(),
        cmd("CONFIG")
            .arg("GET")
            .arg("dbfilename")
            .query(&mut link)
            .unwrap(),
    );
    let report = report(&[&format!("file:{}/{}", folder[1], name[1])]);
    assert_eq!(report["options"]["size_kind"], "record");
    assert_eq!(report["totals"]["keys"], keys.len());
    for row in rows(&report["types"]) {
        let of_type = || keys.iter().filter(|key| row["type"] == key.type_name);
        assert_eq!(row["keys"], of_type().count(), "{row}");
        let elements: u64 = of_type().map(|key| key.elements).sum();
        assert_eq!(row["elements"], elements, "{}", row["type"]);
    }
    let goes = keys.iter().filter(|key| key.expire_at_ms > 0).count();
    assert_eq!(report["expiry"]["with"]["keys"], goes);
}

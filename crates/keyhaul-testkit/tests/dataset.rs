//! The data sets show every encoding, are the same for the same seed, and are quick to make.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use keyhaul_testkit::diff::{self, DiffOptions, View};
use keyhaul_testkit::{Cluster, Dataset, Server, Version, require};
use redis::cmd;

/// type/encoding of every key, counted. `*listpack` is `*ziplist` in old versions.
fn encodings(server: &Server, db: u32) -> BTreeMap<String, usize> {
    let mut client = server.connection(db);
    let keys: Vec<Vec<u8>> = cmd("KEYS").arg("*").query(&mut client).unwrap();
    let mut counts = BTreeMap::new();
    for key in keys {
        let kind: String = cmd("TYPE").arg(&key).query(&mut client).unwrap();
        let encoding: String = cmd("OBJECT")
            .arg("ENCODING")
            .arg(&key)
            .query(&mut client)
            .unwrap();
        *counts.entry(format!("{kind}/{encoding}")).or_default() += 1;
    }
    counts
}

#[test]
fn every_encoding_of_the_version_appears() {
    let old = [
        "list/quicklist",
        "set/hashtable",
        "hash/ziplist",
        "zset/ziplist",
    ];
    let seven = [
        "list/quicklist",
        "set/hashtable",
        "hash/listpack",
        "zset/listpack",
    ];
    let newer = [
        "list/quicklist",
        "list/listpack",
        "set/listpack",
        "hash/listpack",
        "zset/listpack",
    ];
    let rows: [(Version, &[&str]); 8] = [
        (Version::REDIS_6_0, &old),
        (Version::REDIS_6_2, &old),
        (Version::REDIS_7_0, &seven),
        (Version::REDIS_8_0, &newer),
        (Version::REDIS_8_2, &newer),
        (Version::VALKEY_8_0, &newer),
        (Version::VALKEY_8_1, &newer),
        (Version::VALKEY_9_1, &newer),
    ];
    let always = [
        "string/int",
        "string/embstr",
        "string/raw",
        "set/intset",
        "set/hashtable",
    ];
    let large = ["hash/hashtable", "zset/skiplist", "stream/stream"];
    for (version, expected) in rows {
        if !require(version) {
            continue;
        }
        let server = Server::start(version);
        Dataset {
            keys: Dataset::EVERY_KIND,
            ..Dataset::default()
        }
        .fill(&server);
        let counts = encodings(&server, 0);
        for encoding in expected.iter().chain(&always).chain(&large) {
            assert!(
                counts.contains_key(*encoding),
                "{version} has no {encoding}: {counts:?}"
            );
        }
        assert_eq!(
            counts.values().sum::<usize>(),
            Dataset::EVERY_KIND,
            "{version}"
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_data_on_every_version() {
    let dataset = Dataset {
        seed: 7,
        keys: 600,
        dbs: vec![0, 3],
        ttl_share: 0.5,
        ..Dataset::default()
    };
    let reference = Server::start(Version::REDIS_7_0);
    dataset.fill(&reference);
    for version in Version::ALL {
        if !require(version) {
            continue;
        }
        let server = Server::start(version);
        dataset.fill(&server);
        let (expected, got) = (View::server(&reference), View::server(&server));
        let mut found = diff::keyspaces(&expected, &got, &DiffOptions::default());
        // Before 7.0, a compact sorted set keeps the sign of a zero.
        if !version.has_redis_feature(7, 0) {
            found.retain(|difference| !difference.got.ends_with("\"score -0.0\" score -0"));
        }
        assert!(found.is_empty(), "{version}: {} {}", found.len(), found[0]);
    }
    let other = Server::start(Version::REDIS_7_0);
    Dataset {
        seed: 8,
        ..dataset.clone()
    }
    .fill(&other);
    let differences = diff::keyspaces(
        &View::server(&reference),
        &View::server(&other),
        &DiffOptions::default(),
    );
    assert!(differences.len() > 300, "{}", differences.len());
}

#[test]
fn a_negative_zero_is_kept_in_a_large_sorted_set() {
    for version in Version::DEFAULT {
        let server = Server::start(version);
        Dataset {
            keys: Dataset::EVERY_KIND,
            ..Dataset::default()
        }
        .fill(&server);
        let mut client = server.client();
        let keys: Vec<String> = cmd("KEYS")
            .arg("ZsetOddScoresSkiplist:*")
            .query(&mut client)
            .unwrap();
        let score: String = cmd("ZSCORE")
            .arg(&keys[0])
            .arg("score -0.0")
            .query(&mut client)
            .unwrap();
        assert_eq!(score, "-0", "{version}");
    }
}

#[test]
fn dbs_share_the_keys_and_hold_different_ones() {
    let server = Server::start(Version::VALKEY_8_0);
    Dataset {
        keys: 301,
        dbs: vec![0, 5, 15],
        ..Dataset::default()
    }
    .fill(&server);
    let keys = |db: u32| -> BTreeSet<Vec<u8>> {
        cmd("KEYS")
            .arg("*")
            .query(&mut server.connection(db))
            .unwrap()
    };
    assert_eq!(
        [keys(0).len(), keys(5).len(), keys(15).len()],
        [101, 100, 100]
    );
    assert!(
        keys(5).intersection(&keys(15)).count() < 40,
        "only the odd names are the same"
    );
}

#[test]
fn shares_of_expiry_are_kept() {
    for (share, expected) in [(0.0, 0..1), (0.5, 400..600), (1.0, 1000..1001)] {
        let server = Server::start(Version::REDIS_7_0);
        Dataset {
            ttl_share: share,
            small_only: true,
            ..Dataset::default()
        }
        .fill(&server);
        let info = server.info("db0");
        let expires: usize = info
            .split(',')
            .find_map(|part| part.strip_prefix("expires="))
            .unwrap()
            .parse()
            .unwrap();
        assert!(expected.contains(&expires), "{share}: {info}");
    }
}

#[test]
fn fields_expire_where_the_server_can_and_it_was_asked_for() {
    for version in [
        Version::REDIS_7_0,
        Version::REDIS_8_0,
        Version::REDIS_8_2,
        Version::VALKEY_9_1,
    ] {
        if !require(version) {
            continue;
        }
        let server = Server::start(version);
        Dataset {
            field_ttls: true,
            ..Dataset::default()
        }
        .fill(&server);
        if version.has_field_ttls() {
            let mut client = server.client();
            let keys: Vec<Vec<u8>> = cmd("KEYS")
                .arg("HashHashtable:*")
                .query(&mut client)
                .unwrap();
            let times: Vec<i64> = cmd("HPEXPIRETIME")
                .arg(&keys[0])
                .arg("FIELDS")
                .arg(2)
                .arg(&["field0", "field1"])
                .query(&mut client)
                .unwrap();
            assert!(
                times[0] > 4_102_444_800_000 && times[1] == -1,
                "{version}: {times:?}"
            );
        }
    }
}

#[test]
fn a_cluster_is_filled_through_its_owners() {
    let cluster = Cluster::start(Version::REDIS_7_0, 3);
    let server = Server::start(Version::REDIS_7_0);
    let dataset = Dataset {
        keys: 500,
        ..Dataset::default()
    };
    dataset.fill_cluster(&cluster);
    dataset.fill(&server);
    assert_eq!(cluster.keys().len(), 500);
    diff::assert_equal(&View::server(&server), &View::cluster(&cluster));
}

#[test]
fn a_hundred_thousand_keys_take_seconds() {
    let server = Server::start(Version::REDIS_7_0);
    let started = Instant::now();
    Dataset {
        keys: 100_000,
        ..Dataset::default()
    }
    .fill(&server);
    let elapsed = started.elapsed();
    println!("100000 keys in {elapsed:?}");
    let count: usize = cmd("DBSIZE").query(&mut server.client()).unwrap();
    assert_eq!(count, 100_000);
    // Far above what a quiet machine needs.
    assert!(elapsed < Duration::from_secs(60), "{elapsed:?}");
}

//! All facts about keys, against what a plain client is told of the same keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyhaul_client::Endpoint;
use keyhaul_engine::options::{CopyOptions, KeyType};
use keyhaul_engine::place::Place;
use keyhaul_engine::progress::Progress;
use keyhaul_engine::receipt::Outcome;
use keyhaul_engine::stats::{Collector, KeyFacts, StatsJob, StatsOptions, StatsReceipt, Wanted};
use keyhaul_testkit::redis::{self, Connection, cmd};
use keyhaul_testkit::{Server, Version};
use tokio_util::sync::CancellationToken;

/// What is known of a key.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    key_type: Option<KeyType>,
    encoding: Option<String>,
    size_bytes: u64,
    elements: Option<u64>,
    expire_at_ms: Option<i64>,
}

#[derive(Default)]
struct Kept(BTreeMap<(u32, Vec<u8>), Known>);

impl Collector for Kept {
    fn take(&mut self, facts: &KeyFacts<'_>) {
        let known = Known {
            key_type: facts.key_type,
            encoding: facts.encoding.map(str::to_owned),
            size_bytes: facts.size_bytes,
            elements: facts.elements,
            expire_at_ms: facts.expire_at_ms,
        };
        let before = self.0.insert((facts.db, facts.key.to_vec()), known);
        assert_eq!(before, None, "a key is told once");
    }
}

fn read(place: Place) -> (Kept, StatsReceipt) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    runtime.block_on(async {
        let options = StatsOptions {
            copy: CopyOptions {
                scan_count: 7,
                ..CopyOptions::default()
            },
            wanted: Wanted::Everything,
            samples: None,
            prefers_replica: false,
            output: "test".into(),
        };
        let job = StatsJob::prepare(place, options)
            .await
            .expect("it is possible");
        let mut kept = Kept::default();
        let stop = CancellationToken::new();
        let receipt = job
            .run(Arc::new(Progress::default()), stop, &mut kept)
            .await;
        assert_eq!(receipt.outcome, Outcome::Done, "{receipt:?}");
        (kept, receipt)
    })
}

/// Keys of every type and of several encodings, some of which expire; returns how many.
fn fill(link: &mut Connection) -> usize {
    let long = "x".repeat(300);
    let mut keys = 0;
    for (name, expires) in [("a", false), ("b", true)] {
        let mut make = |key: &str, words: &[&str], elements: usize| {
            let mut pipe = redis::pipe();
            for n in 0..elements {
                let mut one = redis::Cmd::new();
                for word in words {
                    let word = word.replace("{}", &n.to_string()).replace("{long}", &long);
                    one.arg(word.replace('@', &format!("{key}:{name}")));
                }
                pipe.add_command(one).ignore();
            }
            if expires {
                let key = format!("{key}:{name}");
                pipe.cmd("PEXPIRE")
                    .arg(key)
                    .arg(90_000_000 + elements)
                    .ignore();
            }
            let () = pipe.query(link).expect("is written");
            keys += 1;
        };
        make("int", &["SET", "@", "12"], 1);
        make("raw", &["SET", "@", "{long}"], 1);
        make("list", &["RPUSH", "@", "i{}"], 3);
        make("long list", &["RPUSH", "@", "{long}{}"], 3000);
        make("ints", &["SADD", "@", "{}"], 9);
        make("set", &["SADD", "@", "{long}{}"], 200);
        make("zset", &["ZADD", "@", "{}", "m{}"], 5);
        make("skiplist", &["ZADD", "@", "{}", "{long}{}"], 200);
        make("hash", &["HSET", "@", "f{}", "v"], 4);
        make("table", &["HSET", "@", "f{}", "{long}"], 600);
        make("stream", &["XADD", "@", "*", "f", "v{}"], 250);
    }
    keys
}

fn told(link: &mut Connection, key: &str, words: &[&str]) -> redis::Value {
    let mut command = cmd(words[0]);
    for word in &words[1..] {
        command.arg(word.replace('@', key));
    }
    command.query(link).expect("is answered")
}

fn of<T: redis::FromRedisValue>(value: redis::Value) -> T {
    redis::from_redis_value(value).expect("is of this type")
}

#[test]
fn what_a_server_says() {
    for version in Version::all_available() {
        let server = Server::start(version);
        let mut keys = 0;
        for db in [0, 4] {
            keys += fill(&mut server.connection(db));
        }
        let endpoint = Endpoint::parse(&server.uri()).unwrap();
        let (kept, receipt) = read(Place::Servers(endpoint));
        assert_eq!(
            (kept.0.len(), receipt.keys),
            (keys, keys as u64),
            "{version}"
        );
        for ((db, key), known) in &kept.0 {
            let mut link = server.connection(*db);
            let key = std::str::from_utf8(key).unwrap();
            let mut ask = |words: &[&str]| told(&mut link, key, words);
            let name: String = of(ask(&["TYPE", "@"]));
            assert_eq!(known.key_type.map(KeyType::name), Some(name.as_str()));
            let encoding: String = of(ask(&["OBJECT", "ENCODING", "@"]));
            assert_eq!(
                known.encoding.as_deref(),
                Some(encoding.as_str()),
                "{version} {key}"
            );
            let length = match name.as_str() {
                "string" => "STRLEN",
                "list" => "LLEN",
                "set" => "SCARD",
                "zset" => "ZCARD",
                "hash" => "HLEN",
                _ => "XLEN",
            };
            assert_eq!(
                known.elements,
                Some(of(ask(&[length, "@"]))),
                "{version} {key}"
            );
            assert_eq!(known.size_bytes, of::<u64>(ask(&["MEMORY", "USAGE", "@"])));
            let left: i64 = of(ask(&["PTTL", "@"]));
            let (seconds, micros): (i64, i64) = of(ask(&["TIME"]));
            let expires = (left >= 0).then(|| seconds * 1000 + micros / 1000 + left);
            // The two were asked at different times; to the second is enough to tell them apart.
            let (one, other) = (known.expire_at_ms, expires);
            let distance = one.zip(other).map_or(0, |(one, other)| (one - other).abs());
            assert_eq!(one.is_some(), other.is_some(), "{version} {key}");
            assert!(distance < 1000, "{version} {key}: {one:?} {other:?}");
        }
    }
}

#[test]
fn what_a_file_says() {
    for version in [Version::REDIS_6_2, Version::VALKEY_9_1] {
        // So that one value is longer than what is held at once.
        let server = Server::builder(version).arg("rdbcompression", "no").start();
        fill(&mut server.connection(0));
        let () = cmd("SAVE").query(&mut server.client()).unwrap();
        let endpoint = Endpoint::parse(&server.uri()).unwrap();
        let (of_server, _) = read(Place::Servers(endpoint));
        let file = server.dir().join("dump.rdb");
        let file_bytes = std::fs::metadata(&file).unwrap().len();
        let (of_file, receipt) = read(Place::Files(vec![file]));
        assert!(receipt.size_bytes < file_bytes && receipt.size_bytes > file_bytes / 2);
        assert_eq!(of_file.0.len(), of_server.0.len());
        for (key, known) in &of_file.0 {
            let other = &of_server.0[key];
            let facts = |known: &Known| (known.key_type, known.elements);
            assert_eq!(facts(known), facts(other), "{version} {key:?}");
            let distance = known.expire_at_ms.zip(other.expire_at_ms);
            assert!(distance.is_none_or(|(one, other)| (one - other).abs() < 1000));
            assert_eq!(known.expire_at_ms.is_some(), other.expire_at_ms.is_some());
            assert!(known.encoding.is_some() && known.size_bytes > 0);
        }
    }
}

/// Where that can be had, asking does not count as use.
#[test]
fn nothing_is_touched() {
    let server = Server::builder(Version::VALKEY_8_0)
        .arg("maxmemory-policy", "allkeys-lfu")
        .arg("lfu-log-factor", 0)
        .start();
    let mut link = server.client();
    fill(&mut link);
    let mut uses = |key: &str| of::<u64>(told(&mut link, key, &["OBJECT", "FREQ", "@"]));
    let names = ["raw:a", "list:a", "set:b", "zset:a", "hash:b", "stream:a"];
    let before = names.map(&mut uses);
    read(Place::Servers(Endpoint::parse(&server.uri()).unwrap()));
    assert_eq!(names.map(&mut uses), before);
}

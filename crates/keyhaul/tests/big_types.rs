//! Values of every type over a lowered threshold, at every boundary of chunks, elements and encodings.

mod common;

use common::big::{Job, KINDS, Kind, add, chunked, same, send_all, words};
use common::copying::{noise, run};
use keyhaul_testkit::diff::{DiffOptions, View, assert_equal_with};
use keyhaul_testkit::{Dataset, Server, Version, require, wait_until};
use redis::{Connection, cmd};

const MB: usize = 1024 * 1024;

fn pair() -> (Server, Server) {
    (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::VALKEY_8_0),
    )
}

/// Every kind of value and every odd name, in chunks of so many elements; the second time over what the
/// first has left.
fn every_kind(source: Version, target: Version, chunk_elements: &str, small_only: bool) {
    let (source, target) = (Server::start(source), Server::start(target));
    let dataset = Dataset {
        seed: 401,
        keys: Dataset::EVERY_KIND + 40,
        field_ttls: target.version().has_field_ttls(),
        small_only,
        ..Dataset::default()
    };
    dataset.fill(&source);
    for _ in 0..2 {
        chunked(&source, &target, chunk_elements, &[]);
        same(&source, &target);
    }
}

#[test]
fn every_kind_by_single_elements() {
    every_kind(Version::REDIS_7_0, Version::VALKEY_8_0, "1", true);
}

#[test]
fn every_kind_by_two_and_by_seven() {
    every_kind(Version::REDIS_7_0, Version::VALKEY_8_0, "2", true);
    every_kind(Version::VALKEY_8_0, Version::REDIS_7_0, "7", true);
}

#[test]
fn every_kind_by_the_default_and_with_expiring_fields() {
    every_kind(Version::REDIS_7_0, Version::REDIS_7_0, "10000", false);
    if require(Version::REDIS_8_2) && require(Version::VALKEY_9_1) {
        every_kind(Version::REDIS_8_2, Version::REDIS_8_2, "3", true);
        every_kind(Version::REDIS_8_2, Version::VALKEY_9_1, "100", true);
        every_kind(Version::VALKEY_9_1, Version::VALKEY_9_1, "3", true);
    }
}

#[test]
fn exact_multiples_of_a_chunk_and_one_beside_them() {
    let (source, target) = pair();
    let mut client = source.client();
    for kind in KINDS {
        for count in [1, 2, 49, 50, 51, 99, 100, 101, 500] {
            let key = format!("{kind:?}:{count}");
            send_all(
                &mut client,
                (0..count).map(|n| add(kind, key.as_bytes(), n, b"part")),
            );
        }
    }
    // Chunks are bounded in bytes too.
    for bytes in [1, MB - 1, MB, MB + 1, 2 * MB - 1, 2 * MB, 3 * MB + 1] {
        let value = noise(bytes, bytes as u64);
        send_all(
            &mut client,
            [words(&[b"SET", format!("text:{bytes}").as_bytes(), &value])].into_iter(),
        );
        for kind in [Kind::List, Kind::Hash, Kind::Stream] {
            let key = format!("parts:{kind:?}:{bytes}");
            let part = &value[..bytes.min(MB / 4)];
            let parts = bytes.div_ceil(MB / 4);
            send_all(
                &mut client,
                (0..parts).map(|n| add(kind, key.as_bytes(), n, part)),
            );
        }
    }
    for chunk_elements in ["50", "10000"] {
        chunked(&source, &target, chunk_elements, &[]);
        same(&source, &target);
        run(&target, 0, "FLUSHALL");
    }
}

#[test]
fn elements_larger_than_a_chunk() {
    let (source, target) = pair();
    let mut client = source.client();
    let large = noise(3 * MB, 1);
    for kind in KINDS {
        // One alone, first, last, and between small ones.
        for (name, place, count) in [
            ("one", 0, 1),
            ("first", 0, 40),
            ("last", 39, 40),
            ("mid", 20, 40),
        ] {
            let key = format!("{kind:?}:{name}");
            let part = |n| if n == place { &large[..] } else { b"small" };
            send_all(
                &mut client,
                (0..count).map(|n| add(kind, key.as_bytes(), n, part(n))),
            );
        }
    }
    send_all(
        &mut client,
        [
            words(&[
                b"HSET",
                b"large field".as_slice(),
                &large,
                b"1",
                b"small",
                b"2",
            ]),
            words(&[
                b"XADD",
                b"large name".as_slice(),
                b"1-1",
                &large,
                &large,
                &large,
                b"",
            ]),
            words(&[b"RPUSH", b"two large".as_slice(), &large, &large]),
        ]
        .into_iter(),
    );
    for chunk_elements in ["1", "7", "10000"] {
        chunked(&source, &target, chunk_elements, &[]);
        same(&source, &target);
    }
}

#[test]
fn elements_larger_than_the_memory_stream_through() {
    let (source, target) = pair();
    let mut client = source.client();
    let large = noise(24 * MB, 2);
    for kind in KINDS {
        let key = format!("{kind:?}");
        let part = |n| if n == 1 { &large[..] } else { b"small" };
        send_all(
            &mut client,
            (0..3).map(|n| add(kind, key.as_bytes(), n, part(n))),
        );
    }
    drop(large);
    let ran = chunked(&source, &target, "10000", &["--memory", "8mb"]);
    assert!(ran.outcome.peak_rss_bytes < 64 * MB as u64, "{ran:#?}");
    same(&source, &target);
}

#[test]
fn compact_encodings_that_ignore_count() {
    let (source, target) = pair();
    for option in [
        "hash-max-listpack-entries",
        "hash-max-listpack-value",
        "zset-max-listpack-entries",
        "zset-max-listpack-value",
        "set-max-intset-entries",
        "stream-node-max-entries",
        "stream-node-max-bytes",
    ] {
        run(&source, 0, &format!("CONFIG SET {option} 1000000"));
    }
    let mut client = source.client();
    for kind in [Kind::Hash, Kind::Zset, Kind::Stream] {
        let key = format!("{kind:?}");
        send_all(
            &mut client,
            (0..1500).map(|n| add(kind, key.as_bytes(), n, &noise(900, n as u64))),
        );
    }
    send_all(
        &mut client,
        (0..9000).map(|n: u64| words(&[b"SADD", b"ints".as_slice(), n.to_string().as_bytes()])),
    );
    for (key, expected) in [
        ("Hash", "listpack"),
        ("Zset", "listpack"),
        ("ints", "intset"),
    ] {
        let encoding: String = cmd("OBJECT")
            .arg("ENCODING")
            .arg(key)
            .query(&mut client)
            .expect("text");
        assert_eq!(encoding, expected, "{key}");
    }
    for chunk_elements in ["1", "7", "10000"] {
        chunked(&source, &target, chunk_elements, &[]);
        same(&source, &target);
    }
}

#[test]
fn elements_that_are_empty_or_look_like_numbers() {
    let (source, target) = pair();
    let odd: [&[u8]; 14] = [
        b"",
        b"0",
        b"-0",
        b"007",
        b" 1",
        b"1 ",
        b"+1",
        b"9223372036854775807",
        b"9223372036854775808",
        b"-9223372036854775808",
        b"1e3",
        b"\0",
        b"\r\n",
        b"\xff\xfe\0\x80",
    ];
    let mut commands = Vec::new();
    for (n, word) in odd.iter().enumerate() {
        let (score, id) = (n.to_string(), format!("0-{}", n + 1));
        let text = format!("text:{n}");
        commands.extend([
            words(&[b"HSET", b"hash".as_slice(), word, odd[odd.len() - 1 - n]]),
            words(&[b"SADD", b"set".as_slice(), word]),
            words(&[b"ZADD", b"zset".as_slice(), score.as_bytes(), word]),
            words(&[b"RPUSH", b"list".as_slice(), word, word]),
            words(&[
                b"XADD",
                b"stream".as_slice(),
                id.as_bytes(),
                word,
                b"",
                b"",
                word,
                word,
                b"a",
                word,
                b"b",
            ]),
            words(&[b"SET", text.as_bytes(), word]),
        ]);
    }
    commands.push(words(&[b"HSET", b"".as_slice(), b"", b""]));
    commands.push(words(&[b"RPUSH", b"empty item".as_slice(), b""]));
    commands.push(words(&[b"SADD", b"empty member".as_slice(), b""]));
    commands.push(words(&[b"ZADD", b"empty in zset".as_slice(), b"0", b""]));
    // Bytes that only a bitmap or a gap makes.
    commands.push(words(&[b"SETRANGE", b"gap".as_slice(), b"3000000", b"x"]));
    send_all(&mut source.client(), commands.into_iter());
    for chunk_elements in ["1", "2", "10000"] {
        chunked(&source, &target, chunk_elements, &[]);
        same(&source, &target);
        run(&target, 0, "FLUSHALL");
    }
}

/// Members and the bits of their scores.
fn scores(client: &mut Connection, key: &str) -> Vec<(Vec<u8>, u64)> {
    let all: Vec<(Vec<u8>, String)> = cmd("ZRANGE")
        .arg(key)
        .arg(0)
        .arg(-1)
        .arg("WITHSCORES")
        .query(client)
        .expect("is a zset");
    let bits = |text: String| text.parse::<f64>().expect("is a number").to_bits();
    all.into_iter()
        .map(|(member, score)| (member, bits(score)))
        .collect()
}

#[test]
fn scores_are_exact_to_the_bit() {
    let (source, target) = pair();
    let mut client = source.client();
    let odd = [
        "inf",
        "-inf",
        "1e-320",
        "-1e-320",
        "5e-324",
        "2.2250738585072014e-308",
        "1.7976931348623157e308",
        "0.30000000000000004",
        "0.1",
        "3.1415926535897931",
        "123456789012345678",
        "9007199254740993",
        "1e17",
        "1e21",
        "-1.0000000000000002",
        "1844674407370955161500",
    ];
    for (key, filler) in [("compact", 0), ("skiplist", 3000)] {
        send_all(
            &mut client,
            (0..filler).map(|n| add(Kind::Zset, key.as_bytes(), n, b"filler")),
        );
        for score in odd {
            cmd("ZADD")
                .arg(key)
                .arg(score)
                .arg(score)
                .exec(&mut client)
                .expect("is taken");
        }
    }
    // A skiplist keeps the sign of a zero, a compact encoding does not.
    cmd("ZADD")
        .arg("skiplist")
        .arg("-0")
        .arg("minus zero")
        .exec(&mut client)
        .expect("is taken");
    for chunk_elements in ["1", "10000"] {
        chunked(&source, &target, chunk_elements, &[]);
        same(&source, &target);
        for key in ["compact", "skiplist"] {
            let sides = [scores(&mut client, key), scores(&mut target.client(), key)];
            let differing = sides[0].iter().zip(&sides[1]).find(|(a, b)| a != b);
            assert_eq!(differing, None, "{key}");
        }
        run(&target, 0, "FLUSHALL");
    }
}

#[test]
fn a_table_that_shrinks_shows_elements_twice() {
    let (source, target) = pair();
    let mut client = source.client();
    for kind in [Kind::Hash, Kind::Zset, Kind::Set] {
        let key = format!("{kind:?}");
        send_all(
            &mut client,
            (0..30_000).map(|n| add(kind, key.as_bytes(), n, b"p")),
        );
        let remove = match kind {
            Kind::Hash => "HDEL",
            Kind::Zset => "ZREM",
            _ => "SREM",
        };
        // The table is far too wide now: it shrinks step by step, with each look at it.
        let gone = (0..28_500).map(|n| match kind {
            Kind::Hash => words(&[remove, &key, &n.to_string()]),
            _ => words(&[remove, &key, &format!("{n}:p")]),
        });
        send_all(&mut client, gone);
    }
    for chunk_elements in ["3", "100"] {
        chunked(&source, &target, chunk_elements, &[]);
        same(&source, &target);
    }
}

#[test]
fn expiries_of_keys_are_kept_to_the_millisecond() {
    let (source, target) = pair();
    let mut client = source.client();
    for (n, kind) in KINDS.into_iter().enumerate() {
        let key = format!("{kind:?}");
        send_all(
            &mut client,
            (0..300).map(|n| add(kind, key.as_bytes(), n, b"part")),
        );
        if n % 2 == 0 {
            run(
                &source,
                0,
                &format!("PEXPIREAT {key} {}", 4_102_444_800_123_u64 + n as u64),
            );
        }
        // What is there already expires otherwise.
        run(&target, 0, &format!("SET {key} old PXAT 4102444800999"));
    }
    chunked(&source, &target, "100", &[]);
    same(&source, &target);
}

#[test]
fn a_key_that_expires_during_its_copy_is_gone() {
    let (source, target) = pair();
    let mut client = source.client();
    for kind in KINDS {
        let key = format!("{kind:?}");
        send_all(
            &mut client,
            (0..1000).map(|n| add(kind, key.as_bytes(), n, &noise(500, n as u64))),
        );
        run(&source, 0, &format!("PEXPIRE {key} 700"));
    }
    run(&source, 0, "SET stays 1");
    let options = [
        "--chunk-threshold",
        "1kb",
        "--chunk-size",
        "50",
        "--rate-limit",
        "500kb",
    ];
    let job = Job::replicate(&source.uri(), &target.uri(), &options);
    job.ends(&[&target], 0);
    wait_until(
        "the rest expires",
        std::time::Duration::from_secs(5),
        || {
            cmd("KEYS")
                .arg("*")
                .query::<Vec<String>>(&mut target.client())
                .expect("is answered")
                == ["stays"]
        },
    );
}

fn expiring_fields(source: &Server, soon_ms: Option<u64>) {
    let mut client = source.client();
    send_all(
        &mut client,
        (0..2000).map(|n| add(Kind::Hash, b"hash", n, b"a value of its own")),
    );
    let hash = |ms: u64, word: &str, every: usize, rest: usize| -> Vec<redis::Cmd> {
        let numbers = (0..2000).filter(|n| n % every == rest);
        numbers
            .map(|n| {
                words(&[
                    word,
                    "hash",
                    &(ms + n as u64).to_string(),
                    "FIELDS",
                    "1",
                    &n.to_string(),
                ])
            })
            .collect()
    };
    send_all(
        &mut client,
        hash(4_102_444_800_001, "HPEXPIREAT", 3, 0).into_iter(),
    );
    if let Some(ms) = soon_ms {
        send_all(&mut client, hash(ms, "HPEXPIRE", 3, 1).into_iter());
    }
}

#[test]
fn fields_that_expire_during_the_copy() {
    if !(require(Version::REDIS_8_2) && require(Version::VALKEY_9_1)) {
        return;
    }
    for version in [Version::REDIS_8_2, Version::VALKEY_9_1] {
        let (source, target) = (Server::start(Version::REDIS_8_2), Server::start(version));
        expiring_fields(&source, Some(300));
        chunked(&source, &target, "50", &["--rate-limit", "80kb"]);
        let alive = |server: &Server| -> usize {
            let fields: Vec<String> = cmd("HKEYS")
                .arg("hash")
                .query(&mut server.client())
                .expect("is a hash");
            fields.len()
        };
        wait_until("they expire", std::time::Duration::from_secs(10), || {
            [alive(&source), alive(&target)] == [1333, 1333]
        });
        same(&source, &target);
    }
}

#[test]
fn a_target_without_expiring_fields() {
    if !require(Version::REDIS_8_2) {
        return;
    }
    let (source, target) = (
        Server::start(Version::REDIS_8_2),
        Server::start(Version::VALKEY_8_0),
    );
    expiring_fields(&source, None);
    run(&target, 0, "SET hash old");
    let options = ["--chunk-threshold", "1kb", "--chunk-size", "100"];
    let job = Job::replicate(&source.uri(), &target.uri(), &options);
    job.ends(&[&target], 4)
        .reasons_say("fields of the hash expire");
    assert_eq!(
        run(&target, 0, "GET hash"),
        redis::Value::BulkString(b"old".into())
    );
    let options = [&options[..], &["--accept-loss", "field-ttl"]].concat();
    Job::replicate(&source.uri(), &target.uri(), &options).ends(&[&target], 0);
    // Without the expiries it is equal.
    let fields: Vec<usize> = (0..2000).collect();
    cmd("HPERSIST")
        .arg("hash")
        .arg("FIELDS")
        .arg(2000)
        .arg(&fields)
        .exec(&mut source.client())
        .expect("is taken");
    assert_equal_with(
        &View::server(&source),
        &View::server(&target),
        &DiffOptions::default(),
    );
}

//! Big values of RDB files and snapshots go into servers element by element.

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::big::{Job, KINDS, Kind, PATIENCE, Underway, add, send_all, staging_keys, words};
use common::copying::{Ran, listed, noise, run};
use common::rdb::{Folder, assert_same, prompt, saved, uri};
use keyhaul_testkit::diff::{DiffOptions, View, assert_equal_with};
use keyhaul_testkit::{Cluster, Direction, Proxy, Server, Version, require, wait_until};
use redis::cmd;

/// What is not held as a whole is longer than 512 KB; the files here hold values of about 1 MB.
const LOW: [&str; 2] = ["--chunk-threshold", "50kb"];
const PART_BYTES: usize = 250;
const PARTS: usize = 4000;
/// When keys expire here.
const AT: &str = "4102444800123";

/// A value of each kind, not to be compressed, some that expire, and a few small keys.
fn fill(server: &Server) -> u64 {
    let mut client = server.client();
    for kind in KINDS {
        let part = |n: usize| noise(PART_BYTES, n as u64);
        let key = format!("big:{kind:?}");
        let all = (0..PARTS).map(|n| add(kind, key.as_bytes(), n, &part(n)));
        send_all(&mut client, all);
        run(server, 0, &format!("SET small:{kind:?} x"));
    }
    for key in ["big:List", "big:Hash", "small:Text"] {
        let at = ["PEXPIREAT", key, AT];
        send_all(&mut client, [words(&at)].into_iter());
    }
    KINDS.len() as u64
}

/// A copy of the dump, saved once no snapshot for a replica is under way any more.
fn saved_again(source: &Server, folder: &Folder) -> String {
    wait_until("the last snapshot has ended", PATIENCE, || {
        source.info("rdb_bgsave_in_progress") == "0"
    });
    saved(source, folder, "a.rdb")
}

/// Both ways into a target: from the file and by PSYNC, each into a server of its own.
fn both_ways(source: &Server, target: Version, options: &[&str], check: impl Fn(&Server, &Ran)) {
    let folder = Folder::new();
    let file = saved_again(source, &folder);
    for (place, more) in [
        (uri(&file), &[][..]),
        (source.uri(), &["--method", "psync"][..]),
    ] {
        let target = Server::start(target);
        let options = [&LOW[..], options, more].concat();
        let job = Job::replicate(&place, &target.uri(), &options);
        let ran = job.run();
        job.left_nothing(&[&target]);
        check(&target, &ran);
    }
}

/// All is there, and so many keys went by element.
#[track_caller]
fn whole(source: &Server, target: &Server, ran: &Ran, chunked: u64) {
    assert_eq!(ran.outcome.code, Some(0), "{ran:#?}");
    assert_eq!(ran.count("chunked"), chunked, "{ran:#?}");
    assert_same(source, target);
}

fn start(version: Version) -> Server {
    // Else values that are long in memory would be short in the file.
    prompt(version).arg("rdbcompression", "no").start()
}

#[test]
fn every_type() {
    let source = start(Version::REDIS_7_0);
    let chunked = fill(&source);
    for (target, chunk_elements) in [
        (Version::REDIS_7_0, "10000"),
        (Version::VALKEY_8_0, "10000"),
        (Version::VALKEY_8_0, "7"),
    ] {
        let options = ["--chunk-size", chunk_elements];
        both_ways(&source, target, &options, |target, ran| {
            whole(&source, target, ran, chunked);
        });
    }
    // The default threshold is far above these.
    let folder = Folder::new();
    let file = uri(&saved_again(&source, &folder));
    for (place, more) in [(file, &[][..]), (source.uri(), &["--method", "psync"][..])] {
        let target = Server::start(Version::REDIS_7_0);
        let ran = Job::replicate(&place, &target.uri(), more).ends(&[&target], 0);
        whole(&source, &target, &ran, 0);
    }
}

#[test]
fn other_versions() {
    for (source, target) in [
        (Version::REDIS_6_2, Version::VALKEY_8_0),
        (Version::REDIS_7_0, Version::REDIS_6_0),
        (Version::REDIS_8_2, Version::REDIS_6_2),
        (Version::REDIS_8_2, Version::VALKEY_9_1),
        (Version::VALKEY_9_1, Version::REDIS_7_0),
    ] {
        if require(source) && require(target) {
            let source = start(source);
            let chunked = fill(&source);
            both_ways(&source, target, &[], |target, ran| {
                whole(&source, target, ran, chunked);
            });
        }
    }
}

#[test]
fn into_a_cluster() {
    let (folder, source) = (Folder::new(), start(Version::REDIS_7_0));
    let chunked = fill(&source);
    let file = saved(&source, &folder, "a.rdb");
    let cluster = Cluster::start(Version::VALKEY_8_0, 3);
    let ran = Job::replicate(&uri(&file), &cluster.seeds(), &LOW)
        .run()
        .exits_with(0);
    assert_eq!(ran.count("chunked"), chunked, "{ran:#?}");
    let views = (View::server(&source), View::cluster(&cluster));
    assert_equal_with(&views.0, &views.1, &DiffOptions::default());
}

#[test]
fn compressed_and_packed() {
    let source = prompt(Version::REDIS_7_0).start();
    for (name, value) in [
        ("list-compress-depth", "1"),
        ("hash-max-ziplist-entries", "1000000"),
        ("hash-max-ziplist-value", "1000000"),
        ("zset-max-ziplist-entries", "1000000"),
        ("zset-max-ziplist-value", "1000000"),
        ("set-max-intset-entries", "1000000"),
        ("stream-node-max-bytes", "1mb"),
    ] {
        run(&source, 0, &format!("CONFIG SET {name} {value}"));
    }
    let mut client = source.client();
    // Half of each part is the same, so that it shrinks, and not too much.
    let part = |n: usize| [noise(60, n as u64), vec![b'c'; 60]].concat();
    for kind in KINDS {
        let key = format!("packed:{kind:?}");
        let all = (0..PARTS * 4).map(|n| add(kind, key.as_bytes(), n, &part(n)));
        send_all(&mut client, all);
    }
    // An item of a list that lies in a node of its own, and one above a chunk.
    let (large, larger) = (noise(100_000, 1), noise(1_500_000, 2));
    let all = [&large, &larger, &large].map(|item| words(&[b"RPUSH", &b"items"[..], item]));
    send_all(&mut client, all.into_iter());
    let numbers =
        (0..200_000_u64).map(|n| words(&["SADD", "numbers", &format!("{}", n * 1_000_003)]));
    send_all(&mut client, numbers);
    both_ways(&source, Version::VALKEY_8_0, &[], |target, ran| {
        whole(&source, target, ran, 8);
    });
}

#[test]
fn scores_bit_by_bit() {
    let source = start(Version::REDIS_7_0);
    let scores = [
        "-0",
        "0",
        "inf",
        "-inf",
        "5e-324",
        "-1.7976931348623157e308",
        "0.30000000000000004",
    ];
    let all = (0..PARTS).map(|n| {
        let score = scores[n % scores.len()].as_bytes();
        words(&[b"ZADD", &b"scores"[..], score, &noise(PART_BYTES, n as u64)])
    });
    send_all(&mut source.client(), all);
    both_ways(&source, Version::REDIS_7_0, &[], |target, ran| {
        whole(&source, target, ran, 1);
    });
}

/// Large hashes: one with fields that expire, one without.
fn fill_expiring(source: &Server) {
    let mut client = source.client();
    for key in ["expiring", "plain"] {
        let value = |n: usize| noise(PART_BYTES, n as u64);
        let all = (0..PARTS)
            .map(|n| words(&[b"HSET", key.as_bytes(), n.to_string().as_bytes(), &value(n)]));
        send_all(&mut client, all);
    }
    let times = (0..PARTS).step_by(3).map(|n| {
        let (at, field) = (format!("41024448{n:05}"), n.to_string());
        words(&["HPEXPIREAT", "expiring", &at, "FIELDS", "1", &field])
    });
    send_all(&mut client, times);
}

#[test]
fn fields_that_expire() {
    if !require(Version::REDIS_8_2) || !require(Version::VALKEY_9_1) {
        return;
    }
    let source = start(Version::REDIS_8_2);
    fill_expiring(&source);
    for target in [Version::REDIS_8_2, Version::VALKEY_9_1] {
        both_ways(&source, target, &[], |target, ran| {
            whole(&source, target, ran, 2);
        });
    }
    both_ways(&source, Version::REDIS_7_0, &[], |_, ran| {
        assert_eq!(ran.outcome.code, Some(4), "{ran:#?}");
        assert_eq!(ran.not_moved(), listed(0, &["expiring"]), "{ran:#?}");
        ran.reasons_say("--accept-loss field-ttl");
    });
    let accepted = ["--accept-loss", "field-ttl"];
    both_ways(&source, Version::REDIS_7_0, &accepted, |target, ran| {
        assert_eq!(ran.outcome.code, Some(0), "{ran:#?}");
        let fields = |server: &Server| -> BTreeMap<String, Vec<u8>> {
            let all = cmd("HGETALL").arg("expiring").query(&mut server.client());
            all.expect("is answered")
        };
        assert_eq!(fields(&source), fields(target));
    });
    let other = start(Version::VALKEY_9_1);
    fill_expiring(&other);
    both_ways(&other, Version::REDIS_8_2, &[], |target, ran| {
        whole(&other, target, ran, 2);
    });
}

#[test]
fn fields_whose_time_is_over() {
    if !require(Version::REDIS_8_2) {
        return;
    }
    let folder = Folder::new();
    let source = start(Version::REDIS_8_2);
    let field = |n: usize| n.to_string();
    let all = (0..PARTS).map(|n| {
        words(&[
            b"HSET",
            &b"h"[..],
            field(n).as_bytes(),
            &noise(PART_BYTES, 1),
        ])
    });
    let mut client = source.client();
    send_all(&mut client, all);
    run(&source, 0, "HPEXPIRE h 400 FIELDS 2 5 6");
    let file = saved(&source, &folder, "a.rdb");
    // They are in the file, and gone when it is loaded.
    wait_until("they expire", PATIENCE, || {
        let length: usize = cmd("HLEN")
            .arg("h")
            .query(&mut source.client())
            .expect("is answered");
        length == PARTS - 2
    });
    for version in [Version::REDIS_8_2, Version::REDIS_7_0] {
        let target = Server::start(version);
        Job::replicate(&uri(&file), &target.uri(), &LOW).ends(&[&target], 0);
        assert_same(&source, &target);
    }
}

#[test]
fn streams() {
    for (source, target) in [
        (Version::REDIS_7_0, Version::REDIS_7_0),
        (Version::REDIS_7_0, Version::VALKEY_8_0),
        (Version::REDIS_6_2, Version::VALKEY_8_0),
        (Version::REDIS_7_0, Version::REDIS_6_0),
    ] {
        if !require(source) || !require(target) {
            continue;
        }
        let source = start(source);
        let mut client = source.client();
        let names = ["groups", "deleted", "trimmed", "emptied"];
        for name in names {
            let entry = |n: usize| {
                let id = format!("{n}-5");
                words(&[
                    b"XADD",
                    name.as_bytes(),
                    id.as_bytes(),
                    b"field",
                    &noise(PART_BYTES, n as u64),
                ])
            };
            send_all(&mut client, (1..=PARTS).map(entry));
        }
        for line in [
            "XGROUP CREATE groups none 0",
            "XGROUP CREATE groups some 0",
            "XREADGROUP GROUP some anna COUNT 1500 STREAMS groups >",
            "XREADGROUP GROUP some bert COUNT 300 STREAMS groups >",
            "XGROUP CREATECONSUMER groups some idle",
            "XACK groups some 3-5 4-5",
            "XCLAIM groups some carl 0 1-5 250-5 TIME 1234567890123 RETRYCOUNT 77",
            "XCLAIM groups some bert 0 2-5 TIME 1700000000000 RETRYCOUNT 4000000000",
            "XGROUP CREATE deleted g 0",
            "XGROUP CREATE deleted other 0",
            "XREADGROUP GROUP g anna COUNT 400 STREAMS deleted >",
            "XREADGROUP GROUP other anna COUNT 250 STREAMS deleted >",
            "XDEL deleted 200-5 399-5 400-5 401-5 700-5 4000-5 3999-5",
            "XGROUP CREATE trimmed g 0",
            "XREADGROUP GROUP g anna COUNT 400 STREAMS trimmed >",
            "XTRIM trimmed MAXLEN = 3900",
            "XGROUP CREATE emptied g 0",
            "XREADGROUP GROUP g anna COUNT 4000 STREAMS emptied >",
            "XTRIM emptied MAXLEN = 0",
            "XSETID trimmed 18446744073709551615-18446744073709551615",
        ] {
            run(&source, 0, line);
        }
        if !target.has_redis_feature(6, 2) {
            // It has no command that makes a consumer with nothing pending.
            run(&source, 0, "XGROUP DELCONSUMER groups some idle");
        }
        // No entries, but groups: their names alone are long.
        for n in 0..30 {
            let name = noise(30_000, n);
            let create = words(&[
                b"XGROUP",
                b"CREATE",
                &b"never"[..],
                &name,
                b"$",
                b"MKSTREAM",
            ]);
            send_all(&mut client, [create].into_iter());
        }
        for chunk_elements in ["10000", "100"] {
            let options = ["--chunk-size", chunk_elements];
            both_ways(&source, target, &options, |target, ran| {
                assert_eq!(ran.outcome.code, Some(0), "{ran:#?}");
                // What is pending of "emptied" takes less than what goes by element.
                assert!(ran.count("chunked") >= 4, "{ran:#?}");
                assert_same(&source, target);
            });
        }
    }
}

/// Two files that hold a key of one name: a big hash, and then a big list.
fn two_files(folder: &Folder) -> (String, Server) {
    let source = start(Version::REDIS_7_0);
    let mut client = source.client();
    let values = |n: usize| noise(PART_BYTES, n as u64);
    let fields =
        (0..PARTS).map(|n| words(&[b"HSET", &b"k"[..], n.to_string().as_bytes(), &values(n)]));
    send_all(&mut client, fields);
    let one = saved(&source, folder, "1.rdb");
    run(&source, 0, "DEL k");
    send_all(
        &mut client,
        (0..PARTS).map(|n| words(&[b"RPUSH", &b"k"[..], &values(n)])),
    );
    let two = saved(&source, folder, "2.rdb");
    (format!("file:{one},{two}"), source)
}

#[test]
fn a_key_twice_in_two_files() {
    let folder = Folder::new();
    let (both, source) = two_files(&folder);
    for (choice, code, kind, chunked) in [
        ("replace", 0, "list", 2),
        ("skip", 0, "hash", 1),
        ("fail", 4, "hash", 1),
    ] {
        let target = Server::start(Version::VALKEY_8_0);
        let options = [&LOW[..], &["--on-conflict", choice]].concat();
        let job = Job::replicate(&both, &target.uri(), &options);
        let ran = job.ends(&[&target], code);
        assert_eq!(ran.count("chunked"), chunked, "{choice}: {ran:#?}");
        let found: String = cmd("TYPE")
            .arg("k")
            .query(&mut target.client())
            .expect("is answered");
        assert_eq!(found, kind, "{choice}");
        if choice == "replace" {
            assert_same(&source, &target);
        }
    }
}

#[test]
fn keys_that_are_there_already() {
    let (folder, source) = (Folder::new(), start(Version::REDIS_7_0));
    let chunked = fill(&source);
    let file = saved(&source, &folder, "a.rdb");
    let target = Server::start(Version::VALKEY_8_0);
    run(&target, 0, "SET big:Hash old");
    for (choice, code) in [("fail", 4), ("skip", 0)] {
        let options = [&LOW[..], &["--on-conflict", choice]].concat();
        let ran = Job::replicate(&uri(&file), &target.uri(), &options).ends(&[&target], code);
        let old: String = cmd("GET")
            .arg("big:Hash")
            .query(&mut target.client())
            .expect("is answered");
        assert_eq!(old, "old", "{ran:#?}");
        if choice == "fail" {
            assert_eq!(ran.not_moved(), listed(0, &["big:Hash"]), "{ran:#?}");
            assert_eq!(ran.count("chunked"), chunked - 1, "{ran:#?}");
        }
    }
    let ran = Job::replicate(&uri(&file), &target.uri(), &LOW).ends(&[&target], 0);
    whole(&source, &target, &ran, chunked);
}

const SLOWLY: [&str; 6] = [
    "--chunk-threshold",
    "50kb",
    "--chunk-size",
    "100",
    "--rate-limit",
    "3mb",
];

/// A string of many chunks, and a stream with groups and entries that are pending and gone.
fn fill_longer(server: &Server) -> u64 {
    let mut client = server.client();
    let text = noise(4_000_000, 3);
    let entry = |n: usize| add(Kind::Stream, b"pending", n, &noise(PART_BYTES, n as u64));
    let all = (0..PARTS).map(entry);
    send_all(
        &mut client,
        all.chain([words(&[b"SET", &b"text"[..], &text])]),
    );
    for group in ["g", "h", "i"] {
        run(server, 0, &format!("XGROUP CREATE pending {group} 0"));
        let line = format!("XREADGROUP GROUP {group} anna COUNT 3000 STREAMS pending >");
        run(server, 0, &line);
    }
    run(server, 0, "XDEL pending 1-7 200-7 201-7 2500-7");
    2
}

/// A copy from a file that takes a while, and what it is done to; then all is there.
fn disturbed(
    fill: impl Fn(&Server) -> u64,
    disturb: impl Fn(&Underway, &mut Server, &Proxy),
) -> Ran {
    let (folder, source) = (Folder::new(), start(Version::REDIS_7_0));
    let chunked = fill(&source);
    let file = saved(&source, &folder, "a.rdb");
    let mut target = Server::start(Version::VALKEY_8_0);
    let proxy = Proxy::start(&target);
    let job = Job::replicate(&uri(&file), &proxy.uri(), &SLOWLY);
    let underway = job.start();
    underway.wait_staged(&target, 300_000);
    disturb(&underway, &mut target, &proxy);
    let ran = underway.finish();
    job.left_nothing(&[&target]);
    assert!(ran.count("retries") > 0, "{ran:#?}");
    whole(&source, &target, &ran, chunked);
    ran
}

#[test]
fn a_target_that_restarts_with_its_data() {
    for fill in [fill, fill_longer] {
        disturbed(fill, |_, target, _| {
            target.shutdown_save();
            target.restart();
        });
    }
}

#[test]
fn a_target_that_restarts_without_its_data() {
    disturbed(fill_longer, |_, target, _| {
        target.stop();
        target.restart();
    });
}

fn cut(fill: impl Fn(&Server) -> u64, direction: Direction, offsets: &[u64]) {
    disturbed(fill, |_, _, proxy| {
        for offset in offsets {
            proxy.cut_after_bytes(direction, *offset);
            wait_until("the link is cut", PATIENCE, || proxy.has_cut(direction));
        }
    });
}

#[test]
fn cut_off_in_our_requests() {
    let offsets = [100_003, 1, 700_000, 5, 300_000, 77_777, 3];
    cut(fill, Direction::ToServer, &offsets);
    cut(fill_longer, Direction::ToServer, &offsets);
}

#[test]
fn cut_off_in_its_replies() {
    let offsets = [10, 1, 200, 40, 333, 7, 100, 2];
    cut(fill, Direction::FromServer, &offsets);
    cut(fill_longer, Direction::FromServer, &offsets);
}

/// Cut again and again until it is done, so that it also happens to groups and to the last steps.
#[test]
fn cut_off_all_the_time() {
    let ran = disturbed(fill_longer, |underway, _, proxy| {
        for round in 0_u64.. {
            if underway.process.rss_peak_bytes_now().is_none() {
                return;
            }
            let direction = match round % 2 {
                0 => Direction::FromServer,
                _ => Direction::ToServer,
            };
            proxy.cut_after_bytes(direction, 2000 + round * 977 % 150_000);
            let until = Instant::now() + Duration::from_millis(400);
            while !proxy.has_cut(direction) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    assert!(ran.count("retries") > 5, "{ran:#?}");
}

#[test]
fn memory_does_not_grow_with_the_value() {
    const MB: u64 = 1024 * 1024;
    let (folder, source) = (Folder::new(), start(Version::REDIS_7_0));
    let mut client = source.client();
    let large = noise(30_000, 1);
    for kind in [Kind::Hash, Kind::List, Kind::Stream] {
        let key = format!("large:{kind:?}");
        send_all(
            &mut client,
            (0..1500).map(|n| add(kind, key.as_bytes(), n, &large)),
        );
    }
    let file = saved(&source, &folder, "a.rdb");
    let target = Server::start(Version::REDIS_7_0);
    let ran = Job::replicate(&uri(&file), &target.uri(), &LOW).ends(&[&target], 0);
    whole(&source, &target, &ran, 3);
    assert!(ran.outcome.peak_rss_bytes < 48 * MB, "{ran:#?}");
}

#[test]
fn an_interrupt_leaves_nothing_half_done() {
    let (folder, source) = (Folder::new(), start(Version::REDIS_7_0));
    let chunked = fill(&source);
    let file = saved(&source, &folder, "a.rdb");
    let target = Server::start(Version::VALKEY_8_0);
    let job = Job::replicate(&uri(&file), &target.uri(), &SLOWLY);
    let underway = job.start();
    underway.wait_staged(&target, 300_000);
    underway.process.interrupt();
    let ran = underway.finish();
    assert_eq!(ran.outcome.code, Some(5), "{ran:#?}");
    assert_eq!(staging_keys(&target), []);
    let ran = Job::replicate(&uri(&file), &target.uri(), &LOW).ends(&[&target], 0);
    whole(&source, &target, &ran, chunked);
}

/// What a killed run left is removed by the same command.
#[test]
fn a_run_that_is_killed() {
    let (folder, source) = (Folder::new(), start(Version::REDIS_7_0));
    let chunked = fill(&source);
    let file = saved(&source, &folder, "a.rdb");
    let target = Server::start(Version::VALKEY_8_0);
    let job = Job::replicate(&uri(&file), &target.uri(), &SLOWLY);
    job.kill_when_staged(&target, 300_000);
    let ran = job.ends(&[&target], 0);
    whole(&source, &target, &ran, chunked);
}

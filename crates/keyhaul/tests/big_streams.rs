//! Streams over a lowered threshold: ids, counters, groups, consumers and what is pending.

mod common;

use common::big::{Job, chunked, send_all, words};
use common::copying::run;
use keyhaul_testkit::diff::{DiffOptions, View, assert_equal_with};
use keyhaul_testkit::{Server, Version, require};
use redis::{Cmd, cmd};

/// Entries of a stream here.
const ENTRIES: usize = 1200;

fn line(text: &str) -> Cmd {
    words(&text.split(' ').collect::<Vec<_>>())
}

fn entries(key: &str) -> Vec<Cmd> {
    (1..=ENTRIES)
        .map(|n| line(&format!("XADD {key} {n}-5 field {n}:{}", "v".repeat(30))))
        .collect()
}

/// Streams with all that can be told of one; what only 7.0 and later have where `counters`.
fn fill(server: &Server, counters: bool) {
    let mut all = Vec::new();
    all.extend(entries("plain"));
    // Groups that have read nothing, some, all; and one beyond the end.
    all.extend(entries("groups"));
    for text in [
        "XGROUP CREATE groups none 0",
        "XGROUP CREATE groups all $",
        "XGROUP CREATE groups beyond 99999-9",
        "XGROUP CREATE groups some 0",
        "XREADGROUP GROUP some anna COUNT 500 STREAMS groups >",
        "XREADGROUP GROUP some bert COUNT 300 STREAMS groups >",
        "XGROUP CREATECONSUMER groups some idle",
        "XGROUP CREATECONSUMER groups none alone",
        "XACK groups some 3-5 4-5 500-5 501-5 800-5",
        "XCLAIM groups some carl 0 1-5 250-5 799-5 TIME 1234567890123 RETRYCOUNT 77",
        "XCLAIM groups some anna 0 600-5 TIME 1 RETRYCOUNT 0",
        "XCLAIM groups some bert 0 2-5 TIME 1700000000000 RETRYCOUNT 4000000000",
        "XGROUP CREATECONSUMER groups some {}",
    ] {
        all.push(line(text));
    }
    // Odd names of groups and consumers, the empty one too.
    all.extend(entries("names"));
    for name in [b"".as_slice(), b"\0\xff", b"{a}", b"a b"] {
        all.push(words(&[
            b"XGROUP".as_slice(),
            b"CREATE",
            b"names",
            name,
            b"0",
        ]));
        all.push(words(&[
            b"XREADGROUP".as_slice(),
            b"GROUP",
            name,
            name,
            b"COUNT",
            b"9",
            b"STREAMS",
            b"names",
            b">",
        ]));
    }
    // What is pending was deleted or trimmed away.
    all.extend(entries("deleted"));
    for text in [
        "XGROUP CREATE deleted g 0",
        "XREADGROUP GROUP g anna COUNT 400 STREAMS deleted >",
        "XREADGROUP GROUP g bert COUNT 400 STREAMS deleted >",
        "XDEL deleted 200-5 399-5 400-5 401-5 700-5",
        "XTRIM deleted MAXLEN = 1100",
        // The top entry too: the last id stays above it.
        "XDEL deleted 1200-5 1199-5",
    ] {
        all.push(line(text));
    }
    // All entries are gone, what is pending is not.
    all.extend(entries("emptied"));
    all.push(line("XGROUP CREATE emptied g 0"));
    all.push(line("XREADGROUP GROUP g anna COUNT 50 STREAMS emptied >"));
    all.push(line("XTRIM emptied MAXLEN = 0"));
    all.push(line("XGROUP CREATE never g $ MKSTREAM"));
    all.push(line("XGROUP CREATECONSUMER never g anna"));
    all.extend(entries("ahead"));
    all.push(line(
        "XSETID ahead 18446744073709551615-18446744073709551615",
    ));
    all.push(line("XADD one 0-1 a b"));
    all.push(line(
        "XADD top 18446744073709551615-18446744073709551615 a b",
    ));
    // Many fields, the same name again and again, names that differ from entry to entry.
    for n in 1..40 {
        let mut command = words(&["XADD", "fields", &format!("{n}-0")]);
        for field in 0..n * 10 {
            command
                .arg(if n % 2 == 0 {
                    "same".into()
                } else {
                    format!("f{field}")
                })
                .arg(field);
        }
        all.push(command);
    }
    // Same milliseconds, many sequence numbers.
    all.extend((1..=ENTRIES).map(|n| line(&format!("XADD sequence 7-{n} a {n}"))));
    if counters {
        all.extend(entries("counted"));
        for text in [
            "XGROUP CREATE counted known 500-5 ENTRIESREAD 500",
            "XGROUP CREATE counted unknown 500-5",
            "XGROUP CREATE counted wrong 500-5 ENTRIESREAD 7",
            "XGROUP CREATE counted zero 0 ENTRIESREAD 0",
            "XDEL counted 5-5 1100-5",
            "XSETID counted 5000-0 ENTRIESADDED 123456 MAXDELETEDID 4000-1",
            "XSETID never 77-0 ENTRIESADDED 9 MAXDELETEDID 70-2",
        ] {
            all.push(line(text));
        }
    }
    let mut client = server.client();
    send_all(&mut client, all.into_iter());
}

#[track_caller]
fn equal(source: &Server, target: &Server) {
    let knows = |server: &Server| server.version().has_redis_feature(7, 0);
    let options = DiffOptions {
        ignore_stream_counters: !(knows(source) && knows(target)),
        ..DiffOptions::default()
    };
    assert_equal_with(&View::server(source), &View::server(target), &options);
}

fn between(source: Version, target: Version, sizes: &[&str]) {
    if !(require(source) && require(target)) {
        return;
    }
    let (source, target) = (Server::start(source), Server::start(target));
    fill(&source, source.version().has_redis_feature(7, 0));
    for size in sizes {
        chunked(&source, &target, size, &[]);
        equal(&source, &target);
        run(&target, 0, "FLUSHALL");
    }
}

#[test]
fn all_of_a_stream_in_chunks_of_any_size() {
    between(
        Version::REDIS_7_0,
        Version::VALKEY_8_0,
        &["1", "7", "100", "10000"],
    );
}

#[test]
fn all_of_a_stream_between_newer_versions() {
    between(Version::REDIS_8_2, Version::REDIS_8_2, &["50"]);
    between(Version::VALKEY_9_1, Version::VALKEY_9_1, &["400"]);
}

#[test]
fn all_of_a_stream_up_and_down() {
    between(Version::REDIS_6_2, Version::REDIS_8_2, &["100"]);
    between(Version::REDIS_8_2, Version::REDIS_6_2, &["100"]);
}

#[test]
fn more_is_pending_than_there_are_entries_in_a_chunk() {
    let (source, target) = (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::VALKEY_8_0),
    );
    let mut all: Vec<Cmd> = (1..=12_000)
        .map(|n| line(&format!("XADD s {n}-0 a b")))
        .collect();
    for group in ["a", "b"] {
        all.push(line(&format!("XGROUP CREATE s {group} 0")));
        for consumer in 0..60 {
            let text = format!("XREADGROUP GROUP {group} c{consumer} COUNT 200 STREAMS s >");
            all.push(line(&text));
        }
    }
    send_all(&mut source.client(), all.into_iter());
    for size in ["100", "10000"] {
        chunked(&source, &target, size, &[]);
        equal(&source, &target);
    }
    // The entries go on being delivered where they were.
    let ids = |server: &Server| -> redis::Value {
        let mut next = cmd("XREADGROUP");
        next.arg("GROUP")
            .arg("a")
            .arg("z")
            .arg("STREAMS")
            .arg("s")
            .arg(">");
        next.query(&mut server.client()).expect("is answered")
    };
    run(&source, 0, "XADD s 20000-0 a b");
    run(&target, 0, "XADD s 20000-0 a b");
    assert_eq!(ids(&source), ids(&target));
}

#[test]
fn an_old_stream_of_the_same_name_is_replaced_with_its_groups() {
    let (source, target) = (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::VALKEY_8_0),
    );
    fill(&source, true);
    fill(&target, true);
    run(&target, 0, "XGROUP CREATE plain only-there 0");
    run(&target, 0, "XADD plain 9999999-0 only there");
    let options = ["--chunk-threshold", "1", "--chunk-size", "100"];
    Job::big_keys(
        &source.uri(),
        &target.uri(),
        &[&options[..], &["--mem-limit", "1", "--replace"]].concat(),
    )
    .ends(&[&target], 0);
    equal(&source, &target);
}

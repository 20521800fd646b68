//! Big keys that are written while they are copied: what arrives is one state of the key, or nothing.

mod common;

use std::time::Duration;

use common::big::{
    Again, Job, KINDS, Kind, Marked, Seen, Underway, add, same, send_all, watcher, words, writer,
};
use common::copying::run;
use keyhaul_testkit::{Server, Version};
use redis::cmd;

const OPTIONS: [&str; 6] = [
    "--chunk-threshold",
    "1kb",
    "--chunk-size",
    "40",
    "--rate-limit",
    "1mb",
];
/// Of one key, enough to be in the middle of it.
const SOME_BYTES: u64 = 15_000;

fn pair() -> (Server, Server) {
    (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::VALKEY_8_0),
    )
}

/// Of a string enough for several chunks, which are of 1 MB.
fn made(source: &Server, kind: Kind) -> Marked {
    let elements = if kind == Kind::Text { 32_000 } else { 3200 };
    let marked = Marked::new(kind, elements, 80);
    marked.make(&mut source.client(), 1);
    marked
}

/// Does something to the key of each type in the middle of its copy; then hands the ends over.
#[track_caller]
fn in_the_middle(
    touch: impl Fn(&Server, &Marked) + Sync,
    after: impl Fn(&Server, &Server, &Marked, Underway) + Sync,
) {
    let one = &|kind: Kind| {
        let (source, target) = pair();
        let marked = made(&source, kind);
        let mut options = OPTIONS;
        if kind == Kind::Text {
            options[5] = "6mb";
        }
        let job = Job::replicate(&source.uri(), &target.uri(), &options);
        let underway = job.start();
        underway.wait_staged(&target, SOME_BYTES);
        touch(&source, &marked);
        after(&source, &target, &marked, underway);
        job.left_nothing(&[&target]);
    };
    // Most of it is waiting.
    let failed: Vec<Kind> = std::thread::scope(|scope| {
        let threads = KINDS.map(|kind| scope.spawn(move || one(kind)));
        let pairs = KINDS.into_iter().zip(threads);
        pairs
            .filter_map(|(kind, thread)| thread.join().is_err().then_some(kind))
            .collect()
    });
    assert_eq!(failed, []);
}

fn arrives(source: &Server, target: &Server, _: &Marked, underway: Underway) {
    underway.finish().exits_with(0);
    same(source, target);
}

#[test]
fn a_mixture_is_told_from_a_state() {
    let server = Server::start(Version::REDIS_7_0);
    let mut client = server.client();
    for kind in KINDS {
        let marked = made(&server, kind);
        assert_eq!(marked.look(&mut client), Seen::Whole(1), "{kind:?}");
        marked.advance(&mut client, 1, 2);
        assert_eq!(marked.look(&mut client), Seen::Whole(2), "{kind:?}");
        let key = &marked.key;
        let (mixed, cut) = match kind {
            Kind::Hash => (format!("HSET {key} m:3 1"), format!("HDEL {key} e:7")),
            Kind::Zset => (
                format!("ZADD {key} 1 m:3"),
                format!("ZREMRANGEBYRANK {key} -1 -1"),
            ),
            Kind::Set => (format!("SADD {key} m:3:1"), format!("SPOP {key}")),
            Kind::List => (format!("LSET {key} 0 m:0:1"), format!("RPOP {key}")),
            Kind::Text => (format!("SETRANGE {key} 19 1"), format!("APPEND {key} e")),
            Kind::Stream => (format!("XADD {key} 99-0 m 1"), format!("XDEL {key} 1-9")),
        };
        for command in [mixed, cut] {
            run(&server, 0, &command);
            let seen = marked.look(&mut client);
            assert!(matches!(seen, Seen::Broken(_)), "{command}: {seen:?}");
            marked.make(&mut client, 2);
            assert_eq!(marked.look(&mut client), Seen::Whole(2), "{kind:?}");
        }
    }
}

#[test]
fn one_write_in_the_middle_is_in_the_copy() {
    in_the_middle(
        |source, marked| marked.advance(&mut source.client(), 1, 2),
        |source, target, marked, underway| {
            arrives(source, target, marked, underway);
            assert_eq!(marked.look(&mut target.client()), Seen::Whole(2));
        },
    );
}

#[test]
fn another_expiry_in_the_middle_is_in_the_copy() {
    in_the_middle(
        |source, marked| {
            run(
                source,
                0,
                &format!("PEXPIREAT {} 4102444800555", marked.key),
            );
        },
        arrives,
    );
}

#[test]
fn a_key_that_is_deleted_in_the_middle_does_not_come_back() {
    in_the_middle(
        |source, marked| {
            run(source, 0, &format!("DEL {}", marked.key));
        },
        |source, target, marked, underway| {
            let ran = underway.finish().exits_with(0);
            assert!(ran.not_moved().is_empty(), "{ran:#?}");
            assert_eq!(marked.look(&mut target.client()), Seen::Absent);
            same(source, target);
        },
    );
}

#[test]
fn a_key_that_becomes_another_in_the_middle() {
    // Of another type, small; of the same type and length, by RENAME; all at once gone and back.
    for change in ["SET", "RENAME", "FLUSHALL"] {
        in_the_middle(
            |source, marked| {
                let mut client = source.client();
                match change {
                    "SET" => drop(run(source, 0, &format!("SET {} small", marked.key))),
                    "RENAME" => {
                        let other = Marked {
                            key: "other".into(),
                            ..marked.clone()
                        };
                        other.make(&mut client, 5);
                        run(source, 0, &format!("RENAME other {}", marked.key));
                    }
                    _ => {
                        run(source, 0, "FLUSHALL");
                        marked.make(&mut client, 9);
                    }
                }
            },
            |source, target, marked, underway| {
                arrives(source, target, marked, underway);
                let expected = match change {
                    "SET" if marked.kind == Kind::Text => None,
                    "SET" => Some(Seen::Other),
                    "RENAME" => Some(Seen::Whole(5)),
                    _ => Some(Seen::Whole(9)),
                };
                let seen = marked.look(&mut target.client());
                assert!(
                    expected.is_none_or(|expected| expected == seen),
                    "{change} {marked:?}"
                );
            },
        );
    }
}

/// Copies all types while each is written with such pauses, for so long.
fn while_written(
    pause: Duration,
    time: Duration,
) -> (Server, Server, common::copying::Ran, Vec<Marked>) {
    let (source, target) = pair();
    let all: Vec<Marked> = KINDS.map(|kind| made(&source, kind)).into();
    let start = |marked| writer(&source, marked, pause, time);
    let writers: Vec<Again<u64>> = all.iter().map(start).collect();
    let watchers: Vec<_> = all.iter().map(|marked| watcher(&target, marked)).collect();
    let mut options = OPTIONS;
    options[5] = "4mb";
    let job = Job::replicate(&source.uri(), &target.uri(), &options);
    let ran = job.run();
    for writer in writers {
        assert!(writer.stop() > 3, "little was written");
    }
    for watcher in watchers {
        let (seen, _) = watcher.stop();
        let is_whole = |seen: &Seen| matches!(seen, Seen::Absent | Seen::Whole(_));
        assert!(seen.iter().all(is_whole), "{seen:#?} {ran:#?}");
    }
    job.left_nothing(&[&target]);
    (source, target, ran, all)
}

#[test]
fn a_key_that_is_written_for_ever_is_listed_as_written() {
    let (source, target, ran, all) = while_written(Duration::from_micros(500), Duration::MAX);
    let ran = ran.exits_with(4);
    ran.reasons_say("written");
    for marked in &all {
        let is_listed = ran.not_moved().contains(&(0, marked.key.clone()));
        let seen = marked.look(&mut target.client());
        // The tail of a stream is read in one transaction: one short pause of the writer is enough.
        let may_settle = marked.kind == Kind::Stream;
        match is_listed {
            true => assert_eq!(seen, Seen::Absent, "{marked:?}"),
            false => assert!(
                may_settle && matches!(seen, Seen::Whole(_)),
                "{marked:?} {seen:?} {ran:#?}"
            ),
        }
    }
    // Then it is quiet, and it goes.
    Job::replicate(&source.uri(), &target.uri(), &OPTIONS[..4]).ends(&[&target], 0);
    same(&source, &target);
}

#[test]
fn a_key_that_is_written_for_a_while_is_never_a_mixture() {
    let (source, target, ran, all) =
        while_written(Duration::from_millis(40), Duration::from_millis(1500));
    assert!(matches!(ran.outcome.code, Some(0 | 4)), "{ran:#?}");
    for marked in &all {
        let is_listed = ran.not_moved().contains(&(0, marked.key.clone()));
        let seen = marked.look(&mut target.client());
        match is_listed {
            true => assert_eq!(seen, Seen::Absent, "{marked:?}"),
            false => assert!(matches!(seen, Seen::Whole(_)), "{marked:?} {seen:?}"),
        }
    }
    Job::replicate(&source.uri(), &target.uri(), &OPTIONS[..4]).ends(&[&target], 0);
    same(&source, &target);
}

#[test]
fn an_old_value_stays_where_the_new_one_is_written_for_ever() {
    let (source, target) = pair();
    let marked = made(&source, Kind::List);
    marked.make(&mut target.client(), 7_000_000);
    let writer = writer(&source, &marked, Duration::from_micros(500), Duration::MAX);
    let watcher = watcher(&target, &marked);
    let options = [&OPTIONS[..], &["--mem-limit", "1kb", "--replace"]].concat();
    let job = Job::big_keys(&source.uri(), &target.uri(), &options);
    job.ends(&[&target], 4).reasons_say("written");
    drop(writer);
    assert_eq!(watcher.stop().0, [Seen::Whole(7_000_000)]);
}

/// The numbers in a list or a stream.
fn numbers(server: &Server, list_key: &str) -> Vec<u64> {
    let all: Vec<String> = cmd("LRANGE")
        .arg(list_key)
        .arg(0)
        .arg(-1)
        .query(&mut server.client())
        .expect("is a list");
    let number = |text: &String| text.trim_end_matches('q').parse().expect("is a number");
    all.iter().map(number).collect()
}

fn queue_item(n: u64) -> String {
    format!("{n}{}", "q".repeat(60))
}

#[test]
fn a_queue_is_a_state_that_it_had() {
    const LENGTH: u64 = 3000;
    let (source, target) = pair();
    let push = |n: u64| words(&["RPUSH", "queue", &queue_item(n)]);
    send_all(&mut source.client(), (0..LENGTH).map(push));
    let mut client = source.client();
    // Both ends move, the length stays: windows by index miss or repeat items.
    let mut step = move |n: u64| {
        let mut pipe = redis::pipe();
        pipe.atomic()
            .lpop("queue", None)
            .ignore()
            .rpush("queue", queue_item(n))
            .ignore();
        pipe.exec(&mut client).expect("is taken");
    };
    let job = Job::replicate(&source.uri(), &target.uri(), &OPTIONS);
    let underway = job.start();
    underway.wait_staged(&target, SOME_BYTES);
    step(LENGTH);
    underway.finish().exits_with(0);
    assert_eq!(
        numbers(&target, "queue"),
        (1..=LENGTH).collect::<Vec<u64>>()
    );
    same(&source, &target);
    // All the time.
    run(&target, 0, "FLUSHALL");
    let worker = Again::start(LENGTH, move |n: &mut u64| {
        *n += 1;
        step(*n);
        std::thread::sleep(Duration::from_micros(300));
    });
    let ran = Job::replicate(&source.uri(), &target.uri(), &OPTIONS).ends(&[&target], 4);
    ran.reasons_say("written");
    worker.stop();
    assert_eq!(numbers(&target, "queue"), Vec::<u64>::new());
}

#[test]
fn a_stream_that_only_grows_arrives() {
    let (source, target) = pair();
    let one = |n: usize| add(Kind::Stream, b"log", n, &[b'v'; 80]);
    send_all(&mut source.client(), (0..4000).map(one));
    run(&source, 0, "XGROUP CREATE log g 10-7");
    let mut client = source.client();
    let worker = Again::start(4000, move |n: &mut usize| {
        one(*n).exec(&mut client).expect("is taken");
        *n += 1;
        std::thread::sleep(Duration::from_micros(300));
    });
    Job::replicate(&source.uri(), &target.uri(), &OPTIONS).ends(&[&target], 0);
    assert!(worker.stop() > 4100, "little was written");
    // The target has the first entries of the source, all of them up to one.
    let length: usize = cmd("XLEN")
        .arg("log")
        .query(&mut target.client())
        .expect("a number");
    assert!(length >= 4000, "{length} entries");
    let first = |server: &Server| -> redis::Value {
        let mut range = cmd("XRANGE");
        range.arg("log").arg("-").arg("+").arg("COUNT").arg(length);
        range.query(&mut server.client()).expect("is a stream")
    };
    assert_eq!(first(&source), first(&target));
    // What it says of itself is of the same moment.
    let info: std::collections::HashMap<String, redis::Value> = cmd("XINFO")
        .arg("STREAM")
        .arg("log")
        .query(&mut target.client())
        .expect("is a stream");
    let last = redis::Value::BulkString(format!("{length}-7").into_bytes());
    assert_eq!(info.get("last-generated-id"), Some(&last));
    let count = i64::try_from(length).expect("is small");
    assert_eq!(info.get("entries-added"), Some(&redis::Value::Int(count)));
    Job::replicate(&source.uri(), &target.uri(), &OPTIONS).ends(&[&target], 0);
    same(&source, &target);
}

#[test]
fn a_key_that_appears_and_small_writes_around_a_big_one() {
    let (source, target) = pair();
    let marked = made(&source, Kind::Hash);
    // Other keys, also with the same name in another db, are no write to this one.
    let mut clients = [source.connection(0), source.connection(3)];
    let key = marked.key.clone();
    let worker = Again::start(0_u64, move |n: &mut u64| {
        *n += 1;
        cmd("SET")
            .arg("small")
            .arg(*n)
            .exec(&mut clients[0])
            .expect("is taken");
        cmd("HSET")
            .arg(&key)
            .arg("f")
            .arg(*n)
            .exec(&mut clients[1])
            .expect("is taken");
        std::thread::sleep(Duration::from_millis(1));
    });
    let options = [&OPTIONS[..], &["--db", "0"]].concat();
    let ran = Job::replicate(&source.uri(), &target.uri(), &options).ends(&[&target], 0);
    assert!(ran.not_moved().is_empty(), "{ran:#?}");
    worker.stop();
    assert_eq!(marked.look(&mut target.client()), Seen::Whole(1));
}

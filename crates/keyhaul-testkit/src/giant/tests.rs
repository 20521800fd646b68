//! Small giants: their shape, that a difference of each kind is seen, and the limit of strings.

use redis::{Connection, cmd};

use super::{Giant, GiantKind, assert_same, difference, stream, take_strings_of};
use crate::{Server, Version};

const BYTES: u64 = 3 << 20;

fn servers() -> (Server, Server) {
    (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::VALKEY_8_0),
    )
}

/// Copies by DUMP and RESTORE, which small giants go through.
fn restore(source: &Server, target: &Server, key: &str) {
    let payload: Vec<u8> = cmd("DUMP")
        .arg(key)
        .query(&mut source.client())
        .expect("is there");
    cmd("RESTORE")
        .arg(key)
        .arg(0)
        .arg(payload)
        .arg("REPLACE")
        .exec(&mut target.client())
        .expect("is taken");
}

fn run(connection: &mut Connection, words: &str) -> redis::Value {
    let mut words = words.split(' ');
    let mut command = cmd(words.next().unwrap_or_default());
    words.for_each(|word| {
        command.arg(word);
    });
    command.query(connection).expect("is taken")
}

#[test]
fn giants_have_the_size_asked_for() {
    for kind in GiantKind::ALL {
        let (server, giant) = (Server::start(Version::REDIS_7_0), Giant::new(kind, BYTES));
        let made = giant.fill(&server);
        let percent = made.memory_bytes * 100 / BYTES;
        assert!((95..125).contains(&percent), "{kind}: {made:?}");
        let payload: Vec<u8> = cmd("DUMP")
            .arg(&giant.key)
            .query(&mut server.client())
            .expect("is there");
        // LZF finds nothing in the values: what is missing is what memory needs beside them.
        assert!(
            payload.len() as u64 > BYTES / 4,
            "{kind}: {}",
            payload.len()
        );
    }
}

#[test]
fn the_same_seed_makes_the_same() {
    let (a, b) = servers();
    for kind in [GiantKind::Text, GiantKind::Stream] {
        let giant = Giant::new(kind, BYTES);
        giant.fill(&a);
        giant.fill(&b);
        assert_same(&a, &b, &giant.key);
    }
}

#[test]
fn every_difference_is_seen() {
    // Each undoes itself where a copy follows.
    let changes: [(GiantKind, &[&str]); 6] = [
        (
            GiantKind::Hash,
            &["HSET K new 1", "HSET K field:9e3779b97f4a7c15 other"],
        ),
        (
            GiantKind::Zset,
            &["ZADD K 1 new", "ZPOPMIN K", "ZADD K CH INCR 0.000001 M"],
        ),
        (
            GiantKind::List,
            &["LSET K 5000 other", "RPUSH K new", "LSET K -1 other"],
        ),
        (GiantKind::Set, &["SADD K new", "SPOP K"]),
        (GiantKind::Text, &["SETRANGE K 2000000 xyz", "APPEND K x"]),
        (
            GiantKind::Stream,
            &[
                "XADD K * a b",
                "XDEL K F",
                "XSETID K 1900000000000-0",
                "XGROUP CREATE K new 0",
                "XGROUP SETID K audit 0",
                "XGROUP CREATECONSUMER K audit new",
                "XACK K billing P",
                "XCLAIM K billing other 0 P JUSTID",
                "XCLAIM K billing consumer-0 0 P JUSTID TIME 1700086400001 RETRYCOUNT 1",
                "XCLAIM K billing consumer-0 0 P JUSTID TIME 1700086400000 RETRYCOUNT 2",
                "XCLAIM K billing consumer-0 0 Q JUSTID TIME 1700086400000 RETRYCOUNT 1",
            ],
        ),
    ];
    for (kind, changes) in changes {
        let (a, b) = servers();
        // The stream has more pending entries than can be compared exactly.
        let bytes = if kind == GiantKind::Stream {
            3 * BYTES
        } else {
            BYTES
        };
        let giant = Giant::new(kind, bytes);
        giant.fill(&a);
        let member: Vec<Vec<u8>> = match kind {
            GiantKind::Zset => run_list(&a, "ZRANGE giant:zset 7000 7000"),
            _ => Vec::new(),
        };
        for change in changes
            .iter()
            .chain(&["PEXPIREAT K 4102444800000", "DEL K"])
        {
            restore(&a, &b, &giant.key);
            assert_same(&a, &b, &giant.key);
            let mut command = redis::Cmd::new();
            for word in change.split(' ') {
                match word {
                    "K" => command.arg(&giant.key),
                    "M" => command.arg(&member),
                    "F" => command.arg(entry(&a, "-", "+")),
                    // The second pending entry, as the first is deleted; and one beyond the first thousand.
                    "P" => command.arg(pending(&a, 1)),
                    "Q" => command.arg(pending(&a, 2001)),
                    word => command.arg(word),
                };
            }
            command.exec(&mut b.client()).expect(change);
            assert!(difference(&a, &b, &giant.key).is_some(), "{change}");
            assert!(difference(&b, &a, &giant.key).is_some(), "{change}");
        }
    }
}

fn run_list(server: &Server, words: &str) -> Vec<Vec<u8>> {
    super::reply::parse(run(&mut server.client(), words))
}

fn entry(server: &Server, first: &str, last: &str) -> String {
    let entries: Vec<(String, redis::Value)> = cmd("XRANGE")
        .arg("giant:stream")
        .arg(first)
        .arg(last)
        .arg("COUNT")
        .arg(1)
        .query(&mut server.client())
        .expect("is there");
    entries
        .into_iter()
        .map(|(id, _)| id)
        .next()
        .expect("has entries")
}

fn pending(server: &Server, index: usize) -> String {
    let rows: Vec<(String, String, u64, u64)> = cmd("XPENDING")
        .arg("giant:stream")
        .arg("billing")
        .arg("- + 5000".split(' ').collect::<Vec<_>>())
        .query(&mut server.client())
        .expect("is there");
    rows.get(index).expect("has so many").0.clone()
}

#[test]
fn a_giant_stream_has_groups_and_pending_entries_that_are_gone() {
    let server = Server::start(Version::REDIS_7_0);
    let entries = 25_000;
    let giant = Giant::new(GiantKind::Stream, entries * stream::ENTRY_BYTES);
    let made = giant.fill(&server);
    let mut connection = server.client();
    let groups = run(&mut connection, "XINFO GROUPS giant:stream");
    let groups: Vec<redis::Value> = super::reply::parse(groups);
    let pending: Vec<u64> = groups
        .into_iter()
        .map(|group| {
            super::reply::parse(
                super::reply::fields(group)
                    .remove("pending")
                    .expect("is told"),
            )
        })
        .collect();
    assert_eq!(pending, [250, 750, 0]);
    // A tenth of the pending ones is deleted; the groups share the first 250 entries.
    assert_eq!(made.elements, entries - 75);
}

#[test]
fn no_command_makes_a_string_longer_than_the_limit() {
    let (source, target) = servers();
    let giant = Giant::new(GiantKind::Text, BYTES);
    assert_eq!(giant.fill(&source).elements, BYTES);
    // The lowest that can be set.
    super::string::set_bulk_limit(&mut target.client(), 1 << 20);
    let refused = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        let mut command = redis::Cmd::new();
        command.arg(words);
        let error = command.exec(&mut target.client()).expect_err("is too long");
        error.to_string()
    };
    for (words, reason) in [
        ("SETRANGE s 1048576 x", "proto-max-bulk-len"),
        ("SETBIT s 8388608 1", "bit offset"),
        ("BITFIELD s SET u8 8388608 1", "bit offset"),
    ] {
        assert!(
            refused(words).contains(reason),
            "{words}: {}",
            refused(words)
        );
    }
    run(&mut target.client(), "SETRANGE s 1048575 x");
    assert!(refused("APPEND s x").contains("proto-max-bulk-len"));
    let payload: Vec<u8> = cmd("DUMP")
        .arg(&giant.key)
        .query(&mut source.client())
        .expect("is there");
    let restored = cmd("RESTORE")
        .arg(&giant.key)
        .arg(0)
        .arg(&payload)
        .exec(&mut target.client());
    assert!(restored.is_err(), "a payload over the limit is taken");
    // The exception: a payload that is below the limit because it is compressed.
    run(&mut source.client(), "SETRANGE zeros 3000000 x");
    restore(&source, &target, "zeros");
    assert_same(&source, &target, "zeros");

    // A payload is a few bytes longer than its string.
    take_strings_of(BYTES + 64, &target);
    restore(&source, &target, &giant.key);
    assert_same(&source, &target, &giant.key);
}

//! From server to server across versions: what must be encoded anew is, also where it is large.

mod common;

use common::copying::{copy, listed, noise, run};
use common::rdb::{assert_same, prompt};
use keyhaul_testkit::{Server, Version, require};
use redis::cmd;

/// 64 MB: what a run may hold, whatever the data.
const RESIDENT_MAX: u64 = 64 * 1024 * 1024;

fn hex(bytes: usize, seed: u64) -> String {
    noise(bytes / 2, seed)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A value of each type far above what is held as a whole; the list takes 30 MB.
fn large_values(server: &Server) {
    let mut client = server.client();
    for round in 0..30_u64 {
        let mut pipe = redis::pipe();
        let text = hex(1_000_000, round + 1);
        let pieces = || text.as_bytes().chunks(500).enumerate();
        let mut list = cmd("RPUSH");
        list.arg("large:list");
        pieces().for_each(|(_, piece)| {
            list.arg(piece);
        });
        pipe.add_command(list).ignore();
        if round < 6 {
            let (mut hash, mut set, mut zset) = (cmd("HSET"), cmd("SADD"), cmd("ZADD"));
            let mut numbers = cmd("SADD");
            hash.arg("large:hash");
            set.arg("large:set");
            zset.arg("large:zset");
            numbers.arg("large:numbers");
            for (n, piece) in pieces() {
                hash.arg(format!("f{round}:{n}")).arg(piece);
                set.arg(piece);
                zset.arg((round as f64 + n as f64) / 7.0).arg(piece);
                for part in 0..20 {
                    numbers.arg(round * 1_000_000 + n as u64 * 100 + part);
                }
            }
            for command in [hash, set, zset, numbers] {
                pipe.add_command(command).ignore();
            }
            for (n, piece) in pieces() {
                let id = format!("{}-{n}", round + 1);
                pipe.cmd("XADD")
                    .arg("large:stream")
                    .arg(id)
                    .arg("f")
                    .arg(piece)
                    .ignore();
            }
        }
        pipe.exec(&mut client).expect("values are taken");
    }
    cmd("SET")
        .arg("large:string")
        .arg(noise(8_000_000, 99))
        .exec(&mut client)
        .expect("is taken");
    for words in [
        "XGROUP CREATE large:stream g 0",
        "XGROUP CREATE large:stream idle $",
        "XREADGROUP GROUP g alice COUNT 700 STREAMS large:stream >",
        "XREADGROUP GROUP g bob COUNT 3 STREAMS large:stream >",
        "XACK large:stream g 1-1 1-2",
        "XDEL large:stream 1-3",
        "PEXPIREAT large:zset 4102444800123",
    ] {
        run(server, 0, words);
    }
}

#[test]
fn large_values_of_every_type_down_the_versions() {
    if !require(Version::REDIS_8_2) {
        return;
    }
    let source = prompt(Version::REDIS_8_2).start();
    large_values(&source);
    for (version, method) in [
        (Version::REDIS_6_2, "scan"),
        (Version::VALKEY_8_0, "psync"),
        (Version::VALKEY_9_1, "scan"),
    ] {
        if !require(version) {
            continue;
        }
        let target = Server::start(version);
        let options = ["--method", method];
        let ran = copy(&source.uri(), &target.uri(), &options).exits_with(0);
        assert!(ran.outcome.peak_rss_bytes <= RESIDENT_MAX, "{ran:#?}");
        assert_same(&source, &target);
        // In place, too.
        copy(&source.uri(), &target.uri(), &options).exits_with(0);
    }
}

fn expiring(server: &Server, fields: u64) {
    let mut client = server.client();
    let key = format!("h:{fields}");
    for first in (0..fields).step_by(1000) {
        let mut pipe = redis::pipe();
        for n in first..fields.min(first + 1000) {
            pipe.cmd("HSET")
                .arg(&key)
                .arg(format!("f{n}"))
                .arg(hex(400, n + 1))
                .ignore();
            if n % 3 == 0 {
                pipe.cmd("HPEXPIREAT")
                    .arg(&key)
                    .arg(4_102_444_800_000 + n)
                    .arg("FIELDS")
                    .arg(1)
                    .arg(format!("f{n}"))
                    .ignore();
            }
        }
        pipe.exec(&mut client).expect("fields are taken");
    }
}

/// Fields that expire, small and large, between the families and back; and where there is no such thing.
#[test]
fn fields_that_expire_both_ways() {
    if !require(Version::REDIS_8_2) || !require(Version::VALKEY_9_1) {
        return;
    }
    for (from, to) in [
        (Version::REDIS_8_2, Version::VALKEY_9_1),
        (Version::VALKEY_9_1, Version::REDIS_8_2),
    ] {
        let source = Server::start(from);
        for fields in [2, 500, 12_000] {
            expiring(&source, fields);
        }
        let target = Server::start(to);
        copy(&source.uri(), &target.uri(), &[]).exits_with(0);
        assert_same(&source, &target);

        let old = Server::start(Version::VALKEY_8_0);
        let ran = copy(&source.uri(), &old.uri(), &[]).exits_with(4);
        let all = ["h:2", "h:500", "h:12000"];
        assert_eq!(ran.not_moved(), listed(0, &all), "{ran:#?}");
        ran.reasons_say("expire");
        copy(&source.uri(), &old.uri(), &["--accept-loss", "field-ttl"]).exits_with(0);
        for (key, fields) in [("h:2", 2), ("h:500", 500), ("h:12000", 12_000)] {
            let found: u64 = cmd("HLEN")
                .arg(key)
                .query(&mut old.client())
                .expect("answers");
            assert_eq!(found, fields, "{key}");
        }
    }
}

#[test]
fn the_plan_says_what_becomes_of_which_kind() {
    if !require(Version::REDIS_8_2) || !require(Version::REDIS_6_2) {
        return;
    }
    let (source, target) = (
        Server::start(Version::REDIS_8_2),
        Server::start(Version::REDIS_6_2),
    );
    run(&source, 0, "SET k v");
    let ran = copy(&source.uri(), &target.uri(), &["--dry-run"]);
    assert_eq!(ran.outcome.code, Some(0), "{ran:#?}");
    for text in ["get another footer", "are encoded anew", "cannot go"] {
        assert!(
            ran.outcome.stderr.contains(text) || ran.outcome.stdout.contains(text),
            "{ran:#?}"
        );
    }
}

/// Vector sets have no home outside of Redis 8: listed, whatever their size.
#[test]
fn what_cannot_go_is_listed() {
    if !require(Version::REDIS_8_2) {
        return;
    }
    let (source, target) = (
        Server::start(Version::REDIS_8_2),
        Server::start(Version::VALKEY_8_0),
    );
    run(&source, 0, "VADD v VALUES 3 1 2 3 a");
    run(&source, 0, "SET s 1");
    let ran = copy(&source.uri(), &target.uri(), &[]).exits_with(4);
    assert_eq!(ran.not_moved(), listed(0, &["v"]), "{ran:#?}");
    assert_eq!(ran.count("copied"), 1);
}

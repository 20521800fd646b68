//! Data sets that are changed at random: the list of what differs is that of the test kit's own diff, line by line.

#![allow(clippy::print_stderr, reason = "says what was changed")]

mod common;

use std::collections::BTreeSet;

use common::compare::{Compared, End, Reach, clone_keys, compare, truth};
use common::copying::key_counts;
use keyhaul_testkit::diff::{DiffOptions, View};
use keyhaul_testkit::{Cluster, Dataset, Server, Version};
use redis::{Cmd, Connection, cmd};

/// Numbers without pattern, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or_default() % end
    }
}

fn command(name: &str, key: &[u8], args: &[&str]) -> Cmd {
    let mut command = cmd(name);
    command.arg(key).arg(args);
    command
}

fn send(link: &mut Connection, command: &Cmd) {
    let sent = command.exec(link);
    let text = command.get_packed_command();
    assert!(sent.is_ok(), "{sent:?}: {}", text.escape_ascii());
}

/// Changes one key in one of several ways; some of them change nothing, which the kit's diff then says too.
fn change(side: &mut Reach, key: &[u8], dice: &mut Dice) {
    let link = side.of(key);
    let later = 4_200_000_000_000_u64 + dice.below(1000) as u64;
    let later = later.to_string();
    match dice.below(8) {
        0 => send(link, &command("DEL", key, &[])),
        1 => send(link, &command("PEXPIREAT", key, &[&later])),
        2 => send(link, &command("PERSIST", key, &[])),
        3 => {
            send(link, &command("DEL", key, &[]));
            let kinds: [(&str, &[&str]); 3] = [
                ("SET", &["other"]),
                ("RPUSH", &["other"]),
                ("HSET", &["other", "1"]),
            ];
            let (name, args) = kinds[dice.below(kinds.len())];
            send(link, &command(name, key, args));
        }
        4 => {
            let twin = [key, b" added"].concat();
            send(side.of(&twin), &command("SET", &twin, &["added"]));
        }
        _ => change_value(link, key, dice),
    }
}

fn change_value(link: &mut Connection, key: &[u8], dice: &mut Dice) {
    let kind: String = cmd("TYPE").arg(key).query(link).expect("is answered");
    let number = dice.below(40).to_string();
    let text = format!("random {number}");
    let grows = dice.below(2) == 0;
    let (name, args): (&str, Vec<&str>) = match (kind.as_str(), grows) {
        ("string", true) => ("APPEND", vec![&number]),
        ("string", false) => ("SETBIT", vec![&number, "1"]),
        ("list", true) => ("LPUSH", vec![&text]),
        ("list", false) => ("LSET", vec!["-1", &text]),
        ("set", true) => ("SADD", vec![&text]),
        ("set", false) => ("SPOP", vec![]),
        ("hash", true) => ("HSET", vec!["field0", &text]),
        ("hash", false) => ("HDEL", vec!["field1"]),
        ("zset", true) => ("ZADD", vec![&number, "member0"]),
        ("zset", false) => ("ZPOPMIN", vec![]),
        ("stream", true) => ("XADD", vec!["9999999999999999-1", "random", &number]),
        ("stream", false) => ("XTRIM", vec!["MAXLEN", &number]),
        _ => return,
    };
    // The last id of one stream is the highest that there is.
    if name == "XADD" && key.starts_with(b"StreamIdAhead") {
        return;
    }
    send(link, &command(name, key, &args));
}

/// Changes about one key in five, on the target or on the source.
fn change_some(source: &mut Reach, target: &mut Reach, dice: &mut Dice) {
    for key in source.keys() {
        if dice.below(5) == 0 {
            let side = if dice.below(3) == 0 {
                &mut *source
            } else {
                &mut *target
            };
            change(side, &key, dice);
        }
    }
}

fn dataset(seed: u64, dbs: Vec<u32>) -> Dataset {
    Dataset {
        seed,
        keys: dbs.len() * (Dataset::EVERY_KIND + 100),
        dbs,
        small_only: seed.is_multiple_of(2),
        ..Dataset::default()
    }
}

#[track_caller]
fn agrees(source: &View, target: &View, ran: Compared) {
    let expected: BTreeSet<_> = truth(source, target, &DiffOptions::default());
    eprintln!("{} differences", expected.len());
    assert!(expected.len() > 15, "hardly any: {expected:?}");
    ran.finds(&expected);
}

#[test]
fn servers_with_several_dbs() {
    let versions = [Version::REDIS_7_0, Version::VALKEY_8_0];
    for seed in 521..523 {
        eprintln!("seed {seed}");
        let version = versions[usize::from(seed % 2 == 0)];
        let (source, target) = (Server::start(version), Server::start(version));
        dataset(seed, vec![0, 3, 15]).fill(&source);
        let mut dice = Dice(seed);
        for db in key_counts(&source).into_keys() {
            let (mut from, mut to) = (Reach::server(&source, db), Reach::server(&target, db));
            clone_keys(&mut from, &mut to);
            change_some(&mut from, &mut to, &mut dice);
        }
        for options in [
            &[][..],
            &["--chunk-threshold", "1"],
            &["--scan-count", "10"],
        ] {
            let ran = compare(&source.uri(), &target.uri(), options);
            agrees(&View::server(&source), &View::server(&target), ran);
        }
    }
}

#[test]
fn a_cluster_and_a_server() {
    let version = Version::REDIS_7_0;
    let source = End::Many(Cluster::start(version, 3));
    let target = End::one(Server::start(version));
    if let End::Many(cluster) = &source {
        dataset(526, vec![0]).fill_cluster(cluster);
    }
    let (mut from, mut to) = (source.reach(), target.reach());
    clone_keys(&mut from, &mut to);
    change_some(&mut from, &mut to, &mut Dice(526));
    for (one, other) in [(&source, &target), (&target, &source)] {
        let ran = compare(&one.uri(), &other.uri(), &[]);
        agrees(&one.view(), &other.view(), ran);
    }
}

//! Big keys with any name, in any slot, of any db, to any other version.

mod common;

use common::big::{Job, KINDS, Kind, add, chunked, same, send_all, staging_keys, words};
use common::copying::{key_counts, run};
use keyhaul_testkit::diff::{self, DiffOptions, View};
use keyhaul_testkit::{Cluster, Server, Version, require};

/// Names that a staging key could be put into the wrong slot by, or that could be mangled.
fn names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        "{",
        "}",
        "{}",
        "}{",
        "{}x",
        "x{}",
        "{}{a}",
        "{{}}",
        "{{a}}",
        "a{b}c",
        "{a}{b}",
        "{a",
        "a}",
        "a{b",
        "{a}",
        "a b",
        "",
        " ",
        "key\r\n",
        "*",
        "?",
        "[a-z]",
        "\\",
        "keyhaul:{a}",
        "keyhaul:staging:x",
        "schlüssel",
        "%s",
        "-1",
        "--replace",
    ]
    .iter()
    .map(|name| name.as_bytes().to_vec())
    .collect();
    names.push(b"\0".to_vec());
    names.push(b"\xff\xfe{\x80}\0".to_vec());
    names.push(b"{\0}".to_vec());
    names.push((0..=255).collect());
    names.push(b"long:".repeat(4000));
    // Many slots.
    names.extend((0..60).map(|n| format!("plain:{n}").into_bytes()));
    names
}

fn commands_of(name: &[u8], index: usize) -> Vec<redis::Cmd> {
    let kind = KINDS[index % KINDS.len()];
    (0..40).map(|n| add(kind, name, n, b"some part")).collect()
}

const OPTIONS: [&str; 4] = ["--chunk-threshold", "1", "--chunk-size", "15"];

fn fill_cluster(cluster: &Cluster) {
    for (index, name) in names().iter().enumerate() {
        send_all(
            &mut cluster.connection_for(name),
            commands_of(name, index).into_iter(),
        );
    }
}

fn fill(server: &Server) {
    for (index, name) in names().iter().enumerate() {
        send_all(&mut server.client(), commands_of(name, index).into_iter());
    }
}

fn is_staging(name: &[u8]) -> bool {
    name.starts_with(b"keyhaul:staging:")
}

#[test]
fn any_name_between_single_servers() {
    let (source, target) = (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::VALKEY_8_0),
    );
    fill(&source);
    let job = Job::replicate(&source.uri(), &target.uri(), &OPTIONS);
    for _ in 0..2 {
        job.run().exits_with(0);
        // A key of the user's own that is named like ours is a key like any other.
        same(&source, &target);
    }
}

#[test]
fn any_name_into_and_out_of_a_cluster() {
    let source = Server::builder(Version::REDIS_7_0).tcp().start();
    let three = Cluster::start(Version::VALKEY_8_0, 3);
    let two = Cluster::start(Version::REDIS_7_0, 2);
    let back = Server::builder(Version::VALKEY_8_0).tcp().start();
    fill(&source);
    fill_cluster(&two);
    // What is there is replaced.
    for name in names().iter().step_by(3) {
        send_all(
            &mut two.connection_for(name),
            [words(&[b"SET".as_slice(), name, b"old"])].into_iter(),
        );
    }
    Job::replicate(&source.tcp_uri(), &three.uri(), &OPTIONS)
        .run()
        .exits_with(0);
    diff::assert_equal(&View::server(&source), &View::cluster(&three));
    Job::replicate(&three.uri(), &two.uri(), &OPTIONS)
        .run()
        .exits_with(0);
    diff::assert_equal(&View::cluster(&three), &View::cluster(&two));
    Job::replicate(&two.uri(), &back.tcp_uri(), &OPTIONS)
        .run()
        .exits_with(0);
    diff::assert_equal(&View::cluster(&two), &View::server(&back));
}

#[test]
fn big_keys_into_a_cluster() {
    let source = Server::builder(Version::REDIS_7_0).tcp().start();
    let target = Cluster::start(Version::VALKEY_8_0, 2);
    fill(&source);
    let options = [&OPTIONS[..], &["--mem-limit", "1"]].concat();
    let job = Job::big_keys(&source.tcp_uri(), &target.uri(), &options);
    job.run().exits_with(0);
    diff::assert_equal(&View::server(&source), &View::cluster(&target));
    // Now they are there: each is left alone and listed.
    let ran = job.run().exits_with(4);
    assert_eq!(ran.not_moved().len(), names().len(), "{ran:#?}");
    diff::assert_equal(&View::server(&source), &View::cluster(&target));
}

#[test]
fn dbs_and_prefixes_are_mapped() {
    let (source, target) = (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::VALKEY_8_0),
    );
    for db in [0, 3, 9] {
        for kind in KINDS {
            let name = format!("app:{kind:?}");
            let part = format!("of db {db}");
            let all = (0..300).map(|n| add(kind, name.as_bytes(), n, part.as_bytes()));
            send_all(&mut source.connection(db), all);
        }
    }
    let options = [
        "--db",
        "0,3",
        "--db-map",
        "3:12",
        "--rename-prefix",
        "app:=shop:{1}:",
    ];
    chunked(&source, &target, "50", &options);
    assert_eq!(key_counts(&target), [(0, 6), (12, 6)].into());
    for (ours, theirs) in [(0, 0), (3, 12)] {
        let options = DiffOptions {
            extra_allowed: Box::new(|_, _| true),
            ..DiffOptions::default()
        };
        diff::assert_equal_with(
            &View::server(&source),
            &View::server(&target),
            &options
                .mapping_db(ours, theirs)
                .renaming_prefix(b"app:", b"shop:{1}:"),
        );
    }
    // A db of its own at the source, all of it, with big-keys.
    let options = [
        &OPTIONS[..],
        &["--db", "9", "--db-map", "9:1", "--mem-limit", "1"],
    ]
    .concat();
    Job::big_keys(&source.uri(), &target.uri(), &options).ends(&[&target], 0);
    assert_eq!(key_counts(&target), [(0, 6), (1, 6), (12, 6)].into());
}

/// Each type, at least a few hundred elements, with an expiry.
fn some_of_each(server: &Server) {
    for kind in KINDS {
        let name = format!("{kind:?}");
        let all = (0..700).map(|n| add(kind, name.as_bytes(), n, format!("part {n}").as_bytes()));
        send_all(&mut server.client(), all);
        run(server, 0, &format!("PEXPIREAT {name} 4102444800777"));
    }
    let scores = [
        "inf",
        "-inf",
        "0.30000000000000004",
        "1e-320",
        "12345678901234567890",
    ];
    let all = scores
        .iter()
        .map(|score| words(&["ZADD", "Zset", score, score]));
    send_all(&mut server.client(), all);
    let all = (0..700).map(|n| add(Kind::Set, b"ints", n, b""));
    send_all(&mut server.client(), all);
}

#[test]
fn other_versions_on_the_other_side() {
    for (source, target) in [
        (Version::REDIS_7_0, Version::VALKEY_8_0),
        (Version::REDIS_8_2, Version::REDIS_6_2),
        (Version::REDIS_6_2, Version::REDIS_8_2),
        (Version::VALKEY_9_1, Version::REDIS_7_0),
        (Version::REDIS_6_0, Version::REDIS_6_0),
    ] {
        if !(require(source) && require(target)) {
            continue;
        }
        let (source, target) = (Server::start(source), Server::start(target));
        some_of_each(&source);
        for _ in 0..2 {
            chunked(&source, &target, "90", &[]);
            let knows = |server: &Server| server.version().has_redis_feature(7, 0);
            let options = DiffOptions {
                ignore_stream_counters: !(knows(&source) && knows(&target)),
                ..DiffOptions::default()
            };
            diff::assert_equal_with(&View::server(&source), &View::server(&target), &options);
        }
    }
}

#[test]
fn keys_of_others_that_are_named_like_ours_stay() {
    let (source, target) = (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::VALKEY_8_0),
    );
    some_of_each(&source);
    // Of another job, or of nobody: not known to be ours, so not ours to remove.
    for name in [
        "keyhaul:staging:{06S}:0123456789abcdef:0123456789abcdef",
        "keyhaul:staging:mine",
        "keyhaul:staging:",
    ] {
        run(&target, 0, &format!("RPUSH {name} a b c"));
    }
    let before = staging_keys(&target);
    assert_eq!(before.len(), 3);
    let options = ["--chunk-threshold", "1", "--chunk-size", "50"];
    Job::replicate(&source.uri(), &target.uri(), &options)
        .run()
        .exits_with(0);
    assert_eq!(staging_keys(&target), before);
    let options = DiffOptions {
        extra_allowed: Box::new(|_, name| is_staging(name)),
        ..DiffOptions::default()
    };
    diff::assert_equal_with(&View::server(&source), &View::server(&target), &options);
}

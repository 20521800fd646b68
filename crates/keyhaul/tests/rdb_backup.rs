//! Servers and clusters into RDB files: real servers start with them, they are of one moment, and nothing
//! half stands under the name.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::copying::{copy, key_count, listed, noise, run};
use common::rdb::{Folder, assert_same, populate, prompt, started_with, uri};
use common::running::Running;
use keyhaul_testkit::diff::{DiffOptions, View, assert_equal_with, functions};
use keyhaul_testkit::{
    Cluster, Dataset, Direction, Proxy, Server, Version, check_rdb, key_slot, require, wait_until,
};
use redis::cmd;

const PATIENCE: Duration = Duration::from_secs(20);
const RESIDENT_MAX: u64 = 64 * 1024 * 1024;

fn filled(version: Version) -> Server {
    let source = prompt(version).start();
    let dataset = Dataset {
        keys: 2 * Dataset::EVERY_KIND + 300,
        dbs: vec![0, 7],
        field_ttls: true,
        ..Dataset::default()
    };
    dataset.fill(&source);
    if version.has_redis_feature(7, 0) {
        let code = "#!lua name=mine\nredis.register_function('f', function() return 1 end)";
        cmd("FUNCTION")
            .arg("LOAD")
            .arg(code)
            .exec(&mut source.client())
            .expect("is taken");
    }
    source
}

fn steps(ran: &common::copying::Ran) -> &str {
    &ran.outcome.stderr
}

#[test]
fn every_version_starts_with_its_own_backup() {
    for version in Version::all_available() {
        let source = filled(version);
        for (method, says) in [("auto", "by PSYNC"), ("scan", "by SCAN")] {
            let folder = Folder::new();
            let file = folder.path("b.rdb");
            let ran = copy(&source.uri(), &uri(&file), &["--method", method]).exits_with(0);
            assert!(steps(&ran).contains(says), "{version}: {ran:#?}");
            assert_eq!(folder.names(), ["b.rdb"]);
            assert_eq!(ran.count("copied"), key_count(&source), "{ran:#?}");
            let loaded = started_with(version, &file);
            assert_same(&source, &loaded);
            if version.has_redis_feature(7, 0) {
                assert_eq!(functions(&source), functions(&loaded), "{version} {method}");
            }
        }
    }
}

/// A file for another server's version: what that cannot hold is listed, the rest is there.
#[test]
fn files_for_other_versions() {
    if !require(Version::REDIS_8_2) {
        return;
    }
    let source = prompt(Version::REDIS_8_2).start();
    let dataset = Dataset {
        keys: Dataset::EVERY_KIND + 200,
        ..Dataset::default()
    };
    dataset.fill(&source);
    run(&source, 0, "HSET expiring f 1 g 2");
    run(&source, 0, "HPEXPIREAT expiring 4102444800000 FIELDS 1 f");
    run(&source, 0, "VADD vectorset:v VALUES 3 1 2 3 a");
    let folder = Folder::new();
    for (number, version) in [
        ("9", Version::REDIS_6_0),
        ("9", Version::REDIS_6_2),
        ("10", Version::REDIS_7_0),
        ("11", Version::VALKEY_8_0),
        ("12", Version::REDIS_8_2),
        ("80", Version::VALKEY_9_1),
    ] {
        if !require(version) {
            continue;
        }
        let file = folder.path(&format!("{version}.rdb"));
        let expected: &[&str] = match number {
            "12" => &[],
            "80" => &["vectorset:v"],
            _ => &["expiring", "vectorset:v"],
        };
        let code = if expected.is_empty() { 0 } else { 4 };
        for method in ["psync", "scan"] {
            let options = ["--rdb-version", number, "--method", method];
            let ran = copy(&source.uri(), &file, &options).exits_with(code);
            assert_eq!(ran.not_moved(), listed(0, expected), "{number}: {ran:#?}");
            let loaded = started_with(version, &file);
            let lost: BTreeSet<Vec<u8>> =
                expected.iter().map(|key| key.as_bytes().to_vec()).collect();
            let options = DiffOptions {
                ignore_stream_counters: !version.has_redis_feature(7, 0),
                only: Box::new(move |_, key| {
                    !lost.contains(key) && !key.starts_with(b"vectorset:")
                }),
                extra_allowed: Box::new(|_, key| key.starts_with(b"vectorset:")),
                ..DiffOptions::default()
            };
            assert_equal_with(&View::server(&source), &View::server(&loaded), &options);
        }
        if number != "12" && number != "80" {
            let options = ["--rdb-version", number, "--accept-loss", "field-ttl"];
            let ran = copy(&source.uri(), &file, &options).exits_with(4);
            assert_eq!(ran.not_moved(), listed(0, &["vectorset:v"]), "{ran:#?}");
            let loaded = started_with(version, &file);
            let fields: u64 = cmd("HLEN")
                .arg("expiring")
                .query(&mut loaded.client())
                .expect("answers");
            assert_eq!(fields, 2);
        }
    }
}

#[test]
fn without_the_right_to_replicate() {
    let source = Server::builder(Version::REDIS_7_0)
        .acl_user("reader", "on >secret ~* &* +@all -psync -sync")
        .start();
    run(&source, 0, "SET k v");
    let folder = Folder::new();
    let file = folder.path("b.rdb");
    let login = ["--source-user", "reader", "--source-pass", "secret"];
    let ran = copy(&source.uri(), &file, &login).exits_with(0);
    assert!(
        steps(&ran).contains("by SCAN") && steps(&ran).contains("PSYNC is refused"),
        "{ran:#?}"
    );
    std::fs::remove_file(&file).expect("is there");
    let options = [&login[..], &["--method", "psync"]].concat();
    let ran = copy(&source.uri(), &file, &options);
    assert_eq!(ran.outcome.code, Some(3), "{ran:#?}");
    assert!(ran.outcome.stderr.contains("+psync"), "{ran:#?}");
    assert!(folder.names().is_empty());
}

/// Writers change two keys together all the time: a snapshot never holds one of them alone.
#[test]
fn a_snapshot_is_of_one_moment() {
    let source = prompt(Version::REDIS_7_0).start();
    populate(&source, 20_000, 100);
    let folder = Folder::new();
    let file = folder.path("b.rdb");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = source.client();
            for round in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let mut pipe = redis::pipe();
                pipe.atomic();
                for n in 0..50 {
                    pipe.cmd("SET").arg(format!("pair:{n}")).arg(round).ignore();
                }
                pipe.cmd("DEL")
                    .arg(format!("key:{}", round % 20_000))
                    .ignore();
                pipe.cmd("SET")
                    .arg(format!("key:new:{round}"))
                    .arg(round)
                    .ignore();
                pipe.exec(&mut client).expect("writes are taken");
            }
        });
        let ran = copy(&source.uri(), &file, &["--method", "psync"]).exits_with(0);
        stop.store(true, Ordering::Relaxed);
        assert!(ran.not_moved().is_empty());
    });
    let loaded = started_with(Version::REDIS_7_0, &file);
    let mut pairs = redis::cmd("MGET");
    (0..50).for_each(|n| {
        pairs.arg(format!("pair:{n}"));
    });
    let values: Vec<Option<u64>> = pairs.query(&mut loaded.client()).expect("answers");
    let round = values.first().copied().flatten().expect("is there");
    assert!(
        values.iter().all(|value| *value == Some(round)),
        "{values:?}"
    );
    // Each round takes one key away and adds one.
    assert_eq!(key_count(&loaded), 20_050, "round {round}");
}

/// SCAN tells keys twice while tables grow and shrink; a server does not start with a key that stands twice.
#[test]
fn a_keyspace_that_grows_and_shrinks_under_scan() {
    let source = Server::start(Version::REDIS_7_0);
    populate(&source, 20_000, 30);
    let folder = Folder::new();
    let file = folder.path("b.rdb");
    let options = [
        "--method",
        "scan",
        "--scan-count",
        "100",
        "--rate-limit",
        "500kb",
    ];
    let running = Running::start(&source.uri(), &file, &options);
    let mut client = source.client();
    for round in 0..3 {
        for (command, first) in [("SET", true), ("DEL", false)] {
            for part in 0..60 {
                let mut pipe = redis::pipe();
                for n in 0..1000 {
                    let key = format!("extra:{round}:{part}:{n}");
                    let one = pipe.cmd(command).arg(key);
                    if first {
                        one.arg("x");
                    }
                    one.ignore();
                }
                pipe.exec(&mut client).expect("taken");
            }
        }
    }
    running.finish().exits_with(0);
    let loaded = started_with(Version::REDIS_7_0, &file);
    let options = DiffOptions {
        only: Box::new(|_, key| !key.starts_with(b"extra:")),
        extra_allowed: Box::new(|_, key| key.starts_with(b"extra:")),
        ..DiffOptions::default()
    };
    assert_equal_with(&View::server(&source), &View::server(&loaded), &options);
}

#[test]
fn a_cluster_becomes_one_file() {
    let cluster = Cluster::start(Version::REDIS_7_0, 3);
    for node in cluster.nodes() {
        run(node, 0, "CONFIG SET repl-diskless-sync-delay 0");
    }
    let dataset = Dataset {
        keys: 3_000,
        ..Dataset::default()
    };
    dataset.fill_cluster(&cluster);
    let folder = Folder::new();
    for method in ["psync", "scan"] {
        let file = folder.path("b.rdb");
        let ran = copy(&cluster.uri(), &file, &["--method", method]).exits_with(0);
        assert_eq!(ran.count("copied"), 3_000, "{ran:#?}");
        let loaded = started_with(Version::REDIS_7_0, &file);
        let (whole, one) = (View::cluster(&cluster), View::server(&loaded));
        assert_equal_with(&whole, &one, &DiffOptions::default());
        if method == "psync" {
            let other = Cluster::start(Version::VALKEY_8_0, 2);
            copy(&file, &other.seeds(), &[]).exits_with(0);
            assert_equal_with(&whole, &View::cluster(&other), &DiffOptions::default());
        }
    }
}

/// A slot that goes to a node whose snapshot was taken, before that of its old node is.
#[test]
fn a_slot_that_moves_between_two_snapshots() {
    let cluster = Cluster::start(Version::REDIS_7_0, 2);
    let slot = key_slot(b"moved");
    let giver = cluster.owner_of(b"moved");
    let taker = 1 - giver;
    run(&cluster.nodes()[giver], 0, "SET moved 1");
    run(
        &cluster.nodes()[giver],
        0,
        "CONFIG SET repl-diskless-sync-delay 2",
    );
    run(
        &cluster.nodes()[taker],
        0,
        "CONFIG SET repl-diskless-sync-delay 0",
    );
    let folder = Folder::new();
    let file = folder.path("b.rdb");
    let options = ["--method", "psync"];
    let running = Running::start(&cluster.uri(), &file, &options);
    wait_until("one snapshot is taken", PATIENCE, || {
        cluster.nodes()[taker].info("total_forks") != "0"
    });
    cluster.move_slots(giver, taker, &[slot]);
    let ran = running.finish();
    if ran.outcome.code == Some(0) {
        let loaded = started_with(Version::REDIS_7_0, &file);
        assert_eq!(key_count(&loaded), 1, "lost in silence: {ran:#?}");
    } else {
        let ran = ran.exits_with(5);
        assert!(ran.outcome.stdout.contains("slots moved"), "{ran:#?}");
        assert!(folder.names().is_empty());
    }
    copy(&cluster.uri(), &file, &options).exits_with(0);
    assert_eq!(key_count(&started_with(Version::REDIS_7_0, &file)), 1);
}

/// Values far above the memory that a run may take, compressed ones too.
#[test]
fn memory_is_bounded() {
    let source = prompt(Version::REDIS_7_0).start();
    let mut client = source.client();
    for (key, value) in [
        ("noise", noise(100_000_000, 5)),
        ("same", vec![b'a'; 100_000_000]),
    ] {
        cmd("SET")
            .arg(key)
            .arg(value)
            .exec(&mut client)
            .expect("is taken");
    }
    for n in 0..40_u64 {
        let mut list = cmd("RPUSH");
        list.arg("list");
        noise(500_000, n).chunks(1000).for_each(|piece| {
            list.arg(piece);
        });
        list.exec(&mut client).expect("is taken");
    }
    let folder = Folder::new();
    let file = folder.path("b.rdb");
    let check = |ran: common::copying::Ran| {
        let ran = ran.exits_with(0);
        assert!(ran.outcome.peak_rss_bytes <= RESIDENT_MAX, "{ran:#?}");
    };
    check(copy(
        &source.uri(),
        &file,
        &["--method", "psync", "--rdb-version", "9"],
    ));
    let target = Server::start(Version::VALKEY_8_0);
    check(copy(&file, &target.uri(), &[]));
    for key in ["noise", "same"] {
        let length: u64 = cmd("STRLEN")
            .arg(key)
            .query(&mut target.client())
            .expect("answers");
        assert_eq!(length, 100_000_000, "{key}");
    }
    check(copy(&source.uri(), &file, &["--method", "scan"]));
    check_rdb(Version::REDIS_7_0, Path::new(&file)).expect("is sound");
}

#[test]
fn the_source_is_cut_off() {
    let source = prompt(Version::REDIS_7_0).start();
    populate(&source, 60_000, 100);
    run(&source, 0, "CONFIG SET rdbcompression no");
    let folder = Folder::new();
    let file = folder.put("b.rdb", b"what was there before");
    // The link of the snapshot is the only one that sends so much.
    let proxy = Proxy::start(&source);
    proxy.cut_after_bytes(Direction::FromServer, 2_000_000);
    let ran = copy(&proxy.uri(), &file, &["--method", "psync"]).exits_with(5);
    assert!(ran.outcome.stdout.contains("one moment"), "{ran:#?}");
    assert_eq!(folder.names(), ["b.rdb"]);
    assert_eq!(
        std::fs::read(&file).expect("is there"),
        b"what was there before"
    );

    let target = Server::start(Version::VALKEY_8_0);
    proxy.cut_after_bytes(Direction::FromServer, 2_000_000);
    let ran = copy(&proxy.uri(), &target.uri(), &["--method", "psync"]).exits_with(0);
    assert!(ran.outcome.stdout.contains("broke off"), "{ran:#?}");
    assert_same(&source, &target);

    // By SCAN the same file goes on.
    proxy.cut_after_bytes(Direction::FromServer, 1_000_000);
    copy(&proxy.uri(), &file, &["--method", "scan"]).exits_with(0);
    assert_same(&source, &started_with(Version::REDIS_7_0, &file));
}

#[test]
fn stopped_and_killed() {
    let source = prompt(Version::REDIS_7_0).start();
    populate(&source, 40_000, 100);
    let folder = Folder::new();
    let file = folder.put("b.rdb", b"old");
    for method in ["psync", "scan"] {
        let options = ["--method", method, "--rate-limit", "300kb"];
        let running = Running::start(&source.uri(), &file, &options);
        wait_until("the file grows", PATIENCE, || folder.names().len() > 1);
        running.process.interrupt();
        running.finish().exits_with(5);
        assert_eq!(folder.names(), ["b.rdb"], "{method}");
        let running = Running::start(&source.uri(), &file, &options);
        wait_until("the file grows", PATIENCE, || folder.names().len() > 1);
        running.process.kill();
        assert_eq!(running.finish().outcome.signal, Some(9));
        for name in folder.names().iter().filter(|name| *name != "b.rdb") {
            assert!(name.starts_with('.') && name.ends_with(".tmp"), "{name}");
            std::fs::remove_file(folder.path(name)).expect("can be removed");
        }
        assert_eq!(std::fs::read(&file).expect("is there"), b"old", "{method}");
    }
    copy(&source.uri(), &file, &[]).exits_with(0);
    assert_same(&source, &started_with(Version::REDIS_7_0, &file));
}

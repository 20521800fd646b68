//! RDB files into servers and clusters: all that is in the file and still lives, with all filters.

mod common;

use std::time::Duration;

use common::copying::{copy, copy_twice, key_count, key_counts, listed, run};
use common::rdb::{DUMPS, Folder, assert_same, fixture, populate, saved, uri};
use common::running::Running;
use keyhaul_testkit::diff::{DiffOptions, View, assert_equal_with, functions};
use keyhaul_testkit::{Cluster, Dataset, Direction, Proxy, Server, Version, require, wait_until};
use redis::cmd;

const PATIENCE: Duration = Duration::from_secs(20);

fn load(file: &str, target: &str, options: &[&str]) -> common::copying::Ran {
    copy(&uri(file), target, options)
}

/// The server that wrote a dump has started with it: it is the truth.
#[test]
fn a_dump_of_every_version_into_its_own_version() {
    for (name, version) in DUMPS {
        if !require(version) {
            continue;
        }
        let file = fixture(name);
        let truth = Server::builder(version).dump(&file).start();
        let target = Server::start(version);
        let ran = copy_twice(
            &uri(file.to_str().expect("UTF-8")),
            &target.uri(),
            &[],
            || {
                assert_same(&truth, &target);
            },
        );
        assert!(ran.not_moved().is_empty(), "{name}: {ran:#?}");
        if version.has_redis_feature(7, 0) {
            assert_eq!(functions(&truth), functions(&target), "{name}");
        }
    }
}

/// Files from Redis 2.4 on: a server of today that started with them is the truth.
#[test]
fn the_oldest_files() {
    let folder = fixture("redis-rdb-tools/dictionary.rdb");
    let folder = folder.parent().expect("is in a folder");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect("is there") {
        let path = entry.expect("can be listed").path();
        let name = path.to_string_lossy().into_owned();
        // No server here has the modules.
        if !name.ends_with(".rdb") || name.contains("module") {
            continue;
        }
        files += 1;
        let truth = Server::builder(Version::REDIS_7_0).dump(&path).start();
        for version in [Version::REDIS_6_0, Version::VALKEY_8_0] {
            if require(version) {
                let target = Server::start(version);
                load(&name, &target.uri(), &[]).exits_with(0);
                assert_same(&truth, &target);
            }
        }
    }
    assert!(files > 20, "{files}");
}

#[test]
fn an_old_dump_into_a_cluster() {
    let folder = Folder::new();
    let source = Server::start(Version::REDIS_7_0);
    let dataset = Dataset {
        keys: 3_000,
        small_only: true,
        ..Dataset::default()
    };
    dataset.fill(&source);
    run(&source, 0, "SET {tag}a 1 PXAT 4102444800123");
    let file = saved(&source, &folder, "a.rdb");
    let cluster = Cluster::start(Version::VALKEY_8_0, 3);
    load(&file, &cluster.seeds(), &[]).exits_with(0);
    assert_equal_with(
        &View::server(&source),
        &View::cluster(&cluster),
        &DiffOptions::default(),
    );
}

#[test]
fn filters_and_other_names() {
    let folder = Folder::new();
    let source = Server::start(Version::REDIS_7_0);
    for (db, words) in [
        (0, "SET app:1 a"),
        (0, "SET app:2 b PXAT 4102444800123"),
        (0, "RPUSH app:list x y"),
        (0, "SET other:1 c"),
        (3, "SET app:1 d"),
        (5, "SET app:5 e"),
    ] {
        run(&source, db, words);
    }
    let file = saved(&source, &folder, "a.rdb");
    // Options, and how many keys each db holds then.
    type Row<'a> = (&'a [&'a str], &'a [(u32, u64)]);
    let rows: [Row<'_>; 7] = [
        (&[], &[(0, 4), (3, 1), (5, 1)]),
        (&["--key-pattern", "app:*", "--db", "0"], &[(0, 3)]),
        (&["--key-exclude", "app:*"], &[(0, 1)]),
        (&["--key-type", "list"], &[(0, 1)]),
        (&["--db", "3,5", "--db-map", "3:1"], &[(1, 1), (5, 1)]),
        (&["--db", "0", "--mem-limit", "2b"], &[(0, 3)]),
        (&["--db", "0", "--rename-prefix", "app:=shop:"], &[(0, 4)]),
    ];
    for (options, expected) in rows {
        let target = Server::start(Version::VALKEY_8_0);
        let ran = load(&file, &target.uri(), options);
        let found: Vec<(u32, u64)> = key_counts(&target).into_iter().collect();
        assert_eq!(found, expected, "{options:?}: {ran:#?}");
        let code = i32::from(options.contains(&"--mem-limit")) * 4;
        let ran = ran.exits_with(code);
        if code == 4 {
            assert_eq!(ran.not_moved(), listed(0, &["app:list"]), "{ran:#?}");
        }
        if options.contains(&"app:=shop:") {
            let at: i64 = cmd("PEXPIRETIME")
                .arg("shop:2")
                .query(&mut target.client())
                .expect("is answered");
            assert_eq!(at, 4_102_444_800_123);
        }
    }
}

#[test]
fn keys_that_become_one_are_listed() {
    let folder = Folder::new();
    let source = Server::start(Version::REDIS_7_0);
    for (db, words) in [(0, "SET a:1 a"), (0, "SET b:1 b"), (1, "SET a:1 c")] {
        run(&source, db, words);
    }
    let file = saved(&source, &folder, "a.rdb");
    let options = ["--rename-prefix", "b:=a:", "--db-map", "1:0"];
    let target = Server::start(Version::REDIS_7_0);
    let ran = load(&file, &target.uri(), &options).exits_with(4);
    assert_eq!(key_count(&target), 1);
    assert_eq!(ran.not_moved().len(), 2, "{ran:#?}");
    ran.reasons_say("becomes the same key");

    // A snapshot cannot tell which they are; it must not pass for success.
    let source = common::rdb::prompt(Version::REDIS_7_0).start();
    run(&source, 0, "SET a:1 a");
    run(&source, 0, "SET b:1 b");
    let target = Server::start(Version::REDIS_7_0);
    let options = ["--rename-prefix", "b:=a:", "--method", "psync"];
    let ran = copy(&source.uri(), &target.uri(), &options);
    assert!(matches!(ran.outcome.code, Some(4 | 5)), "{ran:#?}");
    let into_file = copy(&source.uri(), &folder.path("x.rdb"), &options);
    assert!(
        matches!(into_file.outcome.code, Some(4 | 5)),
        "{into_file:#?}"
    );
}

#[test]
fn what_is_there_already() {
    let folder = Folder::new();
    let source = Server::start(Version::REDIS_7_0);
    run(&source, 0, "RPUSH k a b");
    run(&source, 0, "SET n 1");
    let file = saved(&source, &folder, "a.rdb");
    for (choice, code, kind) in [
        ("replace", 0, "list"),
        ("skip", 0, "string"),
        ("fail", 4, "string"),
    ] {
        let target = Server::start(Version::REDIS_7_0);
        run(&target, 0, "SET k old");
        let ran = load(&file, &target.uri(), &["--on-conflict", choice]).exits_with(code);
        let found: String = cmd("TYPE")
            .arg("k")
            .query(&mut target.client())
            .expect("answers");
        assert_eq!(found, kind, "{choice}: {ran:#?}");
        if code == 4 {
            assert_eq!(ran.not_moved(), listed(0, &["k"]));
        }
        assert_eq!(key_count(&target), 2);
    }
}

/// Of several files with the same keys the later ones win, or the first, and nobody is lost in silence.
#[test]
fn several_files_one_after_the_other() {
    let folder = Folder::new();
    let source = Server::start(Version::REDIS_7_0);
    run(&source, 0, "SET k first");
    run(&source, 0, "SET t same PXAT 4102444800123");
    let one = saved(&source, &folder, "1.rdb");
    run(&source, 0, "DEL k");
    run(&source, 0, "RPUSH k second");
    run(&source, 0, "SET t same PXAT 4102444800999");
    run(&source, 0, "SET n new");
    let two = saved(&source, &folder, "2.rdb");
    let both = format!("{one},{two}");
    for (choice, code, kind) in [
        ("replace", 0, "list"),
        ("skip", 0, "string"),
        ("fail", 4, "string"),
    ] {
        let target = Server::start(Version::REDIS_7_0);
        let ran = load(&both, &target.uri(), &["--on-conflict", choice]).exits_with(code);
        let found: String = cmd("TYPE")
            .arg("k")
            .query(&mut target.client())
            .expect("answers");
        assert_eq!(found, kind, "{choice}: {ran:#?}");
        assert_eq!(key_count(&target), 3, "{ran:#?}");
        let expected = if code == 4 {
            listed(0, &["k", "t"])
        } else {
            listed(0, &[])
        };
        assert_eq!(ran.not_moved(), expected, "{choice}: {ran:#?}");
    }
}

#[test]
fn idle_times_and_frequencies_arrive() {
    for (file, policy, what, rows) in [
        (
            "redis-7.0.15/dump-lru.rdb",
            "allkeys-lru",
            "IDLETIME",
            [("string", 315_000), ("zset", 1_000_000)],
        ),
        (
            "redis-7.0.15/dump-lfu.rdb",
            "allkeys-lfu",
            "FREQ",
            [("string", 63), ("zset", 200)],
        ),
    ] {
        let target = Server::builder(Version::REDIS_7_0)
            .arg("maxmemory-policy", policy)
            .start();
        let file = fixture(file);
        load(
            file.to_str().expect("UTF-8"),
            &target.uri(),
            &["--verify", "none"],
        )
        .exits_with(0);
        for (key, expected) in rows {
            let found: i64 = cmd("OBJECT")
                .arg(what)
                .arg(key)
                .query(&mut target.client())
                .expect("is answered");
            // The clock goes on, and a look may count.
            assert!((found - expected).abs() <= 60, "{what} {key}: {found}");
        }
    }
}

#[test]
fn the_rest_of_what_a_file_may_hold() {
    let folder = Folder::new();
    let target = Server::start(Version::REDIS_7_0);
    // Db 20, an expired key, an empty name, a line feed in a name.
    let mut file = b"REDIS0009\xfe\x14\x00\x01a\x01b\xfe\x02\x00\x01c\x01d".to_vec();
    file.extend_from_slice(b"\xfc\x01\0\0\0\0\0\0\0\x00\x04dead\x01x");
    file.extend_from_slice(b"\x00\x00\x01e\x00\x02\n\xff\x01f\xff\0\0\0\0\0\0\0\0");
    let file = folder.put("odd.rdb", &file);
    let ran = load(&file, &target.uri(), &[]);
    assert_eq!(ran.outcome.code, Some(3), "{ran:#?}");
    assert!(ran.outcome.stderr.contains("--db-map"), "{ran:#?}");
    assert_eq!(key_count(&target), 0);
    let ran = load(&file, &target.uri(), &["--db-map", "20:4"]).exits_with(0);
    assert_eq!(ran.count("copied"), 4, "{ran:#?}");
    let found: Vec<(u32, u64)> = key_counts(&target).into_iter().collect();
    assert_eq!(found, [(2, 3), (4, 1)]);

    // Functions where there are none; data of modules.
    if require(Version::REDIS_6_2) {
        let target = Server::start(Version::REDIS_6_2);
        let file = fixture("redis-7.0.15/dump.rdb");
        let file = file.to_str().expect("UTF-8");
        let ran = load(file, &target.uri(), &[]).exits_with(4);
        assert!(ran.not_moved().is_empty(), "{ran:#?}");
        assert!(ran.outcome.stdout.contains("function"), "{ran:#?}");
        load(file, &target.uri(), &["--no-functions"]).exits_with(0);
    }
    let file = fixture("redis-8.2.3/dump-module.rdb");
    let target = Server::start(Version::VALKEY_8_0);
    let ran = load(file.to_str().expect("UTF-8"), &target.uri(), &[]).exits_with(4);
    assert!(ran.outcome.stdout.contains("module"), "{ran:#?}");
    assert_eq!(ran.not_moved().len(), 1, "{ran:#?}");
}

#[test]
fn the_target_is_cut_off() {
    let folder = Folder::new();
    let source = Server::start(Version::REDIS_7_0);
    let dataset = Dataset {
        keys: 20_000,
        ..Dataset::default()
    };
    dataset.fill(&source);
    for n in 0..3 {
        let value = common::copying::noise(4_000_000, n);
        cmd("SET")
            .arg(format!("large:{n}"))
            .arg(value)
            .exec(&mut source.client())
            .expect("taken");
    }
    let file = saved(&source, &folder, "a.rdb");
    let target = Server::start(Version::VALKEY_8_0);
    let proxy = Proxy::start(&target);
    let running = Running::start(&uri(&file), &proxy.uri(), &["--rate-limit", "10mb"]);
    for offset in [1, 100_001, 2_000_000, 7] {
        proxy.cut_after_bytes(Direction::ToServer, offset);
        wait_until("the link is cut", PATIENCE, || {
            proxy.has_cut(Direction::ToServer)
        });
    }
    let ran = running.finish().exits_with(0);
    assert!(ran.count("retries") > 0, "{ran:#?}");
    assert_same(&source, &target);
}

#[test]
fn a_full_target_is_waited_for_and_then_given_up() {
    let folder = Folder::new();
    let source = Server::start(Version::REDIS_7_0);
    populate(&source, 20_000, 1_000);
    let file = saved(&source, &folder, "a.rdb");
    let target = Server::builder(Version::VALKEY_8_0)
        .arg("maxmemory", "12mb")
        .start();
    let ran = load(&file, &target.uri(), &["--retry-for", "1s"]).exits_with(5);
    assert!(ran.outcome.stdout.contains("OOM"), "{ran:#?}");
    let there = key_count(&target);
    assert!(there > 0 && there < 20_000, "{there}");
    assert_eq!(ran.count("copied"), there, "{ran:#?}");
    run(&target, 0, "CONFIG SET maxmemory 0");
    load(&file, &target.uri(), &[]).exits_with(0);
    assert_same(&source, &target);
}

#[test]
fn an_interrupt_and_then_once_more() {
    let folder = Folder::new();
    let source = Server::start(Version::REDIS_7_0);
    populate(&source, 20_000, 1_000);
    let file = saved(&source, &folder, "a.rdb");
    let target = Server::start(Version::REDIS_7_0);
    let running = Running::start(&uri(&file), &target.uri(), &["--rate-limit", "4mb"]);
    wait_until("keys arrive", PATIENCE, || key_count(&target) > 500);
    running.process.interrupt();
    let ran = running.finish().exits_with(5);
    assert_eq!(ran.count("copied"), key_count(&target), "{ran:#?}");
    load(&file, &target.uri(), &[]).exits_with(0);
    assert_same(&source, &target);
}

/// A server saves anew over the file that is read: all that arrives is of the file that was checked.
#[test]
fn another_file_gets_the_name_meanwhile() {
    let folder = Folder::new();
    let source = Server::start(Version::REDIS_7_0);
    run(&source, 0, "CONFIG SET rdbcompression no");
    for n in 0..6 {
        let value = vec![b'a'; 1_500_000];
        cmd("SET")
            .arg(format!("large:{n}"))
            .arg(value)
            .exec(&mut source.client())
            .expect("taken");
    }
    let file = saved(&source, &folder, "a.rdb");
    let other = Server::start(Version::REDIS_7_0);
    populate(&other, 9_000, 1_000);
    let newer = saved(&other, &folder, "b.rdb");
    let target = Server::start(Version::REDIS_7_0);
    let running = Running::start(&uri(&file), &target.uri(), &["--rate-limit", "4mb"]);
    wait_until("keys arrive", PATIENCE, || key_count(&target) > 0);
    std::fs::rename(&newer, &file).expect("a file can be renamed");
    running.finish().exits_with(0);
    assert_same(&source, &target);
}

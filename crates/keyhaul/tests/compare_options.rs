//! What is compared and how closely: filters, dbs, names, --quick, --ttl-tolerance, --only-keys, --show-diffs.

mod common;

use std::collections::BTreeSet;

use common::compare::{Compared, Reach, clone_keys, compare, row, rows, script, shown, twin};
use common::rdb::Folder;
use keyhaul_testkit::{Dataset, Server, Version, require};

/// Db, key, how it is made on both sides, how it is changed on the target.
const PLANTED: &[(u32, &str, &str, &str)] = &[
    (0, "app:missing", "SET @ a", "DEL @"),
    (0, "app:value", "SET @ a", "SET @ b"),
    (
        0,
        "app:expiry",
        "SET @ a PXAT 4102444800123",
        "PEXPIREAT @ 4102444800128",
    ),
    (0, "app:type", "SET @ a", "DEL @ | HSET @ a 1"),
    (0, "app:list", "RPUSH @ a b", "LSET @ 1 c"),
    (0, "app:extra", "", "SET @ a"),
    (0, "app:extra list", "", "RPUSH @ a"),
    (0, "other:value", "SET @ a", "SET @ b"),
    (0, "other:extra", "", "SET @ a"),
    (3, "app:value", "SET @ a", "SET @ b"),
    (3, "three:extra", "", "ZADD @ 1 a"),
];

/// Two servers that differ in what is planted.
fn planted() -> (Server, Server) {
    let source = Server::start(Version::REDIS_7_0);
    let dataset = Dataset {
        seed: 551,
        keys: 400,
        dbs: vec![0, 3],
        small_only: true,
        ..Dataset::default()
    };
    dataset.fill(&source);
    for (db, key, words, _) in PLANTED {
        script(&mut source.connection(*db), key, words);
    }
    let target = twin(&source);
    for (db, key, _, words) in PLANTED {
        script(&mut target.connection(*db), key, words);
    }
    (source, target)
}

const APP: [&str; 7] = [
    "-app:missing",
    "*app:value",
    "*app:expiry",
    "*app:type",
    "*app:list",
    "+app:extra",
    "+app:extra list",
];

#[test]
fn filters() {
    let (source, target) = planted();
    let zero = [&APP[..], &["*other:value", "+other:extra"]].concat();
    let three = ["3*app:value", "3+three:extra"];
    let all = [&zero[..], &three].concat();
    let without = |left_out: &[&str]| -> Vec<&str> {
        let stays = |text: &&&str| !left_out.contains(*text);
        all.iter().filter(stays).copied().collect()
    };
    let table: [(&[&str], Vec<&str>); 12] = [
        (&[], all.clone()),
        (&["--db", "0"], zero.clone()),
        (&["--db", "3"], three.to_vec()),
        (&["--db", "0,3"], all.clone()),
        (&["--key-pattern", "app:*", "--db", "0"], APP.to_vec()),
        (
            &["--key-exclude", "app:*"],
            vec!["*other:value", "+other:extra", "3+three:extra"],
        ),
        (&["--key-pattern", "no such key"], vec![]),
        (
            &["--key-pattern", "*:extra"],
            vec!["+app:extra", "+other:extra", "3+three:extra"],
        ),
        (
            &["--key-type", "list"],
            vec!["*app:list", "+app:extra list"],
        ),
        (
            &["--key-type", "list,zset", "--key-pattern", "*:*"],
            vec!["*app:list", "+app:extra list", "3+three:extra"],
        ),
        (
            &["--quick"],
            without(&["*app:value", "*app:list", "*other:value", "3*app:value"]),
        ),
        (&["--ttl-tolerance", "5"], without(&["*app:expiry"])),
    ];
    for (options, expected) in table {
        println!("{options:?}");
        compare(&source.uri(), &target.uri(), options).finds(&rows(&expected));
    }
    // One less than they are apart.
    let ran = compare(&source.uri(), &target.uri(), &["--ttl-tolerance", "4"]);
    ran.finds(&rows(&all));
}

/// By relative times alone a clock that goes on must be no difference, and an hour is one.
#[test]
fn expiries_of_servers_that_tell_no_absolute_ones() {
    if !require(Version::REDIS_6_2) {
        return;
    }
    let (source, target) = (
        Server::start(Version::REDIS_6_2),
        Server::start(Version::REDIS_7_0),
    );
    for n in 0..200 {
        let words = format!("SET @ a | PEXPIREAT @ {}", 4_102_444_800_000_u64 + n);
        for server in [&source, &target] {
            script(&mut server.client(), &format!("key:{n}"), &words);
        }
    }
    compare(&source.uri(), &target.uri(), &[]).equal(200);
    compare(&target.uri(), &source.uri(), &[]).equal(200);
    script(&mut target.client(), "key:7", "PEXPIREAT @ 4102448400007");
    compare(&source.uri(), &target.uri(), &[]).finds(&rows(&["*key:7"]));
}

#[test]
fn other_dbs_and_other_names() {
    let version = Version::VALKEY_8_0;
    let (source, target) = (Server::start(version), Server::start(version));
    let mut from = source.client();
    for (key, words) in [
        ("app:1", "SET @ a"),
        ("app:2", "600*HSET @ f{} v{}"),
        ("app:gone", "SET @ a"),
        ("other", "SET @ a"),
        ("app:", "SET @ a"),
    ] {
        script(&mut from, key, words);
    }
    let mut to = target.connection(5);
    for (key, words) in [
        ("shop:1", "SET @ a"),
        ("shop:2", "600*HSET @ f{} v{} | HSET @ f7 x"),
        ("other", "SET @ a"),
        ("shop:", "SET @ a"),
        // No key of the source becomes any of these, though one could become the first two.
        ("shop:3", "SET @ a"),
        ("extra", "SET @ a"),
        ("app:1", "SET @ a"),
    ] {
        script(&mut to, key, words);
    }
    // What no db of the source becomes is not looked at.
    script(&mut target.connection(7), "elsewhere", "SET @ a");
    let names = [
        "--db",
        "0",
        "--db-map",
        "0:5",
        "--rename-prefix",
        "app::shop:",
    ];
    let expected = ["*app:2", "-app:gone", "5+shop:3", "5+extra"];
    for more in [&[][..], &["--chunk-threshold", "1"]] {
        let options = [&names[..], more].concat();
        compare(&source.uri(), &target.uri(), &options).finds(&rows(&expected));
    }
    let options = [&names[..], &["--key-pattern", "app:*"]].concat();
    let ran = compare(&source.uri(), &target.uri(), &options);
    ran.finds(&rows(&["*app:2", "-app:gone", "5+shop:3"]));
    // By the URI too.
    let uri = format!("unix://{}?db=5", target.socket().display());
    let options = ["--db", "0", "--rename-prefix", "app::shop:"];
    compare(&source.uri(), &uri, &options).finds(&rows(&expected));
}

#[test]
fn only_the_keys_of_an_earlier_run() {
    let version = Version::REDIS_7_0;
    let source = Server::start(version);
    let dataset = Dataset {
        seed: 552,
        keys: 3 * Dataset::EVERY_KIND,
        dbs: vec![0, 3],
        small_only: true,
        ..Dataset::default()
    };
    dataset.fill(&source);
    let target = twin(&source);
    // Every odd name and some others differ.
    let mut expected = BTreeSet::new();
    for db in [0, 3] {
        let mut link = target.connection(db);
        let keys = Reach::server(&source, db).keys();
        for (n, key) in keys.iter().enumerate() {
            let mark = match n % 3 {
                0 => '-',
                1 => '*',
                _ => continue,
            };
            let mut command = redis::cmd(if mark == '-' { "DEL" } else { "SET" });
            command.arg(key);
            if mark == '*' {
                command.arg("changed");
            }
            command.exec(&mut link).expect("is taken");
            expected.insert((mark, u64::from(db), shown(key)));
        }
        for extra in [&b"extra\xff\n\t\\"[..], b"extra"] {
            let mut command = redis::cmd("SET");
            command.arg(extra).arg(1).exec(&mut link).expect("is taken");
            expected.insert(('+', u64::from(db), shown(extra)));
        }
    }
    let first = compare(&source.uri(), &target.uri(), &[]).finds(&expected);
    let file = first.diff_file().display().to_string();
    let again = || compare(&source.uri(), &target.uri(), &["--only-keys", &file]);
    let ran = again().finds(&expected);
    assert_eq!(ran.count("checked"), expected.len() as u64, "{ran:#?}");
    assert_eq!(ran.count("same"), 0, "{ran:#?}");
    // What is put right is the same; what is not in the file is not looked at.
    script(&mut target.connection(3), "extra", "DEL @");
    script(&mut target.connection(3), "not in the file", "SET @ 1");
    expected.remove(&row("3+extra"));
    let (mut from, mut to) = (Reach::server(&source, 0), Reach::server(&target, 0));
    clone_keys(&mut from, &mut to);
    expected.retain(|row| row.1 == 3 || row.0 == '+');
    let ran = again().finds(&expected);
    assert!(ran.count("same") > 0, "{ran:#?}");
}

/// Names on both sides, with a renaming between.
#[test]
fn only_keys_with_other_names() {
    let version = Version::REDIS_7_0;
    let (source, target) = (Server::start(version), Server::start(version));
    for n in 0..5 {
        script(&mut source.client(), &format!("a:{n}"), "SET @ 1");
        script(&mut target.connection(4), &format!("b:{n}"), "SET @ 1");
    }
    script(&mut target.connection(4), "b:3", "SET @ 2");
    script(&mut target.connection(4), "b:4", "DEL @");
    script(&mut target.connection(4), "b:9", "SET @ 1");
    let names = ["--db", "0", "--db-map", "0:4", "--rename-prefix", "a::b:"];
    let expected = rows(&["*a:3", "-a:4", "4+b:9"]);
    let first = compare(&source.uri(), &target.uri(), &names).finds(&expected);
    let file = first.diff_file().display().to_string();
    let options = [&names[..], &["--only-keys", &file]].concat();
    let ran = compare(&source.uri(), &target.uri(), &options).finds(&expected);
    assert_eq!(ran.count("checked"), 3, "{ran:#?}");
}

/// What a user writes down: names, or dbs and names.
#[test]
fn only_keys_that_somebody_wrote_down() {
    let version = Version::REDIS_7_0;
    let source = Server::start(version);
    for (db, key) in [(0, "a"), (0, "b"), (3, "b"), (3, "c \n")] {
        script(&mut source.connection(db), key, "SET @ 1");
    }
    let target = Server::start(version);
    let folder = Folder::new();
    for (text, expected) in [
        ("a\nb\n", &["-a", "-b"][..]),
        ("0\ta\n3\tc \\x0A\r\n\n", &["-a", "3-c \\x0A"]),
        ("no such key", &[]),
        ("", &[]),
    ] {
        let file = folder.put("keys", text.as_bytes());
        let ran = compare(&source.uri(), &target.uri(), &["--only-keys", &file]);
        ran.finds(&rows(expected));
    }
}

fn show(source: &Server, target: &Server, options: &[&str]) -> Compared {
    compare(&source.uri(), &target.uri(), options).exits_with(1)
}

/// Field, member, index, id or offset of the first differences.
#[test]
fn what_differs_inside_a_value() {
    let version = Version::REDIS_7_0;
    let (source, target) = (Server::start(version), Server::start(version));
    let table: [(&str, &str, &str, &[&str]); 8] = [
        (
            "hash",
            "5*HSET @ field{} v{}",
            "HSET @ field3 other",
            &["field3"],
        ),
        (
            "table",
            "600*HSET @ field{} v{}",
            "HDEL @ field345",
            &["field345"],
        ),
        ("list", "500*RPUSH @ e{}", "LSET @ 321 other", &["321"]),
        (
            "set",
            "5*SADD @ m{}",
            "SREM @ m3 | SADD @ n3",
            &["m3", "n3"],
        ),
        ("zset", "5*ZADD @ {} m{}", "ZADD @ 3.25 m3", &["m3", "3.25"]),
        ("text", "SETRANGE @ 5000 a", "SETBIT @ 32008 1", &["4001"]),
        ("stream", "9*XADD @ 1-{} f v{}", "XDEL @ 1-5", &["1-5"]),
        (
            "expiry",
            "SET @ a PXAT 4102444800123",
            "PEXPIREAT @ 4102444800777",
            &["4102444800777"],
        ),
    ];
    for (key, words, change, _) in table {
        script(&mut source.client(), key, words);
        script(&mut target.client(), key, words);
        script(&mut target.client(), key, change);
    }
    for more in [&[][..], &["--chunk-threshold", "1"]] {
        let ran = show(&source, &target, &[&["--show-diffs"][..], more].concat());
        for (key, _, _, says) in table {
            for text in [&[key], says].concat() {
                assert!(
                    ran.outcome.stdout.contains(text),
                    "{key}: {text}: {more:?}: {ran:#?}"
                );
            }
        }
        // Not unless it is asked for.
        let ran = show(&source, &target, more);
        assert!(!ran.outcome.stdout.contains("field345"), "{ran:#?}");
    }
}

//! `keyhaul keystats memkeys`: every row is what the server says of the key, and no key is left out.

mod common;

use std::process::Command;

use common::copying::run;
use common::keystats::{Sizes, keystats, sizes_of, sizes_told};
use common::{DEADLINE, command};
use keyhaul_testkit::{Cluster, Dataset, Server, Version, process, wait_until};
use redis::cmd;

/// Data of all kinds, with names that are UTF-8.
fn fill(server: &Server, dbs: &[u32]) {
    for db in dbs {
        let mut link = server.connection(*db);
        for n in 0..700_u32 {
            let key = format!("{{t{}}}:{n},\"é\"\n", n % 50);
            let value = "v".repeat((n as usize % 40) * 30);
            let made = match n % 4 {
                0 => cmd("SET").arg(&key).arg(&value).to_owned(),
                1 => cmd("RPUSH").arg(&key).arg(&[&value; 20]).to_owned(),
                2 => cmd("HSET").arg(&key).arg("f").arg(&value).to_owned(),
                _ => cmd("ZADD").arg(&key).arg(n).arg(&value).to_owned(),
            };
            let () = made.query(&mut link).expect("is written");
        }
    }
}

fn above(sizes: &Sizes, limit: u64) -> Sizes {
    let above = sizes.iter().filter(|(_, bytes)| **bytes > limit);
    above.map(|(key, bytes)| (key.clone(), *bytes)).collect()
}

#[test]
fn every_row_is_what_the_server_says() {
    for version in Version::all_available() {
        let server = Server::start(version);
        fill(&server, &[0, 3]);
        for db in [0, 3] {
            let expected = sizes_of(&server, db);
            let told = |limit: &str| {
                let db = db.to_string();
                let args = ["memkeys", &server.uri(), "--mem-limit", limit, "--db", &db];
                sizes_told(&keystats(&args).stdout)
            };
            assert_eq!(told("0"), expected, "{version}");
            // Strictly above.
            let mut bytes: Vec<u64> = expected.values().copied().collect();
            bytes.sort_unstable();
            let limit = bytes[bytes.len() / 2];
            let rows = above(&expected, limit);
            assert!(!rows.is_empty() && rows.len() < expected.len());
            assert_eq!(told(&limit.to_string()), rows, "{version}");
            assert_eq!(told(&format!("{}gb", 1 << 20)), Sizes::new(), "{version}");
        }
        let ran = keystats(&["memkeys", &server.uri(), "--mem-limit", "0"]);
        let rows = sizes_of(&server, 0).len() + sizes_of(&server, 3).len();
        let done = format!("done: {rows} keys above 0 B");
        let done = done.replace("1400", "1,400");
        assert!(ran.stderr.contains(&done), "{}", ran.stderr);
        assert!(ran.stderr.contains("rows are of 2 dbs"), "{}", ran.stderr);
    }
}

#[test]
fn names_as_they_stand_in_the_file() {
    let server = Server::start(Version::VALKEY_8_0);
    let names: [(&[u8], &str); 8] = [
        (b"a,b", "\"a,b\""),
        (b"say \"hi\"", "\"say \"\"hi\"\"\""),
        (b"two\r\nlines", "\"two\r\nlines\""),
        ("\u{e9}\u{1f511}".as_bytes(), "\u{e9}\u{1f511}"),
        (b"", ""),
        (b" blank\t", " blank\t"),
        (b"back\\xFF", "back\\xFF"),
        (b"bin\\\xff\x00,", "\"bin\\\\\\xFF\\x00,\""),
    ];
    let mut link = server.client();
    let mut expected = vec!["key,size_bytes".to_owned()];
    for (name, text) in names {
        let () = cmd("SET").arg(name).arg("v").query(&mut link).unwrap();
        let bytes: u64 = cmd("MEMORY")
            .arg("USAGE")
            .arg(name)
            .query(&mut link)
            .unwrap();
        expected.push(format!("{text},{bytes}"));
    }
    let ran = keystats(&["memkeys", &server.uri(), "--mem-limit", "0"]);
    let (head, rest) = ran.stdout.split_once('\n').unwrap();
    assert_eq!(head, expected.remove(0));
    // The longest first: a short one may be a part of it.
    expected.sort_by_key(|row| std::cmp::Reverse(row.len()));
    let mut left = rest.to_owned();
    for row in &expected {
        let row = format!("{row}\n");
        assert!(left.contains(&row), "{row:?} in {rest:?}");
        left = left.replacen(&row, "", 1);
    }
    assert_eq!(left, "");
}

#[test]
fn only_what_was_asked_for() {
    for version in [Version::REDIS_6_2, Version::VALKEY_8_0] {
        let server = Server::start(version);
        fill(&server, &[0]);
        let all = sizes_of(&server, 0);
        let mut link = server.client();
        let mut of_type = |names: &[&str]| -> Sizes {
            let mut is = |key: &[u8]| {
                let name: String = cmd("TYPE").arg(key).query(&mut link).unwrap();
                names.contains(&name.as_str())
            };
            let found = all.iter().filter(|(key, _)| is(key));
            found.map(|(key, bytes)| (key.clone(), *bytes)).collect()
        };
        let hashes = of_type(&["hash"]);
        let two = of_type(&["hash", "list"]);
        let tagged: Sizes = {
            let tagged = all.iter().filter(|(key, _)| key.starts_with(b"{t7}"));
            tagged.map(|(key, bytes)| (key.clone(), *bytes)).collect()
        };
        for (options, expected) in [
            (&["--key-type", "hash"][..], hashes),
            (&["--key-type", "hash,list"], two),
            (&["--key-pattern", "{t7}*"], tagged),
            (&["--key-exclude", "*"], Sizes::new()),
            (&["--scan-count", "3"], all.clone()),
            (&["--samples", "3"], all.clone()),
        ] {
            let uri = server.uri();
            let args = [&["memkeys", &uri, "--mem-limit", "0"], options].concat();
            assert_eq!(sizes_told(&keystats(&args).stdout), expected, "{options:?}");
        }
    }
}

#[test]
fn samples_are_those_that_were_asked_for() {
    let server = Server::start(Version::REDIS_7_0);
    let mut link = server.client();
    for n in 0..3000 {
        let value = "x".repeat(n);
        let () = cmd("HSET")
            .arg("h")
            .arg(n)
            .arg(value)
            .query(&mut link)
            .unwrap();
    }
    let mut seen = Vec::new();
    for samples in ["0", "1", "500"] {
        let asked = cmd("MEMORY")
            .arg("USAGE")
            .arg("h")
            .arg("SAMPLES")
            .arg(samples)
            .to_owned();
        let bytes: u64 = asked.query(&mut link).unwrap();
        let args = [
            "memkeys",
            &server.uri(),
            "--mem-limit",
            "0",
            "--samples",
            samples,
        ];
        assert_eq!(sizes_told(&keystats(&args).stdout)[&b"h"[..]], bytes);
        seen.push(bytes);
    }
    seen.dedup();
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[test]
fn long_names_behind_a_db_of_short_ones() {
    let server = Server::start(Version::REDIS_7_0);
    for (db, keys, name_bytes) in [(0, 3000, 1), (1, 300, 20_000)] {
        let mut pipe = redis::pipe();
        for n in 0..keys {
            let name = format!("{}:{n}", "n".repeat(name_bytes));
            pipe.cmd("SET").arg(name).arg("v").ignore();
        }
        let () = pipe.query(&mut server.connection(db)).unwrap();
    }
    run(&server, 0, "CONFIG SET slowlog-max-len 20000");
    run(&server, 0, "CONFIG SET slowlog-log-slower-than 0");
    let ran = keystats(&["memkeys", &server.uri(), "--mem-limit", "0"]);
    run(&server, 0, "CONFIG SET slowlog-log-slower-than -1");
    let expected = [sizes_of(&server, 0), sizes_of(&server, 1)];
    let expected: Sizes = expected.into_iter().flatten().collect();
    assert_eq!(sizes_told(&ran.stdout), expected);
    // What is known of the names of one db says nothing of those of another.
    type Entry = (u64, u64, u64, Vec<String>, String, String);
    let mut link = server.client();
    let entries: Vec<Entry> = cmd("SLOWLOG").arg("GET").arg(-1).query(&mut link).unwrap();
    let is_first = |words: &[String]| words.starts_with(&["SCAN".into(), "0".into()]);
    let first = entries.iter().filter(|entry| is_first(&entry.3));
    let counts: Vec<_> = first.filter_map(|entry| entry.3.last()).collect();
    assert_eq!(
        counts.iter().filter(|count| **count == "100").count(),
        2,
        "{counts:?}"
    );
    assert!(!counts.iter().any(|count| *count == "1000"), "{counts:?}");
}

#[test]
fn every_node_of_a_cluster() {
    let cluster = Cluster::start(Version::REDIS_7_0, 3);
    let dataset = Dataset {
        seed: 61,
        keys: 900,
        small_only: true,
        ..Dataset::default()
    };
    dataset.fill_cluster(&cluster);
    let mut expected = Sizes::new();
    for node in cluster.nodes() {
        expected.extend(sizes_of(node, 0));
    }
    let expected: u64 = expected.values().sum();
    let ran = keystats(&["memkeys", &cluster.uri(), "--mem-limit", "0"]);
    let lines = ran.stdout.lines();
    let told: u64 = lines
        .filter_map(|line| line.rsplit(',').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(told, expected);
}

#[test]
fn a_replica_is_read_where_there_is_one() {
    let primary = Server::builder(Version::REDIS_7_0).tcp().start();
    fill(&primary, &[0]);
    let args = [
        "memkeys",
        &primary.tcp_uri(),
        "--mem-limit",
        "0",
        "--prefer-replica",
    ];
    // Without, the primary.
    let alone = keystats(&args);
    assert!(
        alone.stderr.contains("no replica that can be read"),
        "{}",
        alone.stderr
    );
    let replica = Server::builder(Version::REDIS_7_0)
        .tcp()
        .arg("replicaof", format!("127.0.0.1 {}", primary.port()))
        .start();
    wait_until("the replica follows", DEADLINE, || {
        replica.info("master_link_status") == "up"
    });
    wait_until("the primary knows", DEADLINE, || {
        primary.info("slave0").contains("state=online")
    });
    run(&primary, 0, "CONFIG RESETSTAT");
    let ran = keystats(&args);
    assert!(
        ran.stderr.contains("is read, a replica of"),
        "{}",
        ran.stderr
    );
    assert_eq!(sizes_told(&ran.stdout), sizes_of(&replica, 0));
    // Only the probe asked the primary.
    let stats: String = cmd("INFO")
        .arg("commandstats")
        .query(&mut primary.client())
        .unwrap();
    let usage = stats
        .lines()
        .find(|line| line.starts_with("cmdstat_memory|usage"));
    assert!(
        usage.is_some_and(|line| line.contains("calls=1,")),
        "{usage:?}"
    );
}

#[test]
fn replicas_of_a_cluster() {
    let cluster = Cluster::builder(Version::VALKEY_8_0)
        .primaries(2)
        .replicas(1)
        .start();
    let mut expected = Sizes::new();
    for n in 0..500 {
        let key = format!("key:{n}");
        let mut link = cluster.connection_for(key.as_bytes());
        let () = cmd("SET").arg(&key).arg("v").query(&mut link).unwrap();
        let bytes = cmd("MEMORY")
            .arg("USAGE")
            .arg(&key)
            .query(&mut link)
            .unwrap();
        expected.insert(key.into_bytes(), bytes);
    }
    wait_until("replicas have all", DEADLINE, || {
        let keys = |node: &Server| -> u64 { cmd("DBSIZE").query(&mut node.client()).unwrap() };
        let nodes: u64 = cluster.nodes().iter().map(keys).sum();
        nodes == 1000
    });
    let args = [
        "memkeys",
        &cluster.uri(),
        "--mem-limit",
        "0",
        "--prefer-replica",
    ];
    let ran = keystats(&args);
    assert_eq!(
        ran.stderr.matches("is read, a replica of").count(),
        2,
        "{}",
        ran.stderr
    );
    assert_eq!(sizes_told(&ran.stdout), expected);
}

#[test]
fn a_reader_that_has_seen_enough() {
    let server = Server::start(Version::VALKEY_8_0);
    let mut link = server.client();
    let mut pipe = redis::pipe();
    for n in 0..50_000 {
        pipe.cmd("SET").arg(format!("key:{n}")).arg("v").ignore();
    }
    let () = pipe.query(&mut link).unwrap();
    let binary = env!("CARGO_BIN_EXE_keyhaul");
    let line = format!(
        "{binary} keystats memkeys {} --mem-limit 0 --progress none | head -1; echo ${{PIPESTATUS[0]}}",
        server.uri()
    );
    let mut shell = Command::new("bash");
    shell
        .args(["-c", &line])
        .env("XDG_STATE_HOME", env!("CARGO_TARGET_TMPDIR"));
    let ran = process::run(shell, DEADLINE);
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str()),
        ("key,size_bytes\n0\n", "")
    );
}

#[test]
fn keys_that_the_user_may_not_see() {
    let server = Server::builder(Version::REDIS_7_0)
        .acl_user(
            "reader",
            "on >secret ~user:* +@read +select +info +memory|usage",
        )
        .start();
    let mut link = server.client();
    for key in ["user:1", "user:2", "other"] {
        let () = cmd("SET").arg(key).arg("v").query(&mut link).unwrap();
    }
    let uri = server.uri();
    let ran = process::run(
        command(&[
            "keystats",
            "memkeys",
            &uri,
            "--user",
            "reader",
            "-a",
            "secret",
            "--mem-limit",
            "0",
        ]),
        DEADLINE,
    );
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("\"other\": the server refused to tell: NOPERM"),
        "{}",
        ran.stderr
    );
    let told: Vec<Vec<u8>> = sizes_told(&ran.stdout).into_keys().collect();
    assert_eq!(told, [b"user:1", b"user:2"]);
}

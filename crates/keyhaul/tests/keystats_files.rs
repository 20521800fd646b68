//! `keyhaul keystats` of RDB files: what a record takes is what it takes in the file.

mod common;

use std::collections::BTreeMap;

use common::copying::{key_count, run};
use common::keystats::{Sizes, keystats, keystats_ending, shards_of, shards_told, sizes_told};
use common::rdb::{DUMPS, Folder, fixture, saved, uri};
use keyhaul_testkit::{Dataset, Server, Version};
use redis::cmd;

/// What a string takes in an RDB with what stands before it, where it is not compressed and no number.
fn text_bytes(bytes: usize) -> u64 {
    let head = match bytes {
        0..64 => 1,
        64..16_384 => 2,
        _ => 5,
    };
    (head + bytes) as u64
}

/// A server with strings of known lengths, in two dbs, and what their records take.
fn filled() -> (Server, BTreeMap<u32, Sizes>) {
    let server = Server::builder(Version::REDIS_7_0)
        .arg("rdbcompression", "no")
        .start();
    let mut expected: BTreeMap<u32, Sizes> = BTreeMap::new();
    for db in [0, 5] {
        let mut link = server.connection(db);
        for n in 0..500_usize {
            let key = format!("{{k{}}}:{}", n % 9, "n".repeat(n));
            let value = "v".repeat(n * 97);
            let () = cmd("SET")
                .arg(&key)
                .arg(&value)
                .query(&mut link)
                .expect("is written");
            if n % 3 == 0 {
                // What an expiry takes is not the record's.
                let () = cmd("EXPIRE")
                    .arg(&key)
                    .arg(100_000)
                    .query(&mut link)
                    .expect("is written");
            }
            let bytes = 1 + text_bytes(key.len()) + text_bytes(value.len());
            expected
                .entry(db)
                .or_default()
                .insert(key.into_bytes(), bytes);
        }
        // Above what is held at once.
        let () = cmd("SET")
            .arg("large")
            .arg("v".repeat(3_000_000))
            .query(&mut link)
            .expect("is written");
        let large = 1 + text_bytes(5) + text_bytes(3_000_000);
        expected
            .entry(db)
            .or_default()
            .insert(b"large".to_vec(), large);
    }
    (server, expected)
}

#[test]
fn records_of_known_lengths() {
    let (folder, (server, expected)) = (Folder::new(), filled());
    let file = uri(&saved(&server, &folder, "a.rdb"));
    for (db, sizes) in &expected {
        let db = db.to_string();
        let told = keystats(&["memkeys", &file, "--mem-limit", "0", "--db", &db]);
        assert_eq!(&sizes_told(&told.stdout), sizes);
        let told = keystats(&["slots", &file, "--db", &db, "--shards", "140"]);
        assert_eq!(shards_told(&told.stdout), shards_of(sizes, 140));
    }
    let told = keystats(&["memkeys", &file, "--mem-limit", "2mb", "--db", "0"]);
    assert_eq!(
        told.stdout,
        format!("key,size_bytes\nlarge,{}\n", 3_000_000 + 5 + 6 + 1)
    );
    let sum: u64 = expected.values().flat_map(Sizes::values).sum();
    let told = keystats(&["slots", &file]);
    let shards = shards_told(&told.stdout);
    assert_eq!(shards.iter().map(|row| row[3]).sum::<u64>(), sum);
    assert!(
        told.stderr.contains("looked at  1,002 keys"),
        "{}",
        told.stderr
    );
    let some = keystats(&["memkeys", &file, "--mem-limit", "0", "--key-type", "list"]);
    assert_eq!(some.stdout, "key,size_bytes\n");
}

#[test]
fn long_names_in_a_file() {
    let (folder, server) = (
        Folder::new(),
        Server::builder(Version::REDIS_7_0)
            .arg("rdbcompression", "no")
            .start(),
    );
    let (mut pipe, mut expected) = (redis::pipe(), Sizes::new());
    for n in 0..900_usize {
        let name = format!("{n}:{}", "n".repeat(n % 3 * 2000));
        pipe.cmd("SET").arg(&name).arg("v").ignore();
        expected.insert(
            name.clone().into_bytes(),
            1 + text_bytes(name.len()) + text_bytes(1),
        );
    }
    let () = pipe.query(&mut server.client()).expect("is written");
    let told = keystats(&[
        "memkeys",
        &uri(&saved(&server, &folder, "a.rdb")),
        "--mem-limit",
        "0",
    ]);
    assert_eq!(sizes_told(&told.stdout), expected);
}

#[test]
fn files_of_every_version_and_kind() {
    for (dump, _) in DUMPS {
        let file = uri(fixture(dump).to_str().unwrap());
        let told = keystats(&["slots", &file, "--shards", "1"]);
        let shards = shards_told(&told.stdout);
        let [[0, 0, 16_383, sum]] = shards[..] else {
            panic!("{shards:?}")
        };
        // Most of a file are its records.
        let bytes = std::fs::metadata(fixture(dump)).unwrap().len();
        assert!(sum < bytes && sum > bytes / 2, "{dump}: {sum} of {bytes}");
    }
    let (folder, server) = (Folder::new(), Server::start(Version::VALKEY_9_1));
    let dataset = Dataset {
        seed: 99,
        keys: 2 * Dataset::EVERY_KIND + 100,
        ..Dataset::default()
    };
    dataset.fill(&server);
    let file = uri(&saved(&server, &folder, "a.rdb"));
    let told = keystats(&["slots", &file]);
    let keys = key_count(&server);
    assert!(
        told.stderr.contains(&format!("looked at  {keys} keys")),
        "{}",
        told.stderr
    );
}

#[test]
fn keys_that_have_expired_are_left_out() {
    let (folder, server) = (Folder::new(), Server::start(Version::REDIS_7_0));
    run(&server, 0, "CONFIG SET hz 1");
    run(&server, 0, "DEBUG SET-ACTIVE-EXPIRE 0");
    run(&server, 0, "SET stays v");
    run(&server, 0, "SET goes v PX 1");
    std::thread::sleep(std::time::Duration::from_millis(5));
    let file = uri(&saved(&server, &folder, "a.rdb"));
    let told = keystats(&["memkeys", &file, "--mem-limit", "0"]);
    assert_eq!(told.stdout, "key,size_bytes\nstays,9\n");
    assert!(told.stderr.contains("1 key expired"), "{}", told.stderr);
}

#[test]
fn files_that_are_damaged() {
    let (folder, (server, _)) = (Folder::new(), filled());
    let path = saved(&server, &folder, "a.rdb");
    let bytes = std::fs::read(&path).unwrap();
    let half = uri(&folder.put("half.rdb", &bytes[..bytes.len() / 2]));
    let ran = keystats_ending(&["slots", &half]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(3), ""),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("--allow-partial takes"),
        "{}",
        ran.stderr
    );
    let ran = keystats(&["slots", &half, "--allow-partial"]);
    assert!(shards_told(&ran.stdout).len() > 1);
    assert!(ran.stderr.contains("is damaged"), "{}", ran.stderr);
    let ran = keystats_ending(&["slots", &folder.path("none.rdb")]);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
}

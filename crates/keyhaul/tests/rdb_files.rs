//! RDB files into RDB files, and files that are none, damaged, cut, newer, or nowhere to be put.

mod common;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use common::copying::{Ran, copy, key_count, listed, run};
use common::rdb::{DUMPS, Folder, assert_same, fixture, populate, saved, started_with, uri};
use common::{DEADLINE, command};
use keyhaul_testkit::process;
use keyhaul_testkit::{Server, Version, require};
use redis::cmd;

fn bytes_of(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).expect("a fixture can be read")
}

/// Fails unless it was refused before anything was written, in one line that says all of this.
#[track_caller]
fn refused(ran: &Ran, code: i32, texts: &[&str]) {
    assert_eq!(ran.outcome.code, Some(code), "{ran:#?}");
    let errors = ran.outcome.stderr.trim_end();
    assert!(
        errors.starts_with("error: ") && errors.lines().count() == 1,
        "{ran:#?}"
    );
    for text in texts {
        assert!(errors.contains(text), "'{text}': {ran:#?}");
    }
}

#[test]
fn every_dump_becomes_a_file_that_its_server_starts_with() {
    let folder = Folder::new();
    for (name, version) in DUMPS {
        if !require(version) {
            continue;
        }
        let (source, file) = (fixture(name), folder.path("out.rdb"));
        let truth = Server::builder(version).dump(&source).start();
        copy(&uri(source.to_str().expect("UTF-8")), &file, &[]).exits_with(0);
        assert_same(&truth, &started_with(version, &file));
    }
}

#[test]
fn filters_and_merging() {
    let folder = Folder::new();
    let source = Server::start(Version::REDIS_7_0);
    run(&source, 0, "SET k first");
    run(&source, 0, "SET only:1 x");
    run(&source, 4, "SET k other-db");
    let one = saved(&source, &folder, "1.rdb");
    run(&source, 0, "FLUSHALL");
    run(&source, 0, "RPUSH k second");
    run(&source, 0, "SET only:2 y");
    let two = saved(&source, &folder, "2.rdb");
    let (both, out) = (format!("{one},{two}"), folder.path("out.rdb"));
    for (choice, kind) in [("replace", "list"), ("skip", "string")] {
        let ran = copy(&both, &out, &["--on-conflict", choice]).exits_with(0);
        assert!(ran.outcome.stdout.contains("once already"), "{ran:#?}");
        let loaded = started_with(Version::REDIS_7_0, &out);
        let found: String = cmd("TYPE")
            .arg("k")
            .query(&mut loaded.client())
            .expect("answers");
        assert_eq!((found.as_str(), key_count(&loaded)), (kind, 4), "{choice}");
    }
    let again = copy(&both, &out, &["--on-conflict", "fail"]);
    refused(&again, 3, &["--on-conflict fail"]);

    let options = [
        "--rename-prefix",
        "only:=k:",
        "--db-map",
        "4:0",
        "--key-exclude",
        "none*",
    ];
    let ran = copy(&one, &out, &options).exits_with(4);
    assert_eq!(ran.not_moved(), listed(4, &["k"]), "{ran:#?}");
    assert_eq!(key_count(&started_with(Version::REDIS_7_0, &out)), 2);

    copy(&both, &out, &["--key-pattern", "only:*"]).exits_with(0);
    assert_eq!(key_count(&started_with(Version::REDIS_7_0, &out)), 2);
}

/// Vector sets of the one would keep a server of the other from starting.
#[test]
fn files_of_both_families_become_one() {
    if !require(Version::VALKEY_9_1) {
        return;
    }
    let folder = Folder::new();
    let [valkey, redis] = ["valkey-9.1.2/dump.rdb", "redis-8.2.3/dump.rdb"].map(fixture);
    let both = format!("{},{}", valkey.display(), redis.display());
    let out = folder.path("out.rdb");
    let ran = copy(&both, &out, &[]).exits_with(4);
    let names = ["bin", "noquant", "q8", "reduced"].map(|name| format!("vectorset:{name}"));
    assert_eq!(
        ran.not_moved(),
        listed(0, &names.each_ref().map(String::as_str)),
        "{ran:#?}"
    );
    assert_eq!(
        key_count(&started_with(Version::VALKEY_9_1, &out)),
        ran.count("copied")
    );
    if require(Version::REDIS_8_2) {
        let ran = copy(&both, &out, &["--rdb-version", "12"]).exits_with(0);
        assert_eq!(
            key_count(&started_with(Version::REDIS_8_2, &out)),
            ran.count("copied")
        );
    }
}

#[test]
fn the_many_ways_to_name_a_file() {
    let folder = Folder::new();
    let dump = bytes_of("redis-7.0.15/dump.rdb");
    let plain = folder.put("a.rdb", &dump);
    let comma = folder.put("a,b.rdb", &dump);
    let odd = folder.put("no ending", &dump);
    let link = folder.path("link.rdb");
    symlink(&plain, &link).expect("a link can be made");
    let out = folder.path("out.rdb");
    for source in [
        plain.clone(),
        uri(&plain),
        format!("file://{plain}"),
        uri(&comma),
        uri(&odd),
        link.clone(),
    ] {
        copy(&source, &out, &[]).exits_with(0);
    }
    // A link as the target stays one.
    let (behind, link) = (folder.put("behind.rdb", b"old"), folder.path("target.rdb"));
    symlink(&behind, &link).expect("a link can be made");
    copy(&plain, &link, &[]).exits_with(0);
    assert!(
        std::fs::symlink_metadata(&link)
            .expect("is there")
            .is_symlink()
    );
    assert!(
        std::fs::read(&behind)
            .expect("is there")
            .starts_with(b"REDIS")
    );
}

#[test]
fn what_is_no_rdb_file_is_refused() {
    let folder = Folder::new();
    let dump = bytes_of("redis-7.0.15/dump.rdb");
    let aof = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n";
    let newer = [b"REDIS0099", &dump[9..]].concat();
    let out = folder.path("out.rdb");
    let fifo = folder.path("fifo.rdb");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.is_ok_and(|status| status.success()));
    std::fs::create_dir(folder.path("folder.rdb")).expect("can be made");
    for (source, texts) in [
        (
            folder.put("empty.rdb", b""),
            ["is no RDB file", "empty.rdb"],
        ),
        (
            folder.put("gz.rdb", b"\x1f\x8b\x08\0\0\0\0\0\0\x03"),
            ["is no RDB file", "gz.rdb"],
        ),
        (folder.put("aof.rdb", aof), ["is no RDB file", "aof.rdb"]),
        (folder.put("newer.rdb", &newer), ["99", "newer.rdb"]),
        (
            folder.put("tail.rdb", &[&dump[..], aof].concat()),
            ["behind its end", "8458"],
        ),
        (folder.path("none.rdb"), ["no such file", "none.rdb"]),
        (
            folder.path("folder.rdb"),
            ["no ordinary file", "folder.rdb"],
        ),
        (fifo, ["no ordinary file", "fifo.rdb"]),
        (uri("/dev/null"), ["no ordinary file", "/dev/null"]),
    ] {
        refused(&copy(&source, &out, &[]), 3, &texts);
        assert!(!folder.names().contains(&"out.rdb".to_owned()), "{source}");
    }
    refused(&copy("file:", &out, &[]), 2, &["needs a path"]);
}

#[test]
fn where_no_file_can_be_put() {
    let folder = Folder::new();
    let source = folder.put("a.rdb", &bytes_of("redis-7.0.15/dump.rdb"));
    std::fs::create_dir(folder.path("folder.rdb")).expect("can be made");
    symlink("nowhere", folder.path("dangling.rdb")).expect("a link can be made");
    for (target, texts) in [
        (
            folder.path("none/a.rdb"),
            ["folder does not exist", "none/a.rdb"],
        ),
        (folder.path("folder.rdb"), ["is a folder", "folder.rdb"]),
        (
            folder.path("dangling.rdb"),
            ["link to nothing", "dangling.rdb"],
        ),
        (uri("/dev/null"), ["/dev/null", "file"]),
        (source.clone(), ["the same file", "a.rdb"]),
    ] {
        refused(&copy(&source, &target, &[]), 3, &texts);
    }
    let locked = folder.path("locked");
    std::fs::create_dir(&locked).expect("can be made");
    let set = |mode| {
        let rights = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&locked, rights).expect("can be set");
    };
    set(0o555);
    // Root may write everywhere.
    if std::fs::write(format!("{locked}/probe"), b"").is_err() {
        let ran = copy(&source, &format!("{locked}/a.rdb"), &[]);
        refused(&ran, 3, &["permission denied"]);
    }
    set(0o755);
}

/// A flipped byte anywhere: nothing is loaded, or what lies before it.
#[test]
fn damage_is_found_before_anything_is_loaded() {
    let folder = Folder::new();
    let out = folder.path("out.rdb");
    for (name, version) in DUMPS {
        let dump = bytes_of(name);
        // With the checksum off only the inside of a value can tell.
        for parts in [2, 3, 5] {
            let mut damaged = dump.clone();
            damaged[dump.len() / parts] ^= 0x55;
            let source = folder.put("bad.rdb", &damaged);
            let ran = copy(&source, &out, &[]);
            refused(&ran, 3, &["bad.rdb is damaged at byte ", "--allow-partial"]);
            assert!(!folder.names().contains(&"out.rdb".to_owned()));
            let ran = copy(&source, &out, &["--allow-partial"]).exits_with(4);
            assert!(
                ran.outcome.stdout.contains("is damaged at byte"),
                "{ran:#?}"
            );
            if require(version) {
                let loaded = started_with(version, &out);
                assert_eq!(key_count(&loaded), ran.count("copied"), "{name}: {ran:#?}");
            }
            std::fs::remove_file(&out).expect("is there");
        }
    }
}

#[test]
fn damage_names_the_byte_and_the_key() {
    let folder = Folder::new();
    // The value of the second key: a listpack that tells another length.
    let mut file = b"REDIS0010\xfe\0\x00\x03one\x01v\x10\x03two".to_vec();
    file.extend_from_slice(b"\x0b\x63\0\0\0\x02\0\x81a\x02\x81b\x02");
    file.extend_from_slice(b"\x00\x05three\x01v\xff\0\0\0\0\0\0\0\0");
    let source = folder.put("bad.rdb", &file);
    let target = Server::start(Version::REDIS_7_0);
    let ran = copy(&source, &target.uri(), &[]);
    refused(
        &ran,
        3,
        &[
            "is damaged at byte 2",
            "in key \"two\"",
            "the 1 keys before it",
        ],
    );
    assert_eq!(key_count(&target), 0);
    let ran = copy(&source, &target.uri(), &["--allow-partial"]).exits_with(4);
    assert_eq!(
        (ran.count("copied"), key_count(&target)),
        (1, 1),
        "{ran:#?}"
    );
}

#[test]
fn a_file_that_is_cut() {
    let folder = Folder::new();
    let source = Server::start(Version::REDIS_7_0);
    populate(&source, 5_000, 50);
    let value = vec![b'x'; 2_000_000];
    cmd("SET")
        .arg("large")
        .arg(value)
        .exec(&mut source.client())
        .expect("taken");
    run(&source, 0, "CONFIG SET rdbcompression no");
    let whole = std::fs::read(saved(&source, &folder, "a.rdb")).expect("is there");
    for length in [
        10,
        50,
        1_000,
        whole.len() / 2,
        whole.len() - 9,
        whole.len() - 1,
    ] {
        let cut = folder.put("cut.rdb", &whole[..length]);
        let target = Server::start(Version::REDIS_7_0);
        let ran = copy(&cut, &target.uri(), &[]);
        refused(&ran, 3, &["cut.rdb is damaged at byte", "--allow-partial"]);
        assert_eq!(key_count(&target), 0);
        let ran = copy(&cut, &target.uri(), &["--allow-partial"]).exits_with(4);
        assert_eq!(
            key_count(&target),
            ran.count("copied"),
            "{length}: {ran:#?}"
        );
        let lengths: u64 = cmd("STRLEN")
            .arg("large")
            .query(&mut target.client())
            .expect("answers");
        assert!([0, 2_000_000].contains(&lengths), "{lengths}");
    }
}

/// Runs keyhaul where a small file system is mounted on this folder, and lists it then; `None` where
/// nothing can be mounted.
fn on_a_small_disk(folder: &str, size: &str, args: &[&str]) -> Option<process::Outcome> {
    let mount = format!("mount -t tmpfs -o size={size} none \"$0\"");
    let unshared = |script: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--map-root-user", "--mount", "sh", "-c", script, folder]);
        unshare
    };
    if !unshared(&mount)
        .output()
        .is_ok_and(|output| output.status.success())
    {
        return None;
    }
    let keyhaul = command(args);
    let mut all = unshared(&format!(
        "{mount} && \"$@\"; code=$?; echo left:; ls -A \"$0\"; exit $code"
    ));
    all.arg(keyhaul.get_program()).args(keyhaul.get_args());
    Some(process::run(all, DEADLINE))
}

#[test]
fn a_full_disk() {
    let folder = Folder::new();
    let source = common::rdb::prompt(Version::REDIS_7_0).start();
    populate(&source, 40_000, 100);
    run(&source, 0, "CONFIG SET rdbcompression no");
    let file = saved(&source, &folder, "a.rdb");
    let small = folder.path("small");
    std::fs::create_dir(&small).expect("can be made");
    let target = format!("{small}/out.rdb");
    for from in [file.as_str(), &source.uri()] {
        let args = ["replicate", from, &target, "--progress", "none"];
        let Some(outcome) = on_a_small_disk(&small, "2m", &args) else {
            eprintln!("SKIPPED: a full disk, for nothing can be mounted here");
            return;
        };
        assert_eq!(outcome.code, Some(5), "{outcome:#?}");
        assert!(outcome.stdout.contains("out.rdb"), "{outcome:#?}");
        assert!(
            outcome.stdout.contains("full") || outcome.stdout.contains("space"),
            "{outcome:#?}"
        );
        // Nothing is listed behind it.
        assert!(outcome.stdout.ends_with("left:\n"), "{outcome:#?}");
    }
}

//! `keyhaul big-keys`: which keys it moves, what it shows, and wrong command lines.

mod common;

use common::big::{Job, KINDS, Kind, Marked, Seen, add, net_input, same, send_all, words};
use common::copying::{Ran, key_count, listed, run};
use common::keyhaul;
use keyhaul_testkit::process::Outcome;
use keyhaul_testkit::{Server, Version};
use redis::cmd;
use tempfile::TempDir;

/// A source with three big and twenty small keys, and an empty target; both listen on TCP.
fn servers() -> (Server, Server) {
    let tcp = |version| Server::builder(version).tcp().start();
    let (source, target) = (tcp(Version::REDIS_7_0), tcp(Version::VALKEY_8_0));
    let mut client = source.client();
    for (name, kind, count) in [
        ("my:large:key", Kind::Hash, 4000),
        ("my:large:list", Kind::List, 3000),
        ("another large one", Kind::Zset, 900),
    ] {
        let all = (0..count).map(|n| add(kind, name.as_bytes(), n, &[b'v'; 100]));
        send_all(&mut client, all);
    }
    for n in 0..20 {
        run(&source, 0, &format!("SET small:{n} {n}"));
    }
    // The order that the tests rely on.
    let usage = |key| -> u64 {
        words(&["MEMORY", "USAGE", key, "SAMPLES", "0"])
            .query(&mut client)
            .expect("a number")
    };
    let sizes = ["another large one", "my:large:list", "my:large:key"].map(usage);
    assert!(sizes[0] > 110_000 && sizes[0] < 280_000, "{sizes:?}");
    assert!(sizes[1] < sizes[2] && sizes[2] > 330_000, "{sizes:?}");
    (source, target)
}

fn bare(server: &Server) -> String {
    format!("127.0.0.1:{}", server.port())
}

/// Runs `big-keys` with these options between two servers given as host:port.
fn big_keys(source: &Server, target: &Server, options: &[&str]) -> Ran {
    Job::big_keys(&bare(source), &bare(target), options).run()
}

fn keys(server: &Server) -> Vec<String> {
    let mut names: Vec<String> = cmd("KEYS")
        .arg("*")
        .query(&mut server.client())
        .expect("names");
    names.sort();
    names
}

const ALL_BIG: [&str; 3] = ["another large one", "my:large:key", "my:large:list"];

#[test]
fn the_command_lines_of_the_old_script() {
    let (source, target) = servers();
    // Of 512 MB there is none.
    let ran = big_keys(&source, &target, &["--mem-limit", "512MB", "--replace"]).exits_with(0);
    assert_eq!(ran.count("copied"), 0, "{ran:#?}");
    assert_eq!(key_count(&target), 0);
    let options = ["--key", "my:large:key", "--replace", "--verbose"];
    let ran = big_keys(&source, &target, &options).exits_with(0);
    assert_eq!(ran.count("copied"), 1, "{ran:#?}");
    assert_eq!(keys(&target), ["my:large:key"]);
    let ran = big_keys(&source, &target, &["--mem-limit", "512MB", "--dry-run"]).exits_dry(0);
    assert!(!ran.outcome.stdout.contains("my:large"), "{ran:#?}");
    // Exactly as they stand, with the state folder of the user.
    let home = tempfile::tempdir().expect("a folder can be made");
    let home = home.path().to_str().expect("is text");
    let (from, to) = (bare(&source), bare(&target));
    let line = ["big-keys", &from, &to, "--mem-limit", "100KB", "--replace"];
    let ended = common::keyhaul_with(&line, &[("XDG_STATE_HOME", home), ("HOME", home)]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(keys(&target), ALL_BIG);
}

trait Dry {
    /// A dry run may write no report.
    fn exits_dry(self, code: i32) -> Self;
}

impl Dry for Ran {
    #[track_caller]
    fn exits_dry(self, code: i32) -> Ran {
        assert_eq!(self.outcome.code, Some(code), "{self:#?}");
        self
    }
}

#[test]
fn a_dry_run_lists_what_would_go_and_how() {
    let (source, target) = servers();
    run(&target, 0, "SET my:large:key old");
    let before = net_input(&target);
    let options = [
        "--mem-limit",
        "100kb",
        "--dry-run",
        "--chunk-threshold",
        "300kb",
    ];
    let ran = big_keys(&source, &target, &options).exits_dry(0);
    let text = &ran.outcome.stdout;
    for key in ALL_BIG {
        let row = text.lines().find(|line| line.contains(key));
        assert!(row.is_some(), "{key}: {ran:#?}");
    }
    let row = |key| {
        text.lines()
            .find(|line| line.contains(key))
            .unwrap_or_default()
    };
    assert!(row("my:large:key").contains("hash"), "{text}");
    assert!(row("my:large:list").contains("list"), "{text}");
    assert!(row("another large one").contains("zset"), "{text}");
    assert!(row("my:large:key").to_lowercase().contains("kb"), "{text}");
    assert!(row("my:large:key").contains("chunk"), "{text}");
    assert!(!row("another large one").contains("chunk"), "{text}");
    assert!(
        text.lines()
            .any(|line| line.contains('3') && line.contains("key")),
        "{text}"
    );
    assert!(!text.contains("small:"), "{text}");
    assert_eq!(keys(&target), ["my:large:key"]);
    assert_eq!(
        run(&target, 0, "GET my:large:key"),
        redis::Value::BulkString(b"old".into())
    );
    assert!(net_input(&target) - before < 20_000);
}

#[test]
fn keys_by_name_whatever_their_size() {
    let (source, target) = servers();
    let options = [
        "--key",
        "small:1",
        "--key",
        "my:large:list",
        "--key",
        "small:2",
    ];
    let ran = big_keys(&source, &target, &options).exits_with(0);
    assert_eq!(ran.count("copied"), 3, "{ran:#?}");
    assert_eq!(keys(&target), ["my:large:list", "small:1", "small:2"]);
    let ran = big_keys(&source, &target, &["--key", "small:3", "--key", "small:3"]).exits_with(0);
    assert_eq!(ran.count("copied"), 1, "{ran:#?}");
    // With a limit too, both count.
    let options = [
        "--key",
        "small:4",
        "--key",
        "another large one",
        "--mem-limit",
        "10kb",
    ];
    let ran = big_keys(&source, &target, &options);
    assert!(matches!(ran.outcome.code, Some(0 | 2)), "{ran:#?}");
    assert!(!keys(&target).contains(&"small:4".into()), "{ran:#?}");
}

#[test]
fn a_key_that_is_not_there_is_listed() {
    let (source, target) = servers();
    let options = ["--key", "no such key", "--key", "small:1"];
    let ran = big_keys(&source, &target, &options).exits_with(4);
    assert_eq!(ran.not_moved(), listed(0, &["no such key"]), "{ran:#?}");
    assert_eq!(keys(&target), ["small:1"]);
}

#[test]
fn keys_that_are_there_need_replace() {
    let (source, target) = servers();
    run(&target, 0, "SET my:large:key old");
    run(&target, 0, "SET another 1");
    let ran = big_keys(&source, &target, &["--mem-limit", "100kb"]).exits_with(4);
    assert_eq!(ran.not_moved(), listed(0, &["my:large:key"]), "{ran:#?}");
    assert_eq!(ran.count("copied"), 2, "{ran:#?}");
    assert_eq!(
        run(&target, 0, "GET my:large:key"),
        redis::Value::BulkString(b"old".into())
    );
    big_keys(&source, &target, &["--mem-limit", "100kb", "--replace"]).exits_with(0);
    assert_eq!(key_count(&target), 4);
    let ran = big_keys(&source, &target, &["--key", "small:1"]).exits_with(0);
    assert_eq!(ran.count("copied"), 1, "{ran:#?}");
    big_keys(&source, &target, &["--key", "small:1"]).exits_with(4);
}

#[test]
fn the_limit_and_the_pattern_choose() {
    let (source, target) = servers();
    let ran = big_keys(
        &source,
        &target,
        &["--mem-limit", "100kb", "--key-pattern", "my:*"],
    )
    .exits_with(0);
    assert!(ran.not_moved().is_empty(), "{ran:#?}");
    assert_eq!(keys(&target), ["my:large:key", "my:large:list"]);
    run(&target, 0, "FLUSHALL");
    let limit: u64 = words(&["MEMORY", "USAGE", "my:large:list", "SAMPLES", "0"])
        .query(&mut source.client())
        .expect("a number");
    let limit = (limit - limit / 10).to_string();
    let ran = big_keys(
        &source,
        &target,
        &["--mem-limit", &limit, "--scan-count", "1"],
    )
    .exits_with(0);
    assert_eq!(keys(&target), ["my:large:key", "my:large:list"], "{ran:#?}");
}

#[test]
fn all_types_of_big_keys_arrive() {
    let (source, target) = servers();
    for kind in KINDS {
        Marked::new(kind, 2000, 300).make(&mut source.client(), 3);
    }
    let options = [
        "--mem-limit",
        "50kb",
        "--chunk-threshold",
        "100kb",
        "--chunk-size",
        "90",
    ];
    let job = Job::big_keys(&bare(&source), &bare(&target), &options);
    let ran = job.ends(&[&target], 0);
    assert_eq!(ran.count("copied"), 9, "{ran:#?}");
    for kind in KINDS {
        let marked = Marked::new(kind, 2000, 300);
        assert_eq!(marked.look(&mut target.client()), Seen::Whole(3));
    }
    for n in 0..20 {
        run(&source, 0, &format!("DEL small:{n}"));
    }
    same(&source, &target);
}

#[test]
fn progress_tells_bytes_and_elements_of_each_key() {
    let (source, target) = servers();
    let options = [
        "--key",
        "my:large:key",
        "--chunk-threshold",
        "50kb",
        "--chunk-size",
        "50",
        "--rate-limit",
        "70kb",
    ];
    let ran = big_keys(&source, &target, &options).exits_with(0);
    let lines: Vec<&str> = ran
        .outcome
        .stderr
        .lines()
        .filter(|line| line.contains("big_key=my:large:key"))
        .collect();
    assert!(!lines.is_empty(), "{ran:#?}");
    for line in lines {
        for part in [
            "state=copying",
            "db=0",
            "type=hash",
            "elements=",
            "elements_expected=4000",
            "bytes=",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
}

fn file_of(text: &[u8]) -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("keys.txt");
    std::fs::write(&path, text).expect("can be written");
    let path = path.to_str().expect("is text").to_owned();
    (folder, path)
}

#[test]
fn names_from_a_file() {
    let (source, target) = servers();
    for (text, expected) in [
        ("small:1\nsmall:2\n", vec!["small:1", "small:2"]),
        ("small:1\n\n\nsmall:2", vec!["small:1", "small:2"]),
        (
            "small:3\r\n\r\nmy:large:key\r\n",
            vec!["my:large:key", "small:3"],
        ),
        (
            "another large one\nsmall:1\nsmall:1\n",
            vec!["another large one", "small:1"],
        ),
    ] {
        let (_folder, path) = file_of(text.as_bytes());
        big_keys(&source, &target, &["--key-file", &path]).exits_with(0);
        assert_eq!(keys(&target), expected, "{text:?}");
        run(&target, 0, "FLUSHALL");
    }
    // Together with names on the command line.
    let (_folder, path) = file_of(b"small:5\n");
    big_keys(&source, &target, &["--key-file", &path, "--key", "small:6"]).exits_with(0);
    assert_eq!(keys(&target), ["small:5", "small:6"]);
    // A key that is not there.
    let (_folder, path) = file_of(b"small:7\nnone\n");
    let ran = big_keys(&source, &target, &["--key-file", &path]).exits_with(4);
    assert_eq!(ran.not_moved(), listed(0, &["none"]), "{ran:#?}");
}

/// Every line is a name: a key may begin with any character.
#[test]
fn a_name_that_looks_like_a_comment() {
    let (source, target) = servers();
    run(&source, 0, "SET #1 v");
    let (_folder, path) = file_of(b"#1\nsmall:1\n");
    big_keys(&source, &target, &["--key-file", &path]).exits_with(0);
    assert_eq!(keys(&target), ["#1", "small:1"]);
}

#[test]
fn wrong_command_lines() {
    let (_folder, empty) = file_of(b"\n\n");
    let rows: &[(&[&str], &str)] = &[
        (&["big-keys"], "<SOURCE>"),
        (&["big-keys", "a"], "<TARGET>"),
        (
            &["big-keys", "a", "b", "--mem-limit", "much"],
            "--mem-limit",
        ),
        (&["big-keys", "a", "b", "--mem-limit=-1"], "mem-limit"),
        (&["big-keys", "a", "b", "--chunk-size", "0"], "--chunk-size"),
        (&["big-keys", "a", "b", "--chunk-size", "x"], "--chunk-size"),
        (
            &["big-keys", "a", "b", "--chunk-threshold", "0"],
            "--chunk-threshold",
        ),
        (&["big-keys", "a", "b", "--scan-count", "0"], "--scan-count"),
        (&["big-keys", "a", "b", "--key"], "--key"),
        (
            &["big-keys", "a", "b", "--key-file", "/no/such/file"],
            "/no/such/file",
        ),
        (&["big-keys", "a", "b", "--key-file", "/"], "--key-file"),
        (&["big-keys", "a", "b", "--key-file", &empty], "--key-file"),
        (
            &["big-keys", "a", "b", "--on-conflict", "skip"],
            "--on-conflict",
        ),
        (&["big-keys", "a", "b", "--replase"], "--replace"),
        (
            &["replicate", "a", "b", "--chunk-size", "0"],
            "--chunk-size",
        ),
        (
            &["replicate", "a", "b", "--chunk-threshold", "0"],
            "--chunk-threshold",
        ),
        (
            &["replicate", "a", "b", "--chunk-threshold", "some"],
            "--chunk-threshold",
        ),
        (&["replicate", "a", "b", "--state-dir"], "--state-dir"),
    ];
    for (words, says) in rows {
        let ended: Outcome = keyhaul(words);
        assert_eq!(ended.code, Some(2), "{words:?}: {ended:#?}");
        assert!(ended.stderr.contains(says), "{words:?}: {ended:#?}");
        assert!(ended.stdout.is_empty(), "{words:?}: {ended:#?}");
    }
}

#[test]
fn a_target_that_is_the_source_is_refused() {
    let (source, _) = servers();
    for target in [
        bare(&source),
        source.tcp_uri(),
        format!("unix://{}", source.socket().display()),
    ] {
        let options = ["--mem-limit", "1kb", "--replace"];
        let ran = Job::big_keys(&bare(&source), &target, &options).run();
        assert_eq!(ran.outcome.code, Some(3), "{ran:#?}");
    }
    assert_eq!(key_count(&source), 23);
}

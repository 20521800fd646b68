//! What `keyhaul plan` finds on real servers: each thing that is in the way is named, in the page and in the
//! JSON, nothing is written, and a copy ends as its plan said.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::copying::{copy, key_count, run};
use common::keyhaul;
use common::rdb::fixture;
use common::rights::{LEAST, LOGIN, server};
use keyhaul_testkit::process::Outcome;
use keyhaul_testkit::{Cluster, Server, Version, require};
use serde_json::Value;

/// Set to 1 for all versions at hand.
const LONG: &str = "KEYHAUL_TEST_LONG";

/// A plan as page and as JSON.
#[derive(Debug)]
struct Planned {
    page: Outcome,
    json: Value,
}

/// Plans twice, for a page and for JSON; both end with the same code.
#[track_caller]
fn plan(source: &str, target: &str, options: &[&str]) -> Planned {
    let words = [&["plan", source, target][..], options].concat();
    // At the same time, as each measures for a while.
    let (page, printed) = std::thread::scope(|scope| {
        let page = scope.spawn(|| keyhaul(&words));
        let printed = keyhaul(&[&words[..], &["--json"]].concat());
        (page.join().expect("it ends"), printed)
    });
    assert_eq!(printed.code, page.code, "{page:#?} {printed:#?}");
    let json: Value = serde_json::from_str(&printed.stdout).expect("is JSON");
    assert_eq!(json["verdict"]["exit_code"], page.code.unwrap_or(-1));
    Planned { page, json }
}

impl Planned {
    /// Fails unless it ends with this code and names these warnings, in both forms.
    #[track_caller]
    fn finds(self, code: i32, names: &[&str]) -> Planned {
        assert_eq!(self.page.code, Some(code), "{self:#?}");
        let lines = self.page.stderr.lines().count();
        assert_eq!(lines, usize::from(code != 0), "{self:#?}");
        for name in names {
            let text = match *name {
                // Measured anew for each of the two.
                "target-full" => "left: it may fill up".to_owned(),
                "source-is-written" => "are written on the source".to_owned(),
                "backlog-small" => "the backlog of the source (1.0 MB) holds".to_owned(),
                name => self.warning(name),
            };
            assert!(self.names().contains(name), "{name}: {self:#?}");
            assert!(self.page.stdout.contains(&text), "{name}: {self:#?}");
        }
        self
    }

    /// Fails unless the page says this.
    #[track_caller]
    fn says(self, text: &str) -> Planned {
        assert!(self.page.stdout.contains(text), "'{text}': {self:#?}");
        self
    }

    /// The text of a warning of this name.
    #[track_caller]
    fn warning(&self, name: &str) -> String {
        let all = self.json["warnings"].as_array().expect("is a list");
        let found = all.iter().find(|warning| warning["name"] == name);
        assert!(found.is_some(), "no {name}: {self:#?}");
        let text = found.and_then(|warning| warning["text"].as_str());
        text.expect("is text").to_owned()
    }

    fn names(&self) -> Vec<&str> {
        let all = self.json["warnings"].as_array().expect("is a list");
        all.iter().filter_map(|w| w["name"].as_str()).collect()
    }

    /// The state of a right.
    #[track_caller]
    fn right(&self, side: &str, command: &str) -> &Value {
        let all = self.json["rights"].as_array().expect("is a list");
        let found = all
            .iter()
            .find(|right| right["side"] == side && right["command"] == command);
        assert!(found.is_some(), "nothing of {side} {command}: {self:#?}");
        found.expect("was just looked at")
    }
}

fn pair() -> (Server, Server) {
    (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::VALKEY_8_0),
    )
}

/// The same text but for what is measured anew each time.
fn without_measures(page: &str) -> Vec<&str> {
    let is_measured = |line: &&str| {
        ["round trip", "clocks", "writes", "memory:", "used"]
            .iter()
            .any(|word| line.contains(word))
    };
    page.lines().filter(|line| !is_measured(line)).collect()
}

#[test]
fn both_ends_and_what_becomes_of_the_keys() {
    let (source, target) = pair();
    run(&source, 0, "SET text 1");
    run(&source, 0, "HSET hash field value");
    run(&source, 3, "SET expiring 1 EX 1000");
    run(&source, 3, "RPUSH list a b c");
    run(&target, 0, "SET kept 1");
    let changes = || [&source, &target].map(|server| server.info("rdb_changes_since_last_save"));
    let before = changes();
    let planned = plan(&source.uri(), &target.uri(), &["--rename-prefix", "a:=b:"])
        .finds(0, &["other-family", "target-not-empty"])
        .says("the copy can begin");
    assert_eq!((changes(), key_count(&target)), (before, 1));
    let node = &planned.json["source"]["nodes"][0];
    assert_eq!(node["version"], source.info("redis_version"));
    for (path, expected) in [
        ("/family", Value::from("redis")),
        ("/role", "primary".into()),
        ("/rdb_version", 10.into()),
        ("/modules", Value::Array(vec![])),
        ("/limits/bulk_bytes", (512 << 20).into()),
        ("/limits/query_buffer_bytes", (1 << 30).into()),
        ("/memory/max_bytes", 0.into()),
        ("/persistence/append_only", false.into()),
        ("/replication/backlog_bytes", (1 << 20).into()),
        ("/replication/replica_buffer/hard_bytes", (256 << 20).into()),
    ] {
        assert_eq!(node.pointer(path), Some(&expected), "{path}: {planned:#?}");
    }
    assert!(node["round_trip_ms"].is_f64() && node["memory"]["data_bytes"].is_u64());
    assert!(planned.json["clocks"]["target_ahead_ms"].is_f64());
    assert_eq!(planned.json["method"]["name"], "scan");
    let keys = &planned.json["keys"];
    assert_eq!(
        (&keys["looked_at"], &keys["basis"]),
        (&4.into(), &"all keys".into())
    );
    assert_eq!(
        (&keys["expiring"], &keys["values_read"]),
        (&1.into(), &4.into())
    );
    assert_eq!(keys["types"]["string"]["pass"], 2);
    let payloads: u64 = [(0, "text"), (0, "hash"), (3, "expiring"), (3, "list")]
        .map(|(db, key)| {
            let payload: Vec<u8> = redis::cmd("DUMP")
                .arg(key)
                .query(&mut source.connection(db))
                .expect("is answered");
            payload.len() as u64
        })
        .iter()
        .sum();
    assert_eq!(planned.json["estimate"]["bytes"], payloads);
    assert_eq!(planned.json["estimate"]["keys"], 4);
    for side in ["source", "target"] {
        let rights = planned.json["rights"].as_array().expect("is a list");
        let of_side = rights.iter().filter(|right| right["side"] == side);
        assert!(of_side.clone().count() > 20);
        of_side.for_each(|right| assert_eq!(right["state"], "there", "{right}"));
    }
}

#[test]
fn large_keys() {
    let (source, target) = pair();
    run(&source, 0, "SET small 1");
    run(&source, 0, "SETRANGE middle 20000 end");
    run(&source, 0, "SETRANGE large 100000 end");
    let strings = |options: &[&str], names: &[&str]| {
        let planned = plan(&source.uri(), &target.uri(), options).finds(0, names);
        planned.json["keys"]["types"]["string"].clone()
    };
    let expected = serde_json::json!({"pass": 2, "not_looked_into": 1});
    assert_eq!(strings(&[], &[]), expected);
    let expected = serde_json::json!({"pass": 1, "go_by_chunks": 1, "are_left_out": 1});
    let limits = ["--chunk-threshold", "10kb", "--mem-limit", "50kb"];
    assert_eq!(strings(&limits, &["above-mem-limit"]), expected);
}

#[test]
fn a_dry_run_is_the_same() {
    let (source, target) = pair();
    run(&source, 0, "SET a 1");
    let (from, to) = (source.uri(), target.uri());
    let options = ["--key-pattern", "a*", "--verify", "none"];
    let planned = keyhaul(&[&["plan", &from, &to][..], &options].concat());
    let dry = keyhaul(&[&["replicate", &from, &to, "--dry-run"][..], &options].concat());
    assert_eq!((planned.code, dry.code), (Some(0), Some(0)));
    assert_eq!(
        without_measures(&planned.stdout),
        without_measures(&dry.stdout)
    );
    let dry = keyhaul(&["replicate", &from, &to, "--dry-run", "--json"]);
    let json: Value = serde_json::from_str(&dry.stdout).expect("is JSON");
    assert_eq!(json["verdict"]["can_begin"], true, "{dry:#?}");
    let wrong = keyhaul(&["replicate", &from, &to, "--json"]);
    assert_eq!(
        (wrong.code, wrong.stdout.as_str()),
        (Some(2), ""),
        "{wrong:#?}"
    );
    assert_eq!(key_count(&target), 0);
}

#[test]
fn a_report_instead_of_a_sample() {
    let source = Server::start(Version::VALKEY_8_0);
    let target = Server::start(Version::REDIS_7_0);
    run(&source, 0, "SET a 1");
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("report.json");
    let path = file.to_str().expect("is UTF-8");
    let report = serde_json::json!({
        "schema": 1,
        "totals": {"keys": 500, "bytes": 90_000, "elements": 9, "payload_bytes": 70_000},
        "types": [
            {"type": "string", "keys": 400, "encodings": [{"encoding": "raw", "keys": 400}]},
            {"type": "set", "keys": 100, "encodings": [{"encoding": "listpack", "keys": 100}]},
        ],
        "chunked": {"threshold": 64 << 20, "keys": 3, "bytes": 1},
    });
    std::fs::write(&file, report.to_string()).expect("can be written");
    let planned = plan(&source.uri(), &target.uri(), &["--stats", path])
        .finds(0, &["stats-differ"])
        .says("all 500 of the report of --stats")
        .says("counts 500 keys, and the source holds 1");
    assert_eq!(planned.json["keys"]["expiring"], Value::Null);
    let keys = &planned.json["keys"];
    assert_eq!(
        keys["types"]["set"]["are_encoded_anew"], 100,
        "{planned:#?}"
    );
    assert_eq!(keys["types"]["string"]["get_another_footer"], 400);
    assert_eq!(keys["go_by_chunks"], 3);
    assert_eq!(planned.json["estimate"]["bytes"], 70_000);
    // Numbers that no server has, and a name that would write to the terminal.
    let absurd = report
        .to_string()
        .replace("70000", &u64::MAX.to_string())
        .replace("\"string\"", "\"a\\u001b[2Jb\"");
    let other = folder.path().join("absurd.json");
    std::fs::write(&other, absurd).expect("can be written");
    let other = other.to_str().expect("is UTF-8");
    let limit = ["--stats", other, "--rate-limit", "1"];
    let planned =
        plan(&source.uri(), &target.uri(), &limit).says("a\\x1B[2Jb: 400 not looked into");
    assert_eq!(planned.json["estimate"]["bytes"], u64::MAX);
    let here = folder.path().to_str().expect("is UTF-8");
    for (options, text) in [
        (&["--stats", here][..], "not a regular file"),
        (&["--stats", path, "--key-pattern", "a*"], "leave it out"),
        (
            &["--stats", "/nowhere.json"],
            "--stats: cannot use /nowhere.json",
        ),
    ] {
        let (from, to) = (source.uri(), target.uri());
        let outcome = keyhaul(&[&["plan", &from, &to][..], options].concat());
        assert_eq!(outcome.code, Some(2), "{outcome:#?}");
        assert!(outcome.stderr.contains(text), "'{text}': {outcome:#?}");
    }
}

#[test]
fn servers_that_are_not_there() {
    let source = Server::start(Version::REDIS_7_0);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let dead = format!("unix://{}/none.sock", folder.path().display());
    for (from, to) in [(&dead, &source.uri()), (&source.uri(), &dead)] {
        for more in [&[][..], &["--json"]] {
            let outcome = keyhaul(&[&["plan", from, to][..], more].concat());
            assert_eq!(outcome.code, Some(3), "{outcome:#?}");
            assert!(outcome.stderr.contains("cannot connect to unix://"));
            assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:#?}");
            assert_eq!(outcome.stdout, "");
        }
    }
    let outcome = keyhaul(&["plan", "--nonsense"]);
    assert_eq!(outcome.code, Some(2), "{outcome:#?}");
}

#[test]
fn users_with_the_least_rights() {
    for row in &LEAST[..2] {
        let source = server(row.source_version, row.source);
        let target = server(row.target_version, row.target);
        run(&source, 0, "SET one 1");
        run(&source, 3, "SET two 2");
        let options = [&LOGIN[..], &["--verify", row.verify]].concat();
        let planned = plan(&source.uri(), &target.uri(), &options)
            .finds(0, &["big-keys-rights"])
            .says("MISSING +info (memory and limits are unknown)");
        for (side, command, state) in [
            ("source", "dump", "there"),
            ("source", "info", "missing"),
            ("source", "strlen", "missing"),
            ("source", "psync", "missing"),
            ("target", "restore", "there"),
            ("target", "multi", "missing"),
            // Cannot be tried without writing, but inside of a transaction.
            ("target", "hset", "not known"),
        ] {
            let right = planned.right(side, command);
            assert_eq!(right["state"], state, "{side} {command}: {right}");
        }
        let refused = planned.json["rights"].as_array().expect("is a list");
        let is_lacking = |right: &&Value| right["for"] == "copy" && right["state"] != "there";
        assert_eq!(refused.iter().find(is_lacking), None, "{planned:#?}");
        assert_eq!(key_count(&target), 0);
    }
}

/// What is not needed for this copy is not said to be.
#[test]
fn a_user_who_may_not_select() {
    let row = &LEAST[0];
    let source = server(row.source_version, &row.source.replace("+select ", ""));
    let target = server(row.target_version, &row.target.replace("+select ", ""));
    run(&source, 0, "SET one 1");
    let options = [&LOGIN[..], &["--db", "0"]].concat();
    let planned = plan(&source.uri(), &target.uri(), &options).finds(0, &[]);
    assert_eq!(planned.right("source", "select")["state"], "missing");
    assert!(!planned.names().contains(&"right-missing"), "{planned:#?}");
    plan(&source.uri(), &target.uri(), &LOGIN).finds(3, &[]);
    copy(&source.uri(), &target.uri(), &options).exits_with(0);
}

#[test]
fn every_right_that_is_missing_is_named_at_once() {
    let row = &LEAST[0];
    let source = server(row.source_version, "+select +scan +pexpiretime");
    let target = server(row.target_version, "+select +type +pexpiretime");
    run(&source, 0, "SET one 1");
    let planned = plan(&source.uri(), &target.uri(), &LOGIN).finds(3, &["right-missing"]);
    for (side, command) in [
        ("source", "dump"),
        ("source", "type"),
        ("target", "restore"),
    ] {
        assert_eq!(planned.right(side, command)["state"], "missing");
        assert!(planned.page.stdout.contains(&format!("lacks +{command}")));
    }
    assert!(planned.page.stderr.contains("grant +dump"), "{planned:#?}");
}

#[test]
fn a_user_of_some_keys_only() {
    let source = Server::builder(Version::REDIS_7_0)
        .acl_user("mover", "on >secret ~app:* +@all")
        .start();
    let target = Server::builder(Version::VALKEY_8_0)
        .acl_user("mover", "on >secret ~app:* +@all")
        .acl_user("full", "on >secret ~app:* ~keyhaul:staging:* +@all")
        .start();
    run(&source, 0, "SET app:1 1");
    run(&source, 0, "SET other 1");
    let planned = plan(&source.uri(), &target.uri(), &LOGIN)
        .finds(0, &["keys-out-of-reach", "big-keys-rights"]);
    let text = planned.warning("big-keys-rights");
    assert!(text.contains("grant ~keyhaul:staging:*"), "{planned:#?}");
    let mut login = LOGIN;
    login[5] = "full";
    let planned = plan(&source.uri(), &target.uri(), &login).finds(0, &["keys-out-of-reach"]);
    assert!(
        !planned.names().contains(&"big-keys-rights"),
        "{planned:#?}"
    );
    assert_eq!(planned.json["keys"]["types"]["string"]["pass"], 1);
    assert_eq!(
        planned.json["keys"]["types"]["unknown"]["not_looked_into"],
        1
    );
}

/// PEXPIRETIME is there, though not for the key of the try: PTTL and TIME are not needed then.
#[test]
fn a_user_of_some_keys_and_few_commands() {
    let row = &LEAST[0];
    let rights =
        |rights: &str| format!("on >secret ~app:* -@all {rights} +pexpiretime -pttl -time");
    let server = |version, rules: &str| {
        let builder = Server::builder(version);
        builder.acl_user("mover", &rights(rules)).start()
    };
    let source = server(row.source_version, row.source);
    let target = server(row.target_version, row.target);
    run(&source, 0, "SET app:1 1");
    let planned = plan(&source.uri(), &target.uri(), &LOGIN).finds(0, &["keys-out-of-reach"]);
    assert!(!planned.names().contains(&"right-missing"), "{planned:#?}");
}

/// The name of a user is no part of what an answer means.
#[test]
fn a_user_called_access() {
    let source = Server::builder(Version::VALKEY_8_0)
        .acl_user("data-access", "on >secret ~* +@all -dump")
        .start();
    let target = Server::start(Version::VALKEY_8_0);
    run(&source, 0, "SET one 1");
    let login = ["--source-user", "data-access", "--source-pass", "secret"];
    let planned = plan(&source.uri(), &target.uri(), &login).finds(3, &["right-missing"]);
    assert_eq!(planned.right("source", "dump")["state"], "missing");
    copy(&source.uri(), &target.uri(), &login).exits_with(3);
}

#[test]
fn a_forbidden_exec() {
    let (source, target) = pair();
    let rules = "on >secret ~* +@all -exec";
    run(&source, 0, &format!("ACL SETUSER mover {rules}"));
    run(&target, 0, &format!("ACL SETUSER mover {rules}"));
    run(&source, 0, "SET one 1");
    let planned = plan(&source.uri(), &target.uri(), &LOGIN).finds(0, &["big-keys-rights"]);
    for side in ["source", "target"] {
        assert_eq!(planned.right(side, "exec")["state"], "missing", "{side}");
    }
}

/// A source whose last save failed answers PING with an error.
#[test]
fn a_source_that_cannot_save() {
    let source = cannot_save(Version::REDIS_7_0);
    let target = Server::start(Version::VALKEY_8_0);
    let planned = plan(&source.uri(), &target.uri(), &[]).finds(0, &[]);
    assert_eq!(planned.json["source"]["keys"], 1, "{planned:#?}");
    copy(&source.uri(), &target.uri(), &[]).exits_with(0);
}

#[test]
fn a_target_that_takes_no_writes() {
    let (source, target) = (
        Server::start(Version::REDIS_7_0),
        cannot_save(Version::VALKEY_8_0),
    );
    run(&source, 0, "SET one 1");
    let planned = plan(&source.uri(), &target.uri(), &[]).finds(0, &["target-takes-no-writes"]);
    assert!(
        planned
            .warning("target-takes-no-writes")
            .contains("MISCONF")
    );
}

/// A server with one key whose last save failed.
fn cannot_save(version: Version) -> Server {
    let server = Server::builder(version)
        .arg("save", "900000 1")
        .arg("enable-protected-configs", "yes")
        .start();
    run(&server, 0, "SET one 1");
    let folder = tempfile::tempdir().expect("a folder can be made");
    run(
        &server,
        0,
        &format!("CONFIG SET dir {}", folder.path().display()),
    );
    drop(folder);
    run(&server, 0, "BGSAVE");
    keyhaul_testkit::wait_until("the save fails", common::DEADLINE, || {
        server.info("rdb_last_bgsave_status") == "err"
    });
    server
}

#[test]
fn a_read_only_replica_as_the_target() {
    let source = Server::start(Version::REDIS_7_0);
    // Its primary is not there, as after a failover.
    let target = Server::builder(Version::VALKEY_8_0)
        .arg("replicaof", "127.0.0.1 1")
        .start();
    run(&source, 0, "SET a 1");
    let planned = plan(&source.uri(), &target.uri(), &[])
        .finds(3, &[])
        .says("is a replica and takes no writes: name its primary");
    assert_eq!(planned.json["target"]["nodes"][0]["role"], "replica");
    // The source is told all the same.
    assert_eq!(planned.json["source"]["keys"], 1);
    let refusal = planned.json["verdict"]["refusal"].as_str().unwrap_or("");
    assert!(refusal.contains("replica"), "{planned:#?}");
}

#[test]
fn a_target_that_is_too_small_and_fills_up() {
    too_small("noeviction", "no-room", &["target-full"]);
}

#[test]
fn a_target_that_is_too_small_and_evicts() {
    too_small("allkeys-lru", "eviction", &["target-full", "target-evicts"]);
}

/// What a file takes in memory is not certain, and a file has no machine.
#[test]
fn room_for_a_file() {
    let (source, target) = pair();
    run(&source, 0, "SETRANGE large 100000 end");
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("dump.rdb");
    let file = file.to_str().expect("is UTF-8");
    let planned = plan(&source.uri(), file, &[]).finds(0, &[]);
    assert!(
        !planned.names().contains(&"target-machine-small"),
        "{planned:#?}"
    );
    copy(&source.uri(), file, &[]).exits_with(0);
    run(&target, 0, "CONFIG SET maxmemory 100kb");
    plan(file, &target.uri(), &[]).finds(0, &["target-full"]);
}

/// A source whose data is certain not to fit, and one of which it is not certain.
#[track_caller]
fn too_small(policy: &str, risk: &str, warns: &[&str]) {
    let (source, target) = pair();
    run(&source, 0, "SETRANGE large 20000000 end");
    run(&target, 0, &format!("CONFIG SET maxmemory-policy {policy}"));
    run(&target, 0, "CONFIG SET maxmemory 4mb");
    let planned = plan(&source.uri(), &target.uri(), &[]).finds(3, &[]);
    assert_eq!(planned.json["verdict"]["risk"], risk, "{planned:#?}");
    // The copy ends as its plan said, in one line that names the flag.
    let flag = format!("--accept-loss {risk}");
    let ran = copy(&source.uri(), &target.uri(), &[]).exits_with(3);
    assert!(ran.outcome.stderr.contains(&flag), "{ran:#?}");
    assert!(planned.page.stdout.contains(&flag), "{planned:#?}");
    assert_eq!(key_count(&target), 0);
    // The other risk is not this one.
    let other = ["no-room", "eviction"]
        .into_iter()
        .find(|name| *name != risk);
    let other = ["--accept-loss", other.unwrap_or("")];
    plan(&source.uri(), &target.uri(), &other).finds(3, &[]);
    let accepted = ["--accept-loss", risk];
    let planned = plan(&source.uri(), &target.uri(), &accepted).finds(0, warns);
    let evicts = planned.warning("target-full").contains("evicts keys");
    assert_eq!(evicts, risk == "eviction", "{planned:#?}");
    // The same data may take less there.
    run(&target, 0, "CONFIG SET maxmemory 10mb");
    plan(&source.uri(), &target.uri(), &[]).finds(0, warns);
    // What goes over with a filter is not known.
    plan(&source.uri(), &target.uri(), &["--key-pattern", "s*"]).finds(0, warns);
    run(&target, 0, "CONFIG SET maxmemory 100mb");
    let planned = plan(&source.uri(), &target.uri(), &[]).finds(0, &warns[1..]);
    assert!(!planned.names().contains(&"target-full"), "{planned:#?}");
    copy(&source.uri(), &target.uri(), &[]).exits_with(0);
    // Once more over the same keys: they need no more room.
    run(&target, 0, "CONFIG SET maxmemory 26mb");
    let planned = plan(&source.uri(), &target.uri(), &[]).finds(0, warns);
    assert!(planned.names().contains(&"target-not-empty"));
}

#[test]
fn an_older_target() {
    let (source, target) = (
        Server::start(Version::VALKEY_8_0),
        Server::start(Version::REDIS_7_0),
    );
    run(&source, 0, "SADD set a b c");
    run(&source, 0, "SET text 1");
    let planned = plan(&source.uri(), &target.uri(), &[]).finds(0, &["target-older"]);
    let types = &planned.json["keys"]["types"];
    assert_eq!(types["set"]["are_encoded_anew"], 1, "{planned:#?}");
    assert_eq!(types["string"]["get_another_footer"], 1, "{planned:#?}");
    if std::env::var(LONG).is_ok_and(|value| value == "1") && require(Version::REDIS_8_2) {
        let source = Server::start(Version::REDIS_8_2);
        run(&source, 0, "HSET hash field value");
        run(&source, 0, "HSET other field value");
        run(&source, 0, "HEXPIRE hash 1000 FIELDS 1 field");
        let found = ["target-older", "field-ttl", "cannot-go"];
        let planned = plan(&source.uri(), &target.uri(), &[]).finds(0, &found);
        assert_eq!(planned.json["keys"]["types"]["hash"]["cannot_go"], 1);
        let accepted = ["--accept-loss", "field-ttl"];
        let planned = plan(&source.uri(), &target.uri(), &accepted).finds(0, &found[..2]);
        assert!(!planned.names().contains(&"cannot-go"), "{planned:#?}");
    }
}

/// No module is at hand for the default versions; a file of a server that had one is.
#[test]
fn a_module_that_the_target_lacks() {
    let target = Server::start(Version::REDIS_7_0);
    let file = fixture("redis-8.2.3/dump-module.rdb");
    let file = file.to_str().expect("is UTF-8");
    let planned = plan(file, &target.uri(), &[])
        .finds(0, &["cannot-go"])
        .says("module value or vector set");
    assert!(planned.json["keys"]["types"]["module"]["cannot_go"].as_u64() > Some(0));
    assert_eq!(planned.json["source"]["kind"], "files");

    let module = Version::REDIS_8_2.folder().join("falkordb.so");
    let is_long = std::env::var(LONG).is_ok_and(|value| value == "1");
    if is_long && require(Version::REDIS_8_2) && module.is_file() {
        let source = Server::builder(Version::REDIS_8_2)
            .arg("loadmodule", format!("{} CMD_INFO no", module.display()))
            .start();
        run(&source, 0, "GRAPH.QUERY g CREATE(:A)");
        let planned = plan(&source.uri(), &target.uri(), &[]).finds(0, &["module-missing"]);
        assert!(planned.warning("module-missing").contains("'graph'"));
        let ran = copy(&source.uri(), &target.uri(), &[]).exits_with(4);
        assert!(!ran.not_moved().is_empty(), "{ran:#?}");
    }
}

/// Writes until it is dropped.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    fn start(server: &Server) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut client, until) = (server.client(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let value = "v".repeat(10_000);
            while !until.load(Ordering::Relaxed) {
                let mut pipe = redis::pipe();
                for n in 0..20 {
                    pipe.cmd("SET")
                        .arg(format!("busy:{n}"))
                        .arg(&value)
                        .ignore();
                }
                pipe.exec(&mut client).expect("is taken");
            }
        });
        Writer {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

#[test]
fn a_busy_source_with_a_small_backlog() {
    let source = Server::builder(Version::REDIS_7_0)
        .arg("repl-backlog-size", "1mb")
        .tcp()
        .start();
    let target = Server::start(Version::VALKEY_8_0);
    let writer = Writer::start(&source);
    // Nobody replicates: what clients send is all that can be measured.
    let planned = plan(&source.uri(), &target.uri(), &[])
        .finds(0, &["source-is-written", "backlog-small"])
        .says("upper bound");
    assert!(planned.warning("backlog-small").contains("(1.0 MB)"));
    assert_eq!(planned.json["writes"]["basis"], "client input");

    let replica = Server::builder(Version::REDIS_7_0)
        .arg("replicaof", format!("127.0.0.1 {}", source.port()))
        .start();
    keyhaul_testkit::wait_until("the replica follows", common::DEADLINE, || {
        source.info("repl_backlog_active") == "1" && replica.info("master_link_status") == "up"
    });
    let planned = plan(&source.uri(), &target.uri(), &["--method", "psync"])
        .finds(0, &["source-is-written", "backlog-small"]);
    assert_eq!(planned.json["writes"]["basis"], "replication stream");
    assert_eq!(planned.json["method"]["name"], "psync");
    let rate = planned.json["writes"]["bytes_per_second"].as_u64();
    assert!(rate > Some(100_000), "{planned:#?}");
    drop(writer);
    let planned = plan(&source.uri(), &target.uri(), &[]).finds(0, &[]);
    assert!(!planned.names().contains(&"backlog-small"), "{planned:#?}");
}

#[test]
fn a_cluster_is_sampled_on_every_node() {
    let source = Cluster::builder(Version::VALKEY_8_0).primaries(2).start();
    let target = Server::start(Version::VALKEY_8_0);
    // Over 30 slots.
    for tag in 0..30 {
        let mut pipe = redis::pipe();
        for n in 100..200 {
            let key = format!("key:{n}:{{{tag}}}");
            pipe.cmd("SET").arg(key).arg("v".repeat(100)).ignore();
        }
        let mut client = source.connection_for(format!("{{{tag}}}").as_bytes());
        pipe.exec(&mut client).expect("is taken");
    }
    let planned = plan(
        &source.uri(),
        &target.uri(),
        &["--key-exclude", "key:1[0-3]*"],
    )
    .finds(0, &[]);
    assert_eq!(
        planned.json["source"]["nodes"].as_array().map(Vec::len),
        Some(2)
    );
    let keys = &planned.json["keys"];
    let looked_at = keys["looked_at"].as_u64().unwrap_or(0);
    assert!((200..=1500).contains(&looked_at), "{planned:#?}");
    assert_eq!(keys["basis"], "sample");
    // Of 3000 keys 1200 are left out: what goes is told by the share of the sample.
    let expected = planned.json["estimate"]["keys"].as_u64().unwrap_or(0);
    assert!((1300..=2300).contains(&expected), "{planned:#?}");
    // A right that one node lacks is missing, for the plan as for the job.
    for (lacking, node) in [("dump", 0), ("scan", 1)] {
        let all = "ACL SETUSER mover on >secret ~* +@all";
        for server in source.nodes() {
            run(server, 0, all);
        }
        run(&source.nodes()[node], 0, &format!("{all} -{lacking}"));
        let login = &LOGIN[..4];
        let planned = plan(&source.uri(), &target.uri(), login).finds(3, &["right-missing"]);
        let grant = format!("grant +{lacking}");
        assert!(planned.page.stderr.contains(&grant), "{planned:#?}");
        copy(&source.uri(), &target.uri(), login).exits_with(3);
    }
    for command in ["cluster|slots", "asking"] {
        assert_eq!(planned.right("source", command)["state"], "there");
    }
}

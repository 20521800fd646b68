//! A comparison that is killed goes on where it was, and tells the same in the end.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::compare::{Compared, Comparing, Row, compare, rows, script, twin};
use keyhaul_testkit::{Cluster, Dataset, Server, Version};
use redis::cmd;

const KEYS: u64 = 60_000;
/// So that it lasts a few seconds: a payload has 30 bytes.
const SLOWLY: [&str; 2] = ["--rate-limit", "1mb"];

/// Two servers that differ all over.
fn ends() -> (Server, Server, BTreeSet<Row>) {
    let source = Server::start(Version::REDIS_7_0);
    let mut client = source.client();
    for db in [0, 3] {
        cmd("SELECT").arg(db).exec(&mut client).expect("is there");
        cmd("DEBUG")
            .arg("POPULATE")
            .arg(KEYS / 2)
            .arg(format!("key{db}"))
            .arg(100)
            .exec(&mut client)
            .expect("is permitted");
    }
    cmd("SELECT").arg(0).exec(&mut client).expect("is there");
    script(&mut client, "large", "3000*HSET @ f{} v{}");
    let target = twin(&source);
    let mut client = target.client();
    let mut expected = rows(&["*large", "+extra:0", "+extra:1", "+extra:2"]);
    script(&mut client, "large", "HSET @ f77 w");
    for n in 0..3 {
        script(&mut client, &format!("extra:{n}"), "SET @ a");
    }
    for n in (0..KEYS / 2).step_by(997) {
        let (name, mark) = match n % 2 {
            0 => ("SET @ b", '*'),
            _ => ("DEL @", '-'),
        };
        script(&mut client, &format!("key0:{n}"), name);
        expected.insert((mark, 0, format!("key0:{n}")));
    }
    (source, target, expected)
}

/// How often a server was asked for this.
fn calls(server: &Server, command: &str) -> u64 {
    let mut client = server.client();
    let stats: String = cmd("INFO")
        .arg("commandstats")
        .query(&mut client)
        .expect("is text");
    let name = format!("cmdstat_{command}:calls=");
    let line = stats.lines().find_map(|line| line.strip_prefix(&name));
    let number = line.and_then(|rest| rest.split(',').next());
    number.map_or(0, |number| number.parse().expect("is a number"))
}

fn start(source: &str, target: &str, options: &[&str]) -> Comparing {
    Comparing::start(source, target, &[&SLOWLY[..], options].concat())
}

fn goes_on(ran: &Compared) -> bool {
    let remarks = ran.report["remarks"].to_string();
    remarks.contains("goes on where an earlier run of this command stopped")
}

#[test]
fn killed_again_and_again() {
    let (source, target, expected) = ends();
    let state = tempfile::tempdir().expect("a folder can be made");
    let state_dir = state.path().display().to_string();
    let options = ["--state-dir", &state_dir, "--chunk-threshold", "64kb"];
    for part in 1..=4 {
        let running = start(&source.uri(), &target.uri(), &options);
        running.wait_until("it goes over the source", || {
            calls(&source, "dump") >= part * KEYS / 5
        });
        // A position is written down once a second at most.
        std::thread::sleep(Duration::from_millis(600));
        running.process.kill();
        running.finish();
    }
    let running = start(&source.uri(), &target.uri(), &options);
    let scans = calls(&target, "scan") + 5;
    running.wait_until("it goes over the target", || {
        calls(&target, "scan") >= scans
    });
    running.process.kill();
    running.finish();
    let ran = start(&source.uri(), &target.uri(), &options).finish();
    let ran = ran.exits_with(1);
    assert!(goes_on(&ran), "{ran:#?}");
    assert_eq!(ran.lines.as_ref(), Some(&expected), "{ran:#?}");
    // Keys on the way at a kill are counted again.
    let same = ran.count("same");
    let exact = KEYS + 1 - expected.iter().filter(|row| row.0 != '+').count() as u64;
    assert!((exact..exact + 20_000).contains(&same), "{same} of {exact}");
    assert_eq!(
        std::fs::read_dir(state.path()).expect("is there").count(),
        0
    );
    // What was gone over was not gone over again, or six runs would have read six times as much.
    let dumps = calls(&source, "dump");
    assert!(dumps < 3 * KEYS, "{dumps} DUMPs of {KEYS} keys");
    // And with the last one there is nothing to go on from.
    let ran = compare(&source.uri(), &target.uri(), &options).exits_with(1);
    assert!(!goes_on(&ran), "{ran:#?}");
    ran.finds(&expected);
}

#[test]
fn told_to_stop_it_says_how_to_go_on() {
    let (source, target, expected) = ends();
    let state = tempfile::tempdir().expect("a folder can be made");
    let state_dir = state.path().display().to_string();
    let options = ["--state-dir", &state_dir];
    let running = start(&source.uri(), &target.uri(), &options);
    running.wait_until("half is read", || calls(&source, "dump") > KEYS / 2);
    running.process.interrupt();
    let ran = running.finish().exits_with(5);
    let said = &ran.outcome.stdout;
    assert!(
        said.contains("it goes on where it stopped (--restart begins anew)"),
        "{ran:#?}"
    );
    assert!(
        said.contains(&format!("is saved in {state_dir}")),
        "{ran:#?}"
    );

    // What differed then is told as what it is now.
    let mended = expected.iter().find(|row| row.0 == '*' && row.2 != "large");
    let mended = mended.expect("there is one").clone();
    for server in [&source, &target] {
        script(&mut server.client(), &mended.2, "SET @ c");
    }
    let mut expected = expected;
    expected.remove(&mended);
    let before = calls(&source, "dump");
    let ran = start(&source.uri(), &target.uri(), &options).finish();
    let ran = ran.exits_with(1);
    assert!(goes_on(&ran), "{ran:#?}");
    assert_eq!(ran.lines.as_ref(), Some(&expected), "{ran:#?}");
    let read = calls(&source, "dump") - before;
    assert!(read < KEYS * 3 / 4, "{read} DUMPs of {KEYS} keys");
}

#[test]
fn begun_anew_where_that_is_wanted() {
    let (source, target, expected) = ends();
    let state = tempfile::tempdir().expect("a folder can be made");
    let state_dir = state.path().display().to_string();
    let options = ["--state-dir", &state_dir];
    let running = start(&source.uri(), &target.uri(), &options);
    running.wait_until("half is read", || calls(&source, "dump") > KEYS / 2);
    running.process.kill();
    running.finish();
    // Other options are another comparison.
    let other = [&options[..], &["--key-pattern", "key0:*"]].concat();
    assert!(!goes_on(
        &compare(&source.uri(), &target.uri(), &other).exits_with(1)
    ));
    let anew = [&options[..], &["--restart"]].concat();
    let ran = compare(&source.uri(), &target.uri(), &anew).exits_with(1);
    assert!(!goes_on(&ran), "{ran:#?}");
    ran.finds(&expected);
}

#[test]
fn a_repair_that_is_killed() {
    let source = Cluster::start(Version::REDIS_7_0, 2);
    let target = Server::start(Version::VALKEY_8_0);
    let dataset = Dataset {
        seed: 5812,
        keys: 3_000,
        small_only: true,
        ..Dataset::default()
    };
    dataset.fill_cluster(&source);
    for n in 0..500 {
        script(&mut target.client(), &format!("extra:{n}"), "SET @ a");
    }
    let state = tempfile::tempdir().expect("a folder can be made");
    let state_dir = state.path().display().to_string();
    let options = ["--repair", "--delete-extra", "--state-dir", &state_dir];
    let options = [&options[..], &["--rate-limit", "300kb"]].concat();
    let keys = || -> u64 {
        let mut client = target.client();
        cmd("DBSIZE").query(&mut client).expect("is a number")
    };
    let running = Comparing::start(&source.uri(), &target.uri(), &options);
    running.wait_until("it writes", || keys() > 700);
    running.process.kill();
    let ran = running.finish();
    // What was found is on the disk before anything is written.
    let lines = ran.lines.expect("the diff file is there");
    let extra = lines.iter().filter(|row| row.0 == '+').count();
    let missing = lines.iter().filter(|row| row.0 == '-').count() as u64;
    assert_eq!(extra, 500);
    assert!(missing > 2_000, "{missing}");
    let ran = Comparing::start(&source.uri(), &target.uri(), &options).finish();
    let ran = ran.exits_with(0);
    assert!(goes_on(&ran), "{ran:#?}");
    assert_eq!(keys(), missing);
    compare(&source.uri(), &target.uri(), &[]).exits_with(0);
}

/// What was the same in the process before says nothing of the one that came after it.
#[test]
fn servers_that_lost_their_keys() {
    for of_target in [false, true] {
        let (mut source, mut target, _) = ends();
        let state = tempfile::tempdir().expect("a folder can be made");
        let state_dir = state.path().display().to_string();
        let options = ["--state-dir", &state_dir];
        let running = start(&source.uri(), &target.uri(), &options);
        running.wait_until("half is read", || calls(&source, "dump") > KEYS / 2);
        running.process.kill();
        running.finish();
        // The twin has loaded a file, which is not there any more: it comes back empty, as the other one does.
        let lost = if of_target { &mut target } else { &mut source };
        lost.restart();
        cmd("FLUSHALL")
            .exec(&mut lost.client())
            .expect("is permitted");
        let ran = compare(&source.uri(), &target.uri(), &options).exits_with(1);
        let remarks = ran.report["remarks"].to_string();
        assert!(remarks.contains("since an earlier run"), "{ran:#?}");
        assert_eq!(ran.count("same"), 0, "{ran:#?}");
        let (there, gone) = if of_target {
            ("missing", "extra")
        } else {
            ("extra", "missing")
        };
        assert!(ran.count(there) > KEYS - 1000, "{ran:#?}");
        assert_eq!(ran.count(gone), 0, "{ran:#?}");
    }
}

/// The same within one run, and nothing is deleted for it.
#[test]
fn servers_that_lose_their_keys_meanwhile() {
    for of_target in [false, true] {
        let (mut source, mut target, _) = ends();
        let running = start(&source.uri(), &target.uri(), &["--retry-for", "10s"]);
        running.wait_until("half is read", || calls(&source, "dump") > KEYS / 2);
        let lost = if of_target { &mut target } else { &mut source };
        lost.restart();
        cmd("FLUSHALL")
            .exec(&mut lost.client())
            .expect("is permitted");
        let ran = running.finish().exits_with(1);
        let remarks = ran.report["remarks"].to_string();
        assert!(remarks.contains("all keys are compared again"), "{ran:#?}");
        assert_eq!(ran.count("same"), 0, "{ran:#?}");
        let there = if of_target { "missing" } else { "extra" };
        assert!(ran.count(there) > KEYS - 1000, "{ran:#?}");
    }
}

/// All keys of the target are extra, now that the source is empty: that is no reason to delete them.
#[test]
fn a_source_that_loses_its_keys_deletes_none() {
    let (mut source, target, _) = ends();
    let before: u64 = cmd("DBSIZE")
        .query(&mut target.client())
        .expect("is a number");
    let options = ["--retry-for", "10s", "--repair", "--delete-extra"];
    let running = start(&source.uri(), &target.uri(), &options);
    running.wait_until("half is read", || calls(&source, "dump") > KEYS / 2);
    source.restart();
    cmd("FLUSHALL")
        .exec(&mut source.client())
        .expect("is permitted");
    let ran = running.finish().exits_with(5);
    let said = &ran.outcome.stdout;
    assert!(said.contains("nothing is deleted"), "{ran:#?}");
    let after: u64 = cmd("DBSIZE")
        .query(&mut target.client())
        .expect("is a number");
    assert_eq!(after, before);
}

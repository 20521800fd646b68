//! One giant key of each type: all of it arrives, in bounded memory, and nothing else stays.
//!
//! At full length the giants are of gigabytes, with the options that a user has who gives none; else of
//! megabytes, above a lowered threshold.

#![allow(clippy::print_stderr, reason = "says how large the giant is")]

mod common;

use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::command;
use keyhaul_testkit::giant::{self, Giant, GiantKind};
use keyhaul_testkit::process::{self, Outcome};
use keyhaul_testkit::{Server, Version};
use redis::cmd;

/// Set to 1 for real giants.
const LONG: &str = "KEYHAUL_TEST_LONG";
const SHORT_BYTES: u64 = 3 << 20;
/// Below every short giant.
const SHORT_OPTIONS: [&str; 2] = ["--chunk-threshold", "1mb"];
const RSS_BYTES_MAX: u64 = 64 << 20;
/// A copy of gigabytes and its verification, on a slow and busy machine.
const DEADLINE: Duration = Duration::from_secs(1800);

/// Two giants, each on two servers, would not fit into the memory of a usual machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn is_long() -> bool {
    std::env::var(LONG).is_ok_and(|value| value == "1")
}

fn giant_of(kind: GiantKind) -> Giant {
    let bytes = if is_long() {
        kind.giant_bytes()
    } else {
        SHORT_BYTES
    };
    Giant::new(kind, bytes)
}

/// Runs it with a state folder of its own, to its end.
fn replicate(source: &Server, target: &Server) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut command: Command = command(&["replicate", &source.uri(), &target.uri()]);
    command.args(["--progress", "plain", "--state-dir"]);
    command.arg(folder.path());
    if !is_long() {
        command.args(SHORT_OPTIONS);
    }
    process::run(command, DEADLINE)
}

/// Fails unless the only key of the target is this giant, as it is on the source.
fn arrived(giant: &Giant, source: &Server, target: &Server) {
    giant::assert_same(source, target, &giant.key);
    let keys: Vec<String> = cmd("KEYS")
        .arg("*")
        .query(&mut target.client())
        .expect("KEYS is answered");
    assert_eq!(keys, [giant.key.as_str()]);
}

#[track_caller]
fn within_memory(outcome: &Outcome) {
    let mb = outcome.peak_rss_bytes as f64 / f64::from(1 << 20);
    eprintln!("{:.1} s, {mb:.1} MB", outcome.elapsed.as_secs_f64());
    assert!(outcome.peak_rss_bytes <= RSS_BYTES_MAX, "{mb:.1} MB");
}

/// Replicates one giant to an empty server.
fn copied(kind: GiantKind) {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let giant = giant_of(kind);
    let source = Server::start(Version::REDIS_7_0);
    let target = Server::start(Version::VALKEY_8_0);
    let made = giant.fill(&source);
    eprintln!("{kind}: {made:?}");
    if kind == GiantKind::Text {
        giant::take_strings_of(giant.bytes, &target);
    }
    let outcome = replicate(&source, &target);
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    within_memory(&outcome);
    arrived(&giant, &source, &target);
}

#[test]
fn hash() {
    copied(GiantKind::Hash);
}

#[test]
fn zset() {
    copied(GiantKind::Zset);
}

#[test]
fn list() {
    copied(GiantKind::List);
}

#[test]
fn set() {
    copied(GiantKind::Set);
}

#[test]
fn string() {
    copied(GiantKind::Text);
}

#[test]
fn stream() {
    copied(GiantKind::Stream);
}

#[test]
fn a_string_that_the_target_does_not_take_is_listed() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let giant = Giant::new(GiantKind::Text, SHORT_BYTES);
    let source = Server::start(Version::REDIS_7_0);
    let target = Server::builder(Version::VALKEY_8_0)
        .arg("proto-max-bulk-len", "1mb")
        .start();
    giant.fill(&source);
    let outcome = replicate(&source, &target);
    assert_eq!(outcome.code, Some(4), "{outcome:#?}");
    assert!(
        outcome.stdout.contains("proto-max-bulk-len"),
        "{outcome:#?}"
    );
    within_memory(&outcome);
    let keys: u64 = cmd("DBSIZE")
        .query(&mut target.client())
        .expect("DBSIZE is answered");
    assert_eq!(keys, 0);
}

//! What a plan says before anything is written.

mod common;

use common::copying::{copy_with, key_count, run};
use common::keyhaul;
use keyhaul_testkit::{Server, Tls, Version};

/// Fails unless the plan, on standard output, holds each of these.
fn check(source: &Server, target: &Server, says: &[&str]) {
    check_with(source, target, &[], says);
}

fn check_with(source: &Server, target: &Server, options: &[&str], says: &[&str]) {
    let before = key_count(target);
    let (from, to) = (source.uri(), target.uri());
    let words = ["replicate", &from, &to, "--dry-run"];
    let outcome = keyhaul(&[&words[..], options].concat());
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    for text in says {
        assert!(
            outcome.stdout.contains(text),
            "wants '{text}': {outcome:#?}"
        );
    }
    assert_eq!(key_count(target), before, "a dry run writes nothing");
}

#[test]
fn both_ends_and_the_clocks() {
    let (source, target) = (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::VALKEY_8_0),
    );
    run(&source, 3, "SET a 1");
    check(
        &source,
        &target,
        &[
            "Redis 7.0",
            "Valkey 8.0",
            "3 -> 3, 1 key",
            "clocks",
            "from Redis 7.0",
        ],
    );
}

#[test]
fn a_target_that_is_not_empty_evicts_and_is_too_small() {
    let (source, target) = (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::VALKEY_8_0),
    );
    run(&source, 0, "SETRANGE large 3000000 end");
    run(&target, 0, "SET b 1");
    run(&target, 0, "CONFIG SET maxmemory 3mb");
    run(&target, 0, "CONFIG SET maxmemory-policy allkeys-lru");
    check_with(
        &source,
        &target,
        &["--accept-loss", "eviction"],
        &["is not empty", "evicts keys", "it may fill up"],
    );
}

#[test]
fn kinds_of_values_for_an_older_target() {
    let (source, target) = (
        Server::start(Version::VALKEY_8_0),
        Server::start(Version::REDIS_7_0),
    );
    run(&source, 0, "SET a 1");
    check(
        &source,
        &target,
        &[
            "kinds of values: 8 get another footer",
            "2 are encoded anew (set, listpack; stream of 7.2)",
            "1 cannot go (module value or vector set)",
        ],
    );
}

#[test]
fn what_the_machine_trusts_is_trusted() {
    let tls = Tls::new();
    let source = Server::builder(Version::REDIS_7_0).tls(&tls).start();
    let target = Server::start(Version::VALKEY_8_0);
    let uri = format!("rediss://127.0.0.1:{}", source.tls_port());
    // The variable by which OpenSSL and others are told where the system's authorities lie.
    let ca = tls.ca().display().to_string();
    copy_with(&uri, &target.uri(), &[], &[("SSL_CERT_FILE", &ca)]).exits_with(0);
    let wrong = tls.wrong_ca().display().to_string();
    copy_with(&uri, &target.uri(), &[], &[("SSL_CERT_FILE", &wrong)]).exits_with(3);
}

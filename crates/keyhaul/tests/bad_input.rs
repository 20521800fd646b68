//! What is wrong at the other end, or with what was typed: one clear line, the right exit code, no
//! panic, little memory, no password, and nothing written.

mod common;

use std::time::Duration;

use common::copying::{key_count, run};
use common::keyhaul;
use keyhaul_testkit::fake::{Behaviour, FakePeer};
use keyhaul_testkit::{Cluster, Server, Tls, Version};

const SECRET: &str = "swordfish";

/// Runs a copy that must be refused; `says` is part of the one line.
fn check(source: &str, target: &str, options: &[&str], code: i32, says: &str) {
    let args = [&["replicate", source, target], options].concat();
    let outcome = keyhaul(&args);
    let shown = format!("{args:?}: {outcome:#?}");
    assert_eq!(outcome.code, Some(code), "{shown}");
    let errors: Vec<&str> = outcome
        .stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{shown}");
    assert!(errors[0].contains(says), "wants '{says}': {shown}");
    assert!(!outcome.stderr.contains("panicked"), "{shown}");
    assert!(
        !format!("{}{}", outcome.stdout, outcome.stderr).contains(SECRET),
        "{shown}"
    );
    assert!(outcome.elapsed < Duration::from_secs(15), "{shown}");
    assert!(outcome.peak_rss_bytes < 64 << 20, "{shown}");
}

#[test]
fn peers_that_are_no_servers() {
    let rows = [
        (Behaviour::Http, "does not speak RESP"),
        (Behaviour::Silence, "did not answer within"),
        (Behaviour::Garbage, "does not speak RESP"),
        (Behaviour::EndlessLine, "bad reply"),
        (Behaviour::HugeBulk, "limit"),
        (Behaviour::CloseAtOnce, "closed the connection"),
        (
            Behaviour::Reply(b"-ERR go away\r\n".to_vec()),
            "did not answer within",
        ),
        (
            Behaviour::Reply(b"*1000000000\r\n".to_vec()),
            "is larger than",
        ),
        (Behaviour::Reply(b"+OK".to_vec()), "did not answer within"),
    ];
    let server = Server::start(Version::REDIS_7_0);
    for (behaviour, says) in rows {
        let peer = FakePeer::start(behaviour);
        check(&peer.uri(), &server.uri(), &[], 3, says);
        check(&server.uri(), &peer.uri(), &[], 3, says);
    }
    assert_eq!(key_count(&server), 0);
}

#[test]
fn addresses_where_nobody_is() {
    let server = Server::start(Version::REDIS_7_0);
    let rows = [
        ("redis://127.0.0.1:1", "127.0.0.1:1"),
        ("redis://no-such-host.invalid:6379", "no-such-host.invalid"),
        ("unix:///no/such/socket", "/no/such/socket"),
        ("redis://127.0.0.1:1,127.0.0.1:2", "127.0.0.1:2"),
        ("redis-sentinel://127.0.0.1:1/main", "127.0.0.1:1"),
        ("redis://user:swordfish@127.0.0.1:1", "127.0.0.1:1"),
    ];
    for (uri, says) in rows {
        check(uri, &server.uri(), &[], 3, says);
        check(&server.uri(), uri, &[], 3, says);
    }
}

#[test]
fn source_and_target_are_the_same() {
    let server = Server::builder(Version::REDIS_7_0).tcp().start();
    run(&server, 0, "SET a 1");
    let socket = format!("unix://{}", server.socket().display());
    let port = server.port();
    let says = "are the same server";
    check(&socket, &socket, &[], 3, says);
    check(
        &format!("127.0.0.1:{port}"),
        &format!("localhost:{port}"),
        &[],
        3,
        says,
    );
    check(
        &socket,
        &format!("redis://127.0.0.1:{port}/3"),
        &["--db", "0"],
        3,
        says,
    );
    let cluster = Cluster::start(Version::REDIS_7_0, 2);
    let uri = |node: usize| format!("127.0.0.1:{}", cluster.nodes()[node].port());
    check(&uri(0), &uri(1), &[], 3, says);
}

#[test]
fn a_target_that_takes_no_writes() {
    let source = Server::start(Version::REDIS_7_0);
    let primary = Server::builder(Version::REDIS_7_0).tcp().start();
    let replica = Server::start(Version::REDIS_7_0);
    run(
        &replica,
        0,
        &format!("REPLICAOF 127.0.0.1 {}", primary.port()),
    );
    check(&source.uri(), &replica.uri(), &[], 3, "is a replica");
}

#[test]
fn logins_that_fail() {
    let source = Server::builder(Version::REDIS_7_0)
        .password("right")
        .start();
    let target = Server::start(Version::VALKEY_8_0);
    check(&source.uri(), &target.uri(), &[], 3, "KEYHAUL_SOURCE_PASS");
    check(
        &source.uri(),
        &target.uri(),
        &["--source-pass", SECRET],
        3,
        "WRONGPASS",
    );
    let (user, pass) = ("--source-user", "--source-pass");
    check(
        &source.uri(),
        &target.uri(),
        &[user, "nobody", pass, SECRET],
        3,
        "WRONGPASS",
    );
}

#[test]
fn files_that_are_no_certificates() {
    let tls = Tls::new();
    let server = Server::builder(Version::REDIS_7_0).tls(&tls).start();
    let target = Server::start(Version::VALKEY_8_0);
    let uri = format!("rediss://127.0.0.1:{}", server.tls_port());
    let key = tls.server_key().display().to_string();
    let rows = [
        (
            vec!["--source-cacert", "/no/such/file.pem"],
            "/no/such/file.pem",
        ),
        (vec!["--source-cacert", "/"], "TLS file /"),
        (vec!["--source-cacert", "/dev/null"], "/dev/null"),
        (vec!["--source-cacert", key.as_str()], "no certificate"),
        (vec![], "--source-cacert"),
    ];
    for (options, says) in rows {
        check(&uri, &target.uri(), &options, 3, says);
    }
}

//! TLS and logins: who is let in, with what, and what is said when not.

mod common;

use std::path::Path;

use common::copying::{copy, copy_twice, copy_with, key_count, run};
use keyhaul_testkit::diff::{self, View};
use keyhaul_testkit::{Cluster, Dataset, Server, Tls, Version};

fn dataset() -> Dataset {
    Dataset {
        seed: 61,
        keys: 500,
        ..Dataset::default()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

/// A filled source and an empty target that both serve TLS, with these options.
fn tls_servers(tls: &Tls, options: &[(&str, &str)]) -> (Server, Server) {
    let start = |version| {
        let builder = Server::builder(version).tls(tls);
        options
            .iter()
            .fold(builder, |builder, (name, value)| builder.arg(name, value))
            .start()
    };
    let (source, target) = (start(Version::REDIS_7_0), start(Version::VALKEY_8_0));
    dataset().fill(&source);
    (source, target)
}

#[test]
fn tls_with_an_own_authority() {
    let tls = Tls::new();
    let (source, target) = tls_servers(&tls, &[]);
    assert!(source.uri().starts_with("rediss://"), "{}", source.uri());
    // A value in parts too.
    let set = redis::cmd("SETRANGE")
        .arg("large")
        .arg(3_000_000)
        .arg("end")
        .exec(&mut source.client());
    set.expect("is taken");
    let ca = tls.ca();
    let options = ["--source-cacert", text(&ca), "--target-cacert", text(&ca)];
    copy_twice(&source.uri(), &target.uri(), &options, || {
        diff::assert_equal(&View::server(&source), &View::server(&target));
    });
}

#[test]
fn tls_with_a_client_certificate() {
    let tls = Tls::new();
    let (source, target) = tls_servers(&tls, &[("tls-auth-clients", "yes")]);
    let (ca, cert, key) = (tls.ca(), tls.client_cert(), tls.client_key());
    let (ca, cert, key) = (text(&ca), text(&cert), text(&key));
    let source_has = [
        "--source-cacert",
        ca,
        "--source-cert",
        cert,
        "--source-key",
        key,
    ];
    let target_has = [
        "--target-cacert",
        ca,
        "--target-cert",
        cert,
        "--target-key",
        key,
    ];
    for (options, side) in [
        ([&source_has[..2], &target_has].concat(), "source: "),
        ([&source_has[..], &target_has[..2]].concat(), "target: "),
    ] {
        copy(&source.uri(), &target.uri(), &options)
            .exits_with(3)
            .says(side);
        assert_eq!(key_count(&target), 0);
    }
    copy_twice(
        &source.uri(),
        &target.uri(),
        &[source_has, target_has].concat(),
        || {
            diff::assert_equal(&View::server(&source), &View::server(&target));
        },
    );
}

#[test]
fn certificates_that_prove_nothing_are_refused() {
    let tls = Tls::new();
    let source = Server::start(Version::REDIS_7_0);
    dataset().fill(&source);
    let start = |cert: &Path, key: &Path| {
        Server::builder(Version::VALKEY_8_0)
            .tls_with_certificate(&tls, cert, key)
            .start()
    };
    let good = start(&tls.server_cert(), &tls.server_key());
    let expired = start(&tls.expired_cert(), &tls.expired_key());
    let wrong_host = start(&tls.wrong_host_cert(), &tls.wrong_host_key());
    let (ca, wrong_ca) = (tls.ca(), tls.wrong_ca());
    for (target, options) in [
        (&good, vec!["--target-cacert", text(&wrong_ca)]),
        (&good, vec![]),
        (&good, vec!["--target-cacert", "/no/such/ca.pem"]),
        (
            &good,
            vec![
                "--target-cacert",
                text(&ca),
                "--target-cert",
                text(&ca),
                "--target-key",
                text(&ca),
            ],
        ),
        (&expired, vec!["--target-cacert", text(&ca)]),
        (&wrong_host, vec!["--target-cacert", text(&ca)]),
    ] {
        let ran = copy(&source.uri(), &target.uri(), &options);
        let complaint = ran.outcome.stderr.clone();
        assert!(
            matches!(ran.outcome.code, Some(2 | 3)),
            "{options:?}: {ran:#?}"
        );
        assert!(complaint.contains("target"), "{options:?}: {ran:#?}");
        assert_eq!(complaint.lines().count(), 1, "{options:?}: {ran:#?}");
        assert_eq!(key_count(target), 0, "{options:?}");
    }
    for target in [&good, &expired, &wrong_host] {
        copy_twice(&source.uri(), &target.uri(), &["--target-insecure"], || {
            diff::assert_equal(&View::server(&source), &View::server(target));
        });
    }
    let back = Server::start(Version::VALKEY_8_0);
    copy_twice(&expired.uri(), &back.uri(), &["--source-insecure"], || {
        diff::assert_equal(&View::server(&source), &View::server(&back));
    });
}

#[test]
fn plain_to_a_tls_port_hints_at_tls() {
    let tls = Tls::new();
    let source = Server::start(Version::REDIS_7_0);
    let target = Server::builder(Version::VALKEY_8_0).tls(&tls).start();
    let plain_to_tls = format!("redis://127.0.0.1:{}", target.tls_port());
    copy(&source.uri(), &plain_to_tls, &[])
        .exits_with(3)
        .says("rediss://");
    copy(&plain_to_tls, &source.uri(), &[])
        .exits_with(3)
        .says("rediss://");
}

#[test]
fn tls_to_a_plain_port_is_refused() {
    let source = Server::start(Version::REDIS_7_0);
    let target = Server::builder(Version::VALKEY_8_0).tcp().start();
    run(&source, 0, "SET one 1");
    let tls_to_plain = format!("rediss://127.0.0.1:{}", target.port());
    let ran = copy(&source.uri(), &tls_to_plain, &["--target-insecure"])
        .exits_with(3)
        .says("target");
    assert_eq!(ran.outcome.stderr.lines().count(), 1, "{ran:#?}");
    assert_eq!(key_count(&target), 0);
}

#[test]
fn tls_clusters() {
    let tls = Tls::new();
    let source = Cluster::builder(Version::REDIS_7_0)
        .primaries(2)
        .tls(&tls)
        .start();
    let target = Cluster::builder(Version::VALKEY_8_0)
        .tls(&tls)
        .password("secret")
        .start();
    dataset().fill_cluster(&source);
    let ca = tls.ca();
    let options = ["--source-cacert", text(&ca), "--target-cacert", text(&ca)];
    let options = [&options[..], &["--target-pass", "secret"]].concat();
    copy_twice(&source.uri(), &target.seeds(), &options, || {
        diff::assert_equal(&View::cluster(&source), &View::cluster(&target));
    });
}

/// A password that must be escaped in a URI.
const SOURCE_PASS: &str = "s@cret:/%";
const TARGET_PASS: &str = "t-secret";

#[test]
fn passwords_by_option_variable_and_uri() {
    let user = |pass: &str| format!("on >{pass} ~* &* +@all");
    let source = Server::builder(Version::REDIS_7_0)
        .tcp()
        .password(SOURCE_PASS)
        .acl_user("mover", &user("m-secret"))
        .start();
    let target = Server::builder(Version::VALKEY_8_0)
        .tcp()
        .password(TARGET_PASS)
        .start();
    dataset().fill(&source);
    let in_uri = |uri: &str, login: &str| uri.replace("redis://", &format!("redis://{login}@"));
    let (from, to) = (source.tcp_uri(), target.tcp_uri());
    let both = [
        ("KEYHAUL_SOURCE_PASS", SOURCE_PASS),
        ("KEYHAUL_TARGET_PASS", TARGET_PASS),
    ];
    let escaped = ":s%40cret%3A%2F%25";
    type Row<'a> = (String, String, Vec<&'a str>, Vec<(&'a str, &'a str)>);
    let good: Vec<Row> = vec![
        (
            from.clone(),
            to.clone(),
            vec!["--source-pass", SOURCE_PASS, "--target-pass", TARGET_PASS],
            vec![],
        ),
        (from.clone(), to.clone(), vec![], both.to_vec()),
        (
            from.clone(),
            to.clone(),
            vec!["--target-pass", TARGET_PASS],
            vec![("REDISCLI_AUTH", SOURCE_PASS)],
        ),
        (
            in_uri(&from, escaped),
            in_uri(&to, ":t-secret"),
            vec![],
            vec![],
        ),
        // What is said about one end counts before what is said for both; an option before a URI.
        (
            in_uri(&from, escaped),
            to.clone(),
            vec![],
            vec![
                ("KEYHAUL_TARGET_PASS", TARGET_PASS),
                ("REDISCLI_AUTH", "no"),
            ],
        ),
        (
            in_uri(&from, ":no"),
            to.clone(),
            vec!["--source-pass", SOURCE_PASS],
            both[1..].to_vec(),
        ),
        (
            in_uri(&from, "mover:m-secret"),
            to.clone(),
            vec![],
            both[1..].to_vec(),
        ),
        (
            from.clone(),
            to.clone(),
            vec!["--source-user", "mover"],
            vec![("KEYHAUL_SOURCE_PASS", "m-secret"), both[1]],
        ),
        (
            format!("unix://{}", source.socket().display()),
            to.clone(),
            vec![],
            both.to_vec(),
        ),
    ];
    for (from, to, options, variables) in &good {
        let ran = copy_with(from, to, options, variables).exits_with(0);
        diff::assert_equal(&View::server(&source), &View::server(&target));
        shows_no_password(&ran);
    }
    let bad: Vec<Row> = vec![
        (from.clone(), to.clone(), vec![], vec![]),
        (
            in_uri(&from, "mover:x-secret"),
            to.clone(),
            vec![],
            both[1..].to_vec(),
        ),
        (
            from.clone(),
            in_uri(&to, ":x-secret"),
            vec![],
            both[..1].to_vec(),
        ),
        (
            from.clone(),
            to.clone(),
            vec!["--source-user", "nobody"],
            both.to_vec(),
        ),
    ];
    for (from, to, options, variables) in &bad {
        let ran = copy_with(from, to, options, variables).exits_with(3);
        assert_eq!(ran.outcome.stderr.lines().count(), 1, "{ran:#?}");
        shows_no_password(&ran);
    }
}

#[track_caller]
fn shows_no_password(ran: &common::copying::Ran) {
    let all = format!("{}{}{}", ran.outcome.stdout, ran.outcome.stderr, ran.report);
    for secret in ["secret", "s@cret", "s%40cret"] {
        assert!(!all.contains(secret), "{ran:#?}");
    }
}

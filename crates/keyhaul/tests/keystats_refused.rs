//! What `keyhaul keystats` is refused for, and what it says then: one line, and no data.

mod common;

use common::copying::run;
use common::keystats::{keystats_ending, sizes_told};
use common::{keyhaul, keyhaul_with};
use keyhaul_testkit::{Server, Tls, Version};

#[test]
fn rights_that_are_missing() {
    let rows = [
        (
            "+@all -memory",
            "MEMORY USAGE on the source",
            "grant +memory|usage",
        ),
        ("+@all -scan", "SCAN", "grant +scan"),
        ("+select +info +memory", "SCAN", "grant +scan"),
    ];
    for (rights, what, remedy) in rows {
        let server = Server::builder(Version::REDIS_7_0)
            .acl_user("reader", &format!("on >secret ~* {rights}"))
            .start();
        for command in ["memkeys", "slots"] {
            let login = ["--user", "reader", "-a", "secret"];
            let uri = server.uri();
            let args = [&[command, &uri][..], &login].concat();
            let ran = keystats_ending(&args);
            assert_eq!(
                (ran.code, ran.stdout.as_str()),
                (Some(3), ""),
                "{}",
                ran.stderr
            );
            let lines: Vec<&str> = ran.stderr.lines().collect();
            let [line] = lines[..] else {
                panic!("{lines:?}")
            };
            assert!(
                line.starts_with("error: ") && line.contains("NOPERM"),
                "{line}"
            );
            assert!(line.contains(what) && line.contains(remedy), "{line}");
        }
    }
}

#[test]
fn the_least_rights() {
    let server = Server::builder(Version::VALKEY_8_0)
        .acl_user("reader", "on >secret ~* +scan +memory|usage")
        .start();
    run(&server, 0, "SET a b");
    let uri = server.uri();
    let login = ["--user", "reader", "-a", "secret"];
    let args = ["memkeys", "-u", &uri, "--mem-limit", "0", "--db", "0"];
    let ran = keystats_ending(&[&args[..], &login].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(sizes_told(&ran.stdout).len(), 1);
}

#[test]
fn a_server_without_the_command() {
    let server = Server::builder(Version::REDIS_6_2)
        .arg("rename-command", "MEMORY \"\"")
        .start();
    let ran = keystats_ending(&["slots", &server.uri()]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(3), ""),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("MEMORY USAGE, which the source"),
        "{}",
        ran.stderr
    );
}

#[test]
fn command_lines_that_are_wrong() {
    for (args, reason) in [
        (&["keystats"][..], "memkeys, slots or report"),
        (&["keystats", "nothing"], "use keyhaul keystats memkeys"),
        (&["keystats", "slots", "a:1", "b:1"], "an argument too many"),
        (&["keystats", "slots", "-h"], "needs a value"),
        (
            &["keystats", "slots", "-h", "a", "-u", "b"],
            "named more than once",
        ),
        (&["keystats", "slots", "--shards", "0"], "--shards needs"),
        (
            &["keystats", "slots", "--mem-limit", "1mb"],
            "unknown option --mem-limit",
        ),
        (
            &["keystats", "memkeys", "--mem-limit", "x"],
            "--mem-limit needs",
        ),
        (
            &["keystats", "memkeys", "redis://:pw@h:x"],
            "from 1 to 65535",
        ),
    ] {
        let ran = keyhaul(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(ran.stderr.contains(reason), "{args:?}: {}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        assert!(!ran.stderr.contains("pw"), "{}", ran.stderr);
    }
    let ran = keyhaul(&["keystats", "memkeys", "127.0.0.1:1"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(3), ""),
        "{}",
        ran.stderr
    );
}

#[test]
fn help_is_help_and_h_is_the_host() {
    for (args, text) in [
        (&["keystats", "--help"][..], "memkeys"),
        (&["keystats", "memkeys", "--help"], "--mem-limit"),
        (&["keystats", "slots", "--help"], "--shards"),
    ] {
        let ran = keyhaul(args);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(ran.stdout.contains(text), "{}", ran.stdout);
    }
    let server = Server::builder(Version::REDIS_7_0)
        .tcp()
        .password("s3cret")
        .start();
    run(&server, 0, "SET a b");
    let port = server.port().to_string();
    let args = [
        "keystats",
        "memkeys",
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "--mem-limit",
        "0",
    ];
    for variable in ["REDISCLI_AUTH", "KEYHAUL_SOURCE_PASS"] {
        let ran = keyhaul_with(&args, &[(variable, "s3cret")]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(sizes_told(&ran.stdout).len(), 1);
    }
    let ran = keyhaul(&args);
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.contains("NOAUTH"), "{}", ran.stderr);
}

#[test]
fn with_tls() {
    let tls = Tls::new();
    let server = Server::builder(Version::REDIS_7_0).tls(&tls).start();
    run(&server, 0, "SET a b");
    let port = server.tls_port().to_string();
    let ca = tls.ca();
    let (ca, at) = (
        ca.to_str().unwrap(),
        ["memkeys", "-h", "127.0.0.1", "-p", &port],
    );
    for how in [
        &["--tls", "--cacert", ca][..],
        &["--insecure"],
        &["--source-cacert", ca],
    ] {
        let args = [&at[..], how, &["--mem-limit", "0"]].concat();
        let ran = keystats_ending(&args);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(sizes_told(&ran.stdout).len(), 1);
    }
    let args = [&at[..], &["--tls"]].concat();
    assert_eq!(keystats_ending(&args).code, Some(3));
}

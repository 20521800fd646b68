//! Big keys and users of few rights, targets of low limits, and types that have no elements to read.

mod common;

use common::big::{Job, KINDS, Kind, Marked, Seen, add, same, send_all, staging_keys, words};
use common::copying::{Ran, key_count, listed, noise, run};
use keyhaul_testkit::{Server, Version, require};
use redis::cmd;

const MB: usize = 1024 * 1024;
const OPTIONS: [&str; 4] = ["--chunk-threshold", "1kb", "--chunk-size", "40"];

fn user(version: Version, rules: &str) -> Server {
    let rules = format!("on >secret {rules}");
    Server::builder(version).acl_user("mover", &rules).start()
}

fn job(source: &Server, target: &Server, side: &str) -> Job {
    let (user, pass) = (format!("--{side}-user"), format!("--{side}-pass"));
    let login = [user.as_str(), "mover", pass.as_str(), "secret"];
    Job::replicate(
        &source.uri(),
        &target.uri(),
        &[&OPTIONS[..], &login].concat(),
    )
}

/// Either it went another way, or it is said what is missing, and nothing is half done.
#[track_caller]
fn goes_or_is_told(ran: Ran, ends: (&Server, &Server), marked: &Marked, right: &str) {
    let (source, target) = ends;
    match ran.outcome.code {
        Some(0) => same(source, target),
        Some(3 | 4) => {
            let text = format!("{}{}{}", ran.outcome.stdout, ran.outcome.stderr, ran.report);
            assert!(text.to_lowercase().contains(right), "{right}: {ran:#?}");
            assert_eq!(marked.look(&mut target.client()), Seen::Absent, "{right}");
        }
        _ => assert_eq!(ran.outcome.code, Some(0), "without {right}: {ran:#?}"),
    }
}

#[test]
fn a_right_that_the_target_user_lacks_is_named() {
    for (kind, right) in [
        (Kind::Hash, "hset"),
        (Kind::Zset, "zadd"),
        (Kind::Set, "sadd"),
        (Kind::List, "rpush"),
        (Kind::Text, "setrange"),
        (Kind::Stream, "xadd"),
        (Kind::Stream, "xsetid"),
        (Kind::Stream, "xgroup"),
        (Kind::Hash, "rename"),
        (Kind::Hash, "multi"),
        (Kind::Hash, "pexpire"),
        (Kind::Hash, "persist"),
        (Kind::Hash, "unlink"),
        (Kind::Hash, "watch"),
        (Kind::Hash, "set"),
    ] {
        let source = Server::start(Version::REDIS_7_0);
        let target = user(Version::VALKEY_8_0, &format!("~* &* +@all -{right}"));
        let marked = Marked::new(kind, 400, 40);
        marked.make(&mut source.client(), 1);
        let ran = job(&source, &target, "target").run();
        goes_or_is_told(ran, (&source, &target), &marked, right);
        // Without the right to remove, what is staged ends by itself.
        if right != "unlink" {
            assert_eq!(staging_keys(&target), [], "{right}");
        }
    }
}

#[test]
fn a_right_that_the_source_user_lacks_is_named() {
    for (kind, right) in [
        (Kind::Hash, "hscan"),
        (Kind::Zset, "zrange"),
        (Kind::Set, "sscan"),
        (Kind::List, "lrange"),
        (Kind::Text, "getrange"),
        (Kind::Stream, "xrange"),
        (Kind::Stream, "xinfo"),
        (Kind::Hash, "watch"),
        (Kind::Hash, "client"),
        (Kind::Hash, "memory"),
    ] {
        let source = user(Version::REDIS_7_0, &format!("~* &* +@all -{right}"));
        let target = Server::start(Version::VALKEY_8_0);
        let marked = Marked::new(kind, 400, 40);
        marked.make(&mut source.client(), 1);
        let ran = job(&source, &target, "source").run();
        goes_or_is_told(ran, (&source, &target), &marked, right);
        assert_eq!(staging_keys(&target), [], "{right}");
    }
}

#[test]
fn a_source_user_who_may_only_read() {
    let rules = "~* -@all +@read +@connection +info +config|get +memory|usage +scan +multi +exec +watch +unwatch +time +command";
    let source = user(Version::REDIS_7_0, rules);
    let target = Server::start(Version::VALKEY_8_0);
    for kind in KINDS {
        Marked::new(kind, 400, 40).make(&mut source.client(), 1);
    }
    job(&source, &target, "source").ends(&[&target], 0);
    same(&source, &target);
}

/// The rights in the nth block of the guide that begins with a line like this.
fn documented(heading: &str, nth: usize) -> String {
    const GUIDE: &str = include_str!("../../../docs/guide/permissions.md");
    let (_, section) = GUIDE.split_once(heading).expect("the heading is there");
    let block = section
        .split("```")
        .nth(2 * nth + 1)
        .expect("there is a block");
    let words = block.split_whitespace();
    words
        .filter(|word| word.starts_with('+'))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn the_rights_of_the_guide_are_enough() {
    if !(require(Version::REDIS_8_2) && require(Version::VALKEY_9_1)) {
        return;
    }
    let rules = |end: &str, nth| {
        let (all, big) = (documented(end, 0), documented("## Big keys", nth));
        format!("~* resetchannels -@all {all} {big}")
    };
    let source = user(Version::REDIS_8_2, &rules("## Source", 0));
    let target = user(Version::VALKEY_9_1, &rules("## Target", 1));
    let mut client = source.client();
    for kind in KINDS {
        Marked::new(kind, 400, 40).make(&mut client, 1);
        let old = Marked {
            key: format!("old:{kind:?}"),
            ..Marked::new(kind, 400, 40)
        };
        old.make(&mut client, 1);
        old.make(&mut target.client(), 2);
    }
    Marked {
        key: "fields".into(),
        ..Marked::new(Kind::Hash, 400, 40)
    }
    .make(&mut client, 1);
    for field in 0..40 {
        let _: redis::Value = cmd("HPEXPIREAT")
            .arg("fields")
            .arg(4_102_444_800_000_u64 + field)
            .arg("FIELDS")
            .arg(1)
            .arg(field)
            .query(&mut client)
            .expect("is answered");
    }
    for line in [
        "XGROUP CREATE marked:Stream other 0",
        "XREADGROUP GROUP other anna COUNT 30 STREAMS marked:Stream >",
        "PEXPIREAT marked:List 4102444800555",
    ] {
        run(&source, 0, line);
    }
    let login = ["source", "target"].map(|side| {
        [
            format!("--{side}-user"),
            "mover".into(),
            format!("--{side}-pass"),
            "secret".into(),
        ]
    });
    let login: Vec<&str> = login.iter().flatten().map(String::as_str).collect();
    let options = [&OPTIONS[..], &login].concat();
    let ran = Job::replicate(&source.uri(), &target.uri(), &options).ends(&[&target], 0);
    assert_eq!(ran.count("chunked"), 13, "{ran:#?}");
    assert!(
        !ran.report["warnings"].to_string().contains("right"),
        "{ran:#?}"
    );
    same(&source, &target);
}

#[test]
fn a_target_user_who_may_not_write_staging_keys() {
    let source = Server::start(Version::REDIS_7_0);
    let target = user(Version::VALKEY_8_0, "~marked:* &* +@all");
    let marked = Marked::new(Kind::Hash, 400, 40);
    marked.make(&mut source.client(), 1);
    let ran = job(&source, &target, "target").run();
    goes_or_is_told(ran, (&source, &target), &marked, "keyhaul:staging:");
    // With the right to both names it goes.
    let target = user(Version::VALKEY_8_0, "~marked:* ~keyhaul:staging:* &* +@all");
    job(&source, &target, "target").ends(&[&target], 0);
    same(&source, &target);
}

#[test]
fn a_target_that_takes_no_large_argument() {
    let source = Server::start(Version::REDIS_7_0);
    let target = Server::builder(Version::VALKEY_8_0)
        .arg("proto-max-bulk-len", MB)
        .start();
    let mut client = source.client();
    // As a payload they would be refused, in pieces they go.
    for kind in [Kind::Hash, Kind::Zset, Kind::Set, Kind::List, Kind::Stream] {
        let name = format!("{kind:?}");
        let all = (0..1500).map(|n| add(kind, name.as_bytes(), n, &noise(1500, n as u64)));
        send_all(&mut client, all);
    }
    let fits = noise(MB - 100, 1);
    send_all(
        &mut client,
        [words(&[b"HSET".as_slice(), b"fits", b"f", &fits])].into_iter(),
    );
    Job::replicate(&source.uri(), &target.uri(), &[]).ends(&[&target], 0);
    same(&source, &target);
    // These cannot be there at all.
    let large = noise(MB + MB / 2, 2);
    let all = [
        words(&[b"SET".as_slice(), b"text", &large]),
        words(&[b"HSET".as_slice(), b"hash", b"f", &large, b"g", b"small"]),
        words(&[b"RPUSH".as_slice(), b"list", b"small", &large]),
    ];
    send_all(&mut client, all.into_iter());
    let ran = Job::replicate(&source.uri(), &target.uri(), &[]).ends(&[&target], 4);
    assert_eq!(
        ran.not_moved(),
        listed(0, &["hash", "list", "text"]),
        "{ran:#?}"
    );
    ran.reasons_say("proto-max-bulk-len");
    assert_eq!(key_count(&target), 6);
}

/// A vector set of about 1.6 MB.
fn with_vectors() -> Server {
    let source = Server::start(Version::REDIS_8_2);
    let vectors = (0..100_u64).map(|n| {
        let vector = noise(4096 * 4, n)
            .chunks(4)
            .flat_map(|bytes| {
                let value = f32::from(bytes[0]) / 7.0 + f32::from(bytes[1]);
                value.to_le_bytes()
            })
            .collect::<Vec<u8>>();
        let element = format!("element:{n}");
        words(&[
            b"VADD".as_slice(),
            b"vectorset:1",
            b"FP32",
            &vector,
            element.as_bytes(),
            b"NOQUANT",
        ])
    });
    send_all(&mut source.client(), vectors);
    source
}

fn card(server: &Server) -> i64 {
    cmd("VCARD")
        .arg("vectorset:1")
        .query(&mut server.client())
        .expect("a number")
}

/// Some of the vectors; the payload need not be the same, byte for byte.
fn vectors(server: &Server) -> Vec<Vec<String>> {
    let one = |n: u32| -> Vec<String> {
        let mut command = cmd("VEMB");
        command.arg("vectorset:1").arg(format!("element:{n}"));
        command.query(&mut server.client()).expect("a vector")
    };
    (0..100).step_by(13).map(one).collect()
}

#[test]
fn vector_sets_go_as_one_payload_or_are_listed() {
    if !require(Version::REDIS_8_2) {
        return;
    }
    let source = with_vectors();
    let same_version = Server::start(Version::REDIS_8_2);
    Job::replicate(&source.uri(), &same_version.uri(), &OPTIONS).ends(&[&same_version], 0);
    assert_eq!(card(&same_version), 100);
    assert_eq!(vectors(&same_version), vectors(&source));
    // Too long for the target: the two settings that would allow it are named.
    let low = Server::builder(Version::REDIS_8_2)
        .arg("proto-max-bulk-len", MB)
        .start();
    let ran = Job::replicate(&source.uri(), &low.uri(), &OPTIONS).ends(&[&low], 4);
    assert_eq!(ran.not_moved(), listed(0, &["vectorset:1"]), "{ran:#?}");
    ran.reasons_say("proto-max-bulk-len");
    ran.reasons_say("client-query-buffer-limit");
    assert_eq!(key_count(&low), 0);
    // Another family has no such type.
    let other = Server::start(Version::VALKEY_8_0);
    let ran = Job::replicate(&source.uri(), &other.uri(), &OPTIONS).ends(&[&other], 4);
    assert_eq!(ran.not_moved(), listed(0, &["vectorset:1"]), "{ran:#?}");
    run(&other, 0, "PING");
    let options = [&OPTIONS[..], &["--key", "vectorset:1", "--replace"]].concat();
    Job::big_keys(&source.uri(), &same_version.uri(), &options).ends(&[&same_version], 0);
    assert_eq!(vectors(&same_version), vectors(&source));
}

//! What a comparison refuses, in one clear line, and the rights that are enough.

mod common;

use common::compare::{compare, rows, script, twin};
use common::copying::{key_count, run};
use common::rdb::Folder;
use common::rights::LOGIN;
use common::{command, keyhaul};
use keyhaul_testkit::diff::{View, assert_equal};
use keyhaul_testkit::{Cluster, Dataset, Server, Version, process, wait_until};

const SECRET: &str = "swordfish";

/// Runs a comparison that must be refused; `says` is part of the one line.
#[track_caller]
fn refused(source: &str, target: &str, options: &[&str], code: i32, says: &str) {
    let args = [&["compare", source, target], options].concat();
    let outcome = keyhaul(&args);
    let shown = format!("{args:?}: {outcome:#?}");
    assert_eq!(outcome.code, Some(code), "{shown}");
    let errors = outcome.stderr.lines();
    let errors: Vec<&str> = errors.filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{shown}");
    assert!(errors[0].contains(says), "wants '{says}': {shown}");
    let all = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(
        !all.contains("panicked") && !all.contains(SECRET),
        "{shown}"
    );
}

#[test]
fn wrong_usage() {
    let folder = Folder::new();
    let (source, target) = (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::REDIS_7_0),
    );
    run(&source, 0, "SET a 1");
    let there = |name: &str, text: &str| folder.put(name, text.as_bytes());
    let no_mark = there("no-mark.tsv", "*\t0\ta\n?\t0\tb\n");
    let no_db = there("no-db.tsv", "*\tzero\ta\n");
    let bad_name = there("bad-name.tsv", "*\t0\ta\\q\n");
    let absent = folder.path("absent.tsv");
    let nowhere = folder.path("no/such/folder/diffs.tsv");
    let table: [(&[&str], &str); 12] = [
        (&["--only-keys", &absent], "absent.tsv"),
        (&["--only-keys", &no_mark], "no-mark.tsv"),
        (&["--only-keys", &no_db], "no-db.tsv"),
        (&["--only-keys", &bad_name], "bad-name.tsv"),
        (&["--diff-file", &nowhere], "no/such/folder"),
        (&["--diff-file", "/"], "/"),
        (&["--report", &nowhere], "no/such/folder"),
        (&["--delete-extra"], "--repair"),
        (&["--recheck", "0"], "--recheck"),
        (&["--recheck", "21"], "--recheck"),
        (&["--ttl-tolerance", "soon"], "--ttl-tolerance"),
        (&["--key-type", "tree"], "tree"),
    ];
    for (options, says) in table {
        refused(&source.uri(), &target.uri(), options, 2, says);
    }
    refused(
        &source.uri(),
        &target.uri(),
        &["--verify", "quick"],
        2,
        "--verify",
    );
    assert_eq!((key_count(&source), key_count(&target)), (1, 0));
    assert_eq!(folder.names().len(), 3, "{:?}", folder.names());
}

#[test]
fn ends_that_cannot_be_used() {
    let folder = Folder::new();
    let server = Server::start(Version::REDIS_7_0);
    let guarded = Server::builder(Version::REDIS_7_0)
        .password("right")
        .start();
    let diffs = folder.path("diffs.tsv");
    let nobody = "redis://127.0.0.1:1";
    let options = ["--diff-file", &diffs];
    refused(&server.uri(), nobody, &options, 3, "127.0.0.1:1");
    refused(nobody, &server.uri(), &options, 3, "127.0.0.1:1");
    let wrong = ["--target-pass", SECRET, "--diff-file", &diffs];
    refused(&server.uri(), &guarded.uri(), &wrong, 3, "WRONGPASS");
    refused(
        &guarded.uri(),
        &server.uri(),
        &options,
        3,
        "KEYHAUL_SOURCE_PASS",
    );
    // Not even an empty diff file, which would say that all is equal.
    assert_eq!(folder.names(), Vec::<String>::new());
}

#[test]
fn source_and_target_are_the_same() {
    let server = Server::builder(Version::REDIS_7_0).tcp().start();
    run(&server, 0, "SET a 1");
    let socket = format!("unix://{}", server.socket().display());
    let says = "are the same server";
    refused(&socket, &socket, &[], 3, says);
    refused(&socket, &server.tcp_uri(), &[], 3, says);
    let repair = ["--repair", "--delete-extra"];
    refused(&socket, &server.tcp_uri(), &repair, 3, says);
    let cluster = Cluster::start(Version::REDIS_7_0, 2);
    let node = |index: usize| cluster.nodes()[index].uri();
    refused(&node(0), &node(1), &[], 3, says);
    assert_eq!(key_count(&server), 1);
}

#[test]
fn a_replica_can_be_compared_and_not_repaired() {
    let source = Server::start(Version::REDIS_7_0);
    Dataset::default().fill(&source);
    let primary = Server::builder(Version::REDIS_7_0)
        .arg("repl-diskless-sync-delay", 0)
        .tcp()
        .start();
    Dataset::default().fill(&primary);
    let replica = Server::start(Version::REDIS_7_0);
    run(
        &replica,
        0,
        &format!("REPLICAOF 127.0.0.1 {}", primary.port()),
    );
    let whole = || key_count(&replica) == 1000;
    wait_until("the replica has all", common::DEADLINE, whole);
    script(&mut primary.client(), "extra", "SET @ 1");
    wait_until("the replica has that too", common::DEADLINE, || {
        key_count(&replica) == 1001
    });
    // Consumers of streams were made by each server itself, at times of its own.
    let options = ["--key-type", "string,list,set,zset,hash"];
    let ran = compare(&source.uri(), &replica.uri(), &options);
    ran.finds(&rows(&["+extra"]));
    let repair = ["--repair", "--delete-extra"];
    refused(&source.uri(), &replica.uri(), &repair, 3, "replica");
    assert_eq!(key_count(&primary), 1001);
}

/// What only reads; the guide names the least.
const READS: &str = "+@read +@connection +@transaction +info +time +config|get +function|list \
    +memory|usage +cluster|slots +cluster|nodes +cluster|myid -@write";

fn reader(version: Version) -> keyhaul_testkit::ServerBuilder {
    Server::builder(version).acl_user("mover", &format!("on >secret ~* -@all {READS}"))
}

#[test]
fn rights_to_read_are_enough() {
    for version in [Version::REDIS_7_0, Version::VALKEY_8_0] {
        let source = reader(version).start();
        let dataset = Dataset {
            seed: 571,
            dbs: vec![0, 2],
            ..Dataset::default()
        };
        dataset.fill(&source);
        redis::cmd("SAVE")
            .exec(&mut source.client())
            .expect("is saved");
        let dump = source.dir().join("dump.rdb");
        let target = reader(version).dump(&dump).start();
        let ways: [&[&str]; 3] = [&[], &["--quick"], &["--chunk-threshold", "1"]];
        for way in ways {
            let options = [&LOGIN[..], way].concat();
            compare(&source.uri(), &target.uri(), &options).equal(1000);
        }
        script(&mut target.client(), "extra", "SET @ 1");
        script(&mut target.connection(2), "hash", "HSET @ f 1");
        script(&mut source.connection(2), "hash", "HSET @ f 2");
        for way in [&[][..], &["--chunk-threshold", "1"]] {
            let options = [&LOGIN[..], way].concat();
            let ran = compare(&source.uri(), &target.uri(), &options);
            ran.finds(&rows(&["+extra", "2*hash"]));
        }
        // A repair needs more, and says so before it writes.
        let options = [&LOGIN[..], &["--repair", "--delete-extra"]].concat();
        let ran = compare(&source.uri(), &target.uri(), &options);
        assert_eq!(ran.outcome.code, Some(3), "{ran:#?}");
        assert!(ran.outcome.stderr.contains("target"), "{ran:#?}");
        assert_eq!((key_count(&source), key_count(&target)), (1001, 1002));
    }
}

/// A comparison leaves both ends as they were, its own key and all.
#[test]
fn nothing_is_written() {
    let source = Server::start(Version::REDIS_7_0);
    Dataset::default().fill(&source);
    let target = twin(&source);
    script(&mut target.client(), "extra", "SET @ 1");
    let changes = |server: &Server| server.info("rdb_changes_since_last_save");
    let before = [changes(&source), changes(&target)];
    let written = compare(&source.uri(), &target.uri(), &["--show-diffs"]);
    written.finds(&rows(&["+extra"]));
    let mut folder = command(&["compare", &source.uri(), &target.uri()]);
    let here = Folder::new();
    folder.current_dir(here.path(""));
    assert_eq!(process::run(folder, common::DEADLINE).code, Some(1));
    assert_eq!([changes(&source), changes(&target)], before);
    assert_eq!(here.names(), Vec::<String>::new());
    script(&mut target.client(), "extra", "DEL @");
    assert_equal(&View::server(&source), &View::server(&target));
}

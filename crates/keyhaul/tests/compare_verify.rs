//! `replicate --verify full`: a value that is not what the source has is found.

mod common;

use common::compare::script;
use common::copying::{Ran, copy, key_count, noise};
use common::rdb::Folder;
use common::running::Running;
use keyhaul_testkit::diff::{View, assert_equal};
use keyhaul_testkit::{Cluster, Dataset, Server, Version, wait_until};
use redis::cmd;

const FULL: [&str; 2] = ["--verify", "full"];

fn filled(seed: u64) -> Server {
    let server = Server::start(Version::REDIS_7_0);
    let dataset = Dataset {
        seed,
        keys: 3000,
        small_only: true,
        ..Dataset::default()
    };
    dataset.fill(&server);
    script(&mut server.client(), "big", "5000*HSET @ f{} v{}");
    server
}

#[test]
fn an_equal_copy_is_verified() {
    let source = filled(591);
    let cluster = Cluster::start(Version::VALKEY_8_0, 2);
    let server = Server::start(Version::VALKEY_8_0);
    for target in [cluster.uri(), server.uri()] {
        for more in [&[][..], &["--chunk-threshold", "10kb"]] {
            let ran = copy(&source.uri(), &target, &[&FULL[..], more].concat()).exits_with(0);
            assert_eq!(ran.verified("checked"), 3001, "{ran:#?}");
            assert_eq!(ran.verified("same"), 3001, "{ran:#?}");
            assert_eq!(ran.verified("unexplained"), 0, "{ran:#?}");
        }
    }
    assert_equal(&View::server(&source), &View::cluster(&cluster));
    assert_equal(&View::server(&source), &View::server(&server));
}

/// Copies while somebody changes, behind its back, a value that has arrived already; type and expiry stay.
fn changed_behind_its_back(verify: &str) -> Ran {
    let (source, target) = (filled(592), Server::start(Version::REDIS_7_0));
    for n in 0..200 {
        let value = noise(20_000, n);
        cmd("SET")
            .arg(format!("ballast:{n}"))
            .arg(value)
            .exec(&mut source.client())
            .expect("is taken");
    }
    let options = ["--verify", verify, "--rate-limit", "2mb"];
    let running = Running::start(&source.uri(), &target.uri(), &options);
    let mut link = target.client();
    let kind = |link: &mut redis::Connection| -> Option<Vec<u8>> {
        let key: Option<Vec<u8>> = cmd("RANDOMKEY").query(link).expect("is answered");
        let key = key?;
        let kind: String = cmd("TYPE").arg(&key).query(link).expect("is answered");
        (kind == "string").then_some(key)
    };
    let mut found = None;
    wait_until("a string arrives", common::DEADLINE, || {
        found = kind(&mut link);
        found.is_some()
    });
    let key = found.expect("was waited for");
    let before = key_count(&target);
    cmd("APPEND")
        .arg(&key)
        .arg("x")
        .exec(&mut link)
        .expect("is taken");
    let ran = running.finish();
    // Else it may have been changed before the last look of the copy itself.
    assert!(before < 3000, "{before} keys had arrived");
    ran
}

#[test]
fn a_value_that_was_changed_is_found() {
    let ran = changed_behind_its_back("full").exits_with(1);
    assert_eq!(ran.verified("unexplained"), 1, "{ran:#?}");
    assert_eq!(ran.verified("value_differs"), 1, "{ran:#?}");
    // That it takes a full one.
    changed_behind_its_back("quick").exits_with(0);
}

#[test]
fn a_file_is_verified_too() {
    let (folder, source) = (Folder::new(), filled(593));
    let file = folder.path("a.rdb");
    let ran = copy(&source.uri(), &file, &FULL).exits_with(0);
    assert_eq!(ran.verified("same"), 3001, "{ran:#?}");
    let target = Server::start(Version::VALKEY_8_0);
    let ran = copy(&file, &target.uri(), &FULL).exits_with(0);
    assert_eq!(ran.verified("same"), 3001, "{ran:#?}");
    assert_equal(&View::server(&source), &View::server(&target));
}

//! Followed by what the source tells: clusters on either end.

mod common;

use common::tracking::{SOON, churn, start, stop, wait_until_following, wait_until_synced};
use keyhaul_testkit::diff::{self, View};
use keyhaul_testkit::{Cluster, Server, Version, require};

#[test]
fn into_a_cluster() {
    if !require(Version::REDIS_6_2) || !require(Version::VALKEY_8_0) {
        return;
    }
    let source = Server::start(Version::REDIS_6_2);
    let target = Cluster::builder(Version::VALKEY_8_0).primaries(3).start();
    common::rights::dataset_of_cluster().fill(&source);
    let mut running = start(&source.uri(), &target.uri(), &["--db", "0"]);
    wait_until_following(&mut running);
    churn(&mut source.connection(0), 23, 2000);
    stop(running);
    let options = diff::DiffOptions::default();
    let differences = diff::keyspaces(&View::server(&source), &View::cluster(&target), &options);
    // MOVE takes keys to a db that does not go over.
    let left: Vec<_> = differences.iter().filter(|one| one.db == 0).collect();
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn from_a_cluster_that_moves_slots() {
    if !require(Version::REDIS_7_0) {
        return;
    }
    let source = Cluster::builder(Version::REDIS_7_0).primaries(3).start();
    let target = Server::start(Version::REDIS_7_0);
    common::rights::dataset_of_cluster().fill_cluster(&source);
    let mut running = start(&source.uri(), &target.uri(), &[]);
    wait_until_following(&mut running);
    let write = |value: u32| {
        for n in 0..300 {
            let key = format!("k:{n}");
            let mut client = source.connection_for(key.as_bytes());
            let set = redis::cmd("SET").arg(&key).arg(value).exec(&mut client);
            set.expect("the source takes it");
        }
    };
    write(1);
    let slots: Vec<u16> = source.slots_of(0).into_iter().take(200).collect();
    source.move_slots(0, 1, &slots);
    write(2);
    // All three nodes once more.
    running.process.wait_for_output("full_resyncs=6", SOON);
    wait_until_synced(&mut running);
    stop(running);
    diff::assert_equal(&View::cluster(&source), &View::server(&target));
}

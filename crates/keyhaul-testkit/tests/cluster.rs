//! Clusters form, route, move slots under writes and fail over.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests too"
)]

use std::sync::atomic::{AtomicBool, Ordering};

use keyhaul_testkit::diff::{self, DiffOptions, View};
use keyhaul_testkit::{Announce, Cluster, Dataset, Server, Tls, Version, key_slot, require};
use redis::cmd;

#[test]
fn clusters_of_every_version_form() {
    for version in Version::ALL {
        if !require(version) {
            continue;
        }
        let cluster = Cluster::start(version, 3);
        assert_eq!(cluster.primaries().len(), 3, "{version}");
        assert_eq!(
            (0..3)
                .map(|node| cluster.slots_of(node).len())
                .sum::<usize>(),
            16384
        );
        assert_eq!(cluster.seeds().matches("127.0.0.1").count(), 3);
        assert_eq!(cluster.uri(), cluster.nodes()[0].tcp_uri());
        cmd("SET")
            .arg("key")
            .arg("v")
            .exec(&mut cluster.connection_for(b"key"))
            .unwrap();
        assert_eq!(cluster.keys(), [b"key"]);
    }
}

#[test]
fn slots_are_those_of_the_server() {
    let cluster = Cluster::start(Version::REDIS_7_0, 1);
    let mut client = cluster.nodes()[0].client();
    let keys: [&[u8]; 9] = [
        b"",
        b"a",
        b"123456789",
        b"{tag}x",
        b"{}x",
        b"{{a}}",
        b"}{",
        b"a{b}{c}",
        b"\0\xff{\r\n}",
    ];
    for key in keys {
        let slot: u16 = cmd("CLUSTER")
            .arg("KEYSLOT")
            .arg(key)
            .query(&mut client)
            .unwrap();
        assert_eq!(key_slot(key), slot, "{}", key.escape_ascii());
    }
}

#[test]
fn slots_move_while_somebody_writes_and_nothing_is_lost() {
    for version in [Version::REDIS_6_2, Version::REDIS_7_0, Version::VALKEY_9_1] {
        if !require(version) {
            continue;
        }
        let cluster = Cluster::start(version, 2);
        let reference = Server::start(version);
        let dataset = Dataset {
            keys: 2000,
            small_only: true,
            ..Dataset::default()
        };
        dataset.fill_cluster(&cluster);
        dataset.fill(&reference);
        // Its slot does not move, so the writer needs no redirects.
        let fixed = cluster.slots_of(1)[4000];
        let key = (0..)
            .map(|n: u32| format!("k{n}"))
            .find(|key| key_slot(key.as_bytes()) == fixed)
            .unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut connection = cluster.connection_for(key.as_bytes());
                let mut writes = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    cmd("INCR").arg(&key).exec(&mut connection).unwrap();
                    writes += 1;
                }
                writes
            });
            cluster.move_slots(0, 1, &cluster.slots_of(0)[..200]);
            cluster.move_slots(1, 0, &cluster.slots_of(1)[8100..]);
            stop.store(true, Ordering::Relaxed);
            let writes = writer.join().unwrap();
            cmd("SET")
                .arg(&key)
                .arg(writes)
                .exec(&mut reference.client())
                .unwrap();
        });
        assert_eq!(cluster.slots_of(0).len() + cluster.slots_of(1).len(), 16384);
        // MIGRATE sends a relative expiry time, which comes out a little late.
        let options = DiffOptions {
            ignore_expiry_tolerance_ms: 1000,
            ..DiffOptions::default()
        };
        let (expected, got) = (View::server(&reference), View::cluster(&cluster));
        diff::assert_equal_with(&expected, &got, &options);
    }
}

#[test]
fn a_half_moved_slot_has_keys_on_both_nodes() {
    let cluster = Cluster::start(Version::REDIS_7_0, 2);
    let slot = cluster.slots_of(0)[0];
    let tag = (0..)
        .map(|n: u32| n.to_string())
        .find(|tag| key_slot(tag.as_bytes()) == slot)
        .unwrap();
    for index in 0..10 {
        let key = format!("{{{tag}}}{index}");
        cmd("SET")
            .arg(&key)
            .arg("v")
            .exec(&mut cluster.nodes()[0].client())
            .unwrap();
    }
    cluster.begin_moving_slot(0, 1, slot, 4);
    let size = |node: usize| -> usize {
        cmd("DBSIZE")
            .query(&mut cluster.nodes()[node].client())
            .unwrap()
    };
    assert_eq!((size(0), size(1)), (6, 4));
    assert_eq!(cluster.keys().len(), 10);
    cluster.move_slots(0, 1, &[slot]);
    assert_eq!((size(0), size(1)), (0, 10));
}

#[test]
fn replicas_follow_and_take_over() {
    let cluster = Cluster::builder(Version::VALKEY_8_0)
        .primaries(3)
        .replicas(1)
        .start();
    assert_eq!(cluster.nodes().len(), 6);
    assert_eq!(cluster.primaries().len(), 3);
    cmd("SET")
        .arg("key")
        .arg("v")
        .exec(&mut cluster.connection_for(b"key"))
        .unwrap();
    let owner = cluster.owner_of(b"key");
    cluster.fail_over_to(owner + 3);
    assert_eq!(cluster.owner_of(b"key"), owner + 3);
    assert_eq!(cluster.keys(), [b"key"]);
}

#[test]
fn nodes_announce_what_they_are_told_to() {
    let cluster = Cluster::builder(Version::REDIS_7_0)
        .announce(Announce::Hostname("localhost".into()))
        .start();
    assert!(slots(&cluster).contains("localhost"), "{}", slots(&cluster));
    let cluster = Cluster::builder(Version::REDIS_7_0)
        .announce(Announce::UnknownEndpoint)
        .start();
    assert!(slots(&cluster).contains("nil"), "{}", slots(&cluster));
}

fn slots(cluster: &Cluster) -> String {
    let slots: redis::Value = cmd("CLUSTER")
        .arg("SLOTS")
        .query(&mut cluster.nodes()[0].client())
        .unwrap();
    format!("{slots:?}")
}

#[test]
fn clusters_with_tls_and_passwords_form_and_move_slots() {
    let tls = Tls::new();
    let cluster = Cluster::builder(Version::REDIS_7_0)
        .primaries(2)
        .replicas(1)
        .tls(&tls)
        .password("secret")
        .start();
    assert!(cluster.uri().starts_with("rediss://127.0.0.1:"));
    assert!(cluster.seeds().starts_with("rediss://127.0.0.1:"));
    Dataset {
        keys: 100,
        small_only: true,
        ..Dataset::default()
    }
    .fill_cluster(&cluster);
    cluster.move_slots(0, 1, &cluster.slots_of(0)[..300]);
    assert_eq!(cluster.keys().len(), 100);
}

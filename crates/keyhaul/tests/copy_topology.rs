//! Every pair of topologies, and servers that are found in unusual ways.

mod common;

use std::time::Duration;

use common::copying::{copy, copy_twice, key_count, key_counts, run};
use keyhaul_testkit::diff::{self, DiffOptions, View};
use keyhaul_testkit::{Announce, Cluster, Dataset, Sentinel, Server, Version, wait_until};
use redis::cmd;

fn dataset(seed: u64) -> Dataset {
    Dataset {
        seed,
        keys: 1500,
        ..Dataset::default()
    }
}

fn standalone(version: Version) -> Server {
    Server::builder(version).tcp().start()
}

fn load_function(server: &Server) {
    let code = "#!lua name=one\nredis.register_function('f', function() return 1 end)";
    let load = cmd("FUNCTION")
        .arg("LOAD")
        .arg(code)
        .exec(&mut server.client());
    load.expect("is taken");
}

#[test]
fn standalone_to_cluster() {
    let source = standalone(Version::REDIS_7_0);
    let target = Cluster::start(Version::VALKEY_8_0, 3);
    dataset(41).fill(&source);
    load_function(&source);
    // In parts too, on each of the nodes.
    for n in 0..12 {
        cmd("SETRANGE")
            .arg(n)
            .arg(700_000)
            .arg("end")
            .exec(&mut source.client())
            .expect("is taken");
    }
    copy_twice(&source.tcp_uri(), &target.uri(), &[], || {
        diff::assert_equal(&View::server(&source), &View::cluster(&target));
        for node in target.nodes() {
            assert_eq!(diff::functions(node), diff::functions(&source));
        }
    });
}

#[test]
fn cluster_to_standalone() {
    let source = Cluster::start(Version::REDIS_7_0, 3);
    let target = standalone(Version::VALKEY_8_0);
    dataset(42).fill_cluster(&source);
    // Any node tells where the others are, also one that owns none of the keys.
    let ran = copy_twice(
        &source.nodes()[2].uri(),
        &target.uri(),
        &["--read-threads", "2"],
        || {
            diff::assert_equal(&View::cluster(&source), &View::server(&target));
        },
    );
    assert_eq!(ran.count("copied"), 1500, "{ran:#?}");
    // Into another db than 0 too.
    run(&target, 0, "FLUSHALL");
    copy_twice(&source.uri(), &target.uri(), &["--db-map", "0:4"], || {
        diff::assert_equal_with(
            &View::cluster(&source),
            &View::server(&target),
            &DiffOptions::default().mapping_db(0, 4),
        );
    });
}

#[test]
fn cluster_to_a_smaller_cluster_and_back() {
    let three = Cluster::builder(Version::REDIS_7_0).replicas(1).start();
    let two = Cluster::start(Version::VALKEY_8_0, 2);
    dataset(43).fill_cluster(&three);
    let before = three.keys();
    copy_twice(&three.uri(), &two.uri(), &["--threads", "2"], || {
        diff::assert_equal(&View::cluster(&three), &View::cluster(&two));
    });
    assert_eq!(three.keys(), before);
    // Valkey 8.0 writes the RDB version of Redis 7.2: back goes to its own kind.
    let back = Cluster::start(Version::VALKEY_8_0, 3);
    copy_twice(&two.uri(), &back.seeds(), &[], || {
        diff::assert_equal(&View::cluster(&three), &View::cluster(&back));
    });
}

#[test]
fn renaming_from_cluster_to_cluster() {
    let source = Cluster::start(Version::REDIS_7_0, 2);
    let target = Cluster::start(Version::REDIS_7_0, 2);
    dataset(44).fill_cluster(&source);
    // The new name of a key lies in another slot.
    copy_twice(
        &source.uri(),
        &target.uri(),
        &["--rename-prefix", "=tenant:"],
        || {
            diff::assert_equal_with(
                &View::cluster(&source),
                &View::cluster(&target),
                &DiffOptions::default().renaming_prefix(b"", b"tenant:"),
            );
        },
    );
}

#[test]
fn several_dbs_to_a_cluster() {
    let source = standalone(Version::REDIS_7_0);
    let target = Cluster::start(Version::VALKEY_8_0, 2);
    run(&source, 0, "SET zero 0");
    run(&source, 3, "SET three 3");
    run(&source, 5, "SET five 5");
    let keys_of_target = || target.nodes().iter().map(key_count).sum::<u64>();
    let ran = copy(&source.uri(), &target.uri(), &[]).exits_with(3);
    for text in ["cluster", "db 0", "3, 5", "--db-map 3:0,5:0"] {
        assert!(ran.outcome.stderr.contains(text), "{text}: {ran:#?}");
    }
    assert_eq!(keys_of_target(), 0);
    copy(&source.uri(), &target.uri(), &["--db", "3"]).exits_with(3);
    copy(&source.uri(), &target.uri(), &["--db-map", "3:0"])
        .exits_with(3)
        .says("5");
    assert_eq!(keys_of_target(), 0);
    copy_twice(
        &source.uri(),
        &target.uri(),
        &["--db", "3", "--db-map", "3:0"],
        || {
            let mapping = DiffOptions::default().mapping_db(3, 0);
            diff::assert_equal_with(&View::server(&source), &View::cluster(&target), &mapping);
        },
    );
    copy_twice(
        &source.uri(),
        &target.uri(),
        &["--db-map", "3:0,5:0"],
        || {
            let all_in_0 = DiffOptions {
                map_db: Box::new(|_| 0),
                ..DiffOptions::default()
            };
            diff::assert_equal_with(&View::server(&source), &View::cluster(&target), &all_in_0);
        },
    );
}

#[test]
fn seeds_of_which_the_first_is_down() {
    let mut source = Cluster::builder(Version::REDIS_7_0).replicas(1).start();
    let mut target = Cluster::builder(Version::VALKEY_8_0)
        .primaries(2)
        .replicas(1)
        .start();
    dataset(45).fill_cluster(&source);
    let (source_seeds, target_seeds) = (source.seeds(), target.seeds());
    for cluster in [&mut source, &mut target] {
        let before = cluster.slots_of(0).len();
        let replica = cluster.nodes().len() / 2;
        wait_until("the replica has all data", Duration::from_secs(30), || {
            key_count(&cluster.nodes()[0]) == key_count(&cluster.nodes()[replica])
        });
        run(&cluster.nodes()[replica], 0, "CLUSTER FAILOVER");
        wait_until(
            "the replica has taken over",
            Duration::from_secs(30),
            || cluster.slots_of(replica).len() == before && cluster.slots_of(0).is_empty(),
        );
        cluster.node_mut(0).stop();
    }
    copy_twice(&source_seeds, &target_seeds, &[], || {
        diff::assert_equal(&View::cluster(&source), &View::cluster(&target));
    });
}

#[test]
fn standalone_seeds_of_which_the_first_is_down() {
    let source = standalone(Version::REDIS_7_0);
    let target = standalone(Version::VALKEY_8_0);
    dataset(46).fill(&source);
    let seeds = |server: &Server| format!("redis://127.0.0.1:1,127.0.0.1:{}", server.port());
    copy_twice(&seeds(&source), &seeds(&target), &[], || {
        diff::assert_equal(&View::server(&source), &View::server(&target));
    });
    let ran = copy("redis://127.0.0.1:1,127.0.0.1:2", &target.uri(), &[]).exits_with(3);
    assert!(ran.outcome.stderr.contains("127.0.0.1:"), "{ran:#?}");
}

#[test]
fn ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("SKIPPED: this machine has no IPv6");
        return;
    }
    let source = Server::builder(Version::REDIS_7_0).bind("::1").start();
    let target = Server::builder(Version::VALKEY_8_0).bind("::1").start();
    dataset(47).fill(&source);
    let bare = format!("[::1]:{}", source.port());
    assert!(target.uri().contains("[::1]:"), "{}", target.uri());
    copy_twice(&bare, &target.uri(), &[], || {
        diff::assert_equal(&View::server(&source), &View::server(&target));
    });
}

/// Makes every node announce a port of its own at which nothing listens, as behind a gateway.
fn announce_unreachable(cluster: &Cluster) {
    let count = cluster.nodes().len();
    for (index, node) in cluster.nodes().iter().enumerate() {
        run(
            node,
            0,
            &format!("CONFIG SET cluster-announce-port {}", index + 1),
        );
    }
    for node in cluster.nodes() {
        wait_until("the node shows it for all", Duration::from_secs(60), || {
            let shown = cmd("CLUSTER").arg("NODES").query(&mut node.client());
            let shown: String = shown.expect("is answered");
            (1..=count).all(|port| shown.contains(&format!(" 127.0.0.1:{port}@")))
        });
    }
}

#[test]
fn announced_addresses_that_cannot_be_reached() {
    let source = Cluster::start(Version::REDIS_7_0, 3);
    let target = Cluster::start(Version::VALKEY_8_0, 2);
    dataset(48).fill_cluster(&source);
    announce_unreachable(&source);
    announce_unreachable(&target);
    copy_twice(&source.seeds(), &target.seeds(), &[], || {
        diff::assert_equal(&View::cluster(&source), &View::cluster(&target));
    });
}

#[test]
fn announced_names_and_no_address_at_all() {
    let named = |version| {
        let announce = Announce::Hostname("localhost".into());
        Cluster::builder(version)
            .primaries(2)
            .announce(announce)
            .start()
    };
    let unknown = |version| {
        Cluster::builder(version)
            .primaries(2)
            .announce(Announce::UnknownEndpoint)
            .start()
    };
    let source = named(Version::REDIS_7_0);
    let target = unknown(Version::VALKEY_8_0);
    dataset(49).fill_cluster(&source);
    copy_twice(&source.uri(), &target.uri(), &[], || {
        diff::assert_equal(&View::cluster(&source), &View::cluster(&target));
    });
    let back = named(Version::VALKEY_8_0);
    copy_twice(&target.uri(), &back.uri(), &[], || {
        diff::assert_equal(&View::cluster(&target), &View::cluster(&back));
    });
}

#[test]
fn sentinels_on_both_sides() {
    let source = Sentinel::start(Version::REDIS_7_0, 1);
    let target = Sentinel::start(Version::VALKEY_8_0, 1);
    Dataset {
        dbs: vec![0, 2],
        ..dataset(50)
    }
    .fill(source.primary());
    copy_twice(&source.uri(), &target.uri(), &[], || {
        diff::assert_equal(
            &View::server(source.primary()),
            &View::server(target.primary()),
        );
    });
    // After a failover the same address leads to the other server.
    target.failover();
    run(target.primary(), 0, "FLUSHALL");
    copy_twice(&format!("{}/2", source.uri()), &target.uri(), &[], || {
        let only_2 = DiffOptions::default().mapping_db(2, 2);
        diff::assert_equal_with(
            &View::server(source.primary()),
            &View::server(target.primary()),
            &only_2,
        );
    });
    assert_eq!(key_counts(target.primary()), [(2, 750)].into());
}

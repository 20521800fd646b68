//! `keyhaul keystats slots`: sums of each shard, against slots that are computed here.

mod common;

use common::keystats::{Sizes, keystats, shards_of, shards_told, sizes_of};
use common::{DEADLINE, command};
use keyhaul_testkit::process::Process;
use keyhaul_testkit::{Cluster, Dataset, Server, Version, key_slot};
use redis::cmd;

/// Names with and without hash tags, in all of their forms.
fn names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        &b"{user1000}.following"[..],
        b"{user1000}.followers",
        b"foo{}{bar}",
        b"foo{{bar}}zap",
        b"foo{bar}{zap}",
        b"{}",
        b"",
        b"\xff\x00{\xfe}",
        b"open{only",
        b"close}only{",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    names.extend((0..3000).map(|n: u32| format!("key:{n}").into_bytes()));
    names
}

#[test]
fn a_server_summed_up_as_the_cluster_it_may_become() {
    for version in [Version::REDIS_6_2, Version::VALKEY_9_1] {
        let server = Server::start(version);
        let mut link = server.client();
        for (n, name) in names().iter().enumerate() {
            let value = "v".repeat(n % 300);
            let () = cmd("SET").arg(name).arg(value).query(&mut link).unwrap();
        }
        let sizes = sizes_of(&server, 0);
        assert_eq!(sizes.len(), names().len());
        for count in [1, 3, 100, 140, 16_384] {
            let shards = count.to_string();
            let told = keystats(&["slots", &server.uri(), "--shards", &shards]);
            assert_eq!(
                shards_told(&told.stdout),
                shards_of(&sizes, count),
                "{version} {count}"
            );
        }
        // As users know them.
        let rows = shards_told(&keystats(&["slots", &server.uri(), "--shards", "140"]).stdout);
        let slots = |shard: u64| {
            rows.iter()
                .find(|row| row[0] == shard)
                .map(|r| (r[1], r[2]))
        };
        assert_eq!(slots(0), Some((0, 116)));
        assert_eq!(slots(1), Some((117, 233)));
        assert_eq!(slots(105), Some((12_285, 12_401)));
        let told: u64 = rows.iter().map(|row| row[3]).sum();
        assert_eq!(told, sizes.values().sum::<u64>());
    }
}

#[test]
fn all_dbs_together_or_one() {
    let server = Server::start(Version::REDIS_7_0);
    let dataset = Dataset {
        seed: 77,
        keys: 600,
        dbs: vec![0, 1, 9],
        ..Dataset::default()
    };
    dataset.fill(&server);
    let mut all = Sizes::new();
    for db in [0, 1, 9] {
        for (key, bytes) in sizes_of(&server, db) {
            *all.entry(key).or_insert(0) += bytes;
        }
    }
    let told = keystats(&["slots", &server.uri()]);
    assert_eq!(shards_told(&told.stdout), shards_of(&all, 100));
    let told = keystats(&["slots", &server.uri(), "--db", "9"]);
    assert_eq!(
        shards_told(&told.stdout),
        shards_of(&sizes_of(&server, 9), 100)
    );
}

#[test]
fn a_cluster_and_one_server_with_the_same_data() {
    let version = Version::VALKEY_8_0;
    let (cluster, server) = (Cluster::start(version, 3), Server::start(version));
    let mut link = server.client();
    for name in names() {
        for link in [&mut link, &mut cluster.connection_for(&name)] {
            let () = cmd("SET").arg(&name).arg("v").query(link).unwrap();
        }
    }
    let mut sizes = Sizes::new();
    for node in cluster.nodes() {
        sizes.extend(sizes_of(node, 0));
    }
    let of_cluster = keystats(&["slots", &cluster.uri(), "--shards", "16384"]);
    assert_eq!(shards_told(&of_cluster.stdout), shards_of(&sizes, 16_384));
    let of_server = keystats(&["slots", &server.uri(), "--shards", "16384"]);
    assert_eq!(of_server.stdout, of_cluster.stdout);
}

#[test]
fn nothing_at_all() {
    let server = Server::start(Version::REDIS_7_0);
    let ran = keystats(&["slots", &server.uri()]);
    assert_eq!(ran.stdout, "shard,slot_start,slot_end,size_bytes\n");
    assert!(
        ran.stderr.contains("done: 0 shards of 100 hold keys"),
        "{}",
        ran.stderr
    );
}

#[test]
fn slots_that_move_on_the_way() {
    let cluster = Cluster::start(Version::VALKEY_8_0, 2);
    let mut sizes = Sizes::new();
    for n in 0..20_000 {
        sizes.insert(format!("key:{n}").into_bytes(), 0);
    }
    let slots_of_first = cluster.slots_of(0);
    for node in [0, 1] {
        let mut link = cluster.nodes()[node].client();
        let mut pipe = redis::pipe();
        let is_here = |key: &&Vec<u8>| slots_of_first.contains(&key_slot(key)) == (node == 0);
        for key in sizes.keys().filter(is_here) {
            pipe.cmd("SET").arg(key).arg("v").ignore();
        }
        let () = pipe.query(&mut link).unwrap();
    }
    let uri = cluster.uri();
    let args = [
        "keystats",
        "slots",
        &uri,
        "--scan-count",
        "1",
        "--shards",
        "16384",
    ];
    let mut process = Process::start(command(&[&args[..], &["--progress", "plain"]].concat()));
    process.wait_for_output("state=scanning", DEADLINE);
    cluster.move_slots(0, 1, &slots_of_first[..40]);
    let ran = process.wait(DEADLINE);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("are scanned again"), "{}", ran.stderr);
    for node in cluster.nodes() {
        sizes.extend(sizes_of(node, 0));
    }
    assert_eq!(sizes.len(), 20_000);
    assert_eq!(shards_told(&ran.stdout), shards_of(&sizes, 16_384));
}

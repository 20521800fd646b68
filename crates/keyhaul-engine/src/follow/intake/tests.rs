//! Against real sources: links that break, snapshots that break off, failovers, limits and stops.

use std::path::{Path, PathBuf};

use bytes::BytesMut;
use keyhaul_client::{Connector, Endpoint, ExpiryCommand, ReplicaLink, Resync, Routing, Slot};
use keyhaul_testkit::redis;
use keyhaul_testkit::{
    Cluster, Dataset, Direction, Endpoint as KitEndpoint, Proxy, Server, ServerBuilder, Version,
    require,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::plan::SideName;
use crate::progress::Progress;
use crate::source::feed::FeedError;

const VERSIONS: [Version; 5] = [
    Version::REDIS_6_0,
    Version::REDIS_7_0,
    Version::REDIS_8_2,
    Version::VALKEY_8_0,
    Version::VALKEY_9_1,
];
const DEADLINE: Duration = Duration::from_secs(20);

fn source(version: Version) -> ServerBuilder {
    Server::builder(version)
        .arg("repl-diskless-sync", "yes")
        .arg("repl-diskless-sync-delay", 0)
}

/// An intake and what an applier would know.
struct Followed {
    intake: Intake,
    status: Arc<ShardStatus>,
    ledger: Arc<Ledger>,
    /// Offset of the first byte of `stream`.
    first: u64,
    stream: BytesMut,
    replids: Vec<String>,
    /// Why the snapshots were taken, and whether each was whole.
    snapshots: Vec<(String, bool)>,
}

#[derive(Clone)]
struct How {
    uri: String,
    node: NodeChoice,
    spool_dir: Option<PathBuf>,
    spool_bytes_max: u64,
    prefers_replica: bool,
}

impl How {
    fn new(uri: String) -> Self {
        Self {
            uri,
            node: NodeChoice::Standalone,
            spool_dir: None,
            spool_bytes_max: u64::MAX,
            prefers_replica: false,
        }
    }

    async fn start(self, wanted: Option<Wanted>) -> Followed {
        let connector = Connector::new(Endpoint::parse(&self.uri).unwrap()).unwrap();
        let (routing, _) = Routing::probe(connector).await.unwrap();
        let site = Site {
            side: SideName::Source,
            routing,
            expiry: ExpiryCommand::Absolute,
        };
        let (progress, stop) = (Arc::new(Progress::default()), CancellationToken::new());
        let ledger = Arc::new(Ledger::new(progress, stop));
        let status: Arc<ShardStatus> = Arc::default();
        let options = IntakeOptions {
            site: Arc::new(site),
            node: self.node,
            retry_for: DEADLINE,
            spool_dir: self.spool_dir,
            spool_bytes_max: self.spool_bytes_max,
            prefers_replica: self.prefers_replica,
        };
        let first = wanted.as_ref().map_or(0, |wanted| wanted.applied + 1);
        Followed {
            intake: Intake::start(options, wanted, status.clone(), ledger.clone()),
            status,
            ledger,
            first,
            stream: BytesMut::new(),
            replids: Vec::new(),
            snapshots: Vec::new(),
        }
    }
}

impl Followed {
    /// Offset of the next byte.
    fn next(&self) -> u64 {
        self.first + self.stream.len() as u64
    }

    /// Does with what came what an applier does.
    async fn take(&mut self, event: Event) {
        match event {
            Event::Snapshot {
                mut feed,
                position,
                reason,
            } => {
                let is_whole = loop {
                    match feed.next().await {
                        Ok(Some(_)) => {}
                        Ok(None) => break true,
                        Err(FeedError::Link(_)) => break false,
                        Err(e) => panic!("{e}"),
                    }
                };
                self.snapshots.push((reason, is_whole));
                self.replids.push(position.replid);
                self.first = position.repl_offset + 1;
                self.stream.clear();
                if is_whole {
                    self.intake.applied(position.repl_offset);
                }
            }
            Event::Bytes { first, bytes } => {
                assert_eq!(first, self.next(), "no gap");
                self.stream.extend_from_slice(&bytes);
                self.intake.applied(self.next() - 1);
            }
            Event::Replid(replid) => self.replids.push(replid),
        }
    }

    /// Until something is so; looks after each step.
    async fn until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let stepping = async {
            while !is_so(self) {
                // What is waited for may be no event.
                match timeout(Duration::from_millis(20), self.intake.next()).await {
                    Ok(Ok(event)) => self.take(event).await,
                    Ok(Err(GaveUp)) => panic!("gave up: {:?}", self.ledger.halted()),
                    Err(_) => {}
                }
            }
        };
        let stepped = timeout(DEADLINE, stepping).await;
        stepped.unwrap_or_else(|_| panic!("in vain: {what}"));
    }

    /// Until all is there that the source has written.
    async fn catch_up(&mut self, source: &Server) {
        self.until("it is in step", |me| {
            let has_begun = me.snapshots.last().is_some_and(|(_, is_whole)| *is_whole);
            has_begun && me.next() == offset(source) + 1
        })
        .await;
    }

    fn get(&self, counter: impl Fn(&ShardStatus) -> &AtomicU64) -> u64 {
        counter(&self.status).load(Ordering::Relaxed)
    }
}

fn offset(source: &Server) -> u64 {
    source.info("master_repl_offset").parse().unwrap()
}

fn write(endpoint: &KitEndpoint, count: u32, value_bytes: usize) {
    let mut client = endpoint.connection(0);
    let mut pipe = redis::pipe();
    let mut value = vec![0_u8; value_bytes];
    let mut random = StdRng::seed_from_u64(7);
    for n in 0..count {
        // Nothing that can be packed.
        random.fill(&mut value[..]);
        pipe.cmd("SET").arg(n % 1000).arg(&value).ignore();
        pipe.cmd("INCR").arg("counter").ignore();
    }
    pipe.exec(&mut client).unwrap();
}

/// The stream of a source from an offset on, by another link; as much as is known to be there.
async fn stream_of(uri: &str, replid: &str, first: u64, end: u64) -> Vec<u8> {
    let endpoint = Endpoint::parse(uri).unwrap();
    let keyhaul_client::Seeds::Servers(addresses) = endpoint.seeds.clone() else {
        panic!("servers are named");
    };
    let connector = Connector::new(endpoint).unwrap();
    let resync = ReplicaLink::resync(&connector, &addresses[0], Some((replid, first))).await;
    let Resync::Continued(mut link, _) = resync.unwrap() else {
        panic!("the backlog holds it");
    };
    let mut stream = Vec::new();
    while (stream.len() as u64) < end - first {
        let part = timeout(DEADLINE, link.stream_part()).await;
        stream.extend_from_slice(&part.unwrap().unwrap());
    }
    stream.truncate(usize::try_from(end - first).unwrap());
    stream
}

#[tokio::test]
async fn a_link_that_breaks_leaves_no_gap() {
    for version in VERSIONS.into_iter().filter(|version| require(*version)) {
        let server = source(version).arg("repl-backlog-size", "8mb").start();
        write(&server.endpoint(), 100, 100);
        let proxy = Proxy::start(&server);
        let mut followed = How::new(proxy.uri()).start(None).await;
        followed.catch_up(&server).await;
        for bytes in [0, 1, 1000, 33_000] {
            let before = followed.get(|status| &status.partial_resyncs);
            proxy.cut_after_bytes(Direction::FromServer, bytes);
            write(&server.endpoint(), 500, 200);
            followed
                .until("the link is open again", |me| {
                    me.get(|status| &status.partial_resyncs) > before
                })
                .await;
        }
        followed.catch_up(&server).await;
        assert_eq!(followed.get(|status| &status.full_resyncs), 1, "{version}");
        assert_eq!(
            followed.snapshots,
            [("nothing was copied before".into(), true)]
        );
        assert_eq!(followed.replids, [server.info("master_replid")]);
        assert_eq!(followed.status.snapshot().waiting, None);
        assert_eq!(followed.get(|status| &status.spool_bytes), 0);
        let node = followed.intake.node().map(|node| format!("redis://{node}"));
        assert_eq!(node, Some(proxy.uri()));

        let (first, next) = (followed.first, followed.next());
        let expected = stream_of(&server.uri(), &followed.replids[0], first, next).await;
        assert!(followed.stream == expected, "{version}");
        // What is applied is acknowledged.
        followed.intake.ack_now();
        followed
            .until("the source knows", |me| {
                let shown = format!(",offset={},", me.next() - 1);
                let info = redis::cmd("INFO")
                    .arg("replication")
                    .query(&mut server.client());
                info.is_ok_and(|info: String| info.contains(&shown))
            })
            .await;
        followed.intake.close().await;
    }
}

#[tokio::test]
async fn a_snapshot_that_breaks_off_is_taken_again() {
    let server = source(Version::VALKEY_8_0).start();
    let dataset = Dataset {
        keys: 2000,
        ..Dataset::default()
    };
    dataset.fill(&server);
    let proxy = Proxy::start(&server);
    let mut whole = How::new(proxy.uri()).start(None).await;
    let before = proxy.bytes(Direction::FromServer);
    whole.catch_up(&server).await;
    let rdb_bytes = proxy.bytes(Direction::FromServer) - before;
    whole.intake.close().await;
    for bytes in [2000, rdb_bytes / 2, rdb_bytes - 60, rdb_bytes - 20] {
        let followed = How::new(proxy.uri()).start(None);
        let mut followed = followed.await;
        proxy.cut_after_bytes(Direction::FromServer, bytes);
        followed.catch_up(&server).await;
        let (last, before) = followed.snapshots.split_last().unwrap();
        assert!(
            last.1 && before.iter().all(|(_, is_whole)| !is_whole),
            "{bytes}"
        );
        followed.intake.close().await;
    }
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

#[tokio::test]
async fn the_source_is_read_whatever_the_applier_does_and_a_later_run_has_it() {
    let folder = TempDir::new().unwrap();
    let place = folder.path().join("job.spool/0");
    // The source itself soon forgets.
    let server = source(Version::REDIS_7_0)
        .arg("repl-backlog-size", "1mb")
        .start();
    let how = How {
        spool_dir: Some(place.clone()),
        ..How::new(server.uri())
    };
    let mut followed = how.clone().start(None).await;
    followed.catch_up(&server).await;
    let (replid, applied) = (followed.replids[0].clone(), followed.next() - 1);

    // Nobody asks for the next event.
    write(&server.endpoint(), 3000, 5000);
    let reached = offset(&server);
    let waiting = async {
        while followed.get(|status| &status.received_offset) < reached {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, waiting).await.expect("it is received");
    assert!(followed.get(|status| &status.spool_bytes) > 15_000_000);
    assert!(followed.get(|status| &status.spool_disk_bytes) > 0);
    assert!(files(&place) > 0);
    followed.intake.close().await;
    assert!(files(&place) > 0);

    let wanted = Wanted {
        replid: replid.clone(),
        applied,
    };
    write(&server.endpoint(), 10, 5000);
    let mut later = how.start(Some(wanted)).await;
    later
        .until("it is in step", |me| me.next() == offset(&server) + 1)
        .await;
    assert_eq!(later.snapshots, [], "the spool reaches to the backlog");
    assert_eq!(later.first, applied + 1);
    assert_eq!(later.get(|status| &status.partial_resyncs), 1);
    let tail = later.next() - 500_000;
    let expected = stream_of(&server.uri(), &replid, tail, later.next()).await;
    assert!(later.stream.ends_with(&expected));
    later
        .until("nothing is on the disk", |_| files(&place) == 0)
        .await;
    later.intake.close().await;
}

#[tokio::test]
async fn at_the_limit_the_source_waits() {
    let server = source(Version::VALKEY_8_0).start();
    let how = How {
        spool_bytes_max: 300_000,
        ..How::new(server.uri())
    };
    let mut followed = how.start(None).await;
    followed.catch_up(&server).await;
    write(&server.endpoint(), 2000, 5000);
    let waiting = async {
        while followed.status.snapshot().waiting.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, waiting).await.expect("it waits");
    assert!(followed.get(|status| &status.spool_disk_bytes) <= 300_000);
    followed.catch_up(&server).await;
    assert_eq!(followed.status.snapshot().waiting, None);
    assert_eq!(followed.get(|status| &status.full_resyncs), 1);
    followed.intake.close().await;
}

#[tokio::test]
async fn a_source_that_has_forgotten_sends_another_snapshot() {
    let server = source(Version::VALKEY_9_1)
        .arg("repl-backlog-size", "16kb")
        .start();
    let proxy = Proxy::start(&server);
    let mut followed = How::new(proxy.uri()).start(None).await;
    followed.catch_up(&server).await;
    proxy.refuse(true);
    proxy.cut_all();
    write(&server.endpoint(), 500, 1000);
    followed
        .until("it says what it waits for", |me| {
            me.status.snapshot().waiting.is_some()
        })
        .await;
    proxy.refuse(false);
    followed
        .until("there is another one", |me| me.snapshots.len() == 2)
        .await;
    followed.catch_up(&server).await;
    let (reason, is_whole) = &followed.snapshots[1];
    assert!(*is_whole && reason.contains("does not hold"), "{reason}");
    followed.intake.close().await;
}

#[tokio::test]
async fn a_shard_of_a_cluster_fails_over() {
    let cluster = Cluster::builder(Version::VALKEY_8_0)
        .primaries(2)
        .replicas(1)
        .arg("repl-diskless-sync-delay", 0)
        .start();
    let how = How {
        node: NodeChoice::Slot(Slot::new(0).unwrap()),
        ..How::new(cluster.uri())
    };
    let mut followed = how.start(None).await;
    let index = (0..2).find(|node| cluster.slots_of(*node).contains(&0));
    let primary = &cluster.nodes()[index.unwrap()];
    followed.catch_up(primary).await;
    // Replicas come behind the primaries, in any order.
    let port = primary.port().to_string();
    let replica = (2..4).find(|node| cluster.nodes()[*node].info("master_port") == port);
    let replica = replica.expect("it has one");
    cluster.fail_over_to(replica);
    let replica = &cluster.nodes()[replica];
    let name = replica.info("master_replid");
    followed
        .until("the new name", |me| me.replids.last() == Some(&name))
        .await;
    followed.catch_up(replica).await;
    assert_eq!(followed.snapshots.len(), 1, "{:?}", followed.snapshots);
    let node = followed.intake.node().unwrap().to_string();
    assert!(node.ends_with(&format!(":{}", replica.port())), "{node}");
    followed.intake.close().await;
}

#[tokio::test]
async fn a_replica_is_read_where_that_is_wanted() {
    let primary = source(Version::REDIS_7_0).tcp().start();
    let mut replica = source(Version::REDIS_7_0)
        .tcp()
        .arg("replicaof", format!("127.0.0.1 {}", primary.port()))
        .start();
    keyhaul_testkit::wait_until("the replica is in step", DEADLINE, || {
        primary.info("connected_slaves") == "1" && primary.info("slave0").contains("state=online")
    });
    let how = How {
        prefers_replica: true,
        ..How::new(primary.tcp_uri())
    };
    let mut followed = how.start(None).await;
    write(&primary.endpoint(), 100, 100);
    followed.catch_up(&primary).await;
    let port = |me: &Followed| me.intake.node().map(|node| node.to_string());
    assert_eq!(
        port(&followed),
        Some(format!("127.0.0.1:{}", replica.port()))
    );
    // Without it the primary has the same history.
    replica.stop();
    write(&primary.endpoint(), 100, 100);
    followed.catch_up(&primary).await;
    assert_eq!(
        port(&followed),
        Some(format!("127.0.0.1:{}", primary.port()))
    );
    assert_eq!(followed.get(|status| &status.full_resyncs), 1);
    followed.intake.close().await;
}

#[tokio::test]
async fn a_refusal_halts_the_job() {
    let server = source(Version::REDIS_7_0)
        .acl_user("default", "on nopass ~* +@all -psync")
        .start();
    let mut followed = How::new(server.uri()).start(None).await;
    let next = timeout(DEADLINE, followed.intake.next()).await.unwrap();
    assert!(next.is_err());
    let halted = followed.ledger.halted().unwrap();
    assert!(halted.contains("NOPERM"), "{halted}");
    followed.intake.close().await;
}

#[tokio::test]
async fn a_stop_ends_it() {
    let server = source(Version::VALKEY_8_0).start();
    let mut followed = How::new(server.uri()).start(None).await;
    followed.catch_up(&server).await;
    followed.ledger.stop.cancel();
    let end = async { while followed.intake.next().await.is_ok() {} };
    timeout(DEADLINE, end).await.expect("it ends");
    followed.intake.close().await;
    keyhaul_testkit::wait_until("the link is closed", DEADLINE, || {
        server.info("connected_slaves") == "0"
    });
}

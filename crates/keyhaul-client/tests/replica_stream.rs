//! The stream of a replication link against real servers: exact offsets, partial resyncs, failovers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test: a failure is a panic"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keyhaul_client::{Address, ClientError, Connector, Endpoint, ReplicaLink, Resync, Seeds};
use keyhaul_testkit::redis::{Connection, cmd};
use keyhaul_testkit::{
    Dataset, Direction, Proxy, Server, ServerBuilder, Version, require, wait_until,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const VERSIONS: [Version; 6] = [
    Version::REDIS_6_0,
    Version::REDIS_6_2,
    Version::REDIS_7_0,
    Version::REDIS_8_2,
    Version::VALKEY_8_0,
    Version::VALKEY_9_1,
];
const DEADLINE: Duration = Duration::from_secs(20);

fn source(version: Version, diskless: &str) -> ServerBuilder {
    Server::builder(version)
        .arg("repl-diskless-sync", diskless)
        .arg("repl-diskless-sync-delay", 0)
}

fn dial(uri: &str) -> (Connector, Address) {
    let endpoint = Endpoint::parse(uri).expect("a good URI");
    let address = match &endpoint.seeds {
        Seeds::Servers(addresses) => addresses[0].clone(),
        Seeds::Sentinels { .. } => unreachable!("servers are named"),
    };
    (Connector::new(endpoint).expect("good files"), address)
}

async fn resync(uri: &str, from: Option<(&str, u64)>) -> Result<Resync, ClientError> {
    let (connector, address) = dial(uri);
    ReplicaLink::resync(&connector, &address, from).await
}

/// What a replica would hold of a stream.
struct Follower {
    link: ReplicaLink,
    replid: String,
    /// Offset of the next byte.
    next: u64,
    stream: Vec<u8>,
}

impl Follower {
    /// Takes the snapshot in.
    async fn start(uri: &str) -> Self {
        let Resync::Full(mut link, position) = resync(uri, None).await.unwrap() else {
            panic!("there is nothing to go on with");
        };
        while link.rdb_part().await.unwrap().is_some() {}
        link.acks(Arc::new(AtomicU64::new(0)));
        Self {
            link,
            replid: position.replid,
            next: position.repl_offset + 1,
            stream: Vec::new(),
        }
    }

    /// Reads on another link from where the last one broke.
    async fn go_on(&mut self, uri: &str) {
        match resync(uri, Some((&self.replid, self.next))).await.unwrap() {
            Resync::Continued(link, replid) => (self.link, self.replid) = (link, replid),
            Resync::Full(_, position) => panic!("{position:?}"),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.stream.extend_from_slice(bytes);
        self.next += bytes.len() as u64;
    }

    /// Reads until all is there that the source says it has written.
    async fn catch_up(&mut self, source: &Server) {
        let catching = async {
            while self.next != offset(source) + 1 {
                let bytes = self.link.stream_part().await.unwrap();
                self.take(&bytes);
                assert!(self.next <= offset(source) + 1, "more than was written");
            }
        };
        timeout(DEADLINE, catching).await.expect("it is in step");
    }
}

fn offset(source: &Server) -> u64 {
    let offset = source.info("master_repl_offset");
    offset.parse().expect("a number")
}

fn write(client: &mut Connection, count: u32) {
    for n in 0..count {
        let value = "v".repeat(n as usize % 700);
        cmd("SET").arg(n).arg(value).exec(client).unwrap();
        cmd("LPUSH").arg("list").arg(n).exec(client).unwrap();
    }
}

#[tokio::test]
async fn offsets_are_those_of_the_source() {
    for version in VERSIONS.into_iter().filter(|version| require(*version)) {
        for diskless in ["yes", "no"] {
            let source = source(version, diskless).start();
            let mut client = source.client();
            write(&mut client, 50);
            let mut follower = Follower::start(&source.uri()).await;
            write(&mut client, 100);
            follower.catch_up(&source).await;
            // No newline between the two.
            assert!(follower.stream.starts_with(b"*"), "{version}");

            let applied = Arc::new(AtomicU64::new(follower.next - 1));
            follower.link.acks(applied.clone());
            follower.link.ack().await.unwrap();
            let shown = format!("offset={},", applied.load(Ordering::Relaxed));
            wait_until("the source knows", DEADLINE, || {
                source.info("slave0").contains(&shown)
            });
        }
    }
}

#[tokio::test]
async fn what_is_written_while_the_source_saves() {
    for (version, diskless) in [
        (Version::REDIS_7_0, "yes"),
        (Version::REDIS_7_0, "no"),
        (Version::VALKEY_8_0, "no"),
    ] {
        // Saving takes more than a second, so that there are newlines.
        let source = source(version, diskless)
            .arg("rdb-key-save-delay", 4_000)
            .start();
        let dataset = Dataset {
            keys: 400,
            ..Dataset::default()
        };
        dataset.fill(&source);
        let endpoint = source.endpoint();
        let uri = source.uri();
        let following = Follower::start(&uri);
        let writing = tokio::task::spawn_blocking(move || {
            let mut client = endpoint.connection(0);
            for _ in 0..15 {
                std::thread::sleep(Duration::from_millis(100));
                write(&mut client, 10);
            }
        });
        let (mut follower, written) = tokio::join!(following, writing);
        written.unwrap();
        follower.catch_up(&source).await;
        assert!(follower.stream.starts_with(b"*"), "{version} {diskless}");
    }
}

#[tokio::test]
async fn a_link_that_is_cut_is_gone_on_with() {
    for version in VERSIONS.into_iter().filter(|version| require(*version)) {
        let source = source(version, "yes").start();
        let proxy = Proxy::start(&source);
        let mut client = source.client();
        let mut follower = Follower::start(&proxy.uri()).await;
        let first = follower.next;
        for bytes in [0, 1, 13, 500, 4000] {
            proxy.cut_after_bytes(Direction::FromServer, bytes);
            write(&mut client, 60);
            let error = loop {
                match timeout(DEADLINE, follower.link.stream_part())
                    .await
                    .unwrap()
                {
                    Ok(bytes) => follower.take(&bytes),
                    Err(error) => break error,
                }
            };
            let is_broken = matches!(error, ClientError::Closed { .. } | ClientError::Io { .. });
            assert!(is_broken, "{error}");
            follower.go_on(&proxy.uri()).await;
        }
        follower.catch_up(&source).await;
        assert_eq!(source.info("sync_full"), "1", "{version}");

        // All of it again, at once.
        let (begun, end) = (follower.stream, follower.next);
        let from = Some((follower.replid.as_str(), first));
        let Resync::Continued(mut link, _) = resync(&source.uri(), from).await.unwrap() else {
            panic!("the backlog holds it");
        };
        let mut again = Vec::new();
        while (again.len() as u64) < end - first {
            again.extend_from_slice(&link.stream_part().await.unwrap());
        }
        assert!(again.starts_with(&begun), "{version}");
    }
}

#[tokio::test]
async fn a_future_that_is_dropped_loses_nothing() {
    let source = source(Version::VALKEY_8_0, "yes").start();
    let mut follower = Follower::start(&source.uri()).await;
    let first = follower.next;
    let endpoint = source.endpoint();
    let writing = tokio::task::spawn_blocking(move || {
        write(&mut endpoint.connection(0), 3000);
    });
    let mut dropped = 0;
    while !writing.is_finished() || follower.next <= offset(&source) {
        follower
            .link
            .acks(Arc::new(AtomicU64::new(follower.next - 1)));
        tokio::select! {
            biased;
            bytes = follower.link.stream_part() => follower.take(&bytes.unwrap()),
            () = tokio::task::yield_now() => dropped += 1,
        }
    }
    assert!(dropped > 0);
    let mut again = Follower {
        next: first,
        stream: Vec::new(),
        ..follower
    };
    again.go_on(&source.uri()).await;
    again.catch_up(&source).await;
    assert!(again.stream.starts_with(&follower.stream));
}

#[tokio::test]
async fn a_replica_that_takes_over_goes_on_under_another_name() {
    for version in VERSIONS.into_iter().filter(|version| require(*version)) {
        let primary = source(version, "yes").tcp().start();
        let replica = source(version, "yes")
            .arg("replicaof", format!("127.0.0.1 {}", primary.port()))
            .start();
        wait_until("the replica is in step", DEADLINE, || {
            replica.info("master_link_status") == "up"
        });
        let mut follower = Follower::start(&primary.uri()).await;
        write(&mut primary.client(), 100);
        follower.catch_up(&primary).await;
        let before = follower.replid.clone();

        // As a replica it has the same history, once it has come as far.
        wait_until("it has all", DEADLINE, || {
            offset(&replica) >= offset(&primary)
        });
        follower.go_on(&replica.uri()).await;
        assert_eq!(follower.replid, before, "{version}");
        write(&mut primary.client(), 100);
        follower.catch_up(&primary).await;

        let mut client = replica.client();
        wait_until("it has all", DEADLINE, || {
            offset(&replica) >= offset(&primary)
        });
        drop(primary);
        cmd("REPLICAOF")
            .arg("NO")
            .arg("ONE")
            .exec(&mut client)
            .unwrap();
        follower.go_on(&replica.uri()).await;
        assert_ne!(follower.replid, before, "{version}");
        assert_eq!(follower.replid, replica.info("master_replid"), "{version}");
        write(&mut client, 100);
        follower.catch_up(&replica).await;
        let last: &[u8] = b"LPUSH\r\n$4\r\nlist\r\n$2\r\n99\r\n";
        assert!(follower.stream.ends_with(last), "{version}");
    }
}

#[tokio::test]
async fn what_a_source_cannot_go_on_with() {
    for version in VERSIONS.into_iter().filter(|version| require(*version)) {
        let source = source(version, "yes")
            .arg("repl-backlog-size", "16kb")
            .start();
        let mut follower = Follower::start(&source.uri()).await;
        let first = follower.next;
        write(&mut source.client(), 400);
        follower.catch_up(&source).await;
        let (replid, next) = (follower.replid.as_str(), follower.next);
        let other = "0123456789abcdef0123456789abcdef01234567";
        for from in [(replid, first), (replid, next + 100), (other, next)] {
            match resync(&source.uri(), Some(from)).await.unwrap() {
                Resync::Full(_, position) => assert_eq!(position.replid, replid),
                Resync::Continued(..) => panic!("{version}: {from:?} of {first}..{next}"),
            }
        }
    }
}

/// A listener that plays a source: all commands before PSYNC are answered well. What PSYNC said.
async fn played(answer: String) -> (String, impl Future<Output = (TcpStream, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let uri = format!("redis://{}", listener.local_addr().expect("it is bound"));
    let playing = async move {
        let (mut stream, _) = listener.accept().await.expect("we connect");
        let mut asked = [0; 1024];
        loop {
            let length = stream.read(&mut asked).await.expect("we are there");
            let asked = String::from_utf8_lossy(&asked[..length]).into_owned();
            if asked.contains("PSYNC") {
                let written = stream.write_all(answer.as_bytes()).await;
                written.expect("we are there");
                return (stream, asked);
            }
            stream.write_all(b"+OK\r\n").await.expect("we are there");
        }
    };
    (uri, playing)
}

const REPLID: &str = "0123456789abcdef0123456789abcdef01234567";

#[tokio::test]
async fn the_answers_to_a_wish_to_go_on() {
    let other = REPLID.replace('0', "f");
    for (answer, replid) in [
        ("+CONTINUE\r\n".to_owned(), Some(REPLID)),
        (format!("\n+CONTINUE {other}\r\n"), Some(other.as_str())),
        ("+CONTINUE nothing\r\n".to_owned(), None),
        ("+OK\r\n".to_owned(), None),
    ] {
        let (uri, playing) = played(format!("{answer}*1\r\n")).await;
        let from = Some((REPLID, 18_446_744_073_709_551_615));
        let (got, (_stream, asked)) = tokio::join!(resync(&uri, from), playing);
        assert!(asked.ends_with(&format!("{REPLID}\r\n$20\r\n18446744073709551615\r\n")));
        match (got, replid) {
            (Ok(Resync::Continued(mut link, named)), Some(replid)) => {
                assert_eq!(named, replid);
                // What comes in the same packet belongs to the stream.
                assert_eq!(link.stream_part().await.unwrap().as_ref(), b"*1\r\n");
            }
            (Err(error), None) => {
                assert!(matches!(error, ClientError::Unexpected { .. }), "{error}");
            }
            (got, _) => panic!("{answer}: {got:?}"),
        }
    }
}

#[tokio::test]
async fn a_mark_in_two_packets_and_what_the_source_hears() {
    let mark = "m".repeat(40);
    let (uri, playing) = played(format!("+FULLRESYNC {REPLID} 7\r\n\n$EOF:{mark}\r\n")).await;
    let (link, (mut stream, _)) = tokio::join!(resync(&uri, None), playing);
    let Ok(Resync::Full(mut link, _)) = link else {
        panic!("{link:?}");
    };
    // More than a mark, so that some of it is given out before the rest comes.
    let rdb = "REDIS0011".repeat(10);
    for at in 1..40 {
        let (head, tail) = mark.split_at(at);
        let begin = format!("{rdb}{head}");
        if at > 1 {
            let (uri, playing) = played(format!("+FULLRESYNC {REPLID} 7\r\n$EOF:{mark}\r\n")).await;
            let (again, (peer, _)) = tokio::join!(resync(&uri, None), playing);
            let Ok(Resync::Full(again, _)) = again else {
                panic!("{again:?}");
            };
            (link, stream) = (again, peer);
        }
        stream.write_all(begin.as_bytes()).await.unwrap();
        let mut got = link.rdb_part().await.unwrap().unwrap().to_vec();
        stream.write_all(tail.as_bytes()).await.unwrap();
        stream.write_all(b"*1\r\n$4\r\nPING\r\n").await.unwrap();
        while let Some(part) = link.rdb_part().await.unwrap() {
            got.extend_from_slice(&part);
        }
        assert_eq!(got, rdb.as_bytes(), "cut at {at}");
        let mut behind = link.stream_part().await.unwrap().to_vec();
        while behind.len() < 14 {
            behind.extend_from_slice(&link.stream_part().await.unwrap());
        }
        assert_eq!(behind, b"*1\r\n$4\r\nPING\r\n", "cut at {at}");
    }
    link.acks(Arc::new(AtomicU64::new(21)));
    let heard = async {
        let mut heard = [0; 100];
        let length = stream.read(&mut heard).await.unwrap();
        String::from_utf8_lossy(&heard[..length]).into_owned()
    };
    let heard = tokio::select! {
        _ = link.stream_part() => panic!("nothing is sent"),
        heard = timeout(DEADLINE, heard) => heard.unwrap(),
    };
    assert_eq!(heard, "*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$2\r\n21\r\n");
}

//! The replication link against real servers, and against peers that break the rules.

use std::time::Duration;

use keyhaul_client::{
    Address, ClientError, Connector, Endpoint, FullResync, ReplicaLink, ReplicationRight,
    SOURCE_SILENCE_MAX, Secret, Seeds, replication_right,
};
use keyhaul_testkit::diff::{self, View};
use keyhaul_testkit::{
    Cluster, Dataset, Direction, Proxy, Server, ServerBuilder, Tls, Version, require, wait_until,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const VERSIONS: [Version; 5] = [
    Version::REDIS_6_0,
    Version::REDIS_7_0,
    Version::REDIS_8_2,
    Version::VALKEY_8_0,
    Version::VALKEY_9_1,
];
const DISKLESS: &str = "yes";
const BY_FILE: &str = "no";

fn server(version: Version, diskless: &str) -> Server {
    source(version, diskless).start()
}

fn source(version: Version, diskless: &str) -> ServerBuilder {
    Server::builder(version)
        .arg("repl-diskless-sync", diskless)
        .arg("repl-diskless-sync-delay", 0)
}

/// With fields that expire: a Valkey 9.1 sends such a hash only to who understands it.
fn dataset() -> Dataset {
    Dataset {
        seed: 91,
        keys: 600,
        dbs: vec![0, 3],
        field_ttls: true,
        ..Dataset::default()
    }
}

fn endpoint(uri: &str) -> Endpoint {
    Endpoint::parse(uri).expect("a good URI")
}

fn dial(endpoint: Endpoint) -> (Connector, Address) {
    let address = match &endpoint.seeds {
        Seeds::Servers(addresses) => addresses[0].clone(),
        Seeds::Sentinels { .. } => unreachable!("servers are named"),
    };
    (Connector::new(endpoint).expect("good files"), address)
}

async fn full_resync(endpoint: Endpoint) -> Result<(ReplicaLink, FullResync), ClientError> {
    let (connector, address) = dial(endpoint);
    ReplicaLink::full_resync(&connector, &address).await
}

async fn right(endpoint: Endpoint) -> ReplicationRight {
    let (connector, address) = dial(endpoint);
    let right = replication_right(&connector, &address).await;
    right.expect("the server answers")
}

/// The whole RDB; an error if it is not whole.
async fn rdb(endpoint: Endpoint) -> Result<Vec<u8>, ClientError> {
    let (mut link, _) = full_resync(endpoint).await?;
    let mut rdb = Vec::new();
    while let Some(part) = link.rdb_part().await? {
        rdb.extend_from_slice(&part);
    }
    assert!(link.rdb_part().await?.is_none(), "the end stays the end");
    if let Some(bytes) = link.rdb_bytes() {
        assert_eq!(bytes, rdb.len() as u64);
    }
    Ok(rdb)
}

/// Magic, version, and the end: an opcode and eight bytes of checksum.
fn assert_looks_whole(rdb: &[u8], version: Version) {
    let magic: &[u8] = match version {
        Version::VALKEY_9_1 => b"VALKEY080",
        _ => b"REDIS00",
    };
    assert!(rdb.starts_with(magic), "{}", rdb[..16].escape_ascii());
    assert_eq!(rdb[rdb.len() - 9], 0xff);
}

/// A server of the same version that has loaded this RDB.
fn loaded(rdb: &[u8], version: Version) -> Server {
    let mut server = Server::start(version);
    std::fs::write(server.dir().join("dump.rdb"), rdb).expect("the folder is ours");
    server.restart();
    server
}

fn assert_loads_as(rdb: &[u8], source: &Server) {
    assert_looks_whole(rdb, source.version());
    let loaded = loaded(rdb, source.version());
    diff::assert_equal(&View::server(source), &View::server(&loaded));
}

#[tokio::test]
async fn an_rdb_loads_as_what_the_source_holds() {
    for version in VERSIONS {
        for diskless in [DISKLESS, BY_FILE] {
            if !require(version) {
                continue;
            }
            let source = server(version, diskless);
            dataset().fill(&source);
            let (mut link, resync) = full_resync(endpoint(&source.uri())).await.unwrap();
            assert_eq!(resync.replid, source.info("master_replid"));
            assert_eq!(link.rdb_bytes().is_some(), diskless == BY_FILE, "{version}");
            // A Sentinel takes no note of a replica with such a port.
            let shown = source.info("slave0");
            assert!(shown.contains(",port=-1,"), "{version}: {shown}");

            let mut rdb = Vec::new();
            while let Some(part) = link.rdb_part().await.unwrap() {
                rdb.extend_from_slice(&part);
            }
            if let Some(bytes) = link.rdb_bytes() {
                assert_eq!(bytes, rdb.len() as u64, "{version}");
            }
            assert_loads_as(&rdb, &source);
        }
    }
}

#[tokio::test]
async fn a_source_that_holds_nothing() {
    for diskless in [DISKLESS, BY_FILE] {
        let source = server(Version::VALKEY_8_0, diskless);
        let rdb = rdb(endpoint(&source.uri())).await.unwrap();
        assert_loads_as(&rdb, &source);
    }
}

#[tokio::test]
async fn a_valkey_that_looks_like_a_redis() {
    if !require(Version::VALKEY_9_1) {
        return;
    }
    let source = source(Version::VALKEY_9_1, DISKLESS)
        .arg("extended-redis-compatibility", "yes")
        .start();
    dataset().fill(&source);
    let rdb = rdb(endpoint(&source.uri())).await.unwrap();
    assert_loads_as(&rdb, &source);
}

#[tokio::test]
async fn each_node_of_a_cluster_sends_its_slots() {
    let cluster = Cluster::builder(Version::VALKEY_8_0)
        .primaries(2)
        .arg("repl-diskless-sync-delay", 0)
        .start();
    dataset().fill_cluster(&cluster);
    for node in cluster.primaries() {
        assert_eq!(
            right(endpoint(&node.uri())).await,
            ReplicationRight::Permitted
        );
        let rdb = rdb(endpoint(&node.uri())).await.unwrap();
        assert_loads_as(&rdb, node);
    }
}

#[tokio::test]
async fn over_tls() {
    let tls = Tls::new();
    let source = source(Version::VALKEY_8_0, DISKLESS).tls(&tls).start();
    dataset().fill(&source);
    let mut endpoint = endpoint(&source.uri());
    let options = endpoint.tls.as_mut().expect("the URI says TLS");
    options.ca_file = Some(tls.ca());
    let rdb = rdb(endpoint).await.unwrap();
    assert_loads_as(&rdb, &source);
}

#[tokio::test]
async fn a_replica_as_source() {
    let primary = Server::builder(Version::REDIS_7_0).tcp().start();
    dataset().fill(&primary);
    let replica = source(Version::REDIS_7_0, DISKLESS)
        .arg("replicaof", format!("127.0.0.1 {}", primary.port()))
        .start();
    wait_until("the replica is in step", Duration::from_secs(30), || {
        replica.info("master_link_status") == "up"
    });
    let rdb = rdb(endpoint(&replica.uri())).await.unwrap();
    assert_loads_as(&rdb, &primary);
}

#[tokio::test]
async fn a_replica_that_lost_its_source() {
    let closed_port = Server::builder(Version::REDIS_7_0).tcp().start().port();
    let replica = source(Version::REDIS_7_0, DISKLESS)
        .arg("replicaof", format!("127.0.0.1 {closed_port}"))
        .start();
    let error = full_resync(endpoint(&replica.uri())).await.unwrap_err();
    assert!(is_server_error(&error, b"NOMASTERLINK"), "{error}");
    let right = right(endpoint(&replica.uri())).await;
    assert_eq!(right, ReplicationRight::Permitted);
}

fn is_server_error(error: &ClientError, code: &[u8]) -> bool {
    matches!(error, ClientError::Server { error, .. } if error.code() == code)
}

#[tokio::test]
async fn the_least_rights() {
    let login = |source: &Server, user: &str| Endpoint {
        user: Some(user.to_owned()),
        password: Some(Secret::new("secret".to_owned())),
        ..endpoint(&source.uri())
    };
    for version in VERSIONS.into_iter().filter(|version| require(*version)) {
        let source = source(version, DISKLESS)
            .acl_user("least", "on >secret -@all +psync +replconf")
            .acl_user("least6", "on >secret -@all +psync +replconf +multi")
            .acl_user("announcer", "on >secret -@all +replconf +multi")
            .acl_user("reader", "on >secret ~* -@all +@read +multi")
            .start();
        for refused in ["announcer", "reader"] {
            let endpoint = login(&source, refused);
            match right(endpoint.clone()).await {
                ReplicationRight::Refused(error) => assert_eq!(error.code(), b"NOPERM"),
                other => panic!("{version}, {refused}: {other:?}"),
            }
            let error = full_resync(endpoint).await.unwrap_err();
            assert!(is_server_error(&error, b"NOPERM"), "{version}: {error}");
        }
        let before_7 = version == Version::REDIS_6_0;
        let expected = match before_7 {
            true => ReplicationRight::Unknown,
            false => ReplicationRight::Permitted,
        };
        assert_eq!(right(login(&source, "least")).await, expected, "{version}");
        let permitted = right(login(&source, "least6")).await;
        assert_eq!(permitted, ReplicationRight::Permitted, "{version}");
        assert_eq!(
            source.info("sync_full"),
            "0",
            "{version}: asking is no sync"
        );

        let rdb = rdb(login(&source, "least")).await.unwrap();
        assert_looks_whole(&rdb, version);
        assert_eq!(source.info("sync_full"), "1", "{version}");
    }
}

#[tokio::test]
async fn a_command_that_the_server_does_not_have() {
    let source = Server::builder(Version::REDIS_7_0)
        .arg("rename-command", "PSYNC \"\"")
        .start();
    match right(endpoint(&source.uri())).await {
        ReplicationRight::Refused(error) => assert!(error.is_unknown_command(), "{error}"),
        other => panic!("{other:?}"),
    }
    let error = full_resync(endpoint(&source.uri())).await.unwrap_err();
    assert!(is_server_error(&error, b"ERR"), "{error}");
}

#[tokio::test]
async fn a_link_that_is_cut_gives_no_whole_rdb() {
    for diskless in [DISKLESS, BY_FILE] {
        let source = server(Version::VALKEY_8_0, diskless);
        dataset().fill(&source);
        let proxy = Proxy::start(&source);
        rdb(endpoint(&proxy.uri())).await.unwrap();
        // The length of two transfers differs by a few bytes, in the handshake and in the RDB's head.
        let whole = proxy.bytes(Direction::FromServer);
        for bytes in [0, 100, 300, 600, whole / 2, whole - 60, whole - 20] {
            proxy.cut_after_bytes(Direction::FromServer, bytes);
            let cut = rdb(endpoint(&proxy.uri())).await;
            let error = cut.expect_err("the end never came");
            assert!(
                matches!(
                    error,
                    ClientError::Closed { .. }
                        | ClientError::Io { .. }
                        | ClientError::Connect { .. }
                ),
                "cut after {bytes} of {whole} bytes: {error}"
            );
            assert!(proxy.has_cut(Direction::FromServer));
        }
        rdb(endpoint(&proxy.uri())).await.unwrap();
    }
}

/// A source that needs this many microseconds to save each of 600 keys.
fn slow_source(builder: ServerBuilder, key_us: u32) -> Server {
    let source = builder.arg("rdb-key-save-delay", key_us).start();
    dataset().fill(&source);
    source
}

#[tokio::test]
async fn a_source_that_saves_slowly_is_waited_for() {
    let source = slow_source(source(Version::REDIS_7_0, BY_FILE), 4_000);
    let proxy = Proxy::start(&source);
    let (mut link, _) = full_resync(endpoint(&proxy.uri())).await.unwrap();
    assert!(link.rdb_bytes().is_some());
    while link.rdb_part().await.unwrap().is_some() {}
}

#[tokio::test]
async fn the_source_stops_saving_when_the_link_is_dropped() {
    let source = slow_source(source(Version::VALKEY_8_0, DISKLESS), 10_000);
    let (mut link, _) = full_resync(endpoint(&source.uri())).await.unwrap();
    link.rdb_part().await.unwrap().expect("it begins");
    assert_eq!(source.info("rdb_bgsave_in_progress"), "1");
    drop(link);
    // Saving would take six seconds.
    wait_until("the child is gone", Duration::from_secs(3), || {
        source.info("rdb_bgsave_in_progress") == "0" && source.info("connected_slaves") == "0"
    });
}

/// The begin of the answer of a source that is played by the test.
const ANSWER: &str = "\n\n+FULLRESYNC 0123456789abcdef0123456789abcdef01234567 12\r\n\n";

/// A listener that plays a source: all commands before PSYNC are answered well.
struct Played(TcpListener);

impl Played {
    async fn new() -> (Self, Endpoint) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let uri = format!("redis://{}", listener.local_addr().expect("it is bound"));
        (Self(listener), endpoint(&uri))
    }

    /// Answers PSYNC with this.
    async fn answer(self, answer: &str) -> TcpStream {
        let (mut stream, _) = self.0.accept().await.expect("we connect");
        let mut asked = [0; 1024];
        loop {
            let length = stream.read(&mut asked).await.expect("we are there");
            let asked = &asked[..length];
            if asked.windows(5).any(|word| word == b"PSYNC") {
                stream
                    .write_all(answer.as_bytes())
                    .await
                    .expect("we are there");
                return stream;
            }
            stream.write_all(b"+OK\r\n").await.expect("we are there");
        }
    }
}

#[tokio::test]
async fn answers_that_are_none() {
    for (answer, expected) in [
        ("-ERR no\r\n".to_owned(), "answered: ERR no"),
        ("\n-LOADING wait\r\n".to_owned(), "answered: LOADING wait"),
        (format!("{ANSWER}-ERR failed\r\n"), "answered: ERR failed"),
        ("+CONTINUE\r\n".to_owned(), "unexpected reply"),
        (format!("{ANSWER}$-1\r\n"), "unexpected reply"),
        (format!("{ANSWER}$EOF:short\r\n"), "unexpected reply"),
        (
            "HTTP/1.1 400 Bad Request\r\n".to_owned(),
            "unexpected reply",
        ),
        ("x".repeat(100_000), "unexpected reply"),
    ] {
        let (played, endpoint) = Played::new().await;
        let (link, _stream) = tokio::join!(full_resync(endpoint), played.answer(&answer));
        let error = link.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{answer:?}: {error}");
    }
}

#[tokio::test]
async fn a_source_that_falls_silent() {
    let (played, endpoint) = Played::new().await;
    let answer = format!("{ANSWER}$100\r\nREDIS");
    let (link, _stream) = tokio::join!(full_resync(endpoint), played.answer(&answer));
    let (mut link, resync) = link.unwrap();
    assert_eq!((resync.repl_offset, link.rdb_bytes()), (12, Some(100)));
    assert_eq!(link.rdb_part().await.unwrap().unwrap().as_ref(), b"REDIS");
    tokio::time::pause();
    let error = link.rdb_part().await.unwrap_err();
    assert!(
        matches!(error, ClientError::Silent { waited, .. } if waited == SOURCE_SILENCE_MAX),
        "{error}"
    );
}

#[tokio::test]
async fn a_sign_of_life_while_the_rdb_comes() {
    let (played, endpoint) = Played::new().await;
    let answer = format!("{ANSWER}$10\r\nREDIS");
    let (link, stream) = tokio::join!(full_resync(endpoint), played.answer(&answer));
    let (mut link, mut stream) = (link.unwrap().0, stream);
    assert_eq!(link.rdb_part().await.unwrap().unwrap().as_ref(), b"REDIS");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::time::resume();
    stream.write_all(b"0011\xffbehind").await.unwrap();
    assert_eq!(
        link.rdb_part().await.unwrap().unwrap().as_ref(),
        b"0011\xff"
    );
    assert!(link.rdb_part().await.unwrap().is_none());
    drop(link);
    let mut heard = Vec::new();
    // The bytes that nobody took make a reset of the close.
    drop(stream.read_to_end(&mut heard).await);
    assert_eq!(heard, b"\n");
}

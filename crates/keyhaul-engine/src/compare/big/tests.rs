//! Against real servers: equal values of different servers have one digest, one changed element another, and the
//! difference is found.

use keyhaul_client::{Address, Connector, Endpoint, ExpiryCommand, KeyExpiry};
use keyhaul_client::{ReadConnection, ValueKind};
use keyhaul_rdb::StreamDetail;
use keyhaul_testkit::redis::{Cmd, cmd, pipe};
use keyhaul_testkit::{Server, Version, require};
use tokio_util::sync::CancellationToken;

use super::{BigAsk, BigRead, BigSide, differences, digest};
use crate::progress::BigKeyProgress;
use crate::throttle::Throttle;

/// A server, and the connection that reads it.
struct Place {
    server: Server,
    connection: ReadConnection,
    has_field_expiry: bool,
}

impl Place {
    async fn start(version: Version) -> Self {
        Self::of(Server::start(version), version).await
    }

    /// A server that does not speak RESP3.
    async fn start_resp2(version: Version) -> Self {
        let server = Server::start(version);
        let set = cmd("ACL").arg(&["SETUSER", "default", "-hello"]).clone();
        set.exec(&mut server.client()).unwrap();
        let place = Self::of(server, version).await;
        assert!(!place.connection.greeting().resp3);
        place
    }

    async fn of(server: Server, version: Version) -> Self {
        let endpoint = Endpoint::parse(&server.uri()).unwrap();
        let address = Address::Unix(server.socket());
        let connector = Connector::new(endpoint).unwrap();
        let opened = ReadConnection::open(&connector, &address, ExpiryCommand::Relative).await;
        let mut connection = opened.unwrap();
        connection.find_expiry_command().await.unwrap();
        Self {
            has_field_expiry: version.has_field_ttls(),
            server,
            connection,
        }
    }

    fn run(&self, command: &str) {
        of_words(command).exec(&mut self.server.client()).unwrap();
    }

    async fn read(&mut self, key: &str, detail: StreamDetail) -> BigRead {
        let (progress, throttle) = (
            BigKeyProgress::default(),
            Throttle::new(None, CancellationToken::new()),
        );
        let ask = BigAsk {
            key: key.as_bytes(),
            seed: 42,
            detail,
            has_field_expiry: self.has_field_expiry,
            progress: &progress,
            throttle: &throttle,
            stop: &CancellationToken::new(),
        };
        digest(&mut self.connection, ask).await.unwrap()
    }

    /// 3000 elements of every type, in an order of its own, and some long ones.
    fn fill(&self, is_reversed: bool) {
        let mut client = self.server.client();
        let mut indexes: Vec<u32> = (0..3000).collect();
        let long = "x".repeat(1_500_000);
        if is_reversed {
            indexes.reverse();
        }
        for part in indexes.chunks(500) {
            let mut pipe = pipe();
            for n in part {
                pipe.add_command(of_words(&format!("SADD set member-{n}")));
                pipe.add_command(of_words(&format!("ZADD zset {}.25 member-{n}", n / 3)));
                pipe.add_command(of_words(&format!("HSET hash field-{n} value-{n}")));
            }
            pipe.exec(&mut client).unwrap();
        }
        let mut pipe = pipe();
        for n in 0..3000 {
            pipe.add_command(of_words(&format!("RPUSH list item-{n}")));
            pipe.add_command(of_words(&format!("XADD stream {}-1 f v{n}", n + 1)));
        }
        pipe.exec(&mut client).unwrap();
        let zero = if is_reversed { "-0" } else { "0" };
        for command in [
            format!("SADD set {long}"),
            format!("ZADD zset 0.1 {long} inf last {zero} zero 1e-300 small"),
            format!("HSET hash long {long}"),
            format!("HSET hash {long} long"),
            format!("RPUSH list {long} end"),
            format!("SET string {long}{long}"),
            format!("XADD stream 5000-1 long {long} g h"),
            "XDEL stream 7-1".to_owned(),
            "XGROUP CREATE stream group 0".to_owned(),
            "XGROUP CREATE stream another 3-1".to_owned(),
            "XREADGROUP GROUP group bob COUNT 2500 STREAMS stream >".to_owned(),
        ] {
            self.run(&command);
        }
        let mut pipe = keyhaul_testkit::redis::pipe();
        for n in 1..=2500 {
            let at = 1_600_000_000_000_u64 + n;
            let claim = format!("XCLAIM stream group alice 0 {n}-1 TIME {at} RETRYCOUNT 3 JUSTID");
            pipe.add_command(of_words(&claim));
        }
        // Which of two entries is pending last differs by the deleted one.
        pipe.add_command(of_words("XACK stream group 2501-1"));
        pipe.exec(&mut client).unwrap();
    }
}

fn of_words(command: &str) -> Cmd {
    let mut words = command.split(' ');
    let mut made = cmd(words.next().unwrap());
    words.for_each(|word| {
        made.arg(word);
    });
    made
}

const KEYS: [(&str, ValueKind); 6] = [
    ("set", ValueKind::Set),
    ("zset", ValueKind::SortedSet),
    ("hash", ValueKind::Hash),
    ("list", ValueKind::List),
    ("string", ValueKind::String),
    ("stream", ValueKind::Stream),
];

/// Fills both, and looks whether they are the same, and what one difference each does.
async fn check(mut one: Place, mut other: Place, detail: StreamDetail) {
    one.fill(false);
    other.fill(true);
    let both = async |one: &mut Place, other: &mut Place, key: &str| {
        let (ours, theirs) = (one.read(key, detail).await, other.read(key, detail).await);
        let (BigRead::Digest(ours), BigRead::Digest(theirs)) = (&ours, &theirs) else {
            panic!("{key}: {ours:?} {theirs:?}");
        };
        (*ours, *theirs)
    };
    let found = async |one: &mut Place, other: &mut Place, key: &str, kind| {
        let side = |place: &'_ mut Place| -> bool { place.has_field_expiry };
        let (a, b) = (side(one), side(other));
        let source = BigSide {
            connection: &mut one.connection,
            key: key.as_bytes(),
            has_field_expiry: a,
        };
        let target = BigSide {
            connection: &mut other.connection,
            key: key.as_bytes(),
            has_field_expiry: b,
        };
        differences(source, target, kind, detail, 5).await.unwrap()
    };
    for (key, kind) in KEYS {
        let (ours, theirs) = both(&mut one, &mut other, key).await;
        assert_eq!(ours, theirs, "{key}");
        assert_eq!(ours.kind, kind);
        assert_eq!(ours.expiry, KeyExpiry::Never);
        assert_eq!(
            found(&mut one, &mut other, key, kind).await,
            [""; 0],
            "{key}"
        );
    }
    let mut changes = vec![
        (
            "SREM set member-2000",
            "set",
            r#"member "member-2000" only on the source"#,
        ),
        (
            "SADD set other",
            "set",
            r#"member "other" only on the target"#,
        ),
        (
            "ZINCRBY zset 0.5 member-2000",
            "zset",
            r#"member "member-2000": score 666.25 on the source, 666.75 on the target"#,
        ),
        (
            "ZREM zset last",
            "zset",
            r#"member "last" only on the source"#,
        ),
        (
            "HSET hash field-2999 valuf-2999",
            "hash",
            r#"field "field-2999": "value-2999" on the source, "valuf-2999" on the target"#,
        ),
        (
            "HSET hash more 1",
            "hash",
            r#"field "more" only on the target"#,
        ),
        (
            "LSET list 2999 itfm",
            "list",
            r#"index 2999: "item-2999" on the source, "itfm" on the target"#,
        ),
        (
            "SETRANGE string 2500000 y",
            "string",
            r#"byte 2500000: "xxxxxxxxxxxxxxxxxxxxxxxx..." on the source, "yxxxxxxxxxxxxxxxxxxxxxxx..." on the target"#,
        ),
        (
            "XDEL stream 2999-1",
            "stream",
            "entry 2999-1 only on the source",
        ),
        (
            "XACK stream group 1777-1",
            "stream",
            r#"group "group": pending entry 1777-1 only on the source"#,
        ),
        (
            "XGROUP SETID stream another 4-1",
            "stream",
            r#"group "another": last id: 3-1 on the source, 4-1 on the target"#,
        ),
        (
            "XCLAIM stream group alice 0 1500-1 TIME 1600000000000 RETRYCOUNT 3 JUSTID",
            "stream",
            r#"group "group": pending entry 1500-1: "alice", delivered 3 times, last at 1600000001500 (Unix ms) on the source, "alice", delivered 3 times, last at 1600000000000 (Unix ms) on the target"#,
        ),
    ];
    if one.has_field_expiry && other.has_field_expiry {
        changes.push((
            "HPEXPIREAT hash 4000000000000 FIELDS 1 field-5",
            "hash",
            r#"field "field-5": expires never on the source, 4000000000000 on the target (Unix ms)"#,
        ));
    }
    for (command, key, expected) in changes {
        let kind = KEYS.iter().find(|(name, _)| *name == key).unwrap().1;
        let before = other.read(key, detail).await;
        other.run(command);
        let after = other.read(key, detail).await;
        assert_ne!(before, after, "{command}");
        let lines = found(&mut one, &mut other, key, kind).await;
        assert!(
            lines.iter().any(|line| line == expected),
            "{command}: {lines:#?}"
        );
        assert!(lines.len() <= 6, "{lines:#?}");
    }
    assert_eq!(one.read("nothing", detail).await, BigRead::Missing);
}

#[tokio::test]
async fn redis_7_0_and_valkey_9_1() {
    let (one, other) = (Version::REDIS_7_0, Version::VALKEY_9_1);
    if require(one) && require(other) {
        let (one, other) = (Place::start(one).await, Place::start(other).await);
        check(one, other, StreamDetail::Offsets).await;
    }
}

#[tokio::test]
async fn resp2_of_redis_6_0_and_redis_8_2() {
    let (one, other) = (Version::REDIS_6_0, Version::REDIS_8_2);
    if require(one) && require(other) {
        let (one, other) = (Place::start_resp2(one).await, Place::start(other).await);
        check(one, other, StreamDetail::Basic).await;
    }
}

#[tokio::test]
async fn fields_that_expire() {
    let (one, other) = (Version::REDIS_8_0, Version::VALKEY_9_1);
    if require(one) && require(other) {
        let (one, other) = (Place::start(one).await, Place::start(other).await);
        check(one, other, StreamDetail::Offsets).await;
    }
}

/// What is written while it is read is not one value, also where WATCH does not tell of it.
#[tokio::test]
async fn a_value_that_is_written_meanwhile() {
    let version = Version::REDIS_7_0;
    if !require(version) {
        return;
    }
    let mut place = Place::start(version).await;
    place.fill(false);
    for (key, command) in [
        ("list", "RPUSH list more"),
        ("set", "DEL set"),
        ("hash", "SET hash string"),
        ("string", "SETRANGE string 0 y"),
        (
            "stream",
            "XREADGROUP GROUP another bob COUNT 1 NOACK STREAMS stream >",
        ),
    ] {
        let socket = place.server.endpoint();
        let (is_over, writer_over) = {
            let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            (flag.clone(), flag)
        };
        let command = command.to_owned();
        let writer = std::thread::spawn(move || {
            let mut client = socket.connection(0);
            let mut writes = 0;
            while !writer_over.load(std::sync::atomic::Ordering::Relaxed) {
                // The second time some of them are refused, or do nothing.
                let _ = of_words(&command).exec(&mut client);
                writes += 1;
            }
            writes
        });
        while place.read(key, StreamDetail::Offsets).await != BigRead::Written {
            if matches!(key, "set" | "hash") {
                // It was written before.
                break;
            }
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(writer.join().unwrap() > 0);
        // The connection is of use all the same.
        let after = place.read(key, StreamDetail::Offsets).await;
        assert!(
            matches!(after, BigRead::Digest(_) | BigRead::Missing),
            "{key}: {after:?}"
        );
    }
}

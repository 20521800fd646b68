//! Fake peers do what they are scripted to do, and end when they are dropped.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use keyhaul_testkit::{Behaviour, FakePeer};

/// What a client that sends one PING receives, up to `max` bytes, and whether the peer closed then.
fn talk(peer: &FakePeer, max: usize) -> (Vec<u8>, bool) {
    let mut stream = TcpStream::connect(("127.0.0.1", peer.port())).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    drop(stream.write_all(b"PING\r\n"));
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    while received.len() < max {
        match stream.read(&mut buffer) {
            Ok(0) => return (received, true),
            Ok(length) => received.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return (received, false),
            Err(_) => return (received, true),
        }
    }
    (received, false)
}

#[test]
fn each_behaviour_is_as_described() {
    let rows: [(Behaviour, &[u8], bool); 6] = [
        (Behaviour::Http, b"HTTP/1.1 400", true),
        (Behaviour::Silence, b"", false),
        (Behaviour::HugeBulk, b"$4611686018427387904\r\n", false),
        (Behaviour::CloseAtOnce, b"", true),
        (
            Behaviour::Reply(b"-ERR no\r\n".to_vec()),
            b"-ERR no\r\n",
            false,
        ),
        (Behaviour::EndlessLine, b"aaaaaaaa", false),
    ];
    for (behaviour, start, closes) in rows {
        let peer = FakePeer::start(behaviour.clone());
        let (received, closed) = talk(&peer, 100_000);
        assert!(
            received.starts_with(start),
            "{behaviour:?}: {}",
            received.escape_ascii()
        );
        assert_eq!(closed, closes, "{behaviour:?}");
        assert_eq!(peer.connections(), 1);
        assert!(peer.uri().starts_with("redis://127.0.0.1:"));
    }
}

#[test]
fn an_endless_line_has_no_end_and_garbage_is_no_protocol() {
    let peer = FakePeer::start(Behaviour::EndlessLine);
    let (received, closed) = talk(&peer, 5_000_000);
    assert!(!closed && received.len() >= 5_000_000 && received.iter().all(|&byte| byte == b'a'));
    let peer = FakePeer::start(Behaviour::Garbage);
    let (received, _) = talk(&peer, 4096);
    assert!(
        !b"+-:$*%~_,#!=(>|".contains(&received[0]),
        "{}",
        received[0]
    );
}

#[test]
fn scripts_answer_in_turn() {
    let peer = FakePeer::start(Behaviour::Script(vec![
        b"+OK\r\n".to_vec(),
        b"-NO\r\n".to_vec(),
    ]));
    let mut stream = TcpStream::connect(("127.0.0.1", peer.port())).unwrap();
    for expected in [b"+OK\r\n", b"-NO\r\n"] {
        stream.write_all(b"PING\r\n").unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, expected);
    }
}

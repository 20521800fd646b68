//! The proxy passes bytes on unchanged until it is told to cut, stall or refuse.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests too"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use keyhaul_testkit::{Direction, Proxy, Server, Version, wait_until};

const PING: &[u8] = b"PING\r\n";
const PONG: &[u8] = b"+PONG\r\n";

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

/// Everything until the connection ends, by a close or a reset.
fn read_to_cut(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("not cut: {error}"),
    }
    bytes
}

fn ping(stream: &mut TcpStream) {
    stream.write_all(PING).unwrap();
    let mut answer = [0; PONG.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, PONG);
}

#[test]
fn bytes_pass_and_are_counted() {
    let server = Server::builder(Version::REDIS_7_0).tcp().start();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], server.port()));
    for proxy in [Proxy::start(&server), Proxy::start(address)] {
        let mut client = redis::Client::open(proxy.uri())
            .unwrap()
            .get_connection()
            .unwrap();
        let value = vec![b'x'; 3_000_000];
        redis::cmd("SET")
            .arg("key")
            .arg(&value)
            .exec(&mut client)
            .unwrap();
        let got: Vec<u8> = redis::cmd("GET").arg("key").query(&mut client).unwrap();
        assert_eq!(got.len(), value.len());
        assert!(proxy.bytes(Direction::ToServer) > 3_000_000);
        assert!(proxy.bytes(Direction::FromServer) > 3_000_000);
        assert_eq!((proxy.connections(), proxy.open_connections()), (1, 1));
        drop(client);
        wait_until("the link is gone", Duration::from_secs(10), || {
            proxy.open_connections() == 0
        });
    }
}

#[test]
fn a_cut_comes_at_the_very_byte_and_once() {
    let server = Server::start(Version::REDIS_7_0);
    let proxy = Proxy::start(&server);
    for cut_at in 0..=PONG.len() {
        let mut stream = connect(&proxy);
        ping(&mut stream);
        proxy.cut_after_bytes(Direction::FromServer, cut_at as u64);
        assert!(!proxy.has_cut(Direction::FromServer));
        stream.write_all(PING).unwrap();
        assert_eq!(read_to_cut(&mut stream), &PONG[..cut_at]);
        assert!(proxy.has_cut(Direction::FromServer));
        ping(&mut connect(&proxy));
    }
}

#[test]
fn a_cut_towards_the_server_hides_the_rest_from_it() {
    let server = Server::start(Version::REDIS_7_0);
    let proxy = Proxy::start(&server);
    let mut stream = connect(&proxy);
    proxy.cut_after_bytes(Direction::ToServer, 9);
    stream.write_all(b"SET a 1\r\nSET b 2\r\n").unwrap();
    // The server's answer to the first may or may not make it back.
    read_to_cut(&mut stream);
    assert_eq!(proxy.bytes(Direction::ToServer), 9);
    let mut client = server.client();
    wait_until("the first command was run", Duration::from_secs(10), || {
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut client).unwrap();
        assert!(!keys.contains(&"b".to_string()));
        keys == ["a"]
    });
}

#[test]
fn all_connections_can_be_cut_at_once() {
    let server = Server::start(Version::REDIS_7_0);
    let proxy = Proxy::start(&server);
    let mut streams = [connect(&proxy), connect(&proxy)];
    streams.iter_mut().for_each(ping);
    proxy.cut_all();
    streams
        .iter_mut()
        .for_each(|stream| assert_eq!(read_to_cut(stream), b""));
    ping(&mut connect(&proxy));
}

#[test]
fn refused_connections_close_and_others_live() {
    let server = Server::start(Version::REDIS_7_0);
    let proxy = Proxy::start(&server);
    let mut before = connect(&proxy);
    ping(&mut before);
    proxy.refuse(true);
    assert_eq!(read_to_cut(&mut connect(&proxy)), b"");
    ping(&mut before);
    proxy.refuse(false);
    ping(&mut connect(&proxy));
}

#[test]
fn a_stall_keeps_connections_open_and_passes_nothing() {
    let server = Server::start(Version::REDIS_7_0);
    let proxy = Proxy::start(&server);
    let mut stream = connect(&proxy);
    ping(&mut stream);
    proxy.stall(true);
    stream.write_all(PING).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let mut answer = [0; PONG.len()];
    assert_eq!(
        stream.read(&mut answer).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    proxy.stall(false);
    stream.set_read_timeout(None).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, PONG);
}

#[test]
fn a_server_that_is_down_shows_as_a_closed_connection() {
    let mut server = Server::start(Version::REDIS_7_0);
    let proxy = Proxy::start(&server);
    server.stop();
    assert_eq!(read_to_cut(&mut connect(&proxy)), b"");
    server.restart();
    ping(&mut connect(&proxy));
}

#[test]
fn dropping_a_stalled_proxy_ends_its_connections() {
    let server = Server::start(Version::REDIS_7_0);
    let proxy = Proxy::start(&server);
    let mut stream = connect(&proxy);
    ping(&mut stream);
    proxy.stall(true);
    stream.write_all(PING).unwrap();
    drop(proxy);
    assert_eq!(read_to_cut(&mut stream), b"");
}

#[test]
fn a_throttled_direction_is_slow_and_whole() {
    let server = Server::start(Version::REDIS_7_0);
    redis::cmd("SET")
        .arg("k")
        .arg("v".repeat(20_000))
        .exec(&mut server.client())
        .unwrap();
    let proxy = Proxy::start(&server);
    proxy.throttle(Direction::FromServer, Some(50_000));
    let mut client = redis::Client::open(proxy.uri())
        .unwrap()
        .get_connection()
        .unwrap();
    let started = std::time::Instant::now();
    let value: String = redis::cmd("GET").arg("k").query(&mut client).unwrap();
    assert_eq!(value.len(), 20_000);
    assert!(
        started.elapsed() >= std::time::Duration::from_millis(300),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn new_connections_go_where_they_are_redirected() {
    let (one, other) = (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::REDIS_7_0),
    );
    redis::cmd("SET")
        .arg("who")
        .arg("other")
        .exec(&mut other.client())
        .unwrap();
    let proxy = Proxy::start(&one);
    let ask = || -> Option<String> {
        let mut client = redis::Client::open(proxy.uri())
            .unwrap()
            .get_connection()
            .unwrap();
        redis::cmd("GET").arg("who").query(&mut client).unwrap()
    };
    assert_eq!(ask(), None);
    proxy.redirect(&other);
    assert_eq!(ask().as_deref(), Some("other"));
}

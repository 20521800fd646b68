//! Peers that are no Redis server: what a client meets on a wrong port or a broken machine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How much an endless line sends at most.
const ENDLESS_BYTES_MAX: usize = 1 << 30;
/// How often a connection looks whether the peer is being dropped.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What the peer does with each connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers the first request as a web server would, and closes.
    Http,
    /// Reads everything and never answers.
    Silence,
    /// Answers the first request with bytes of no protocol, and goes on listening.
    Garbage,
    /// Answers with a line that never ends: 1 GiB without a line feed.
    EndlessLine,
    /// Announces a bulk string of 4 EiB and sends nothing of it.
    HugeBulk,
    /// Closes each connection as soon as it is accepted.
    CloseAtOnce,
    /// Answers the first bytes that arrive with these, and goes on listening.
    Reply(Vec<u8>),
    /// Answers each arrival of bytes with the next of these, and nothing after the last.
    Script(Vec<Vec<u8>>),
}

/// A peer that listens on a port of 127.0.0.1 until it is dropped.
#[derive(Debug)]
pub struct FakePeer {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    closing: AtomicBool,
    accepted: AtomicUsize,
    talks: Mutex<Vec<JoinHandle<()>>>,
}

impl FakePeer {
    /// Starts the peer.
    ///
    /// # Panics
    /// If no port can be bound.
    pub fn start(behaviour: Behaviour) -> FakePeer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port can be bound");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let shared = Arc::new(Shared::default());
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &behaviour, &shared)
        });
        FakePeer {
            address,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `redis://127.0.0.1:port`.
    pub fn uri(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for FakePeer {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // Wakes the acceptor.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
        let talks = std::mem::take(&mut *self.shared.talks.lock().expect("no holder panics"));
        talks.into_iter().for_each(|talk| drop(talk.join()));
    }
}

fn accept(listener: &TcpListener, behaviour: &Behaviour, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.closing.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        let (behaviour, for_talk) = (behaviour.clone(), Arc::clone(shared));
        let talk = std::thread::spawn(move || talk(stream, &behaviour, &for_talk));
        shared.talks.lock().expect("no holder panics").push(talk);
    }
}

fn talk(mut stream: TcpStream, behaviour: &Behaviour, shared: &Shared) {
    // So that neither a silent nor a stuck client keeps the peer from ending.
    stream
        .set_read_timeout(Some(LOOK_INTERVAL))
        .expect("not zero");
    stream
        .set_write_timeout(Some(LOOK_INTERVAL))
        .expect("not zero");
    let replies: Vec<Vec<u8>> = match behaviour {
        Behaviour::CloseAtOnce => return,
        Behaviour::Silence => Vec::new(),
        Behaviour::Http => vec![
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
        ],
        Behaviour::Garbage => vec![(0..=255_u8).rev().cycle().skip(37).take(4096).collect()],
        Behaviour::HugeBulk => vec![b"$4611686018427387904\r\n".to_vec()],
        Behaviour::Reply(bytes) => vec![bytes.clone()],
        Behaviour::Script(replies) => replies.clone(),
        Behaviour::EndlessLine => {
            let line = [b'a'; 64 * 1024];
            wait_for_bytes(&mut stream, shared);
            for _ in 0..ENDLESS_BYTES_MAX / line.len() {
                if !send(&mut stream, &line, shared) {
                    return;
                }
            }
            Vec::new()
        }
    };
    for reply in replies {
        if !wait_for_bytes(&mut stream, shared) || !send(&mut stream, &reply, shared) {
            return;
        }
    }
    if *behaviour != Behaviour::Http {
        while wait_for_bytes(&mut stream, shared) {}
    }
}

/// False when the client has closed or the peer is being dropped.
fn wait_for_bytes(stream: &mut TcpStream, shared: &Shared) -> bool {
    let mut buffer = [0; 4096];
    while !shared.closing.load(Ordering::SeqCst) {
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(error) if is_timeout(&error) => {}
            Err(_) => return false,
        }
    }
    false
}

/// False when the client has closed or the peer is being dropped.
fn send(stream: &mut TcpStream, bytes: &[u8], shared: &Shared) -> bool {
    let mut left = bytes;
    while !left.is_empty() && !shared.closing.load(Ordering::SeqCst) {
        match stream.write(left) {
            Ok(length) => left = &left[length..],
            Err(error) if is_timeout(&error) => {}
            Err(_) => return false,
        }
    }
    left.is_empty()
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
    )
}

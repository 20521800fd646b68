//! A TCP proxy that cuts, stalls and refuses connections on command.
//!
//! Each connection has two threads, one per direction. Bytes are counted when they have been passed
//! on. A cut closes both sides of a connection; what was passed on before arrives, nothing after it
//! does.

mod pump;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use pump::Stream;

use crate::Server;

/// Which way bytes flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    FromServer,
}

/// Where connections are passed on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl From<&Server> for Upstream {
    fn from(server: &Server) -> Upstream {
        Upstream::Unix(server.socket())
    }
}

impl From<SocketAddr> for Upstream {
    fn from(address: SocketAddr) -> Upstream {
        Upstream::Tcp(address)
    }
}

impl From<&Path> for Upstream {
    fn from(socket: &Path) -> Upstream {
        Upstream::Unix(socket.into())
    }
}

/// A running proxy on a port of 127.0.0.1; all its connections and threads end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Signalled when a stall ends.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    refusing: bool,
    stalled: bool,
    closing: bool,
    accepted: usize,
    to_server: Flow,
    from_server: Flow,
    links: Vec<Link>,
    pumps: Vec<JoinHandle<()>>,
    /// Where new connections go instead.
    redirected: Option<Upstream>,
}

#[derive(Debug, Default)]
struct Flow {
    bytes: u64,
    /// Bytes that may still pass before the connection that carries the last of them is cut.
    until_cut: Option<u64>,
    bytes_per_second: Option<u32>,
}

/// Both ends of a connection, to close them from another thread.
#[derive(Debug)]
struct Link {
    number: usize,
    client: Stream,
    server: Stream,
}

impl Proxy {
    /// Starts a proxy.
    ///
    /// # Panics
    /// If no port can be bound.
    pub fn start(upstream: impl Into<Upstream>) -> Proxy {
        let upstream = upstream.into();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port can be bound");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let shared = Arc::new(Shared::default());
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &upstream, &shared)
        });
        Proxy {
            address,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// The port clients connect to.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `redis://127.0.0.1:port`.
    pub fn uri(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Lets `bytes` more bytes pass in this direction, over all connections, then cuts the one
    /// connection that carried the last of them. Once: later connections live. 0 cuts at the next
    /// byte.
    pub fn cut_after_bytes(&self, direction: Direction, bytes: u64) {
        self.shared.lock().flow(direction).until_cut = Some(bytes);
    }

    /// True once the cut that was asked for last has happened, or none was.
    pub fn has_cut(&self, direction: Direction) -> bool {
        self.shared.lock().flow(direction).until_cut.is_none()
    }

    /// Cuts all connections that are open now.
    pub fn cut_all(&self) {
        self.shared
            .lock()
            .links
            .drain(..)
            .for_each(|link| link.cut());
    }

    /// While on, connections are accepted and closed at once. Those that are open stay.
    pub fn refuse(&self, on: bool) {
        self.shared.lock().refusing = on;
    }

    /// While on, nothing is passed on in either direction; connections stay open and new ones are
    /// accepted.
    pub fn stall(&self, on: bool) {
        self.shared.lock().stalled = on;
        self.shared.changed.notify_all();
    }

    /// Passes on no more than so many bytes a second in this direction, on each connection; None: as fast as it goes.
    /// They come in small pieces, so that what belongs together is torn apart.
    pub fn throttle(&self, direction: Direction, bytes_per_second: Option<u32>) {
        self.shared.lock().flow(direction).bytes_per_second = bytes_per_second;
    }

    /// Passes new connections on to another server; those that are open stay.
    pub fn redirect(&self, upstream: impl Into<Upstream>) {
        self.shared.lock().redirected = Some(upstream.into());
    }

    /// Bytes passed on in this direction since the start, over all connections.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.shared.lock().flow(direction).bytes
    }

    /// Connections accepted since the start, refused ones not counted.
    pub fn connections(&self) -> usize {
        self.shared.lock().accepted
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> usize {
        self.shared.lock().links.len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_all();
        // Wakes the acceptor, which then sees that it is to end.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
        self.cut_all();
        let pumps = std::mem::take(&mut self.shared.lock().pumps);
        pumps.into_iter().for_each(|pump| drop(pump.join()));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl State {
    fn flow(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::FromServer => &mut self.from_server,
        }
    }
}

impl Link {
    fn cut(&self) {
        self.client.close();
        self.server.close();
    }
}

fn accept(listener: &TcpListener, upstream: &Upstream, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let mut state = shared.lock();
        if state.closing {
            return;
        }
        let Ok(client) = client else { continue };
        if state.refusing {
            continue;
        }
        // A server that is down shows as a connection that closes at once.
        let upstream = state.redirected.as_ref().unwrap_or(upstream);
        let Ok(server) = Stream::connect(upstream) else {
            continue;
        };
        drop(client.set_nodelay(true));
        state.accepted += 1;
        let number = state.accepted;
        let client = Stream::Tcp(client);
        let start = |source: &Stream, target: &Stream, direction| {
            let (source, target) = (source.duplicate(), target.duplicate());
            let shared = Arc::clone(shared);
            std::thread::spawn(move || pump::run(source, target, direction, number, &shared))
        };
        let pumps = [
            start(&client, &server, Direction::ToServer),
            start(&server, &client, Direction::FromServer),
        ];
        // Ended threads need not be kept until the end.
        state.pumps.retain(|pump| !pump.is_finished());
        state.pumps.extend(pumps);
        state.links.push(Link {
            number,
            client,
            server,
        });
    }
}

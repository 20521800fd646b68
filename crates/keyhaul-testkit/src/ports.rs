//! Free TCP ports for servers.
//!
//! A port that is free now may be taken before the server binds it: whoever starts a server tries
//! again with another one. To make that rare, ports come from below the range out of which the
//! system serves outgoing connections, and each process begins at another place in it.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// First port that is handed out.
const FIRST: u32 = 11_000;
/// How many are handed out before the first comes again. The bus ports (+ 10000) end below 32768,
/// where Linux begins to take ports for outgoing connections.
const COUNT: u32 = 10_000;
/// Distance of a cluster node's bus port from its port.
const BUS_DISTANCE: u16 = 10_000;

/// A port that nobody listens on, on IPv4 and, where the machine has it, IPv6.
pub(crate) fn free_port() -> u16 {
    find(is_free)
}

/// A port that is free together with its cluster bus port.
pub(crate) fn free_cluster_port() -> u16 {
    find(|port| is_free(port) && is_free(port + BUS_DISTANCE))
}

fn find(accept: impl Fn(u16) -> bool) -> u16 {
    // Threads of one process must not get the same port twice in a row, so the counter is theirs
    // together.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let offset = std::process::id().wrapping_mul(7919);
    for _ in 0..COUNT {
        let number = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(offset);
        let port = u16::try_from(FIRST + number % COUNT).expect("the range ends below 65536");
        if accept(port) {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
        && match TcpListener::bind(("::1", port)) {
            Ok(_) => true,
            Err(error) => error.kind() != std::io::ErrorKind::AddrInUse,
        }
}

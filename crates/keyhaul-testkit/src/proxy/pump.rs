//! One direction of one proxied connection.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{Direction, Shared, Upstream};

const BUFFER_BYTES: usize = 64 * 1024;

/// A stream of either kind.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub(super) fn connect(upstream: &Upstream) -> io::Result<Stream> {
        match upstream {
            Upstream::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Upstream::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
        }
    }

    pub(super) fn duplicate(&self) -> Stream {
        match self {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone().expect("descriptors are left")),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone().expect("descriptors are left")),
        }
    }

    /// Ends both directions; an error means that it has ended already.
    pub(super) fn close(&self) {
        drop(match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
        });
    }

    fn close_write(&self) {
        drop(match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        });
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What to do with bytes that were read.
struct Verdict {
    pass: usize,
    cut: bool,
}

/// Passes bytes on until an end closes, an error comes, or the proxy cuts the connection.
pub(super) fn run(
    mut source: Stream,
    mut target: Stream,
    direction: Direction,
    number: usize,
    shared: &Shared,
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let rate = shared.lock().flow(direction).bytes_per_second;
        let length = match source.read(&mut buffer[..piece_bytes(rate)]) {
            Ok(0) => {
                // The other direction may still have something to say.
                target.close_write();
                break;
            }
            Ok(length) => length,
            Err(_) => break,
        };
        let Some(verdict) = admit(direction, length, shared) else {
            break;
        };
        let written = target.write_all(&buffer[..verdict.pass]);
        if verdict.cut || written.is_err() {
            break_link(number, shared);
            source.close();
            target.close();
            return;
        }
        if let Some(rate) = rate {
            std::thread::sleep(Duration::from_secs_f64(length as f64 / f64::from(rate)));
        }
    }
    // When both directions are done, nothing refers to the connection any more.
    if direction == Direction::FromServer {
        break_link(number, shared);
        source.close();
        target.close();
    }
}

/// How much is passed on at a time: a fiftieth of what a second allows.
fn piece_bytes(bytes_per_second: Option<u32>) -> usize {
    let piece = bytes_per_second.map_or(BUFFER_BYTES, |rate| (rate / 50) as usize);
    piece.clamp(1, BUFFER_BYTES)
}

/// Waits while the proxy is stalled, then counts and decides. None when the proxy is closing.
fn admit(direction: Direction, length: usize, shared: &Shared) -> Option<Verdict> {
    let state = shared.lock();
    let mut state = shared
        .changed
        .wait_while(state, |state| state.stalled && !state.closing)
        .expect("no holder panics");
    if state.closing {
        return None;
    }
    let flow = state.flow(direction);
    let verdict = match flow.until_cut {
        Some(left) if left <= length as u64 => {
            flow.until_cut = None;
            Verdict {
                pass: usize::try_from(left).expect("at most the length"),
                cut: true,
            }
        }
        Some(left) => {
            flow.until_cut = Some(left - length as u64);
            Verdict {
                pass: length,
                cut: false,
            }
        }
        None => Verdict {
            pass: length,
            cut: false,
        },
    };
    flow.bytes += verdict.pass as u64;
    Some(verdict)
}

fn break_link(number: usize, shared: &Shared) {
    let mut state = shared.lock();
    if let Some(index) = state.links.iter().position(|link| link.number == number) {
        state.links.swap_remove(index).cut();
    }
}

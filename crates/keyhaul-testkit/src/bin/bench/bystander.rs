//! Other clients of a server, who want nothing but an answer: a PING each millisecond.
//!
//! A PING is sent at its millisecond also while those before are not answered yet, as another client would. So a
//! stall of 100 ms is a hundred late answers, that come together when it is over. What counts for no
//! server is that the sender itself sleeps longer than it asked for, as it does on a busy machine.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use keyhaul_testkit::Server;

const INTERVAL: Duration = Duration::from_millis(1);
const PING: &[u8] = b"PING\r\n";
const PONG: &[u8] = b"+PONG\r\n";

/// One thread that sends and one that receives, on one connection.
pub(crate) struct Bystander {
    stop: Arc<AtomicBool>,
    sends: JoinHandle<Vec<f64>>,
    receives: JoinHandle<Vec<f64>>,
}

/// How long the answers took; milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    /// How many there were.
    pub(crate) pings: usize,
    /// 99.9th percentile of the waits.
    pub(crate) p999_ms: f64,
    /// The longest wait.
    pub(crate) max_ms: f64,
    /// 99.9th percentile of what the bystander slept too long, which is in no wait: noise of the
    /// machine.
    pub(crate) oversleep_p999_ms: f64,
}

impl Bystander {
    pub(crate) fn start(server: &Server) -> Bystander {
        let uri = server.uri();
        let path = uri.strip_prefix("unix://").expect("a Unix socket");
        let mut output = UnixStream::connect(path).expect("the server is there");
        let input = output.try_clone().expect("a socket can be cloned");
        let stop = Arc::new(AtomicBool::new(false));
        let (sent, times) = channel();
        let sends = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut oversleeps_ms = Vec::new();
                let mut due = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    due += INTERVAL;
                    if let Some(pause) = due.checked_duration_since(Instant::now()) {
                        std::thread::sleep(pause);
                    }
                    oversleeps_ms.push(ms(due.elapsed()));
                    due = Instant::now();
                    sent.send(due).expect("the receiver waits");
                    output.write_all(PING).expect("PING is taken");
                }
                oversleeps_ms
            }
        });
        let receives = std::thread::spawn(move || receive(input, &times));
        Bystander {
            stop,
            sends,
            receives,
        }
    }

    pub(crate) fn stop(self) -> Waits {
        self.stop.store(true, Ordering::Relaxed);
        let mut oversleeps_ms = self.sends.join().expect("PING is taken");
        let mut waits_ms = self.receives.join().expect("PING is answered");
        waits_ms.sort_by(f64::total_cmp);
        oversleeps_ms.sort_by(f64::total_cmp);
        Waits {
            pings: waits_ms.len(),
            p999_ms: p999(&waits_ms),
            max_ms: waits_ms.last().copied().unwrap_or(f64::NAN),
            oversleep_p999_ms: p999(&oversleeps_ms),
        }
    }
}

/// Notes for each PING that was sent how long its answer took, until there are no more.
fn receive(mut input: UnixStream, sent: &Receiver<Instant>) -> Vec<f64> {
    let mut waits_ms = Vec::new();
    let mut answer = [0; PONG.len()];
    while let Ok(at) = sent.recv() {
        input.read_exact(&mut answer).expect("PING is answered");
        assert_eq!(answer, PONG);
        waits_ms.push(ms(at.elapsed()));
    }
    waits_ms
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The value that 99.9 % do not exceed.
fn p999(sorted: &[f64]) -> f64 {
    let rank = (sorted.len() * 999).div_ceil(1000);
    let value = sorted.get(rank.saturating_sub(1));
    value.copied().unwrap_or(f64::NAN)
}

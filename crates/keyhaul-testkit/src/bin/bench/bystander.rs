//! Another client of a server, who wants nothing but an answer: a PING each millisecond.
//!
//! A PING is due at its millisecond, also while the one before is not answered yet, and its wait counts
//! from then. So a stall of 100 ms is a hundred late answers, as it would be for a hundred clients, and
//! not one, as it would seem to one who waits for an answer before asking again. What counts for no
//! server is that this thread itself sleeps longer than it asked for, as it does on a busy machine: who
//! wakes late with no answer outstanding begins a new row of milliseconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use keyhaul_testkit::Server;
use keyhaul_testkit::redis::cmd;

const INTERVAL: Duration = Duration::from_millis(1);

/// A running thread with one connection.
pub(crate) struct Bystander {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// What one thread saw; milliseconds.
#[derive(Default)]
struct Seen {
    waits_ms: Vec<f64>,
    /// How much later than asked for it woke.
    oversleeps_ms: Vec<f64>,
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
        let mut connection = server.client();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut seen = Seen::default();
                let mut due = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    due += INTERVAL;
                    if let Some(pause) = due.checked_duration_since(Instant::now()) {
                        std::thread::sleep(pause);
                        seen.oversleeps_ms.push(ms(due.elapsed()));
                        due = Instant::now();
                    }
                    cmd("PING").exec(&mut connection).expect("PING is answered");
                    seen.waits_ms.push(ms(due.elapsed()));
                }
                seen
            }
        });
        Bystander { stop, thread }
    }

    pub(crate) fn stop(self) -> Waits {
        self.stop.store(true, Ordering::Relaxed);
        let mut seen = self.thread.join().expect("PING is answered");
        seen.waits_ms.sort_by(f64::total_cmp);
        seen.oversleeps_ms.sort_by(f64::total_cmp);
        Waits {
            pings: seen.waits_ms.len(),
            p999_ms: p999(&seen.waits_ms),
            max_ms: seen.waits_ms.last().copied().unwrap_or(f64::NAN),
            oversleep_p999_ms: p999(&seen.oversleeps_ms),
        }
    }
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

//! `--rate-limit`: payload bytes per second, for the whole job.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Spaces transfers out so that they come to at most so many bytes per second. Unused time
/// does not add up.
#[derive(Debug)]
pub(crate) struct Throttle {
    bytes_per_second: Option<u64>,
    /// Nobody waits once the job is to stop.
    stop: CancellationToken,
    /// When all that was let through so far is paid for.
    paid_until: Mutex<Option<Instant>>,
}

impl Throttle {
    pub(crate) fn new(bytes_per_second: Option<u64>, stop: CancellationToken) -> Self {
        Self {
            stop,
            bytes_per_second: bytes_per_second.filter(|n| *n > 0),
            paid_until: Mutex::new(None),
        }
    }

    /// Waits until these bytes may go, or the job is to stop.
    pub(crate) async fn pass(&self, bytes: u64) {
        let wait = self.wait_for(bytes, Instant::now());
        if !wait.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    fn wait_for(&self, bytes: u64, now: Instant) -> Duration {
        let Some(rate) = self.bytes_per_second else {
            return Duration::ZERO;
        };
        let mut paid_until = self
            .paid_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let start = paid_until.unwrap_or(now).max(now);
        *paid_until = Some(start + Duration::from_secs_f64(bytes as f64 / rate as f64));
        start - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_over_time() {
        let throttle = Throttle::new(Some(1000), CancellationToken::new());
        let now = Instant::now();
        assert_eq!(throttle.wait_for(500, now), Duration::ZERO);
        assert_eq!(throttle.wait_for(2000, now), Duration::from_millis(500));
        assert_eq!(throttle.wait_for(1, now), Duration::from_millis(2500));
        assert_eq!(
            throttle.wait_for(1, now + Duration::from_secs(9)),
            Duration::ZERO
        );
        let unbounded = Throttle::new(None, CancellationToken::new());
        assert_eq!(unbounded.wait_for(u64::MAX, now), Duration::ZERO);
    }
}

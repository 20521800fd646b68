//! How fast it goes: keys and bytes per second over the last few seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Long enough to be steady, short enough to show that a server stalls.
const WINDOW: Duration = Duration::from_secs(10);
/// Bounds the samples in the window.
const SAMPLE_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Counters at the times when they were looked at, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    samples: VecDeque<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    keys: u64,
    bytes: u64,
}

impl Rates {
    /// Notes the counters of this moment.
    pub(crate) fn add(&mut self, at: Instant, keys: u64, bytes: u64) {
        if let Some(last) = self.samples.back()
            && at.duration_since(last.at) < SAMPLE_INTERVAL_MIN
        {
            return;
        }
        self.samples.push_back(Sample { at, keys, bytes });
        // One sample as old as the window stays, to measure from.
        while self
            .samples
            .get(1)
            .is_some_and(|second| at.duration_since(second.at) >= WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// Keys and bytes per second; `None` before there are two samples.
    pub(crate) fn per_second(&self) -> Option<(f64, f64)> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let seconds = last.at.duration_since(first.at).as_secs_f64();
        let rate = |first: u64, last: u64| last.saturating_sub(first) as f64 / seconds;
        (seconds > 0.0).then(|| (rate(first.keys, last.keys), rate(first.bytes, last.bytes)))
    }

    /// Time until `keys_left` are done at this rate; `None` while nothing moves.
    pub(crate) fn time_left(&self, keys_left: u64) -> Option<Duration> {
        let (keys_per_second, _) = self.per_second()?;
        let seconds = keys_left as f64 / keys_per_second;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_the_window() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut rates = Rates::default();
        assert_eq!((rates.per_second(), rates.time_left(1)), (None, None));
        rates.add(at(0), 0, 0);
        assert_eq!(rates.per_second(), None);
        rates.add(at(50), 999, 999); // too early to be looked at
        rates.add(at(2000), 200, 4000);
        assert_eq!(rates.per_second(), Some((100.0, 2000.0)));
        assert_eq!(rates.time_left(500), Some(Duration::from_secs(5)));
        // A stall is seen once the window holds nothing else.
        for second in 3..=12 {
            rates.add(at(second * 1000), 200, 4000);
        }
        assert_eq!(
            (rates.per_second(), rates.time_left(500)),
            (Some((0.0, 0.0)), None)
        );
        for n in 0..100_000 {
            rates.add(at(20_000 + n * 10), 200, 4000);
        }
        assert!(rates.samples.len() <= 102, "{}", rates.samples.len());
    }
}

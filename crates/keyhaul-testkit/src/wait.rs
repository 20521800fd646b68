//! Waiting for a state that another process reaches in its own time.

use std::time::{Duration, Instant};

/// Pause between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Looks again and again until `ready` is true.
///
/// # Panics
/// If it is not true within `deadline`; the message names `what`.
pub fn wait_until(what: &str, deadline: Duration, mut ready: impl FnMut() -> bool) {
    let started = Instant::now();
    while !ready() {
        assert!(
            started.elapsed() < deadline,
            "waited {deadline:?} in vain: {what}"
        );
        std::thread::sleep(POLL_INTERVAL);
    }
}

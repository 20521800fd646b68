//! How long a failing server is waited for: growing waits, an end, and a word to the user.

use std::time::{Duration, Instant};

use keyhaul_client::Backoff;

use crate::ledger::Ledger;
use crate::progress::Progress;

/// The server stayed unusable for as long as the user allows, or the user wants to stop.
#[derive(Debug, Clone)]
pub(crate) struct GaveUp;

/// Waits of one task for one server. Begins anew with every success.
#[derive(Debug)]
pub(crate) struct Patience {
    failing_since: Option<Instant>,
    backoff: Backoff,
    limit: Duration,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            failing_since: None,
            backoff: Backoff::default(),
            limit,
        }
    }

    /// The server did what it was asked.
    pub(crate) fn success(&mut self, ledger: &Ledger) {
        if self.failing_since.take().is_some() {
            self.backoff.reset();
            ledger.progress.wait_for(None);
        }
    }

    /// The server failed: waits before the next try.
    ///
    /// # Errors
    /// [`GaveUp`] when the limit is over (the job is halted with `reason` then) or a stop is wanted.
    pub(crate) async fn wait(&mut self, ledger: &Ledger, reason: &str) -> Result<(), GaveUp> {
        Progress::add(&ledger.progress.retries, 1);
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.limit {
            ledger.halt(format!("{reason} (waited {} s)", self.limit.as_secs()));
            return Err(GaveUp);
        }
        tracing::info!("waiting: {reason}");
        ledger.progress.wait_for(Some(reason.to_owned()));
        tokio::select! {
            () = tokio::time::sleep(self.backoff.next_wait()) => Ok(()),
            () = ledger.stop.cancelled() => {
                ledger.halt(format!("interrupted while waiting: {reason}"));
                Err(GaveUp)
            }
        }
    }
}

/// A wait while nothing runs yet, so there are no books to keep.
pub(crate) async fn sleep_before_retry(
    backoff: &mut Backoff,
    side: crate::plan::SideName,
    error: &keyhaul_client::ClientError,
) {
    tracing::warn!("waiting: {side}: {}", keyhaul_client::chain(error));
    tokio::time::sleep(backoff.next_wait()).await;
}

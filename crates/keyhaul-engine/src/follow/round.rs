//! What the tasks of a live job share between two full resyncs.

use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Ends when nothing but beginning again is exact.
#[derive(Debug, Default)]
pub(crate) struct Round {
    ended: CancellationToken,
    reason: Mutex<Option<String>>,
}

impl Round {
    /// Everything begins again, for this reason; the first one counts.
    pub(crate) fn begin_again(&self, reason: String) {
        let mut first = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(reason);
        self.ended.cancel();
    }

    /// Returns when everything is to begin again.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Whether everything is to begin again.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Why everything begins again.
    pub(crate) fn reason(&self) -> Option<String> {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        reason.clone()
    }
}

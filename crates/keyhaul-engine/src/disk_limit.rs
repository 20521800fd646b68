//! How many bytes the snapshot and the spool of a shard of a live job may take on the disk, together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// How often a full disk is tried again when nothing of ours was freed: others may have freed something.
const TRY_AGAIN_EVERY: Duration = Duration::from_secs(1);

/// A limit that is shared by all who write.
#[derive(Debug)]
pub(crate) struct DiskLimit {
    bytes_max: u64,
    used: AtomicU64,
    freed: Notify,
}

impl DiskLimit {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            used: AtomicU64::new(0),
            freed: Notify::new(),
        }
    }

    /// Takes room; `false`: there is not as much.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let taken = self
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                used.checked_add(bytes)
                    .filter(|used| *used <= self.bytes_max)
            });
        taken.is_ok()
    }

    /// Counts bytes that are on the disk already.
    pub(crate) fn count(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Gives room back.
    pub(crate) fn give_back(&self, bytes: u64) {
        // Never more than was taken, so that this does not wrap.
        self.used.fetch_sub(bytes, Ordering::AcqRel);
        self.freed.notify_one();
    }

    /// Bytes in use.
    #[cfg(test)]
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// The limit, bytes.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Waits until it is worth to try again. One waits at a time: what comes over a link is written in order.
    pub(crate) async fn wait(&self) {
        drop(tokio::time::timeout(TRY_AGAIN_EVERY, self.freed.notified()).await);
    }
}

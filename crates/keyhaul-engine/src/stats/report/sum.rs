//! A number of keys and what they take together: what every table of the report adds up.

use serde::{Deserialize, Serialize};

/// Keys, and the bytes they take together. Exact; what would not fit in 64 bits stays at the largest number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sum {
    /// How many keys.
    pub keys: u64,
    /// What they take, bytes, as [`SizeKind`](super::SizeKind) says.
    pub bytes: u64,
}

impl Sum {
    /// Adds one key.
    pub(super) fn take(&mut self, size_bytes: u64) {
        self.add(Self {
            keys: 1,
            bytes: size_bytes,
        });
    }

    /// Adds keys that were added up elsewhere.
    pub(super) fn add(&mut self, more: Self) {
        self.keys = self.keys.saturating_add(more.keys);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }

    /// The larger number of each.
    pub(super) fn most(self, other: Self) -> Self {
        Self {
            keys: self.keys.max(other.keys),
            bytes: self.bytes.max(other.bytes),
        }
    }
}

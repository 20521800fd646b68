//! What keys of the source are called on the target, and which of them are followed.

use std::sync::Arc;

use bytes::Bytes;

use crate::transform::{DbMap, KeyFilter, PrefixRename, renamed};

/// The names of one job.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub filter: Arc<KeyFilter>,
    /// Only these dbs of the source; `None`: all.
    pub dbs: Option<Vec<u32>>,
    pub db_map: DbMap,
    pub renames: Vec<PrefixRename>,
}

impl Names {
    /// Every key goes over, under its own name and in its own db: commands can be sent as they are.
    pub(crate) fn are_plain(&self) -> bool {
        self.takes_all() && self.keeps_dbs() && self.renames.is_empty()
    }

    /// Every key goes over.
    pub(crate) fn takes_all(&self) -> bool {
        self.dbs.is_none() && self.filter.takes_every_name() && self.filter.takes_every_type()
    }

    /// Keys stay in their dbs.
    pub(crate) fn keeps_dbs(&self) -> bool {
        self.db_map.iter().next().is_none()
    }

    /// Whether a key is followed, whatever its type.
    pub(crate) fn takes(&self, db: u32, key: &[u8]) -> bool {
        self.dbs.as_ref().is_none_or(|dbs| dbs.contains(&db)) && self.filter.takes_name(key)
    }

    /// Whether all types are followed: else what a command does to a key hangs on its type.
    pub(crate) fn takes_every_type(&self) -> bool {
        self.filter.takes_every_type()
    }

    /// The db on the target.
    pub(crate) fn target_db(&self, db: u32) -> u32 {
        self.db_map.target_db(db)
    }

    /// The name on the target, where it is another one.
    pub(crate) fn other_name(&self, key: &[u8]) -> Option<Bytes> {
        renamed(&self.renames, key)
    }
}

//! What a comparison maps, leaves out and tolerates.

use std::fmt;

type KeyPredicate = Box<dyn Fn(u32, &[u8]) -> bool>;
type KeyMap = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// Options of [`super::keyspaces`]; the default maps nothing, leaves nothing out and tolerates
/// nothing.
pub struct DiffOptions {
    /// The target db of a source db.
    pub map_db: Box<dyn Fn(u32) -> u32>,
    /// The target key of a source key.
    pub map_key: KeyMap,
    /// Which source keys (db, key) should be on the target. Others count as extra if they are
    /// there.
    pub only: KeyPredicate,
    /// Which target keys (db, key) may be there although no source key maps to them.
    pub extra_allowed: KeyPredicate,
    /// How far apart two expiry times may be, of keys and of hash fields. What a server that knows
    /// no PEXPIRETIME leaves uncertain (a few ms) is always allowed for, on top.
    pub ignore_expiry_tolerance_ms: u64,
    /// Leaves a stream's `entries-added`, `max-deleted-entry-id` and groups' `entries-read` out.
    /// They are compared by default where both servers have them.
    pub ignore_stream_counters: bool,
    /// Leaves consumers out to whom nothing is pending: one that XREADGROUP made without giving it an entry is not
    /// in the replication stream (seen on Valkey 8.0), so that a real replica lacks it too.
    pub ignore_idle_consumers: bool,
}

impl DiffOptions {
    /// What a real replica may differ in: counters and idle consumers of streams.
    pub fn as_a_replica() -> DiffOptions {
        DiffOptions {
            ignore_stream_counters: true,
            ignore_idle_consumers: true,
            ..DiffOptions::default()
        }
    }

    /// Expects the keys of one source db in one target db, and nothing of other dbs.
    pub fn mapping_db(mut self, source: u32, target: u32) -> DiffOptions {
        self.map_db = Box::new(move |db| if db == source { target } else { db });
        self.only = Box::new(move |db, _| db == source);
        self
    }

    /// Expects keys that begin with `source` to begin with `target` instead; others keep their
    /// names.
    pub fn renaming_prefix(mut self, source: &[u8], target: &[u8]) -> DiffOptions {
        let (source, target) = (source.to_vec(), target.to_vec());
        self.map_key = Box::new(move |key| match key.strip_prefix(&source[..]) {
            Some(rest) => [&target[..], rest].concat(),
            None => key.to_vec(),
        });
        self
    }
}

impl Default for DiffOptions {
    fn default() -> DiffOptions {
        DiffOptions {
            map_db: Box::new(|db| db),
            map_key: Box::new(<[u8]>::to_vec),
            only: Box::new(|_, _| true),
            extra_allowed: Box::new(|_, _| false),
            ignore_expiry_tolerance_ms: 0,
            ignore_stream_counters: false,
            ignore_idle_consumers: false,
        }
    }
}

impl fmt::Debug for DiffOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiffOptions")
            .field(
                "ignore_expiry_tolerance_ms",
                &self.ignore_expiry_tolerance_ms,
            )
            .field("ignore_stream_counters", &self.ignore_stream_counters)
            .field("ignore_idle_consumers", &self.ignore_idle_consumers)
            .finish_non_exhaustive()
    }
}

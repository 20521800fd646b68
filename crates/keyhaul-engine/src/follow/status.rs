//! What a live job shows of itself: filled by its tasks, looked at by anybody.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How far a shard, or a job, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum State {
    /// Nothing moves yet.
    #[default]
    Starting,
    /// The keys that were there at the start go over.
    Copying,
    /// Changes are applied that lie further back than a second.
    CatchingUp,
    /// Changes are applied as they come.
    Following,
    /// All that the source has done is applied, as of the last look: twice a second.
    Synced,
    /// The job has ended.
    Stopped,
}

impl State {
    /// All of them, in order.
    pub const ALL: [Self; 6] = [
        Self::Starting,
        Self::Copying,
        Self::CatchingUp,
        Self::Following,
        Self::Synced,
        Self::Stopped,
    ];

    /// As it stands in progress lines, JSON and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Copying => "copying",
            Self::CatchingUp => "catching_up",
            Self::Following => "following",
            Self::Synced => "synced",
            Self::Stopped => "stopped",
        }
    }

    fn of(number: u8) -> Self {
        let state = Self::ALL.get(usize::from(number));
        state.copied().unwrap_or_default()
    }
}

/// The state of a live job; shared.
#[derive(Debug, Default)]
pub struct LiveStatus {
    shards: Mutex<Vec<Arc<ShardStatus>>>,
}

/// One shard of the source. Counters count from the start of this run, but for offsets.
#[derive(Debug, Default)]
pub struct ShardStatus {
    state: AtomicU8,
    named: Mutex<Named>,
    /// The offset of the source when it was last asked, bytes; 0: unknown, or no PSYNC.
    pub source_offset: AtomicU64,
    /// The stream was received up to here, bytes.
    pub received_offset: AtomicU64,
    /// The stream is applied up to here, bytes.
    pub applied_offset: AtomicU64,
    /// How far the target is behind in time, ms; `u64::MAX`: unknown.
    pub lag_ms: AtomicU64,
    /// Bytes in the spool: received and not applied, in memory and on the disk, as they came.
    pub spool_bytes: AtomicU64,
    /// Of them on the disk, compressed.
    pub spool_disk_bytes: AtomicU64,
    /// Commands of the stream that were applied; without PSYNC, keys that were told to have changed.
    pub commands: AtomicU64,
    /// Keys that are to be read again at present.
    pub keys_open: AtomicU64,
    /// Keys that were read again.
    pub keys_reread: AtomicU64,
    /// Full resyncs, the first one counted.
    pub full_resyncs: AtomicU64,
    /// Times the link broke and was gone on with.
    pub partial_resyncs: AtomicU64,
}

#[derive(Debug, Default, Clone)]
struct Named {
    node: String,
    replid: String,
    waiting: Option<String>,
}

/// A live job at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusSnapshot {
    /// That of the shard which is furthest behind.
    pub state: State,
    /// The shards of the source.
    pub shards: Vec<ShardSnapshot>,
}

/// A shard at one moment; see [`ShardStatus`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named and documented in ShardStatus")]
pub struct ShardSnapshot {
    pub state: State,
    /// The node that is read, as an address.
    pub node: String,
    /// The history that the offsets are of; empty: no PSYNC.
    pub replid: String,
    /// Why nothing moves at present.
    pub waiting: Option<String>,
    pub source_offset: u64,
    pub received_offset: u64,
    pub applied_offset: u64,
    /// `None`: unknown.
    pub lag_ms: Option<u64>,
    pub spool_bytes: u64,
    pub spool_disk_bytes: u64,
    pub commands: u64,
    pub keys_open: u64,
    pub keys_reread: u64,
    pub full_resyncs: u64,
    pub partial_resyncs: u64,
}

impl ShardSnapshot {
    /// How far the target is behind, bytes of the stream; 0 without PSYNC.
    pub fn lag_bytes(&self) -> u64 {
        let reached = self.source_offset.max(self.received_offset);
        reached.saturating_sub(self.applied_offset)
    }
}

impl StatusSnapshot {
    /// Bytes of all shards that are not applied.
    pub fn lag_bytes(&self) -> u64 {
        self.shards.iter().map(ShardSnapshot::lag_bytes).sum()
    }

    /// The longest lag of a shard, ms; `None`: not known of one.
    pub fn lag_ms(&self) -> Option<u64> {
        let lags = self.shards.iter().map(|shard| shard.lag_ms);
        lags.reduce(|one, other| Some(one?.max(other?))).flatten()
    }
}

impl LiveStatus {
    /// A new shard.
    pub(crate) fn add_shard(&self, node: String) -> Arc<ShardStatus> {
        let shard = Arc::new(ShardStatus::default());
        shard.lag_ms.store(u64::MAX, Ordering::Relaxed);
        shard.set_node(node);
        self.lock().push(shard.clone());
        shard
    }

    /// Forgets the shards: others will be.
    pub(crate) fn clear_shards(&self) {
        self.lock().clear();
    }

    /// These are the shards from now on.
    pub(crate) fn set_shards(&self, shards: Vec<Arc<ShardStatus>>) {
        *self.lock() = shards;
    }

    /// All shards are at an end.
    pub(crate) fn stopped(&self) {
        for shard in self.lock().iter() {
            shard.enter(State::Stopped);
        }
    }

    /// All of it at once; not one atomic moment.
    pub fn snapshot(&self) -> StatusSnapshot {
        let shards: Vec<_> = self.lock().iter().map(|shard| shard.snapshot()).collect();
        let state = shards.iter().map(|shard| shard.state).min();
        StatusSnapshot {
            state: state.unwrap_or_default(),
            shards,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<ShardStatus>>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ShardStatus {
    /// How far it is.
    pub fn state(&self) -> State {
        State::of(self.state.load(Ordering::Relaxed))
    }

    pub(crate) fn enter(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub(crate) fn set_node(&self, node: String) {
        self.named().node = node;
    }

    pub(crate) fn set_replid(&self, replid: String) {
        self.named().replid = replid;
    }

    /// Says why nothing moves; `None`: it moves again.
    pub(crate) fn wait_for(&self, reason: Option<String>) {
        self.named().waiting = reason;
    }

    /// All of it at once; not one atomic moment.
    pub(crate) fn snapshot(&self) -> ShardSnapshot {
        let named = self.named().clone();
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let lag_ms = get(&self.lag_ms);
        ShardSnapshot {
            state: self.state(),
            node: named.node,
            replid: named.replid,
            waiting: named.waiting,
            source_offset: get(&self.source_offset),
            received_offset: get(&self.received_offset),
            applied_offset: get(&self.applied_offset),
            lag_ms: (lag_ms != u64::MAX).then_some(lag_ms),
            spool_bytes: get(&self.spool_bytes),
            spool_disk_bytes: get(&self.spool_disk_bytes),
            commands: get(&self.commands),
            keys_open: get(&self.keys_open),
            keys_reread: get(&self.keys_reread),
            full_resyncs: get(&self.full_resyncs),
            partial_resyncs: get(&self.partial_resyncs),
        }
    }

    fn named(&self) -> std::sync::MutexGuard<'_, Named> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

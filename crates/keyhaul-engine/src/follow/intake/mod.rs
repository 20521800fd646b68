//! One shard of the source, as it comes in by PSYNC: snapshots, and the stream behind them without a gap, whatever happens to
//! the link.
//!
//! A task of its own ([`pump`]) owns the link. It reads as fast as the source sends, whatever the applier does: what is not used
//! yet lies in the overflow (a snapshot) and in the spool (the stream). Only when these have reached their limit on the disk is
//! the source waited for less, and it may then cut us off, which costs a full resync.

mod node;
mod pump;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use keyhaul_client::{Address, FullResync};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::disk_limit::DiskLimit;
use crate::follow::spool::{Piece, Spool, SpoolOptions};
use crate::follow::status::ShardStatus;
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::site::Site;
use crate::source::feed::Feed;

pub(crate) use node::NodeChoice;

/// Where an earlier run has stopped: the stream is wanted from `applied + 1` on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub replid: String,
    pub applied: u64,
}

/// What is read and how.
pub(crate) struct IntakeOptions {
    pub site: Arc<Site>,
    pub node: NodeChoice,
    /// How long a failing source is waited for.
    pub retry_for: Duration,
    /// The folder of this shard's spool, kept for a later run; `None`: a temporary one.
    pub spool_dir: Option<PathBuf>,
    /// Of spool and snapshot together, on the disk.
    pub spool_bytes_max: u64,
    /// Read a replica of the node, where one can be read.
    pub prefers_replica: bool,
}

/// What comes in.
pub(crate) enum Event {
    /// A snapshot begins; its bytes come by the feed, which ends with [`FeedError::Link`](crate::source::feed::FeedError)
    /// when it broke off or is void: another `Snapshot` follows then. Everything of the stream told before is void. What the
    /// stream brings meanwhile comes as `Bytes` behind it, from `position.repl_offset + 1` on. A feed that is
    /// dropped before its end means that the rest of the snapshot is thrown away.
    Snapshot {
        feed: Feed,
        position: FullResync,
        /// Why it is the first one, or why it could not be a partial resync.
        reason: String,
    },
    /// The next bytes of the stream, without a gap to the ones before.
    Bytes { first: u64, bytes: Bytes },
    /// The source goes on under another replid, and offsets go on.
    Replid(String),
}

/// One shard of the source.
pub(crate) struct Intake {
    shared: Arc<Shared>,
    task: JoinSet<()>,
}

/// A snapshot that begins.
struct Snapshot {
    feed: Feed,
    position: FullResync,
    reason: String,
}

struct Shared {
    spool: Spool<Snapshot>,
    /// What is acknowledged.
    acked: Arc<AtomicU64>,
    /// The source is to hear of it now.
    ack_now: Notify,
    node: Mutex<Option<Address>>,
    status: Arc<ShardStatus>,
    ledger: Arc<Ledger>,
    stop: CancellationToken,
}

impl Intake {
    /// Begins to read; in a runtime. Where a spool of an earlier run reaches on from `wanted`, its bytes come at once, and the
    /// source is asked for those behind.
    pub(crate) fn start(
        options: IntakeOptions,
        wanted: Option<Wanted>,
        status: Arc<ShardStatus>,
        ledger: Arc<Ledger>,
    ) -> Self {
        let limit = Arc::new(DiskLimit::new(options.spool_bytes_max));
        let spool = Spool::new(SpoolOptions {
            folder: options.spool_dir.clone(),
            limit: limit.clone(),
            status: status.clone(),
            ledger: ledger.clone(),
        });
        let applied = wanted.as_ref().map_or(0, |wanted| wanted.applied);
        let shared = Arc::new(Shared {
            spool,
            acked: Arc::new(AtomicU64::new(applied)),
            ack_now: Notify::new(),
            node: Mutex::new(None),
            status,
            stop: ledger.stop.child_token(),
            ledger,
        });
        let mut task = JoinSet::new();
        task.spawn(pump::run(options, limit, wanted, shared.clone()));
        Self { shared, task }
    }

    /// What comes next. Loses nothing when the future is dropped.
    ///
    /// # Errors
    /// [`GaveUp`]: the source stayed unusable, and the job is halted; or a stop is wanted.
    pub(crate) async fn next(&mut self) -> Result<Event, GaveUp> {
        match self.shared.spool.next().await {
            Some(Piece::Begin(snapshot)) => Ok(Event::Snapshot {
                feed: snapshot.feed,
                position: snapshot.position,
                reason: snapshot.reason,
            }),
            Some(Piece::Bytes { first, bytes }) => Ok(Event::Bytes { first, bytes }),
            Some(Piece::Replid(replid)) => Ok(Event::Replid(replid)),
            None => Err(GaveUp),
        }
    }

    /// All up to this byte is applied: it need not be kept, and is what is acknowledged from now on, once a second. To be told
    /// after a snapshot too, with its own offset: before that nothing is acknowledged.
    pub(crate) fn applied(&self, offset: u64) {
        if self.shared.spool.applied(offset) {
            self.shared.acked.store(offset, Ordering::Release);
        }
    }

    /// Acknowledges what is applied now: the stream holds a question for it.
    pub(crate) fn ack_now(&self) {
        self.shared.ack_now.notify_one();
    }

    /// The node that is read at present; `None` while there is no link. For connections beside it, that read keys at a known
    /// offset.
    pub(crate) fn node(&self) -> Option<Address> {
        self.shared.node().clone()
    }

    /// Tells the node at any time, to whoever has it.
    pub(crate) fn node_handle(&self) -> NodeHandle {
        NodeHandle(self.shared.clone())
    }

    /// Ends the link. The spool stays on the disk for a later run; what is in memory only is not written: the source has it
    /// still, or a full resync follows.
    pub(crate) async fn close(mut self) {
        self.shared.stop.cancel();
        while self.task.join_next().await.is_some() {}
    }
}

/// Knows which node is read at present.
#[derive(Clone)]
pub(crate) struct NodeHandle(Arc<Shared>);

impl NodeHandle {
    /// As [`Intake::node`].
    pub(crate) fn node(&self) -> Option<Address> {
        self.0.node().clone()
    }
}

impl Shared {
    fn node(&self) -> std::sync::MutexGuard<'_, Option<Address>> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

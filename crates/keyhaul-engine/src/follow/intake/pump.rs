//! The task that owns the link of a shard: opens it, reads it, and opens it again.
//!
//! ```text
//!             ┌──────── +CONTINUE ─────────┐
//!  find ──► PSYNC                          ▼
//!   ▲         └─ +FULLRESYNC ─► RDB ─► stream
//!   │                            │        │
//!   └─ wait, ask for the nodes ◄─┴────────┘  the link broke
//! ```
//!
//! With the whole RDB received the stream can be gone on with, before it cannot.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use keyhaul_client::{Address, Backoff, ClientError, FullResync, ReplicaLink, Resync, chain};

use super::node::NodeFinder;
use super::{IntakeOptions, Shared, Snapshot, Wanted};
use crate::disk_limit::DiskLimit;
use crate::patience::{GaveUp, Patience};
use crate::progress::Progress;
use crate::site::Site;
use crate::source::feed::Feed;
use crate::source::overflow::{Files, OverflowSender, overflow};

/// How many snapshots in a row may break off.
const BROKEN_SNAPSHOTS_MAX: u32 = 10;

/// Why a link is not read any more.
enum Broken {
    Link(ClientError),
    /// What was received cannot be read from the disk and has to come again.
    Spool(String),
    /// The job is to stop, or cannot go on, which is said.
    Stopped,
}

impl From<ClientError> for Broken {
    fn from(error: ClientError) -> Self {
        Self::Link(error)
    }
}

struct Pump {
    shared: Arc<Shared>,
    site: Arc<Site>,
    finder: NodeFinder,
    files: Files,
    patience: Patience,
    /// The source has answered in vain so far.
    is_waiting: bool,
    /// All before the stream is received, by this run or an earlier one.
    can_go_on: bool,
    /// The snapshot that is used, or was: it is void when another one begins.
    snapshot: Option<OverflowSender>,
    broken_snapshots: u32,
    pause: Backoff,
    last_error: Option<ClientError>,
}

/// Runs until a stop is wanted or the source is given up.
pub(super) async fn run(
    options: IntakeOptions,
    limit: Arc<DiskLimit>,
    wanted: Option<Wanted>,
    shared: Arc<Shared>,
) {
    let can_go_on = wanted.is_some();
    let wanted = wanted.map(|wanted| (wanted.replid, wanted.applied.saturating_add(1)));
    shared.spool.open(wanted).await;
    let mut pump = Pump {
        site: options.site.clone(),
        finder: NodeFinder {
            site: options.site,
            node: options.node,
            prefers_replica: options.prefers_replica,
            replica: None,
        },
        files: Files {
            folder: options.spool_dir,
            limit: Some(limit),
        },
        patience: Patience::new(options.retry_for),
        is_waiting: false,
        can_go_on,
        snapshot: None,
        broken_snapshots: 0,
        pause: Backoff::default(),
        last_error: None,
        shared: shared.clone(),
    };
    loop {
        let broken = pump.follow().await;
        *shared.node() = None;
        let Err(broken) = broken;
        if pump.mend(broken).await.is_err() {
            break;
        }
    }
    shared.spool.close();
}

impl Pump {
    /// Opens a link and reads it as long as it holds.
    async fn follow(&mut self) -> Result<std::convert::Infallible, Broken> {
        let stop = self.shared.stop.clone();
        let mut link = tokio::select! {
            link = self.open() => link?,
            () = stop.cancelled() => return Err(Broken::Stopped),
        };
        *self.shared.node() = Some(link.address().clone());
        if !self.can_go_on {
            self.read_rdb(&mut link).await?;
        }
        link.acks(self.shared.acked.clone());
        self.read_stream(&mut link).await
    }

    /// After a link: waits until it is worth to open another one.
    async fn mend(&mut self, broken: Broken) -> Result<(), GaveUp> {
        let shared = self.shared.clone();
        let error = match broken {
            Broken::Stopped => return Err(GaveUp),
            Broken::Spool(damage) => {
                let line = format!("spool: {damage}: the source is asked for it again");
                shared.ledger.remark(line);
                shared.spool.forget_unread();
                return Ok(());
            }
            Broken::Link(error) => error,
        };
        self.is_waiting = true;
        shared
            .status
            .wait_for(Some(format!("source: {}", chain(&error))));
        let ledger = shared.ledger.clone();
        tokio::select! {
            mended = self.site.recover(&error, &mut self.patience, &ledger) => mended?,
            () = shared.stop.cancelled() => return Err(GaveUp),
        }
        let Some(snapshot) = self.snapshot.take() else {
            return Ok(());
        };
        if self.can_go_on {
            // It is whole, and goes on being used unless the source begins anew.
            self.snapshot = (!snapshot.is_done()).then_some(snapshot);
            self.last_error = Some(error);
            return Ok(());
        }
        self.broken_snapshots += 1;
        if self.broken_snapshots >= BROKEN_SNAPSHOTS_MAX {
            ledger.halt(format!(
                "source: {BROKEN_SNAPSHOTS_MAX} snapshots in a row broke off, the last one so: {}",
                chain(&error)
            ));
            return Err(GaveUp);
        }
        snapshot.void(error);
        // Each one costs the source a fork.
        tokio::select! {
            () = tokio::time::sleep(self.pause.next_wait()) => Ok(()),
            () = shared.stop.cancelled() => Err(GaveUp),
        }
    }

    /// Opens a link, and says what it brings.
    async fn open(&mut self) -> Result<ReplicaLink, ClientError> {
        let shared = self.shared.clone();
        let address = self.finder.find(&shared.ledger).await?;
        let from = match self.can_go_on {
            true => shared.spool.position(),
            false => None,
        };
        let asked = from.as_ref().map(|(replid, next)| (replid.as_str(), *next));
        let connector = self.site.routing.connector();
        shared.status.set_node(address.to_string());
        let link = match ReplicaLink::resync(connector, &address, asked).await? {
            Resync::Full(link, position) => {
                let reason = self.why_full(asked, &address, &position);
                self.begin(&link, position, reason);
                link
            }
            Resync::Continued(link, replid) => {
                tracing::info!("{address}: goes on in {replid} at {:?}", asked);
                shared.spool.rename(&replid);
                Progress::add(&shared.status.partial_resyncs, 1);
                shared.status.set_replid(replid);
                link
            }
        };
        Ok(link)
    }

    fn why_full(
        &self,
        asked: Option<(&str, u64)>,
        address: &Address,
        position: &FullResync,
    ) -> String {
        match asked {
            None if self.broken_snapshots > 0 => "the one before broke off".into(),
            None => "nothing was copied before".into(),
            Some((replid, next)) if replid == position.replid => {
                format!("{address} does not hold the stream from offset {next} on any more")
            }
            Some((replid, _)) => format!(
                "{address} has another history, {}, than the one that was followed, {replid}",
                position.replid
            ),
        }
    }

    /// A snapshot comes over this link.
    fn begin(&mut self, link: &ReplicaLink, position: FullResync, reason: String) {
        let shared = &self.shared;
        tracing::info!(
            "{}: snapshot at {}:{}: {reason}",
            link.address(),
            position.replid,
            position.repl_offset
        );
        Progress::add(&shared.status.full_resyncs, 1);
        if let Some(bytes) = link.rdb_bytes() {
            Progress::add(&shared.ledger.progress.bytes_expected, bytes);
        }
        if let Some(void) = self.snapshot.take() {
            let address = link.address().clone();
            let closed = ClientError::Closed { address };
            void.void(self.last_error.take().unwrap_or(closed));
        }
        let (sender, receiver) = overflow(self.files.clone());
        self.snapshot = Some(sender);
        self.can_go_on = false;
        let (replid, first) = (
            position.replid.clone(),
            position.repl_offset.saturating_add(1),
        );
        let snapshot = Snapshot {
            feed: Feed::Link(receiver),
            position,
            reason,
        };
        shared.spool.begin(snapshot, &replid, first);
        // Nothing of this history is applied.
        shared.acked.store(0, Ordering::Release);
        shared.status.set_replid(replid);
    }

    /// Reads the RDB to its end.
    async fn read_rdb(&mut self, link: &mut ReplicaLink) -> Result<(), Broken> {
        let stop = self.shared.stop.clone();
        loop {
            let part = tokio::select! {
                part = link.rdb_part() => part?,
                () = stop.cancelled() => return Err(Broken::Stopped),
            };
            self.succeed();
            let (Some(snapshot), Some(part)) = (&mut self.snapshot, part) else {
                break;
            };
            // What was given up of it is thrown away: its files have no names.
            let (pushed, broken) = tokio::select! {
                pushed = alive_beside(link, snapshot.push(part)) => pushed,
                () = stop.cancelled() => return Err(Broken::Stopped),
            };
            if let Err(e) = pushed {
                let line = format!("what the source sends cannot be kept: {e}");
                self.shared.ledger.halt(line);
                return Err(Broken::Stopped);
            }
            broken?;
        }
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.end(Ok(()));
        }
        self.can_go_on = true;
        self.broken_snapshots = 0;
        self.pause.reset();
        Ok(())
    }

    /// Reads the stream as long as it comes.
    async fn read_stream(
        &mut self,
        link: &mut ReplicaLink,
    ) -> Result<std::convert::Infallible, Broken> {
        let shared = self.shared.clone();
        loop {
            let bytes = tokio::select! {
                bytes = link.stream_part() => bytes?,
                () = shared.ack_now.notified() => {
                    link.ack().await?;
                    continue;
                }
                damage = shared.spool.damage() => return Err(Broken::Spool(damage)),
                () = shared.stop.cancelled() => return Err(Broken::Stopped),
            };
            self.succeed();
            let ((), broken) = alive_beside(link, self.keep(bytes)).await;
            broken?;
        }
    }

    /// Puts bytes into the spool. A block that is being written is written to its end in any case: a later run may
    /// read the file at once.
    async fn keep(&self, bytes: Bytes) {
        let shared = &self.shared;
        let mut pushing = pin!(shared.spool.push(bytes));
        tokio::select! {
            biased;
            () = &mut pushing => return,
            () = shared.stop.cancelled() => shared.spool.close(),
        }
        pushing.await;
    }

    /// The source sends what was asked for.
    fn succeed(&mut self) {
        self.patience.success(&self.shared.ledger);
        if std::mem::take(&mut self.is_waiting) {
            self.shared.status.wait_for(None);
        }
    }
}

/// Does something that may take long, and tells the source meanwhile that we are alive. A link that breaks is told when it is
/// done.
async fn alive_beside<T>(
    link: &mut ReplicaLink,
    work: impl Future<Output = T>,
) -> (T, Result<(), ClientError>) {
    let mut work = pin!(work);
    let mut alive = Ok(());
    loop {
        tokio::select! {
            biased;
            done = &mut work => return (done, alive),
            broken = link.stay_alive(), if alive.is_ok() => alive = broken,
        }
    }
}

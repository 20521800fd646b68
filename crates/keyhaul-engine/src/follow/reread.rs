//! Reads marked keys again, each at a known offset, and writes them whole.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyhaul_client::{
    Action, Address, ClientError, KeyAtOffset, ReadConnection, ReplOffset, ServerError,
};

use keyhaul_rdb::Form;

use crate::entry::{Entry, Payload, Usage, Verdict};
use crate::follow::applied::Applied;
use crate::follow::intake::NodeHandle;
use crate::follow::marks::{Marks, SourceKey};
use crate::follow::round::Round;
use crate::follow::status::ShardStatus;
use crate::ledger::Ledger;
use crate::patience::{GaveUp, Patience};
use crate::prepare::{SizeRules, SizeVerdict};
use crate::route::Outlet;
use crate::site::Site;
use crate::source::large::{LargeKey, drain, pass_through};
use crate::source::track::Ticket;

/// Keys that are asked for at once.
const KEYS_AT_ONCE: usize = 64;
/// How long is waited when there is nothing to read, or nothing may be read yet.
const IDLE: Duration = Duration::from_millis(2);
/// How long is waited when what was read is of another history.
const HISTORY_WAIT: Duration = Duration::from_millis(100);

/// What the link reads at present; shared with those that read keys beside it.
pub(crate) struct SourceView {
    node: NodeHandle,
    replid: Mutex<String>,
}

impl SourceView {
    pub(crate) fn new(node: NodeHandle, replid: String) -> Self {
        Self {
            node,
            replid: Mutex::new(replid),
        }
    }

    /// It is this history.
    pub(crate) fn set_replid(&self, replid: &str) {
        replid.clone_into(&mut self.lock());
    }

    /// The node; `None` while there is no link.
    pub(crate) fn node(&self) -> Option<Address> {
        self.node.node()
    }

    /// Whether this is of the history that is followed.
    pub(crate) fn is_same(&self, at: &ReplOffset) -> bool {
        *self.lock() == at.replid
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.replid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keys that were taken; given back also when the task is dropped.
struct UnderWay(Arc<Marks>, usize);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.give_back(self.1);
    }
}

/// The task that does it, one a shard.
pub(crate) struct Rereader {
    pub site: Arc<Site>,
    pub view: Arc<SourceView>,
    pub marks: Arc<Marks>,
    pub applied: Arc<Applied>,
    pub outlet: Outlet,
    pub round: Arc<Round>,
    pub status: Arc<ShardStatus>,
    pub ledger: Arc<Ledger>,
    /// What is too large for the user; `None`: nothing.
    pub sizes: Option<SizeRules>,
    pub retry_for: Duration,
}

impl Rereader {
    /// Works until everything begins again or the job has stopped.
    ///
    /// # Errors
    /// [`GaveUp`] when the job was halted.
    pub(crate) async fn run(mut self) -> Result<(), GaveUp> {
        let round = self.round.clone();
        let stop = self.ledger.stop.clone();
        tokio::select! {
            () = round.ended() => Ok(()),
            () = stop.cancelled() => Ok(()),
            ended = self.read_all() => ended,
        }
    }

    async fn read_all(&mut self) -> Result<(), GaveUp> {
        let mut connection: Option<ReadConnection> = None;
        let mut patience = Patience::new(self.retry_for);
        loop {
            let keys = self.marks.take(self.applied.reached().offset, KEYS_AT_ONCE);
            self.status
                .keys_open
                .store(self.marks.open_count() as u64, Ordering::Relaxed);
            if keys.is_empty() {
                self.idle().await;
                continue;
            }
            let under_way = UnderWay(self.marks.clone(), keys.len());
            let read = self.read(&mut connection, &keys).await;
            // Those that were not come again.
            for key in &keys {
                if read.is_err() {
                    self.marks.failed(key);
                }
            }
            drop(under_way);
            match read {
                Ok(()) => patience.success(&self.ledger),
                Err(e) => {
                    connection = None;
                    self.site.recover(&e, &mut patience, &self.ledger).await?;
                }
            }
        }
    }

    async fn idle(&self) {
        if self.marks.count() == 0 {
            self.marks.wait_until(|marks| marks.count() > 0).await;
        }
        tokio::time::sleep(IDLE).await;
    }

    /// Reads and hands on these keys; those for which it fails are to be read again.
    async fn read(
        &mut self,
        connection: &mut Option<ReadConnection>,
        keys: &[SourceKey],
    ) -> Result<(), ClientError> {
        let node = match self.view.node() {
            Some(node) => node,
            None => return Err(self.no_node()),
        };
        if connection
            .as_ref()
            .is_none_or(|open| *open.address() != node)
        {
            *connection = Some(self.site.open(&node).await?);
        }
        let Some(connection) = connection else {
            return Ok(());
        };
        let mut at = 0;
        while at < keys.len() {
            // Keys of one db at a time.
            let db = keys[at].0;
            let same = keys[at..].iter().take_while(|key| key.0 == db).count();
            let group = &keys[at..at + same];
            at += same;
            connection.select(db).await?;
            self.read_group(connection, group).await?;
        }
        Ok(())
    }

    fn no_node(&self) -> ClientError {
        ClientError::NoPrimary {
            endpoint: self.site.routing.connector().endpoint().to_string(),
            reason: "the link to it is broken".to_owned(),
        }
    }

    async fn read_group(
        &mut self,
        connection: &mut ReadConnection,
        keys: &[SourceKey],
    ) -> Result<(), ClientError> {
        for key in keys {
            self.marks.unbar(key);
            self.ledger.not_moved.try_again(key.0, &key.1);
        }
        let names: Vec<_> = keys.iter().map(|key| key.1.clone()).collect();
        if let Some(sizes) = self.sizes {
            let bytes = connection.memory_usage(&names).await?;
            for (key, bytes) in keys.iter().zip(bytes) {
                match sizes.judge(bytes) {
                    SizeVerdict::Whole | SizeVerdict::Big | SizeVerdict::Ignore => {}
                    SizeVerdict::Refuse => {
                        let limit = sizes.limit();
                        let reason =
                            format!("its {bytes} bytes of memory are above the limit of {limit}");
                        self.ledger.not_moved(key.0, &key.1, reason);
                    }
                }
            }
        }
        connection.ask_keys_at_offset(&names).await?;
        let mut entries = Vec::with_capacity(keys.len());
        let mut written = Vec::with_capacity(keys.len());
        for key in keys {
            match connection.next_key_at_offset().await? {
                KeyAtOffset::Gone { at } => {
                    if self.may_be_written(key, &at).await {
                        entries.push(self.gone(key));
                        written.push(key.clone());
                    }
                }
                KeyAtOffset::Whole {
                    payload,
                    expire_at_ms,
                    at,
                } => {
                    if self.may_be_written(key, &at).await {
                        entries.push(self.entry(key, payload, expire_at_ms));
                        written.push(key.clone());
                    }
                }
                KeyAtOffset::Large {
                    payload_bytes,
                    expire_at_ms,
                } => {
                    if payload_bytes > self.outlet.payload_max() {
                        self.too_large(key, payload_bytes);
                        drain(connection).await?;
                        return Ok(());
                    }
                    // In order behind those before it.
                    self.write(std::mem::take(&mut entries), std::mem::take(&mut written))
                        .await;
                    let large = LargeKey {
                        db: key.0,
                        key: &key.1,
                        payload_bytes,
                        expire_at_ms,
                    };
                    self.read_large(connection, key, large).await?;
                }
                KeyAtOffset::Unsettled => self.marks.failed(key),
                KeyAtOffset::Refused(error) => self.refused(key, &error, connection)?,
            }
        }
        self.write(entries, written).await;
        Ok(())
    }

    /// A key that cannot be read at once comes with the next snapshot.
    fn too_large(&self, key: &SourceKey, bytes: u64) {
        let name = crate::stats::key_text(&key.1);
        self.round.begin_again(format!(
            "key \"{name}\" has to be read again, and its {bytes} bytes are too many to be read at once"
        ));
    }

    /// A payload that is not held: it passes on while it comes.
    async fn read_large(
        &mut self,
        connection: &mut ReadConnection,
        key: &SourceKey,
        large: LargeKey<'_>,
    ) -> Result<(), ClientError> {
        let mut outlet = self.outlet.clone();
        let verdict = pass_through(connection, &mut outlet, large).await?;
        let at = connection.finished_at();
        match (verdict, at) {
            (Verdict::Settled, Some(at)) if self.may_be_written(key, &at).await => {
                if self.marks.is_barred(key) {
                    let gone = self.gone(key);
                    self.write(vec![gone], vec![key.clone()]).await;
                } else {
                    self.ledger.tried_again(key.0, &key.1);
                    self.marks.written(key);
                    self.status.keys_reread.fetch_add(1, Ordering::Relaxed);
                }
            }
            _ => self.marks.failed(key),
        }
        Ok(())
    }

    /// Whether what was read is of the history that is followed, and is still wanted.
    async fn may_be_written(&self, key: &SourceKey, at: &ReplOffset) -> bool {
        if self.view.is_same(at) {
            return self.marks.read(key, at.offset);
        }
        self.marks.failed(key);
        tokio::time::sleep(HISTORY_WAIT).await;
        false
    }

    fn refused(
        &self,
        key: &SourceKey,
        error: &ServerError,
        connection: &ReadConnection,
    ) -> Result<(), ClientError> {
        match error.action() {
            Action::GiveUp => {
                let reason = format!("the source refused to give it: {error}");
                self.ledger.not_moved(key.0, &key.1, reason);
                self.marks.drop_key(key);
                Ok(())
            }
            // The slot is on the move: whoever watches the topology says what is to be done.
            _ => Err(ClientError::Server {
                address: connection.address().clone(),
                error: error.clone(),
            }),
        }
    }

    fn gone(&self, key: &SourceKey) -> Entry {
        let usage = Usage::default();
        self.outlet
            .entry(key.0, key.1.clone(), Payload::Gone, None, usage)
    }

    fn entry(&self, key: &SourceKey, payload: bytes::Bytes, expire_at_ms: Option<i64>) -> Entry {
        let version = keyhaul_rdb::payload_rdb_version(&payload);
        let form = payload.first().zip(version);
        let form = form.and_then(|(byte, version)| Form::of(*byte, version));
        self.marks
            .note_fields(key, form.is_some_and(Form::has_expiring_fields));
        if self.marks.is_barred(key) || !self.outlet.takes_type(&payload) {
            return self.gone(key);
        }
        let payload = Payload::Whole(payload);
        let usage = Usage::default();
        self.outlet
            .entry(key.0, key.1.clone(), payload, expire_at_ms, usage)
    }

    /// Hands entries to the lanes; their keys are frozen once all of them are settled. What the target cannot hold is taken
    /// off it.
    async fn write(&self, entries: Vec<Entry>, keys: Vec<SourceKey>) {
        if keys.is_empty() {
            return;
        }
        let count = keys.len() as u64;
        self.status.keys_reread.fetch_add(count, Ordering::Relaxed);
        let (settled, is_settled) = tokio::sync::oneshot::channel();
        let ticket = Ticket::calling(move || {
            let _ = settled.send(());
        });
        self.outlet.send_with(entries, Some(&ticket)).await;
        ticket.settle();
        // A lane that was torn down settles nothing, and everything ends then.
        if is_settled.await.is_err() {
            return;
        }
        let barred: Vec<Entry> = keys
            .iter()
            .filter(|key| self.marks.is_barred(key))
            .map(|key| self.gone(key))
            .collect();
        if !barred.is_empty() {
            let (settled, is_settled) = tokio::sync::oneshot::channel();
            let ticket = Ticket::calling(move || {
                let _ = settled.send(());
            });
            self.outlet.send_with(barred, Some(&ticket)).await;
            ticket.settle();
            if is_settled.await.is_err() {
                return;
            }
        }
        for key in &keys {
            self.ledger.tried_again(key.0, &key.1);
            self.marks.written(key);
        }
    }
}

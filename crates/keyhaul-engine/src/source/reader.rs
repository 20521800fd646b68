//! Reads payloads and expiries of the keys that the scan found, and hands them on as entries.
//!
//! Two pipelines are in flight at a time, so that the source never waits for us: while the replies
//! of one are taken in, the server works on the other.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use keyhaul_client::{Action, Asking, ClientError, KeyRead, ServerError};
use tokio::sync::{Mutex, mpsc};

use crate::bigkey::queue::BigQueue;
use crate::checkpoint::BigKey;
use crate::entry::{Entry, Payload, Usage, Verdict};
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::progress::Progress;
use crate::route::Outlet;
use crate::site::SourceLink;
use crate::source::KeyBatch;
use crate::source::large::{LargeKey, drain, pass_through};
use crate::source::scan::ScanEnd;
use crate::source::stray::StrayReader;
use crate::source::track::Ticket;

/// Pipelines in flight on one connection.
const PIPELINES_MAX: usize = 2;
/// What one pipeline's replies should come to, bytes; the number of keys follows from it.
const PIPELINE_BYTES: usize = 256 * 1024;
/// Most keys in one pipeline: bounds what a source has to keep ready for us when small keys are
/// followed by large ones.
const KEYS_MAX: usize = 512;
/// How often a key is read again because it changed meanwhile.
const TRIES_MAX: u32 = 20;

/// The queue of keys, shared by the readers of a node.
pub(crate) type KeyQueue = Arc<Mutex<mpsc::Receiver<KeyBatch>>>;

/// One reading connection to one source primary.
pub(crate) struct Reader {
    link: SourceLink,
    stray: StrayReader,
    queue: KeyQueue,
    outlet: Outlet,
    ledger: Arc<Ledger>,
    /// Keys that were taken from the queue and not asked for yet.
    waiting: VecDeque<KeyBatch>,
    in_flight: VecDeque<KeyBatch>,
    entries: Vec<Entry>,
    keys_per_pipeline: usize,
    /// Where keys go that prove too large for one piece.
    pub(crate) big: Option<Arc<BigQueue>>,
}

impl Reader {
    pub(crate) fn new(
        link: SourceLink,
        stray: StrayReader,
        queue: KeyQueue,
        outlet: Outlet,
        ledger: Arc<Ledger>,
    ) -> Self {
        Self {
            link,
            stray,
            queue,
            outlet,
            ledger,
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            entries: Vec::new(),
            keys_per_pipeline: 16,
            big: None,
        }
    }

    /// Reads until the queue is closed and empty. Keys taken from the queue are read even when the
    /// job is to stop; what the scan has not handed over is not.
    ///
    /// # Errors
    /// [`GaveUp`] when the job was halted.
    pub(crate) async fn run(mut self) -> Result<ScanEnd, GaveUp> {
        loop {
            match self.step().await {
                Ok(true) => self.link.success(&self.ledger),
                Ok(false) => return Ok(ScanEnd::Complete),
                Err(e) => {
                    let recovered = self.link.failed(&e, &self.ledger).await;
                    // What was in flight is asked for again, in the order of the scan.
                    while let Some(batch) = self.in_flight.pop_back() {
                        self.waiting.push_front(batch);
                    }
                    if !self.link.node_is_primary() || recovered.is_err() {
                        self.give_back(recovered.is_err());
                        recovered?;
                        return Ok(ScanEnd::NodeLost);
                    }
                }
            }
        }
    }

    /// Fills the window and takes in one pipeline. `false`: all is done.
    async fn step(&mut self) -> Result<bool, ClientError> {
        while self.in_flight.len() < PIPELINES_MAX && self.refill().await {
            let Some(next) = self.waiting.front_mut() else {
                break;
            };
            let connection = self.link.get().await?;
            if connection.db() != next.db && !self.in_flight.is_empty() {
                break; // SELECT waits for its reply, so the window must be empty
            }
            connection.select(next.db).await?;
            let rest = next
                .keys
                .split_off(next.keys.len().min(self.keys_per_pipeline));
            let asked = std::mem::replace(&mut next.keys, rest);
            let batch = KeyBatch {
                db: next.db,
                keys: asked,
                tries: next.tries,
                ticket: next.ticket.clone(),
            };
            if next.keys.is_empty()
                && let Some(emptied) = self.waiting.pop_front()
            {
                emptied.settle();
            }
            self.in_flight.push_back(batch);
            let Some(batch) = self.in_flight.back() else {
                break;
            };
            connection.ask_keys(&batch.keys, Asking::No).await?;
        }
        if self.in_flight.is_empty() {
            return Ok(!self.waiting.is_empty());
        }
        let Some(batch) = self.in_flight.pop_front() else {
            return Ok(true);
        };
        let outcome = self.take_in(&batch).await;
        self.flush(batch.ticket.as_ref()).await;
        // What must be read again stands for itself, and so does what is on its way to the target.
        batch.settle();
        outcome.map(|()| true)
    }

    /// Sees to it that a batch is waiting. Only an idle reader waits for the scan.
    async fn refill(&mut self) -> bool {
        if self.waiting.is_empty() {
            let next = if self.in_flight.is_empty() {
                self.queue.lock().await.recv().await
            } else {
                match self.queue.try_lock() {
                    Ok(mut queue) => queue.try_recv().ok(),
                    Err(_) => None,
                }
            };
            self.waiting.extend(next);
        }
        !self.waiting.is_empty()
    }

    /// Takes in the replies of a pipeline.
    async fn take_in(&mut self, batch: &KeyBatch) -> Result<(), ClientError> {
        let keys = &batch.keys;
        let (mut again, mut strays) = (Vec::new(), Vec::new());
        let (mut bytes, mut flushed) = (0, 0);
        let mut passing = None;
        for (index, key) in keys.iter().enumerate() {
            let read = match self.next_read(batch.db, key).await {
                Ok(read) => read,
                Err(e) => {
                    // What was read already goes on; the rest is asked for again.
                    again.extend_from_slice(&keys[index..]);
                    self.put_back(Again {
                        keys: again,
                        is_server_fault: true,
                        batch,
                    });
                    self.read_strays(batch.db, strays).await;
                    return Err(e);
                }
            };
            match read {
                ReadOutcome::Payload(payload, expire_at_ms) => {
                    bytes += payload.len();
                    if self.outlet.takes_type(&payload) {
                        let payload = Payload::Whole(payload);
                        self.entries.push(self.outlet.entry(
                            batch.db,
                            key.clone(),
                            payload,
                            expire_at_ms,
                            Usage::default(),
                        ));
                    } else {
                        self.entries.extend(self.outlet.absent(batch.db, key));
                    }
                    if bytes - flushed > PIPELINE_BYTES {
                        flushed = bytes;
                        self.flush(batch.ticket.as_ref()).await;
                    }
                }
                ReadOutcome::Gone => self.entries.extend(self.outlet.absent(batch.db, key)),
                ReadOutcome::Passed => {}
                ReadOutcome::Again => again.push(key.clone()),
                ReadOutcome::Refused(error) => match error.action() {
                    Action::Moved { .. } | Action::Ask { .. } => strays.push((key.clone(), error)),
                    Action::GiveUp => {
                        let reason = format!("the source refused to give it: {error}");
                        self.ledger.not_moved(batch.db, key, reason);
                    }
                    _ => {
                        again.push(key.clone());
                        passing = Some(error);
                    }
                },
            }
        }
        self.adapt(keys.len(), bytes);
        let is_passing = passing.is_some();
        self.put_back(Again {
            keys: again,
            is_server_fault: is_passing,
            batch,
        });
        self.read_strays(batch.db, strays).await;
        match passing {
            Some(error) => Err(ClientError::Server {
                address: self.address(),
                error,
            }),
            None => Ok(()),
        }
    }

    async fn next_read(&mut self, db: u32, key: &Bytes) -> Result<ReadOutcome, ClientError> {
        let Some(connection) = self.link.open_connection() else {
            return Err(ClientError::Closed {
                address: self.address(),
            });
        };
        match connection.next_key(Asking::No).await? {
            KeyRead::Whole {
                payload,
                expire_at_ms,
            } => Ok(ReadOutcome::Payload(payload, expire_at_ms)),
            KeyRead::Gone => {
                if !self.outlet.deletes() {
                    Progress::add(&self.ledger.progress.keys_gone, 1);
                }
                Ok(ReadOutcome::Gone)
            }
            KeyRead::Unsettled => Ok(ReadOutcome::Again),
            KeyRead::Refused(error) => Ok(ReadOutcome::Refused(error)),
            KeyRead::Large {
                payload_bytes,
                expire_at_ms,
            } => {
                let large = LargeKey {
                    db,
                    key,
                    payload_bytes,
                    expire_at_ms,
                };
                if let Some(big) = &self.big
                    && payload_bytes > self.outlet.payload_max()
                {
                    // Its size could not be known before.
                    drain(connection).await?;
                    big.push(BigKey {
                        db,
                        key: key.clone(),
                        memory_bytes: payload_bytes,
                    })
                    .await;
                    return Ok(ReadOutcome::Passed);
                }
                match pass_through(connection, &mut self.outlet, large).await? {
                    Verdict::Settled => Ok(ReadOutcome::Passed),
                    Verdict::Again => Ok(ReadOutcome::Again),
                }
            }
        }
    }

    /// Puts keys back to be read again, unless they were tried too often. A server that was away
    /// does not count against a key.
    fn put_back(&mut self, again: Again<'_>) {
        let (keys, db) = (again.keys, again.batch.db);
        if keys.is_empty() {
            return;
        }
        let tries = again.batch.tries + u32::from(!again.is_server_fault);
        // Who follows the source reads a key until it is known: it changes just because it is in use.
        if tries > TRIES_MAX && !self.outlet.deletes() {
            for key in &keys {
                let reason = format!(
                    "it could not be read and passed on as one state in {TRIES_MAX} tries: it is written all the time, or its transfer is cut"
                );
                self.ledger.not_moved(db, key, reason);
            }
            return;
        }
        self.waiting.push_front(KeyBatch {
            db,
            keys,
            tries,
            ticket: again.batch.ticket.clone(),
        });
    }

    /// Reads keys that live on another node of the source by now.
    async fn read_strays(&mut self, db: u32, strays: Vec<(Bytes, ServerError)>) {
        for (key, error) in strays {
            if let Some(entry) = self.stray.read(db, &key, error, &mut self.outlet).await {
                self.entries.push(entry);
            }
        }
    }

    async fn flush(&mut self, ticket: Option<&Ticket>) {
        let entries = std::mem::take(&mut self.entries);
        self.outlet.send_with(entries, ticket).await;
    }

    /// Aims at [`PIPELINE_BYTES`]: grows by doubling, shrinks at once.
    fn adapt(&mut self, keys: usize, bytes: usize) {
        if keys == 0 {
            return;
        }
        let fitting = PIPELINE_BYTES / (bytes / keys).max(64);
        self.keys_per_pipeline = fitting
            .clamp(1, self.keys_per_pipeline.saturating_mul(2))
            .min(KEYS_MAX);
    }

    /// The node is none of ours any more, or the job was halted: keys in hand are read by the next
    /// round in the first case, and listed in the second.
    fn give_back(&mut self, was_halted: bool) {
        let batches = std::mem::take(&mut self.waiting);
        if !was_halted {
            return;
        }
        for batch in batches {
            for key in &batch.keys {
                let reason = "the run stopped before it could be read".to_owned();
                self.ledger.not_moved(batch.db, key, reason);
            }
        }
    }

    fn address(&self) -> keyhaul_client::Address {
        let unknown = keyhaul_client::Address::Unix("the source".into());
        self.link
            .site
            .address_of_node(&self.link.node_id)
            .unwrap_or(unknown)
    }
}

/// Keys of a batch that must be read again.
struct Again<'a> {
    keys: Vec<Bytes>,
    is_server_fault: bool,
    batch: &'a KeyBatch,
}

/// What became of one read.
enum ReadOutcome {
    Payload(Bytes, Option<i64>),
    /// It is not there.
    Gone,
    /// It passed through already.
    Passed,
    Again,
    Refused(ServerError),
}

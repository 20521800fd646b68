//! One ordered stream of keys into the target.
//!
//! A lane keeps a few batches in flight so that the server never waits for us. An entry counts when
//! its reply was read. If anything goes wrong, the lane first takes in all outstanding replies, then
//! repeats what failed, in order, before it goes on: no later write of a key passes an earlier one.
//!
//! ```text
//! receive ─► write ─► in flight ─► settle ─┬─► applied, skipped, listed
//!               ▲                          └─► failed ─► wait / find the owner ─┐
//!               └──────────────────────────────────────────────────────────────┘
//! ```

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use keyhaul_client::{Address, ClientError, Mode, ServerError, Slot, TargetConnection};
use keyhaul_resp::{Token, encode};
use tokio::sync::mpsc;

use crate::bigkey::stored::StoredRules;
use crate::entry::{Batch, Entry, Held, Payload, Verdict};
use crate::ledger::Ledger;
use crate::options::OnConflict;
use crate::patience::Patience;
use crate::progress::Progress;
use crate::site::Site;
use crate::target::graves::RunTag;
use crate::target::links::Links;
use crate::target::refusals::Refusals;
use crate::target::restore::{self, Existing};

/// Batches in flight.
const WINDOW: usize = 3;
/// A payload above this is sent from where it lies instead of being copied, bytes.
const COPY_MAX: usize = 64 * 1024;

/// Keys of its own that a lane remembers with `--on-conflict fail`, 8 bytes and some each.
const WRITTEN_MAX: usize = 500_000;

/// What all lanes of a job have in common.
#[derive(Debug)]
pub(crate) struct LaneRules {
    pub target: Arc<Site>,
    pub on_conflict: OnConflict,
    /// Whether the source may tell a key twice: SCAN may, a record that comes again is of another file.
    pub may_repeat: bool,
    /// Longest payload that the target takes, bytes.
    pub bulk_len_max: u64,
    /// How values are built that go over by element.
    pub stored: StoredRules,
    pub refusals: Refusals,
    /// What the connections are called at the target.
    pub tag: Option<RunTag>,
}

/// A writer.
pub(crate) struct Lane {
    pub(super) rules: Arc<LaneRules>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) patience: Patience,
    inlet: mpsc::Receiver<Batch>,
    pub(super) links: Links,
    pub(super) in_flight: VecDeque<Sent>,
    pub(super) failed: Vec<(Entry, ClientError)>,
    pub(super) conflicts: Vec<Entry>,
    /// What the failed ones hold.
    pub(super) kept: Vec<Arc<Held>>,
    /// Hashes of the last keys that this lane wrote itself, for `--on-conflict fail`.
    written: HashSet<u64>,
}

/// Entries whose replies are outstanding.
pub(super) struct Sent {
    address: Address,
    /// A reply to SELECT comes first.
    selects: bool,
    entries: Vec<Entry>,
    held: Option<Arc<Held>>,
}

impl Lane {
    pub(crate) fn new(
        rules: Arc<LaneRules>,
        ledger: Arc<Ledger>,
        patience: Patience,
        inlet: mpsc::Receiver<Batch>,
    ) -> Self {
        Self {
            rules,
            ledger,
            patience,
            inlet,
            links: Links::default(),
            in_flight: VecDeque::new(),
            failed: Vec::new(),
            conflicts: Vec::new(),
            kept: Vec::new(),
            written: HashSet::new(),
        }
    }

    /// Writes until all outlets are dropped and everything is settled. A halted job makes it list
    /// what it still receives instead of writing it.
    pub(crate) async fn run(mut self) {
        loop {
            let next = if self.in_flight.is_empty() {
                match self.inlet.recv().await {
                    Some(batch) => Some(batch),
                    None => return,
                }
            } else if self.in_flight.len() < WINDOW {
                self.inlet.try_recv().ok()
            } else {
                None
            };
            match next {
                Some(batch) => self.take(batch).await,
                None => self.settle_oldest().await,
            }
            self.repair().await;
        }
    }

    async fn take(&mut self, batch: Batch) {
        let held = Some(Arc::new(batch.held));
        let is_plain = |entry: &Entry| {
            matches!(entry.payload, Payload::Whole(_) | Payload::Gone)
                && self.objection(entry).is_none()
        };
        if !self.ledger.has_halted() && batch.entries.iter().all(is_plain) {
            // Mostly so; the entries stay where they lie.
            return self.write(batch.entries, held).await;
        }
        let mut whole = Vec::with_capacity(batch.entries.len());
        for entry in batch.entries {
            if self.ledger.has_halted() {
                self.list(&entry, "the run stopped before it was written".to_owned());
                // Else its reader would try again. It may be gone.
                let _ = match entry.payload {
                    Payload::Parts(parts) => parts.verdict.send(Verdict::Settled),
                    Payload::Elements(elements) => elements.verdict.send(Verdict::Settled),
                    _ => Ok(()),
                };
            } else if let Payload::Parts(_) = entry.payload {
                self.settle_all().await;
                self.pass(entry).await;
            } else if let Payload::Elements(_) = entry.payload {
                self.settle_all().await;
                self.build(entry).await;
            } else if let Some(reason) = self.objection(&entry) {
                self.list(&entry, reason);
            } else {
                whole.push(entry);
            }
        }
        self.write(whole, held).await;
    }

    /// Why an entry need not even be sent.
    fn objection(&self, entry: &Entry) -> Option<String> {
        let Payload::Whole(payload) = &entry.payload else {
            return None;
        };
        if payload.len() as u64 > self.rules.bulk_len_max {
            return Some(self.too_large(payload.len() as u64));
        }
        self.rules.refusals.known(payload)
    }

    pub(super) fn too_large(&self, payload_bytes: u64) -> String {
        too_large(payload_bytes, self.rules.bulk_len_max)
    }

    /// Sends entries to the nodes that own them and puts them in flight.
    pub(super) async fn write(&mut self, entries: Vec<Entry>, held: Option<Arc<Held>>) {
        for (address, db, entries) in self.by_node(entries) {
            match self.send(&address, db, &entries).await {
                Ok(selects) => {
                    let held = held.clone();
                    self.in_flight.push_back(Sent {
                        address,
                        selects,
                        entries,
                        held,
                    });
                }
                Err(e) => {
                    self.links.give_up(&address);
                    self.fail_all(entries, e);
                }
            }
        }
        self.keep(held);
    }

    /// Keeps what failed entries hold until they are repaired; else it is settled.
    fn keep(&mut self, held: Option<Arc<Held>>) {
        if self.failed.is_empty() && self.conflicts.is_empty() {
            Held::release(held);
        } else {
            self.kept.extend(held);
        }
    }

    /// Groups entries by owner and db; the order within a group is kept.
    fn by_node(&mut self, entries: Vec<Entry>) -> Vec<(Address, u32, Vec<Entry>)> {
        let topology = self.rules.target.routing.topology();
        let owner = |entry: &Entry| match topology.mode {
            Mode::Standalone => Ok(0),
            Mode::Cluster => topology.owner_index(Slot::of_key(&entry.target_key)),
        };
        // Mostly all go to one node, and then nothing is moved.
        if let Some(first) = entries.first()
            && let Ok(index) = owner(first)
            && let Some(node) = topology.primaries.get(index)
            && entries.iter().all(|entry| {
                entry.target_db == first.target_db && owner(entry).is_ok_and(|o| o == index)
            })
        {
            return vec![(node.address.clone(), first.target_db, entries)];
        }
        let mut groups: Vec<(Address, u32, Vec<Entry>)> = Vec::new();
        for entry in entries {
            let address = match self.rules.target.address_of_key(&entry.target_key) {
                Ok(address) => address,
                Err(e) => {
                    self.failed.push((entry, e));
                    continue;
                }
            };
            match groups
                .iter_mut()
                .find(|(a, db, _)| *a == address && *db == entry.target_db)
            {
                Some((_, _, group)) => group.push(entry),
                None => groups.push((address, entry.target_db, vec![entry])),
            }
        }
        groups
    }

    /// Sends the commands; `true` when a SELECT went before them.
    async fn send(
        &mut self,
        address: &Address,
        db: u32,
        entries: &[Entry],
    ) -> Result<bool, ClientError> {
        let existing = self.existing();
        let connection = self.connection(address).await?;
        let selects = connection.reads().set_db(db);
        let raw = connection.raw();
        if selects {
            encode::command(raw.output(), &[b"SELECT", db.to_string().as_bytes()]);
        }
        for entry in entries {
            let payload = match &entry.payload {
                Payload::Whole(payload) => payload,
                Payload::Gone => {
                    restore::unlink(raw.output(), &entry.target_key);
                    continue;
                }
                _ => continue,
            };
            let (key, at) = (&entry.target_key, entry.expire_at_ms);
            let usage = entry.usage;
            let tail = restore::Tail { existing, usage };
            if payload.len() > COPY_MAX {
                restore::head(raw.output(), key, at, payload.len() as u64, tail);
                raw.send(payload).await?;
                tail.encode(raw.output());
            } else {
                restore::command(raw.output(), key, at, payload, tail);
            }
        }
        raw.flush().await?;
        Ok(selects)
    }

    /// Takes in the replies to the oldest batch in flight.
    pub(super) async fn settle_oldest(&mut self) {
        let Some(mut sent) = self.in_flight.pop_front() else {
            return;
        };
        let held = sent.held.take();
        self.settle(sent).await;
        self.keep(held);
    }

    async fn settle(&mut self, sent: Sent) {
        let mut entries = sent.entries.into_iter();
        let Some(mut link) = self.links.take(&sent.address) else {
            let address = sent.address;
            return entries.for_each(|entry| {
                self.failed.push((
                    entry,
                    ClientError::Closed {
                        address: address.clone(),
                    },
                ));
            });
        };
        let connection = &mut link.connection;
        if sent.selects
            && let Err(e) = connection.raw().reply().await
        {
            self.links.bury(&sent.address, link);
            return self.fail_all(entries.collect(), e);
        }
        let (mut applied, mut bytes) = (0, 0);
        while let Some(entry) = entries.next() {
            let raw = connection.raw();
            let token = loop {
                // Mostly many replies have arrived at once: no await for those.
                match raw.buffered_token() {
                    Ok(Some(token)) => break Ok(token),
                    Ok(None) => {}
                    Err(e) => break Err(e),
                }
                if let Err(e) = raw.fill().await {
                    break Err(e);
                }
            };
            match token {
                Ok(Token::Simple(_)) => {
                    self.remember(&entry);
                    applied += 1;
                    bytes += entry.payload_bytes();
                }
                Ok(Token::Int(_)) if matches!(entry.payload, Payload::Gone) => {}
                Ok(Token::Error(text)) => {
                    let error = ServerError::new(text);
                    self.refused(
                        entry,
                        ClientError::Server {
                            address: sent.address.clone(),
                            error,
                        },
                    );
                }
                Ok(_) => {
                    let e = connection.raw().unexpected("RESTORE");
                    self.failed.push((entry, e));
                    self.links.bury(&sent.address, link);
                    return self.fail_all(
                        entries.collect(),
                        ClientError::Closed {
                            address: sent.address,
                        },
                    );
                }
                Err(e) => {
                    self.failed.push((entry, e));
                    self.count(applied, bytes);
                    self.links.bury(&sent.address, link);
                    return self.fail_all(
                        entries.collect(),
                        ClientError::Closed {
                            address: sent.address,
                        },
                    );
                }
            }
        }
        self.count(applied, bytes);
        self.links.put_back(sent.address, link);
    }

    /// Takes in all outstanding replies.
    pub(super) async fn settle_all(&mut self) {
        while !self.in_flight.is_empty() {
            self.settle_oldest().await;
        }
        Box::pin(self.repair()).await;
    }

    pub(super) fn count(&self, applied: u64, bytes: u64) {
        Progress::add(&self.ledger.progress.keys_copied, applied);
        Progress::add(&self.ledger.progress.bytes_copied, bytes);
    }

    /// Notes that a key is there by our doing: SCAN may return it once more.
    pub(super) fn remember(&mut self, entry: &Entry) {
        if self.rules.on_conflict != OnConflict::Fail || !self.rules.may_repeat {
            return;
        }
        if self.written.len() >= WRITTEN_MAX {
            self.written.clear();
        }
        self.written.insert(hash(entry));
    }

    /// Whether this lane wrote the key itself.
    pub(super) fn has_written(&self, entry: &Entry) -> bool {
        self.written.contains(&hash(entry))
    }

    pub(super) fn existing(&self) -> Existing {
        match self.rules.on_conflict {
            OnConflict::Replace => Existing::Replace,
            OnConflict::Skip | OnConflict::Fail => Existing::Keep,
        }
    }

    pub(super) fn list(&self, entry: &Entry, reason: String) {
        self.ledger
            .not_moved(entry.source_db, entry.source_key(), reason);
    }

    pub(super) fn drop_connection(&mut self, address: &Address) {
        self.links.give_up(address);
    }

    /// The connection to a node, opened if need be.
    pub(super) async fn connection(
        &mut self,
        address: &Address,
    ) -> Result<&mut TargetConnection, ClientError> {
        self.links
            .get(&self.rules.target, address, self.rules.tag.as_ref())
            .await
    }
}

/// The reason in the list for a payload that can only go over whole, and is too long for that.
pub(crate) fn too_large(payload_bytes: u64, bulk_len_max: u64) -> String {
    format!(
        "its payload of {payload_bytes} bytes is longer than the target takes ({bulk_len_max}): raise proto-max-bulk-len and client-query-buffer-limit there"
    )
}

fn hash(entry: &Entry) -> u64 {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    hasher.hash_one((entry.target_db, &entry.target_key))
}

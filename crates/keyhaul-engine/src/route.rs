//! From readers to writers: transforms a key, picks its lane, and keeps all buffers within the
//! memory budget.
//!
//! A lane is picked by the slot of the key's name on the target and never changes during a job,
//! whatever slots move: so all entries of one key pass through one lane, in order.

use std::sync::Arc;

use bytes::Bytes;
use keyhaul_client::{SLOT_COUNT, Slot, SlotSet, Topology};
use keyhaul_rdb::KeyType;
use tokio::sync::{Semaphore, mpsc};

use crate::conversion::Conversion;
use crate::entry::{Batch, Entry, Held, Payload, Usage};
use crate::follow::Guard;
use crate::ledger::Ledger;
use crate::source::track::Ticket;
use crate::throttle::Throttle;
use crate::transform::{DbMap, KeyFilter, PrefixRename, renamed};

/// The unit of the memory budget, bytes.
const CHARGE_UNIT: u64 = 1024;
/// What an entry costs beyond its payload, bytes.
const ENTRY_BYTES: u64 = 256;

/// How names and dbs change on the way.
#[derive(Debug)]
pub(crate) struct Transform {
    pub filter: Arc<KeyFilter>,
    pub db_map: DbMap,
    pub renames: Vec<PrefixRename>,
}

/// Where readers put what they have read. One for each reader, all over the same lanes.
#[derive(Debug, Clone)]
pub(crate) struct Outlet {
    pub(crate) conversion: Arc<Conversion>,
    /// The RDB version that the source writes, where its payloads do not tell in time.
    source_version: u16,
    payload_max: u64,
    chunk_threshold: u64,
    ledger: Arc<Ledger>,
    transform: Arc<Transform>,
    lanes: Arc<Lanes>,
    budget: Arc<Semaphore>,
    budget_units: u32,
    throttle: Arc<Throttle>,
    /// What holds expiry times back; `None`: they go over as they are.
    guard: Option<Arc<Guard>>,
    /// What the source does not have is deleted on the target.
    deletes: bool,
}

/// The inlets of all lanes, and which slot goes where.
#[derive(Debug)]
pub(crate) struct Lanes {
    inlets: Vec<mpsc::Sender<Batch>>,
    lane_of_slot: Vec<u16>,
}

/// The bounds of an outlet, and what it cannot find out by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutletOptions {
    /// All buffers together, bytes.
    pub memory_bytes: u64,
    /// Payload bytes per second at most.
    pub rate_limit: Option<u64>,
    /// The RDB version that the source writes.
    pub source_version: u16,
    /// Longest payload that the target takes, bytes.
    pub payload_max: u64,
    /// Values that are longer in an RDB go over by element, bytes.
    pub chunk_threshold: u64,
}

impl Lanes {
    /// All slots in one lane.
    pub(crate) fn single(inlet: mpsc::Sender<Batch>) -> Self {
        Self {
            inlets: vec![inlet],
            lane_of_slot: vec![0; SLOT_COUNT],
        }
    }

    /// Spreads the slots: those of one node over `threads` lanes of its own.
    pub(crate) fn new(
        topology: &Topology,
        threads: usize,
        mut open: impl FnMut() -> mpsc::Sender<Batch>,
    ) -> Self {
        let nodes = topology.primaries.len().max(1);
        let inlets: Vec<_> = (0..nodes * threads).map(|_| open()).collect();
        let mut lane_of_slot = vec![0; SLOT_COUNT];
        for slot in SlotSet::all().iter() {
            let owner = topology.owner(slot).and_then(|owner| {
                topology
                    .primaries
                    .iter()
                    .position(|node| node.id == owner.id)
            });
            let lane = owner.unwrap_or(0) * threads + slot.index() % threads;
            lane_of_slot[slot.index()] = u16::try_from(lane).expect("few lanes");
        }
        Self {
            inlets,
            lane_of_slot,
        }
    }
}

impl Outlet {
    pub(crate) fn new(
        transform: Transform,
        lanes: Lanes,
        conversion: Conversion,
        options: OutletOptions,
        ledger: Arc<Ledger>,
    ) -> Self {
        let budget_units = u32::try_from(options.memory_bytes / CHARGE_UNIT)
            .unwrap_or(u32::MAX / 8)
            .max(1);
        let stop = ledger.stop.clone();
        Self {
            conversion: Arc::new(conversion),
            source_version: options.source_version,
            payload_max: options.payload_max,
            chunk_threshold: options.chunk_threshold,
            ledger,
            transform: Arc::new(transform),
            lanes: Arc::new(lanes),
            budget: Arc::new(Semaphore::new(budget_units as usize)),
            budget_units,
            throttle: Arc::new(Throttle::new(options.rate_limit, stop)),
            guard: None,
            deletes: false,
        }
    }

    /// The same, with expiry times that come near held back.
    pub(crate) fn guarded_by(self, guard: Arc<Guard>) -> Self {
        Self {
            guard: Some(guard),
            ..self
        }
    }

    /// From here on a key that turns out not to be on the source, or not to go over, is deleted on the target: it did once.
    pub(crate) fn deleting(self) -> Self {
        let deletes = true;
        Self { deletes, ..self }
    }

    /// Whether it is so.
    pub(crate) fn deletes(&self) -> bool {
        self.deletes
    }

    /// What goes to the target for a key that is not there or does not go over: nothing, or its deletion.
    pub(crate) fn absent(&self, source_db: u32, source_key: &Bytes) -> Option<Entry> {
        let usage = Usage::default();
        let entry = || self.entry(source_db, source_key.clone(), Payload::Gone, None, usage);
        self.deletes.then(entry)
    }

    /// Sends entries and waits until they are settled.
    pub(crate) async fn send_and_settle(&self, entries: Vec<Entry>) {
        let (ticket, settled) = Ticket::awaited();
        self.send_with(entries, Some(&ticket)).await;
        ticket.settle();
        // A lane that ended early says so itself.
        let _ = settled.await;
    }

    /// Whether a payload of this type goes over. The payload may be cut short.
    pub(crate) fn takes_type(&self, payload: &[u8]) -> bool {
        let key_type = payload
            .first()
            .and_then(|byte| KeyType::of_type_byte(*byte));
        self.transform.filter.takes_type(key_type)
    }

    /// A key that was read, under its db and name on the target.
    pub(crate) fn entry(
        &self,
        source_db: u32,
        source_key: Bytes,
        payload: Payload,
        expire_at_ms: Option<i64>,
        usage: Usage,
    ) -> Entry {
        let (target_key, other_source_key) = match renamed(&self.transform.renames, &source_key) {
            Some(target_key) => (target_key, Some(source_key)),
            None => (source_key, None),
        };
        Entry {
            source_db,
            other_source_key,
            target_db: self.transform.db_map.target_db(source_db),
            target_key,
            expire_at_ms,
            usage,
            payload,
        }
    }

    /// Db and name on the target of a key of the source.
    pub(crate) fn target_name(&self, source_db: u32, source_key: &Bytes) -> (u32, Bytes) {
        let name = renamed(&self.transform.renames, source_key);
        let target_db = self.transform.db_map.target_db(source_db);
        (target_db, name.unwrap_or_else(|| source_key.clone()))
    }

    /// Longest payload that the target takes, bytes.
    pub(crate) fn payload_max(&self) -> u64 {
        self.payload_max
    }

    /// Values that are longer in an RDB go over by element, bytes.
    pub(crate) fn chunk_threshold(&self) -> u64 {
        self.chunk_threshold
    }

    /// What holds transfers back to the rate that was asked for.
    pub(crate) fn throttle(&self) -> &Arc<Throttle> {
        &self.throttle
    }

    /// The RDB version that the source writes.
    pub(crate) fn source_version(&self) -> u16 {
        self.source_version
    }

    /// The filters of the job.
    pub(crate) fn filter(&self) -> &KeyFilter {
        &self.transform.filter
    }

    /// Lists a key of the source as not moved.
    pub(crate) fn list(&self, db: u32, key: &[u8], reason: String) {
        self.ledger.not_moved(db, key, reason);
    }

    /// Whether the job is to stop.
    pub(crate) fn has_stopped(&self) -> bool {
        self.ledger.stop.is_cancelled()
    }

    /// Makes entries fit for the target and hands them to their lanes; waits while the budget is used
    /// up.
    pub(crate) async fn send(&self, entries: Vec<Entry>) {
        self.send_with(entries, None).await;
    }

    /// The same; the ticket is held until all of them are settled.
    pub(crate) async fn send_with(&self, entries: Vec<Entry>, ticket: Option<&Ticket>) {
        let mut entries = self.conversion.fit(entries);
        if entries.is_empty() {
            return;
        }
        if let Some(guard) = &self.guard {
            for entry in &mut entries {
                entry.expire_at_ms = entry
                    .expire_at_ms
                    .map(|at| guard.admit(entry.target_db, &entry.target_key, at));
            }
            if guard.flush(&self.ledger).is_err() {
                return;
            }
        }
        self.throttle
            .pass(entries.iter().map(Entry::payload_bytes).sum())
            .await;
        if let [inlet] = self.lanes.inlets.as_slice() {
            return self.put(inlet, entries, ticket).await;
        }
        let mut by_lane: Vec<Vec<Entry>> = Vec::new();
        by_lane.resize_with(self.lanes.inlets.len(), Vec::new);
        for entry in entries {
            let slot = Slot::of_key(&entry.target_key);
            by_lane[usize::from(self.lanes.lane_of_slot[slot.index()])].push(entry);
        }
        for (inlet, entries) in self.lanes.inlets.iter().zip(by_lane) {
            if !entries.is_empty() {
                self.put(inlet, entries, ticket).await;
            }
        }
    }

    async fn put(&self, inlet: &mpsc::Sender<Batch>, entries: Vec<Entry>, ticket: Option<&Ticket>) {
        let held = |entry: &Entry| match &entry.payload {
            Payload::Whole(bytes) | Payload::Value { value: bytes, .. } => {
                bytes.len() as u64 + ENTRY_BYTES
            }
            Payload::Parts(_) | Payload::Elements(_) | Payload::Gone => ENTRY_BYTES,
        };
        let units = entries.iter().map(held).sum::<u64>() / CHARGE_UNIT + 1;
        let units = u32::try_from(units)
            .unwrap_or(u32::MAX)
            .min(self.budget_units);
        let charge = self.budget.clone().acquire_many_owned(units).await.ok();
        // A lane ends only after all outlets are dropped.
        let held = Held {
            _charge: charge,
            ticket: ticket.cloned(),
        };
        let _ = inlet.send(Batch { entries, held }).await;
    }
}

//! Finds the keys of one source primary with SCAN, db after db.
//!
//! A cursor means something to the process that gave it and to no other. So a broken link goes on
//! from the cursor, while a restarted server, or a new primary, is scanned from the start.

use std::sync::Arc;

use bytes::Bytes;
use keyhaul_client::{ClientError, ScanOptions, ScanPage, SlotSet, Topology};
use keyhaul_rdb::KeyType;
use tokio::sync::mpsc;
use xxhash_rust::xxh3::Xxh3;

use crate::checkpoint::ScanPosition;
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::plan::NodePlan;
use crate::progress::{Phase, Progress};
use crate::site::{SourceLink, run_id_of};
use crate::source::KeyBatch;
use crate::source::sieve::Sieve;
use crate::source::track::{ScanTrack, Ticket};
use crate::transform::KeyFilter;

/// Most keys that are handed on at once: one pipeline of the reader.
const BATCH_KEYS: usize = 512;
/// Their names together, bytes, unless a single one is longer.
const BATCH_BYTES: usize = 256 * 1024;
/// COUNT of the first page: nothing is known of the names then.
pub(crate) const COUNT_FIRST: u32 = 100;
/// Names on a page, bytes: with more the next page is asked for shorter.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// What a scan of one primary goes through.
#[derive(Debug, Clone)]
pub(crate) struct ScanJob {
    /// The dbs, in this order.
    pub dbs: Vec<u32>,
    /// MATCH, TYPE and COUNT.
    pub options: ScanOptions,
    /// Only keys of these slots; `None`: all.
    pub slots: Option<SlotSet>,
}

/// What these servers can filter by themselves; it must still be checked here.
pub(crate) fn scan_options(filter: &KeyFilter, primaries: &[NodePlan], count: u32) -> ScanOptions {
    // SCAN has TYPE since Redis 6.0.
    let knows_type = |node: &NodePlan| node.facts.version.is_some_and(|version| version.major >= 6);
    let key_type = filter.server_type().map(KeyType::name);
    ScanOptions {
        pattern: filter.server_pattern().map(Bytes::copy_from_slice),
        key_type: key_type.filter(|_| primaries.iter().all(knows_type)),
        count,
    }
}

/// How the scan of one primary ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScanEnd {
    /// Every key that was there from start to end was found.
    Complete,
    /// The node ceased to be a primary; its slots are to be read elsewhere.
    NodeLost,
}

/// The scan of one primary.
pub(crate) struct Scanner {
    pub link: SourceLink,
    pub job: ScanJob,
    pub sieve: Sieve,
    pub ledger: Arc<Ledger>,
    pub output: mpsc::Sender<KeyBatch>,
    /// Where an earlier run left off, and where this one is; `None`: it is not to be resumed.
    pub track: Option<Arc<ScanTrack>>,
    pub starts: Vec<ScanPosition>,
    /// COUNT of the next page, from [`COUNT_FIRST`] on in each db.
    pub count: u32,
}

impl Scanner {
    /// Scans all dbs of the node and hands the keys on.
    ///
    /// # Errors
    /// [`GaveUp`] when the job was halted or is to stop.
    pub(crate) async fn run(mut self) -> Result<ScanEnd, GaveUp> {
        let (starts, mut run_id) = self.places_to_start().await?;
        let slots = self.slots_now();
        for db in self.job.dbs.clone() {
            let start = starts.iter().find(|start| start.db == db);
            let cursor = match start.map(|start| start.cursor) {
                Some(0) => continue,
                Some(cursor) => cursor,
                None => 0,
            };
            // Nothing is known of the names of another db.
            self.count = COUNT_FIRST;
            let end = self.scan_db(db, cursor, &mut run_id, &slots).await;
            if let Some(track) = &self.track {
                track.save_now();
            }
            if end? == ScanEnd::NodeLost {
                return Ok(ScanEnd::NodeLost);
            }
        }
        self.ledger
            .progress
            .shard(&self.shard_name(), |shard| shard.done = true);
        Ok(ScanEnd::Complete)
    }

    async fn scan_db(
        &mut self,
        db: u32,
        mut cursor: u64,
        run_id: &mut Option<String>,
        slots: &str,
    ) -> Result<ScanEnd, GaveUp> {
        loop {
            if self.ledger.stop.is_cancelled() {
                return Err(GaveUp);
            }
            match self.step(db, &mut cursor, run_id).await {
                Ok(page) => {
                    self.link.success(&self.ledger);
                    let found = page.keys.len();
                    let track = self.track.as_ref().zip(run_id.clone());
                    let ticket = track.map(|(track, run_id)| {
                        track.page(ScanPosition {
                            of_target: track.of_target,
                            node_id: self.link.node_id.clone(),
                            process: format!("{run_id} {slots}"),
                            db,
                            cursor: page.cursor,
                        })
                    });
                    self.hand_on(db, page.keys, ticket).await?;
                    let name = self.shard_name();
                    self.ledger.progress.shard(&name, |shard| {
                        (shard.db, shard.keys_found) = (db, shard.keys_found + found as u64);
                    });
                    cursor = page.cursor;
                    if cursor == 0 {
                        return Ok(ScanEnd::Complete);
                    }
                }
                Err(e) => {
                    self.link.failed(&e, &self.ledger).await?;
                    if !self.link.node_is_primary() {
                        return Ok(ScanEnd::NodeLost);
                    }
                }
            }
        }
    }

    /// Where an earlier run left off, if its cursors still mean something: the server is the same process and
    /// serves the same slots, none of which was away meanwhile. And the process, where a connection was opened to ask
    /// for it.
    async fn places_to_start(&mut self) -> Result<(Vec<ScanPosition>, Option<String>), GaveUp> {
        let mut starts = std::mem::take(&mut self.starts);
        if starts.is_empty() {
            return Ok((starts, None));
        }
        let run_id = loop {
            let asked = async { run_id_of(self.link.get().await?).await }.await;
            match asked {
                Ok(run_id) => break run_id,
                Err(e) => self.link.failed(&e, &self.ledger).await?,
            }
        };
        let process = run_id
            .as_ref()
            .map(|run_id| format!("{run_id} {}", self.slots_now()));
        starts.retain(|start| process.as_ref() == Some(&start.process));
        if !starts.is_empty() {
            return Ok((starts, run_id));
        }
        self.ledger.remark(format!(
            "{} is not the process that it was when the earlier run stopped, or its slots moved: it is scanned from the start",
            self.shard_name()
        ));
        Ok((starts, run_id))
    }

    fn slots_now(&self) -> String {
        slots_text(&self.link.site.routing.topology(), &self.link.node_id)
    }

    /// One page, sifted. A fresh connection first finds out which process it leads to (`run_id`: that of the one
    /// before), and so whether the cursor is still good.
    async fn step(
        &mut self,
        db: u32,
        cursor: &mut u64,
        run_id: &mut Option<String>,
    ) -> Result<ScanPage, ClientError> {
        let is_fresh = self.link.open_connection().is_none();
        let connection = self.link.get().await?;
        if is_fresh {
            let now = run_id_of(connection).await?;
            if *cursor != 0 && (now.is_none() || *run_id != now) {
                let line = format!(
                    "{} was restarted: its db {db} is scanned again",
                    connection.address()
                );
                self.ledger.remark(line);
                *cursor = 0;
            }
            *run_id = now;
        }
        let connection = self.link.get().await?;
        connection.select(db).await?;
        let options = ScanOptions {
            count: self.count.min(self.job.options.count).max(1),
            ..self.job.options.clone()
        };
        let page = connection.scan(*cursor, &options).await?;
        let names_bytes: usize = page.keys.iter().map(Bytes::len).sum();
        self.count = next_count(options.count, names_bytes).min(self.job.options.count);
        let keys = self
            .sieve
            .sift(connection, db, page.keys, self.job.slots.as_ref())
            .await?;
        Ok(ScanPage {
            cursor: page.cursor,
            keys,
        })
    }

    async fn hand_on(
        &self,
        db: u32,
        mut keys: Vec<Bytes>,
        ticket: Option<Ticket>,
    ) -> Result<(), GaveUp> {
        // The verification scans once more; its keys were counted before.
        if self.ledger.progress.phase() == Phase::Copying {
            Progress::add(&self.ledger.progress.keys_found, keys.len() as u64);
        }
        while !keys.is_empty() {
            let rest = keys.split_off(batch_len(&keys));
            let batch = KeyBatch {
                db,
                keys,
                tries: 0,
                ticket: ticket.clone(),
            };
            // The readers end before us only when the job is halted.
            self.output.send(batch).await.map_err(|_| GaveUp)?;
            keys = rest;
        }
        if let Some(ticket) = ticket {
            ticket.settle();
        }
        Ok(())
    }

    fn shard_name(&self) -> String {
        let topology = self.link.site.routing.topology();
        topology
            .node(&self.link.node_id)
            .map_or_else(String::new, |node| node.address.to_string())
    }
}

/// A digest of the slots of a node and of its epoch.
pub(crate) fn slots_text(topology: &Topology, node_id: &str) -> String {
    let mut digest = Xxh3::new();
    for slot in topology.slots_of(node_id).iter() {
        digest.update(&slot.index().to_le_bytes());
    }
    let epoch = topology.node(node_id).map_or(0, |node| node.epoch);
    digest.update(&epoch.to_le_bytes());
    format!("{:016x}", digest.digest())
}

/// How many of these keys make a batch, 1 at least.
fn batch_len(keys: &[Bytes]) -> usize {
    let mut bytes = 0;
    let fits = |key: &&Bytes| {
        bytes += key.len();
        bytes <= BATCH_BYTES
    };
    keys.iter().take(BATCH_KEYS).take_while(fits).count().max(1)
}

/// COUNT behind a page of so many bytes of names: longer while they are short, and shorter once they are not, so that
/// memory does not go with the length of names.
pub(crate) fn next_count(count: u32, names_bytes: usize) -> u32 {
    match names_bytes {
        bytes if bytes > PAGE_BYTES_MAX => (count / 2).max(1),
        bytes if bytes < PAGE_BYTES_MAX / 4 => count.saturating_mul(2),
        _ => count,
    }
}

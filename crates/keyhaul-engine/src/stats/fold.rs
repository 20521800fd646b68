//! Takes in what was read, page after page, and writes down how far that is together with what came of it: whatever
//! becomes of this process, both are of one moment.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use keyhaul_client::SlotSet;
use keyhaul_rdb::KeyType;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::checkpoint::Checkpoint;
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::progress::Progress;
use crate::stats::{Collector, KeyFacts, ReadAgain};

/// It is written down so often at most.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// What readers tell. Of one node, in the order in which it is to be taken in.
#[derive(Debug)]
pub(super) enum Told {
    Page(Page),
    /// A node reads keys again that it told before.
    Again(ReadAgain),
    /// So do all nodes: slots moved. How far they came before says nothing any more.
    Moved(SlotSet),
}

/// Keys that belong together, of one db.
#[derive(Debug)]
pub(super) struct Page {
    pub db: u32,
    pub rows: Vec<KeyRow>,
    /// Where reading would go on; `None`: that means nothing to a later run.
    pub position: Option<Position>,
}

/// One key.
#[derive(Debug, Default)]
pub(super) struct KeyRow {
    pub key: Bytes,
    pub key_type: Option<KeyType>,
    pub encoding: Option<Bytes>,
    pub size_bytes: u64,
    pub elements: Option<u64>,
    pub expire_at_ms: Option<i64>,
}

/// How far a node is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub node_id: String,
    /// The process that gave the cursor out, and the slots that it served.
    pub process: String,
    /// The dbs are read in their order.
    pub db: u32,
    /// Where SCAN goes on; 0: the db is at its end.
    pub cursor: u64,
}

/// All that is written down.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Note {
    pub at_ms: i64,
    pub keys: u64,
    pub size_bytes: u64,
    /// One of each node at most.
    pub positions: Vec<Position>,
    /// Keys in it count twice.
    #[serde(default)]
    pub counts_twice: bool,
    pub state: Value,
}

/// What was taken in.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub keys: u64,
    pub size_bytes: u64,
}

/// Takes pages in.
pub(super) struct Fold<'a, C> {
    pub collector: &'a mut C,
    pub totals: Totals,
    pub positions: Vec<Position>,
    /// Keys were read again, and what was counted of them could not be taken back.
    pub counts_twice: bool,
    /// `None`: nothing is written down.
    pub checkpoint: Option<Arc<Checkpoint>>,
    pub ledger: Arc<Ledger>,
}

impl<C: Collector> Fold<'_, C> {
    /// Until nobody tells anything more; then what was taken in is written down.
    ///
    /// # Errors
    /// [`GaveUp`] when the collector did; the job is halted then.
    pub(super) async fn run(&mut self, mut told: mpsc::Receiver<Told>) -> Result<(), GaveUp> {
        let mut saved: Option<Instant> = None;
        while let Some(told) = told.recv().await {
            match told {
                Told::Page(page) => self.take(page)?,
                Told::Again(again) => self.take_back(&again),
                Told::Moved(slots) => {
                    self.take_back(&ReadAgain { db: None, slots });
                    self.write_down_nothing();
                }
            }
            if saved.is_none_or(|saved| saved.elapsed() >= SAVE_EVERY) {
                self.save();
                saved = Some(Instant::now());
            }
        }
        self.save();
        Ok(())
    }

    fn take(&mut self, page: Page) -> Result<(), GaveUp> {
        for row in &page.rows {
            let encoding = row.encoding.as_deref();
            self.collector.take(&KeyFacts {
                db: page.db,
                key: &row.key,
                key_type: row.key_type,
                encoding: encoding.and_then(|name| std::str::from_utf8(name).ok()),
                size_bytes: row.size_bytes,
                elements: row.elements,
                expire_at_ms: row.expire_at_ms,
            });
            self.totals.size_bytes = self.totals.size_bytes.saturating_add(row.size_bytes);
        }
        self.totals.keys += page.rows.len() as u64;
        let progress = &self.ledger.progress;
        Progress::add(&progress.keys_verified, page.rows.len() as u64);
        let bytes = page.rows.iter().map(|row| row.size_bytes).sum();
        Progress::add(&progress.bytes_copied, bytes);
        if let Err(e) = self.collector.settle() {
            if e.kind() == ErrorKind::BrokenPipe {
                // Who has seen enough will not go on.
                self.write_down_nothing();
            }
            self.ledger.halt(e.to_string());
            return Err(GaveUp);
        }
        match page.position {
            Some(position) => {
                self.positions
                    .retain(|known| known.node_id != position.node_id);
                self.positions.push(position);
            }
            // A node without one is taken for one of which nothing was told.
            None => self.write_down_nothing(),
        }
        Ok(())
    }

    fn take_back(&mut self, again: &ReadAgain) {
        if self.collector.can_take_back() {
            return self.collector.take_back(again);
        }
        self.count_twice();
    }

    /// Says that keys count twice.
    pub(super) fn count_twice(&mut self) {
        self.counts_twice = true;
        self.ledger.remark(
            "what was counted of the keys that were read again counts twice: give the command again when nothing moves"
                .into(),
        );
    }

    /// From here on. A later run begins anew.
    fn write_down_nothing(&mut self) {
        if let Some(checkpoint) = self.checkpoint.take() {
            checkpoint.stats(Value::Null);
        }
    }

    fn save(&mut self) {
        let Some(checkpoint) = &self.checkpoint else {
            return;
        };
        let Some(state) = self.collector.state() else {
            return self.write_down_nothing();
        };
        let note = Note {
            at_ms: crate::source::records::now_ms(),
            keys: self.totals.keys,
            size_bytes: self.totals.size_bytes,
            positions: self.positions.clone(),
            counts_twice: self.counts_twice,
            state,
        };
        // Nothing in it is refused by JSON.
        if let Ok(note) = serde_json::to_value(&note) {
            checkpoint.stats(note);
        }
    }
}

//! Reads the keys of one primary: SCAN, and what the server says of each key, over one connection. While the answers about
//! one page are taken in, the server works on the next one.
//!
//! A page is told as a whole, and in order. After a broken link reading goes on behind the last page that was told; after a
//! restart of the server its cursors mean nothing, and the db is read from its start.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use keyhaul_client::{
    Action, Asking, ClientError, FactsAsked, KeyAnswers, ReadConnection, ScanOptions, ServerError,
    Slot, SlotSet, ValueKind,
};
use keyhaul_rdb::KeyType;
use tokio::sync::mpsc;

use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::progress::Progress;
use crate::site::run_id_of;
use crate::source::scan::{COUNT_FIRST, ScanEnd, next_count, slots_text};
use crate::stats::fold::{KeyRow, Page, Position, Told};
use crate::stats::link::NodeLink;
use crate::stats::{ReadAgain, key_text};
use crate::transform::KeyFilter;

/// What is read of each node, and how.
#[derive(Debug)]
pub(super) struct Rules {
    pub dbs: Vec<u32>,
    pub scan: ScanOptions,
    pub filter: Arc<KeyFilter>,
    pub asked: FactsAsked,
    /// Whether the lengths of values are asked for, where the server's records of use stay out of it; their types are,
    /// then.
    pub lengths: bool,
}

/// Where an earlier run left off.
#[derive(Debug)]
pub(super) struct Start {
    pub position: Position,
    pub run_id: String,
}

/// Reads one primary.
pub(super) struct NodeReader {
    pub link: NodeLink,
    /// To the primary itself, for keys whose slot is on its way to it. Opened when there is one.
    pub strays: NodeLink,
    pub rules: Arc<Rules>,
    /// Only keys of these slots; `None`: all.
    pub slots: Option<SlotSet>,
    pub start: Option<Start>,
    /// COUNT of the next page, from [`COUNT_FIRST`] on in each db.
    pub count: u32,
    pub output: mpsc::Sender<Told>,
    pub ledger: Arc<Ledger>,
}

/// What was asked and not answered yet.
enum Asked {
    Page,
    Facts(Batch),
    Lengths(Batch),
}

/// The keys of one page.
struct Batch {
    keys: Vec<Bytes>,
    /// As far as they are known.
    rows: Vec<KeyRow>,
    /// Where SCAN goes on behind it.
    cursor: u64,
}

/// Why reading broke off.
enum Broken {
    Client(ClientError),
    /// The job ends.
    GaveUp,
}

impl From<ClientError> for Broken {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<GaveUp> for Broken {
    fn from(_: GaveUp) -> Self {
        Self::GaveUp
    }
}

/// The db that is being read.
struct Reading {
    db: u32,
    /// Behind the last page that was told.
    cursor: u64,
    /// Of the process that gave it out.
    run_id: Option<String>,
    /// The slots of the node when its reading began.
    slots_text: String,
}

impl NodeReader {
    /// Reads all dbs.
    ///
    /// # Errors
    /// [`GaveUp`] when the job was halted or is to stop.
    pub(super) async fn run(mut self) -> Result<ScanEnd, GaveUp> {
        let slots_text = slots_text(&self.link.site.routing.topology(), &self.link.node_id);
        let start = self.start.take();
        for db in self.rules.dbs.clone() {
            let mut reading = Reading {
                db,
                cursor: 0,
                run_id: None,
                slots_text: slots_text.clone(),
            };
            if let Some(Start { position, run_id }) = &start {
                if db < position.db || (db == position.db && position.cursor == 0) {
                    continue;
                }
                if db == position.db {
                    (reading.cursor, reading.run_id) = (position.cursor, Some(run_id.clone()));
                }
            }
            // Nothing is known of the names of another db.
            self.count = COUNT_FIRST;
            if self.read_db(reading).await? == ScanEnd::NodeLost {
                return Ok(ScanEnd::NodeLost);
            }
        }
        let progress = &self.ledger.progress;
        progress.shard(&self.link.name(), |shard| shard.done = true);
        Ok(ScanEnd::Complete)
    }

    async fn read_db(&mut self, mut reading: Reading) -> Result<ScanEnd, GaveUp> {
        loop {
            match self.read_on(&mut reading).await {
                Ok(()) => return Ok(ScanEnd::Complete),
                Err(Broken::GaveUp) => return Err(GaveUp),
                Err(Broken::Client(e)) => {
                    self.link.failed(&e, &self.ledger).await?;
                    if !self.link.node_is_primary() {
                        return Ok(ScanEnd::NodeLost);
                    }
                }
            }
        }
    }

    /// Reads on from where it is, to the end of the db.
    async fn read_on(&mut self, reading: &mut Reading) -> Result<(), Broken> {
        self.check_process(reading).await?;
        let mut asked = VecDeque::from([Asked::Page]);
        let (connection, _) = self.link.get(&self.ledger).await?;
        connection.select(reading.db).await?;
        connection.ask_scan(reading.cursor, &self.rules.scan(self.count));
        connection.send_asked().await?;
        while let Some(next) = asked.pop_front() {
            if self.ledger.stop.is_cancelled() {
                return Err(Broken::GaveUp);
            }
            let (connection, _) = self.link.get(&self.ledger).await?;
            match next {
                Asked::Page => {
                    let slots = self.slots.as_ref();
                    let (batch, names_bytes) = next_page(connection, &self.rules, slots).await?;
                    let count = self.rules.scan(self.count).count;
                    self.count = next_count(count, names_bytes);
                    if batch.cursor != 0 {
                        connection.ask_scan(batch.cursor, &self.rules.scan(self.count));
                        asked.push_back(Asked::Page);
                    }
                    connection.ask_facts(&batch.keys, self.rules.asked, Asking::No);
                    connection.send_asked().await?;
                    asked.push_back(Asked::Facts(batch));
                }
                Asked::Facts(mut batch) => {
                    let (keys, wanted) = (batch.keys.len(), self.rules.asked);
                    let facts = connection.next_facts(keys, wanted, Asking::No).await?;
                    self.take_facts(reading.db, &mut batch, facts)?;
                    self.look_for_strays(reading.db, &mut batch).await?;
                    if self.rules.lengths && self.link.may_use_keys() {
                        let (connection, _) = self.link.get(&self.ledger).await?;
                        connection.ask_lengths(with_kinds(&batch.rows));
                        connection.send_asked().await?;
                        asked.push_back(Asked::Lengths(batch));
                    } else {
                        self.tell(reading, batch).await?;
                    }
                }
                Asked::Lengths(mut batch) => {
                    next_lengths(connection, &mut batch.rows).await?;
                    self.tell(reading, batch).await?;
                }
            }
        }
        Ok(())
    }

    /// Asks once more about the keys that the server told to be elsewhere although SCAN found them there: their slot is on
    /// its way to it. Over a connection of its own, as pages are to be told in their order.
    async fn look_for_strays(&mut self, db: u32, batch: &mut Batch) -> Result<(), Broken> {
        if batch.keys.is_empty() {
            return Ok(());
        }
        let (keys, wanted) = (batch.keys.len(), self.rules.asked);
        let asked = async {
            let (connection, _) = self.strays.get(&self.ledger).await?;
            connection.ask_facts(&batch.keys, wanted, Asking::Yes);
            connection.send_asked().await?;
            connection.next_facts(keys, wanted, Asking::Yes).await
        };
        let facts: Result<_, ClientError> = asked.await;
        if facts.is_err() {
            self.strays.close();
        }
        self.take_facts(db, batch, facts?)?;
        // What is left is elsewhere indeed; the slot is read again when it has moved.
        batch.keys.clear();
        Ok(())
    }

    /// Finds out whether the cursor is still good; if not, the db is read from its start.
    async fn check_process(&mut self, reading: &mut Reading) -> Result<(), Broken> {
        let (connection, is_fresh) = self.link.get(&self.ledger).await?;
        if !is_fresh && reading.run_id.is_some() {
            return Ok(());
        }
        let now = run_id_of(connection).await?;
        let is_same = now.is_some() && reading.run_id == now;
        let address = connection.address().clone();
        reading.run_id = now;
        if reading.cursor == 0 || is_same {
            return Ok(());
        }
        reading.cursor = 0;
        self.ledger.remark(format!(
            "{address} was restarted, or is not the server that was read before: db {} is read again",
            reading.db
        ));
        let topology = self.link.site.routing.topology();
        let slots = self.slots.clone();
        let again = ReadAgain {
            db: Some(reading.db),
            slots: slots.unwrap_or_else(|| topology.slots_of(&self.link.node_id)),
        };
        Ok(self.send(Told::Again(again)).await?)
    }

    /// Makes rows of what was answered. What is gone is left out; the keys that are elsewhere stay.
    fn take_facts(
        &mut self,
        db: u32,
        batch: &mut Batch,
        facts: Vec<Result<KeyAnswers, ServerError>>,
    ) -> Result<(), Broken> {
        batch.rows.reserve(facts.len());
        for (key, answers) in std::mem::take(&mut batch.keys).into_iter().zip(facts) {
            match answers {
                Ok(answers) => match row(key, answers) {
                    Some(row) if self.takes_type(&row) => batch.rows.push(row),
                    Some(_) => {}
                    None => Progress::add(&self.ledger.progress.keys_gone, 1),
                },
                Err(error) if is_elsewhere(&error) => batch.keys.push(key),
                Err(error) => self.refused(db, &key, error)?,
            }
        }
        Ok(())
    }

    fn takes_type(&self, row: &KeyRow) -> bool {
        !self.rules.asked.key_type || self.rules.filter.takes_type(row.key_type)
    }

    fn refused(&self, db: u32, key: &Bytes, error: ServerError) -> Result<(), Broken> {
        match error.action() {
            Action::GiveUp
                if error.is_unknown_command() || error.is_forbidden() && !error.forbids_key() =>
            {
                let (name, key) = (self.link.name(), key_text(key));
                self.ledger.halt(format!(
                    "{name} does not tell about keys, it answered for \"{key}\": {error}"
                ));
                Err(Broken::GaveUp)
            }
            Action::GiveUp => {
                let reason = format!("the server refused to tell: {error}");
                self.ledger.not_moved(db, key, reason);
                Ok(())
            }
            _ => Err(Broken::Client(ClientError::Server {
                address: self.link.site.address_of_node(&self.link.node_id)?,
                error,
            })),
        }
    }

    async fn tell(&mut self, reading: &mut Reading, batch: Batch) -> Result<(), GaveUp> {
        self.link.success(&self.ledger);
        reading.cursor = batch.cursor;
        // What is read again for moved slots is read again after a stop too.
        let process = reading.run_id.as_ref().filter(|_| self.slots.is_none());
        let position = process.map(|run_id| Position {
            node_id: self.link.node_id.clone(),
            process: process_text(run_id, &reading.slots_text),
            db: reading.db,
            cursor: batch.cursor,
        });
        let found = batch.rows.len() as u64;
        self.ledger.progress.shard(&self.link.name(), |shard| {
            (shard.db, shard.keys_found) = (reading.db, shard.keys_found + found);
        });
        self.send(Told::Page(Page {
            db: reading.db,
            rows: batch.rows,
            position,
        }))
        .await
    }

    async fn send(&self, told: Told) -> Result<(), GaveUp> {
        // Nobody listens any more only when the job was halted.
        self.output.send(told).await.map_err(|_| GaveUp)
    }
}

fn is_elsewhere(error: &ServerError) -> bool {
    matches!(error.action(), Action::Moved { .. } | Action::Ask { .. })
}

/// What a cursor belongs to.
pub(super) fn process_text(run_id: &str, slots_text: &str) -> String {
    format!("{run_id} {slots_text}")
}

impl Rules {
    /// What SCAN is asked for, with that COUNT at most.
    fn scan(&self, count: u32) -> ScanOptions {
        ScanOptions {
            count: count.min(self.scan.count).max(1),
            ..self.scan.clone()
        }
    }
}

/// The page that was asked for, and how long its names are together.
async fn next_page(
    connection: &mut ReadConnection,
    rules: &Rules,
    slots: Option<&SlotSet>,
) -> Result<(Batch, usize), ClientError> {
    let mut page = connection.next_scan().await?;
    let names_bytes = page.keys.iter().map(Bytes::len).sum();
    page.keys.retain(|key| {
        rules.filter.matches_name(key)
            && slots.is_none_or(|slots| slots.contains(Slot::of_key(key)))
    });
    let batch = Batch {
        keys: page.keys,
        rows: Vec::new(),
        cursor: page.cursor,
    };
    Ok((batch, names_bytes))
}

/// `None`: it is gone.
fn row(key: Bytes, answers: KeyAnswers) -> Option<KeyRow> {
    let key_type = match &answers.key_type {
        Some(name) if name.as_ref() == b"none" => return None,
        Some(name) => {
            let named = std::str::from_utf8(name)
                .ok()
                .and_then(|name| name.parse().ok());
            Some(named.unwrap_or(KeyType::Module))
        }
        None => None,
    };
    Some(KeyRow {
        key,
        key_type,
        encoding: answers.encoding,
        size_bytes: answers.memory_bytes?,
        elements: None,
        expire_at_ms: answers.expire_at_ms,
    })
}

fn kind_of(row: &KeyRow) -> Option<ValueKind> {
    ValueKind::of_type_name(row.key_type?.name().as_bytes())
}

/// The values that have a length.
fn with_kinds(rows: &[KeyRow]) -> impl Iterator<Item = (&Bytes, ValueKind)> {
    rows.iter()
        .filter_map(|row| Some((&row.key, kind_of(row)?)))
}

async fn next_lengths(
    connection: &mut ReadConnection,
    rows: &mut [KeyRow],
) -> Result<(), ClientError> {
    for row in rows.iter_mut().filter(|row| kind_of(row).is_some()) {
        // Of another type by now, or elsewhere: it is not known then.
        row.elements = connection.next_length().await?.ok();
    }
    Ok(())
}

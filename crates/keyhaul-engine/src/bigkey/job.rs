//! Copies one big key: tries, waits, tries again, and settles what becomes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keyhaul_client::{Action, Backoff, ClientError, ValueKind};
use keyhaul_client::{KeyExpiry, ReadConnection};
use xxhash_rust::xxh3::Xxh3;

use crate::bigkey::builder::{Builder, Built, Place};
use crate::bigkey::finish::{Expected, Placed};
use crate::bigkey::list::ListReader;
use crate::bigkey::ranks::RankReader;
use crate::bigkey::scan::ScanReader;
use crate::bigkey::sentry::Sentry;
use crate::bigkey::sink::{Sink, SinkParts};
use crate::bigkey::staging::Purpose;
use crate::bigkey::stream::StreamReader;
use crate::bigkey::string::StringReader;
use crate::bigkey::{Abilities, Broken, ChunkLimits};
use crate::checkpoint::{BigKey, BigKeyState, Checkpoint, MARKS_KEPT, Mark};
use crate::ledger::Ledger;
use crate::options::OnConflict;
use crate::patience::{GaveUp, Patience};
use crate::progress::{BigKeyProgress, Progress};
use crate::route::Outlet;
use crate::site::Site;
use crate::source::stray::StrayReader;
use crate::source::track::Ticket;

/// How often a key is read because it was written meanwhile, or what was built was lost.
const TRIES_MAX: u32 = 5;
/// The same where the source is followed: what is written all the time is settled by what differs then.
const LIVE_TRIES_MAX: u32 = 2;
/// How often a key is read again because a link failed in the middle of an element too long to be held.
const INTERRUPTIONS_MAX: u32 = 50;
/// The wait before a key is looked at again whose slot is on the move.
const SLOT_WAIT: Duration = Duration::from_millis(500);
/// The longest wait before a key that was written is begun anew.
const WAIT_MAX: Duration = Duration::from_secs(4);

/// What all big keys of a job have in common.
pub(crate) struct Rules {
    pub source: Arc<Site>,
    pub target: Arc<Site>,
    pub outlet: Outlet,
    pub ledger: Arc<Ledger>,
    pub checkpoint: Option<Arc<Checkpoint>>,
    pub on_conflict: OnConflict,
    pub retry_for: Duration,
    pub abilities: Abilities,
    pub limits: ChunkLimits,
    pub job_id: u64,
    /// Longest argument that the target takes, bytes.
    pub bulk_len_max: u64,
    /// Values that take no more memory go over in one piece, bytes.
    pub chunk_threshold: u64,
    /// A key that is not there was asked for by name.
    pub lists_missing: bool,
    /// A key that is written all the time is no key that was not moved: it is tried again later.
    pub is_live: bool,
    /// A key that is there already is a conflict, also when it goes over whole and is the same.
    pub is_strict: bool,
}

/// What became of a key.
enum Settled {
    /// In place, or its time was over, or a conflict.
    Placed(Placed),
    /// There is no such key any more.
    Gone,
    /// Of a type that the filters leave out.
    LeftOut,
    /// Passed on in one piece, and accounted for there.
    Elsewhere,
}

/// A value that was read.
struct Reading {
    expiry: KeyExpiry,
    expected: Expected,
}

/// The copy of one key.
pub(crate) struct BigCopy {
    rules: Arc<Rules>,
    key: BigKey,
    /// What is built, the last few; the last one was acknowledged, unless it is a stream.
    marks: Vec<Mark>,
    /// How far the names of staging keys have come.
    generation: u32,
    progress: Arc<BigKeyProgress>,
    patience: Patience,
    /// Elements that were built when the source failed last.
    built_before: u64,
    /// A link failed in the middle of what passed through.
    was_interrupted: bool,
    /// Since when its slot is on the move.
    slot_moves_since: Option<Instant>,
    /// No one state of it could be copied.
    was_written: bool,
}

/// How the copy of a key ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BigEnd {
    /// It is moved or listed.
    Settled,
    /// It was written all the time; only of a job that follows the source.
    Written,
    /// It is of a type that the filters leave out.
    LeftOut,
}

impl BigCopy {
    pub(crate) fn new(rules: Arc<Rules>, key: BigKey, marks: Vec<Mark>) -> Self {
        let progress = rules.ledger.progress.begin_big_key(key.db, &key.key);
        Self {
            generation: marks.last().map_or(0, |mark| mark.generation),
            patience: Patience::new(rules.retry_for),
            built_before: 0,
            was_interrupted: false,
            slot_moves_since: None,
            was_written: false,
            rules,
            key,
            marks,
            progress,
        }
    }

    /// Copies the key, or lists it.
    pub(crate) async fn run(mut self) -> BigEnd {
        let settled = self.copy().await;
        let ledger = self.rules.ledger.clone();
        ledger.progress.end_big_key(&self.progress);
        let is_settled = match settled {
            Ok(Settled::Placed(Placed::Done)) => {
                Progress::add(&ledger.progress.keys_copied, 1);
                Progress::add(&ledger.progress.keys_chunked, 1);
                true
            }
            Ok(Settled::Placed(Placed::Conflict)) => {
                match self.rules.on_conflict {
                    OnConflict::Skip => Progress::add(&ledger.progress.keys_skipped, 1),
                    _ => self.list(crate::target::CONFLICT_EXISTS.to_owned()),
                }
                true
            }
            Ok(Settled::Gone) if self.rules.lists_missing => {
                self.list("the source has no such key".to_owned());
                true
            }
            Ok(Settled::Placed(Placed::Expired) | Settled::Gone) => {
                Progress::add(&ledger.progress.keys_gone, 1);
                true
            }
            Ok(Settled::LeftOut) => return BigEnd::LeftOut,
            Ok(Settled::Elsewhere) => false,
            Err(Broken::Refused(_)) if self.was_written && self.rules.is_live => {
                return BigEnd::Written;
            }
            Err(Broken::Refused(reason)) => {
                self.list(reason);
                true
            }
            Err(_) => {
                self.list(self.stopped());
                false
            }
        };
        // What was listed after a stop is not written down: a later run looks at it again.
        if is_settled
            && !ledger.leaves_keys()
            && let Some(checkpoint) = &self.rules.checkpoint
        {
            checkpoint.big_done(self.key.db, &self.key.key);
        }
        BigEnd::Settled
    }

    fn list(&self, reason: String) {
        let ledger = &self.rules.ledger;
        ledger.not_moved(self.key.db, &self.key.key, reason);
    }

    fn stopped(&self) -> String {
        match (self.marks.last(), &self.rules.checkpoint) {
            (Some(mark), Some(_)) => format!(
                "the run stopped after {} of its elements; the same command goes on there",
                mark.elements
            ),
            _ => "the run stopped before it was whole".to_owned(),
        }
    }

    /// Tries until the key is settled.
    async fn copy(&mut self) -> Result<Settled, Broken> {
        let (mut tries, mut interruptions) = (0, 0);
        let mut backoff = Backoff::default();
        loop {
            let broken = match self.attempt().await {
                Ok(settled) => return Ok(settled),
                Err(broken) => broken,
            };
            match broken {
                Broken::Source(error) if !became_another(&error) => self.recover(error).await?,
                Broken::Interrupted => {
                    interruptions += 1;
                    self.was_interrupted = true;
                    if interruptions > INTERRUPTIONS_MAX {
                        self.clear().await?;
                        return Err(Broken::Refused(format!(
                            "its transfer was cut {INTERRUPTIONS_MAX} times in the middle of a long element"
                        )));
                    }
                }
                // What brought us here was counted.
                Broken::Outdated => self.forget(),
                Broken::Source(_) | Broken::Noticed | Broken::Written | Broken::Lost => {
                    tries += 1;
                    let is_lost = matches!(broken, Broken::Lost);
                    if !matches!(broken, Broken::Noticed) {
                        self.forget();
                    }
                    let tries_max = match self.rules.is_live {
                        true => LIVE_TRIES_MAX,
                        false => TRIES_MAX,
                    };
                    if tries >= tries_max {
                        self.clear().await?;
                        self.was_written = !is_lost;
                        return Err(Broken::Refused(unsettled(is_lost)));
                    }
                    Progress::add(&self.rules.ledger.progress.retries, 1);
                    self.wait(&mut backoff).await?;
                }
                Broken::Refused(reason) => {
                    self.forget();
                    // A refusal may be of this very command.
                    if let Err(Broken::Stopped) = self.clear().await {
                        return Err(Broken::Stopped);
                    }
                    return Err(Broken::Refused(reason));
                }
                Broken::Stopped => {
                    if self.rules.checkpoint.is_none() {
                        // Nobody would know of it.
                        let _ = self.clear().await;
                    }
                    return Err(Broken::Stopped);
                }
            }
            if self.rules.ledger.stop.is_cancelled() {
                return Err(Broken::Stopped);
            }
        }
    }

    /// After an error of the source.
    async fn recover(&mut self, error: ClientError) -> Result<(), Broken> {
        if let ClientError::Server { error: answer, .. } = &error
            && answer.action() == Action::GiveUp
        {
            self.clear().await?;
            return Err(Broken::Refused(format!(
                "the source refused to give it in pieces: {answer}"
            )));
        }
        if let Action::Ask { .. } = error.action() {
            // It is gone on with when the slot has come to rest.
            let since = *self.slot_moves_since.get_or_insert_with(Instant::now);
            if since.elapsed() > self.rules.retry_for {
                self.clear().await?;
                return Err(Broken::Refused(format!(
                    "its slot was on the move for longer than {} s (--retry-for)",
                    self.rules.retry_for.as_secs()
                )));
            }
            tokio::time::sleep(SLOT_WAIT).await;
            return Ok(());
        }
        self.slot_moves_since = None;
        let built = self.marks.last().map_or(0, |mark| mark.elements);
        if built > self.built_before {
            // It went on since the last failure.
            self.patience.success(&self.rules.ledger);
        }
        self.built_before = built;
        let recovered = self
            .rules
            .source
            .recover(&error, &mut self.patience, &self.rules.ledger)
            .await;
        recovered.map_err(|_| Broken::Stopped)
    }

    async fn wait(&mut self, backoff: &mut Backoff) -> Result<(), Broken> {
        // Half a second at first: who writes a large value writes it for a while.
        let wait = (backoff.next_wait() * 10).min(WAIT_MAX);
        tokio::select! {
            () = tokio::time::sleep(wait) => Ok(()),
            () = self.rules.ledger.stop.cancelled() => Err(Broken::Stopped),
        }
    }

    /// What is built is of no use.
    fn forget(&mut self) {
        self.marks.clear();
        if let Some(checkpoint) = &self.rules.checkpoint {
            checkpoint.big_reset(self.key.db, &self.key.key);
        }
    }

    /// Removes the staging key.
    async fn clear(&mut self) -> Result<(), Broken> {
        self.marks.clear();
        let mut builder = self.builder(ValueKind::String);
        builder.remove().await
    }

    fn builder(&self, kind: ValueKind) -> Builder {
        let rules = &self.rules;
        let (target_db, target_key) = rules.outlet.target_name(self.key.db, &self.key.key);
        let place = Place {
            purpose: Purpose {
                job: rules.job_id,
                source_db: self.key.db,
                source_key: self.key.key.clone(),
                target_key,
            },
            target_db,
        };
        let (site, ledger) = (rules.target.clone(), rules.ledger.clone());
        let mut builder = Builder::new(site, ledger, place, kind, rules.retry_for);
        builder.generation = self.generation;
        builder
    }

    /// One try.
    async fn attempt(&mut self) -> Result<Settled, Broken> {
        let rules = self.rules.clone();
        let mut connection = self.open_source().await?;
        let key = self.key.key.clone();
        let name = connection.watch(&key).await.map_err(Broken::Source)?;
        if name == "none" {
            self.clear().await?;
            return Ok(Settled::Gone);
        }
        let key_type = std::str::from_utf8(&name)
            .ok()
            .and_then(|name| name.parse().ok());
        if !rules.outlet.filter().takes_type(key_type) {
            return Ok(Settled::LeftOut);
        }
        if self.key.memory_bytes == 0 {
            self.key.memory_bytes = self.memory_usage(&mut connection).await?;
        }
        let kind = ValueKind::of_type_name(&name);
        let is_whole = kind.is_none() || self.key.memory_bytes <= rules.chunk_threshold;
        if is_whole && rules.is_strict {
            let mut builder = self.builder(ValueKind::String);
            if let Some(settled) = self.conflict(&mut builder).await? {
                return Ok(settled);
            }
        }
        let Some(kind) = kind.filter(|_| !is_whole) else {
            return self.pass_whole().await;
        };
        let length = connection
            .length(kind, &key)
            .await
            .map_err(Broken::Source)?;
        if kind == ValueKind::String && length > rules.bulk_len_max {
            return Err(Broken::Refused(format!(
                "a string of {length} bytes is longer than the target takes by any command: raise proto-max-bulk-len there (it is {})",
                rules.bulk_len_max
            )));
        }
        self.progress.describe(kind.type_name(), length);
        let mut builder = self.builder(kind);
        if let Some(settled) = self.conflict(&mut builder).await? {
            return Ok(settled);
        }
        self.begin(&mut builder).await?;
        let read = self.read(&mut connection, kind, length, &mut builder).await;
        self.generation = builder.generation;
        let reading = read?;
        let placed = builder
            .place(reading.expiry, reading.expected, rules.on_conflict)
            .await;
        self.generation = builder.generation;
        self.patience.success(&rules.ledger);
        placed.map(Settled::Placed)
    }

    async fn open_source(&self) -> Result<ReadConnection, Broken> {
        let source = &self.rules.source;
        let opened = async {
            let address = source.address_of_key(&self.key.key)?;
            let mut connection = source.open(&address).await?;
            connection.select(self.key.db).await?;
            Ok(connection)
        };
        opened.await.map_err(Broken::Source)
    }

    /// How much memory the value takes; as much as one that goes over in chunks where that cannot be asked.
    async fn memory_usage(&self, connection: &mut ReadConnection) -> Result<u64, Broken> {
        let key = std::slice::from_ref(&self.key.key);
        match connection.memory_usage(key).await {
            Ok(sizes) => Ok(sizes.first().copied().unwrap_or(0)),
            Err(ClientError::Server { error, .. }) if error.action() == Action::GiveUp => {
                Ok(self.rules.chunk_threshold + 1)
            }
            Err(e) => Err(Broken::Source(e)),
        }
    }

    /// A key that is there already and stays: found out before anything is copied.
    async fn conflict(&mut self, builder: &mut Builder) -> Result<Option<Settled>, Broken> {
        if self.rules.on_conflict == OnConflict::Replace {
            return Ok(None);
        }
        let target_key = builder.place.purpose.target_key.clone();
        if builder.call(&[b"EXISTS", &target_key]).await?.as_int() == Some(0) {
            return Ok(None);
        }
        // An earlier run may have been killed between the last step and its note of it.
        let was_ours = builder.was_placed().await?;
        Ok(Some(Settled::Placed(match was_ours {
            true => Placed::Done,
            false => Placed::Conflict,
        })))
    }

    /// Takes over what is built, or begins anew.
    async fn begin(&mut self, builder: &mut Builder) -> Result<(), Broken> {
        if !self.marks.is_empty() {
            let candidates = self.marks.iter().map(|mark| Built {
                elements: mark.elements,
                last_id: mark.last_id.clone(),
                length: mark.length,
            });
            let resumed = builder.resume(candidates.collect()).await?;
            self.generation = builder.generation;
            if let Some(built) = resumed {
                self.marks.retain(|mark| mark.elements <= built.elements);
                return Ok(());
            }
            self.forget();
        }
        let begun = builder.begin().await;
        self.generation = builder.generation;
        begun
    }

    async fn read(
        &mut self,
        connection: &mut ReadConnection,
        kind: ValueKind,
        length: u64,
        builder: &mut Builder,
    ) -> Result<Reading, Broken> {
        let rules = self.rules.clone();
        if kind != ValueKind::Stream {
            connection.notice_writes().await.map_err(Broken::Source)?;
        }
        let needs_side = kind == ValueKind::Stream
            || (kind == ValueKind::Hash && rules.abilities.source_field_expiry);
        let mut side = match needs_side {
            true => Some(self.open_source().await?),
            false => None,
        };
        let (key, db) = (self.key.key.clone(), self.key.db);
        let expected = self.marks.last().cloned();
        let (checkpoint, marks) = (rules.checkpoint.clone(), &mut self.marks);
        let log = Box::new(move |new: &Mark| {
            if marks.len() == MARKS_KEPT {
                marks.remove(0);
            }
            marks.push(new.clone());
            if let Some(checkpoint) = &checkpoint {
                checkpoint.big_mark(db, &key, new);
            }
        });
        let mut sentry = Sentry {
            site: rules.source.clone(),
            db,
            key: self.key.key.clone(),
            kind,
            watching: None,
        };
        let mut sink = Sink::new(SinkParts {
            builder,
            limits: rules.limits,
            argument_max: rules.bulk_len_max,
            throttle: rules.outlet.throttle(),
            progress: &self.progress,
            log,
            expected,
        });
        let key = &self.key.key;
        let mean_bytes = self.key.memory_bytes / length.max(1);
        let mut digest = None;
        match kind {
            ValueKind::Stream => {
                let Some(side) = &mut side else {
                    return Err(Broken::Lost);
                };
                let reader = StreamReader {
                    connection,
                    side,
                    key,
                    abilities: rules.abilities,
                    mean_bytes,
                };
                let (length, expiry) = reader.run(&mut sink).await?;
                let expected = Expected {
                    length,
                    unseen: 0,
                    digest: None,
                };
                return Ok(Reading { expiry, expected });
            }
            ValueKind::Hash | ValueKind::Set => {
                let reader = ScanReader {
                    connection,
                    sentry: &mut sentry,
                    side: side.as_mut(),
                    kind,
                    key,
                    abilities: rules.abilities,
                    mean_bytes,
                };
                reader.run(&mut sink).await?;
            }
            ValueKind::SortedSet => {
                let reader = RankReader {
                    connection,
                    sentry: &mut sentry,
                    key,
                    length,
                    mean_bytes,
                    has_negative_zero: false,
                };
                reader.run(&mut sink).await?;
            }
            ValueKind::List => {
                let reader = ListReader {
                    connection,
                    sentry: &mut sentry,
                    key,
                    length,
                    mean_bytes,
                };
                reader.run(&mut sink).await?;
            }
            ValueKind::String => {
                let reader = StringReader {
                    connection,
                    sentry: &mut sentry,
                    key,
                    length,
                    argument_max: rules.bulk_len_max,
                    digest: Xxh3::new(),
                    may_pass: !self.was_interrupted,
                };
                digest = Some(reader.run(&mut sink).await?);
            }
        }
        let expiry = connection.key_expiry(key).await.map_err(Broken::Source)?;
        let unchanged = connection.unchanged_length(kind, key).await;
        let unchanged = unchanged.map_err(Broken::Source)?;
        sink.finish().await?;
        let Some(length) = unchanged else {
            return Err(Broken::Noticed);
        };
        // Fields whose time is over are counted by a server until it finds them, and not told.
        let unseen = match kind == ValueKind::Hash && rules.abilities.source_field_expiry {
            true => length.saturating_sub(sink.total()),
            false => 0,
        };
        let expected = Expected {
            length,
            unseen,
            digest,
        };
        Ok(Reading { expiry, expected })
    }

    /// Values that only their module can take apart go over in one piece, while it arrives.
    async fn pass_whole(&mut self) -> Result<Settled, Broken> {
        let rules = &self.rules;
        if self.key.memory_bytes / 4 > rules.bulk_len_max {
            return Err(Broken::Refused(crate::target::too_large(
                self.key.memory_bytes,
                rules.bulk_len_max,
            )));
        }
        let (source, ledger) = (rules.source.clone(), rules.ledger.clone());
        let mut reader = StrayReader::new(source, rules.retry_for, ledger);
        let mut outlet = rules.outlet.clone();
        let entry = reader
            .read_now(self.key.db, &self.key.key, &mut outlet)
            .await;
        let ticket = self.rules.checkpoint.clone().map(|checkpoint| {
            let (db, key) = (self.key.db, self.key.key.clone());
            Ticket::of_big_key(db, key, checkpoint, self.rules.ledger.clone())
        });
        let entries: Vec<_> = entry.into_iter().collect();
        if rules.is_live {
            // Whoever copies it next may take another way.
            outlet.send_and_settle(entries).await;
            return Ok(Settled::Elsewhere);
        }
        outlet.send_with(entries, ticket.as_ref()).await;
        if let Some(ticket) = ticket {
            ticket.settle();
        }
        Ok(Settled::Elsewhere)
    }
}

/// Removes the staging keys of an earlier run that is not to be gone on with.
///
/// # Errors
/// [`GaveUp`] when the job was halted or is to stop.
pub(crate) async fn remove_all(rules: &Arc<Rules>, states: Vec<BigKeyState>) -> Result<(), GaveUp> {
    for state in states {
        let key = (state.key.db, state.key.key.clone());
        let mut copy = BigCopy::new(rules.clone(), state.key, state.marks);
        let cleared = copy.clear().await;
        rules.ledger.progress.end_big_key(&copy.progress);
        match cleared {
            Err(Broken::Stopped) => return Err(GaveUp),
            Err(Broken::Refused(reason)) => rules.ledger.remark(format!(
                "a staging key of an earlier run cannot be removed: {reason}; it expires within a day"
            )),
            _ => {}
        }
        if let Some(checkpoint) = &rules.checkpoint {
            checkpoint.big_reset(key.0, &key.1);
        }
    }
    Ok(())
}

/// Whether the key is gone or of another type since the first look at it.
fn became_another(error: &ClientError) -> bool {
    match error {
        ClientError::Server { error, .. } => {
            matches!(error.code(), b"WRONGTYPE" | b"NOGROUP") || error.mentions("no such key")
        }
        _ => false,
    }
}

fn unsettled(is_lost: bool) -> String {
    match is_lost {
        false => "it was written, or fields of it expired, during each of several tries, so no one state of it could be copied: copy it while nobody writes it, or raise --chunk-threshold above its size to let it go in one piece"
            .to_owned(),
        true => format!("the target lost what was built of it {TRIES_MAX} times"),
    }
}

//! One shard of the source, from its snapshot to the last command.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keyhaul_client::{FullResync, SlotSet};
use keyhaul_rdb::Checksum;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::copy::{FUNCTIONS_AHEAD, Job};
use crate::follow::applied::{Applied, Place};
use crate::follow::apply::Applier;
use crate::follow::due;
use crate::follow::guard::{self, Guard};
use crate::follow::intake::{Event, Intake};
use crate::follow::marks::Marks;
use crate::follow::name_set::NameNotes;
use crate::follow::note::Note;
use crate::follow::reporter::Reporter;
use crate::follow::reread::SourceView;
use crate::follow::round::Round;
use crate::follow::status::{ShardStatus, State};
use crate::follow::sweep::Sweep;
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::source::feed::{Feed, FeedError};
use crate::source::records::{RecordReader, RecordsError};
use crate::target::graves::RunTag;

/// Between two looks at the clock, the position, and what is due.
const TICK: Duration = Duration::from_millis(200);
/// The position is written down so often at least.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// How much longer it waits for what it has begun.
const DRAIN_GRACE: Duration = Duration::from_secs(5);
/// How long the end of a run waits for what the source had done when it was asked to end.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// What a shard's task works with.
pub(crate) struct Shard {
    pub job: Arc<Job>,
    pub applier: Applier,
    pub intake: Intake,
    pub applied: Arc<Applied>,
    pub marks: Arc<Marks>,
    pub guard: Arc<Guard>,
    pub note: Note,
    pub view: Arc<SourceView>,
    pub round: Arc<Round>,
    pub status: Arc<ShardStatus>,
    pub ledger: Arc<Ledger>,
    /// Says how far the target is.
    pub reporter: Arc<Reporter>,
    /// Batches of expiry times that were set at the end.
    pub steps: Arc<AtomicU64>,
    /// Cancelled when the run is to end in good order.
    pub drain: CancellationToken,
    /// Deletes keys that the source has no more, behind a snapshot.
    pub sweep: Sweep,
    /// The target may hold keys of a snapshot before.
    pub needs_sweep: bool,
    /// The first snapshot is not wanted.
    pub passes_over: bool,
    /// Its slots; of a standalone source all.
    pub slots: SlotSet,
    pub noted: Option<Instant>,
    /// What the connections are called at the target.
    pub tag: RunTag,
}

/// How a shard ended in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShardEnd {
    /// All that the source had done when the end was asked for is on the target.
    pub is_synced: bool,
}

/// When a run that is to end does so.
struct Draining {
    /// Up to there the stream is to be applied; `None`: that is not known yet.
    upto: Option<u64>,
    since: Instant,
}

impl Shard {
    /// Follows until the run is to end, or everything begins again.
    ///
    /// # Errors
    /// [`GaveUp`]: the job was halted, or everything begins again.
    pub(crate) async fn run(mut self) -> Result<ShardEnd, GaveUp> {
        let ended = self.follow().await;
        match &ended {
            Ok(_) => self.intake.close().await,
            Err(GaveUp) => {
                // What is applied is known to the next run, whatever happened here.
                if self.reporter.is_loaded() && !self.ledger.has_halted() {
                    self.note_position()?;
                }
                self.intake.close().await;
            }
        }
        ended
    }

    async fn follow(&mut self) -> Result<ShardEnd, GaveUp> {
        let (round, stop, drain) = (
            self.round.clone(),
            self.ledger.stop.clone(),
            self.drain.clone(),
        );
        let steps = self.steps.clone();
        let in_vain = async {
            drain.cancelled().await;
            loop {
                let before = steps.load(Ordering::Relaxed);
                tokio::time::sleep(DRAIN_MAX + DRAIN_GRACE).await;
                if steps.load(Ordering::Relaxed) == before {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = round.ended() => return Err(GaveUp),
            () = stop.cancelled() => return Err(GaveUp),
            ended = self.follow_until_drained() => return ended,
            () = in_vain => {}
        }
        // It is in the middle of something that does not end: what is applied is applied.
        if self.reporter.is_loaded() {
            self.note_position()?;
        }
        Ok(ShardEnd { is_synced: false })
    }

    async fn follow_until_drained(&mut self) -> Result<ShardEnd, GaveUp> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let drain = self.drain.clone();
        let mut draining: Option<Draining> = None;
        loop {
            let takes_more = !self.marks.is_full(self.applied.reached().offset);
            let event = tokio::select! {
                biased;
                () = drain.cancelled(), if draining.is_none() => {
                    draining = Some(Draining { upto: None, since: Instant::now() });
                    None
                }
                _ = ticks.tick() => {
                    self.tick().await?;
                    if let Some(draining) = &mut draining
                        && let Some(end) = self.drained(draining).await?
                    {
                        return Ok(end);
                    }
                    None
                }
                event = self.intake.next(), if takes_more => Some(event?),
            };
            if let Some(event) = event {
                self.take(event).await?;
            }
        }
    }

    async fn take(&mut self, event: Event) -> Result<(), GaveUp> {
        match event {
            Event::Snapshot {
                feed,
                position,
                reason,
            } => {
                let drain = self.drain.clone();
                tokio::select! {
                    loaded = self.load(feed, position, reason) => loaded,
                    // Half a snapshot is of no use.
                    () = drain.cancelled() => {
                        self.reporter.set_loaded(false);
                        Ok(())
                    }
                }
            }
            Event::Replid(replid) => {
                self.view.set_replid(&replid);
                self.reporter.clock().clear();
                // What was read of the old node beyond here is of a branch that ended.
                self.marks.thaw();
                let ledger = self.ledger.clone();
                self.note
                    .change(&ledger, |position| position.replid = replid)
            }
            Event::Bytes { first, bytes } => {
                let end = first + bytes.len() as u64 - 1;
                self.applier.take(bytes, end).await?;
                if self.applier.take_library_wish() {
                    self.applied.wait_until_idle().await;
                    let refused = self.job.copy_libraries(&self.ledger).await;
                    let count = &self.ledger.functions_refused;
                    count.fetch_add(refused.not_copied, Ordering::Relaxed);
                }
                if self.applier.take_ack_wish() {
                    self.applied.wait_until_idle().await;
                    self.intake.applied(self.applied.reached().offset);
                    self.intake.ack_now();
                }
                Ok(())
            }
        }
    }

    /// Puts a snapshot on the target. One that breaks off is followed by another.
    async fn load(
        &mut self,
        feed: Feed,
        position: FullResync,
        reason: String,
    ) -> Result<(), GaveUp> {
        self.status.enter(State::Copying);
        let node = self.intake.node();
        let node_text = node.as_ref().map(ToString::to_string).unwrap_or_default();
        tracing::info!("{node_text}: snapshot: {reason}");
        if self.note.position().is_following {
            self.ledger.remark(format!(
                "source {node_text}: all keys are copied again: {reason}"
            ));
        }
        self.reporter.set_loaded(false);
        self.needs_sweep |= self.note.position().is_following;
        // Nothing of the history before may land behind it.
        self.applied.wait_until_idle().await;
        self.marks.pause().await;
        self.marks.clear();
        self.guard.deadlines.clear().map_err(|e| {
            guard::halt(&self.ledger, &e);
            GaveUp
        })?;
        let from = Place {
            offset: position.repl_offset,
            db: 0,
        };
        self.note.change(&self.ledger, |noted| {
            noted.is_following = false;
            noted.replid.clone_from(&position.replid);
            (noted.applied, noted.sent, noted.db) = (from.offset, from.offset, 0);
        })?;
        self.view.set_replid(&position.replid);
        self.reporter.clock().clear();
        self.applied.reset(from);
        self.applier.reset(from);
        let is_read = self.read_records(feed).await?;
        self.marks.resume();
        if !is_read {
            // What of it is on the target may not be in the next one.
            self.needs_sweep = true;
            return Ok(());
        }
        self.reporter.set_loaded(true);
        self.note
            .change(&self.ledger, |noted| noted.is_following = true)?;
        self.status.enter(State::CatchingUp);
        self.intake.applied(from.offset);
        self.needs_sweep = true;
        Ok(())
    }

    /// `false`: the link broke, and another snapshot will come.
    async fn read_records(&mut self, feed: Feed) -> Result<bool, GaveUp> {
        if std::mem::take(&mut self.passes_over) {
            // Only what changes from here on goes over; a snapshot tells at which offset, and in which db, that is.
            return Ok(true);
        }
        let job = self.job.clone();
        let mut way = job
            .open_tagged_way(&self.ledger, Some(self.tag.clone()))
            .await?;
        let outlet = way.outlet.take().ok_or(GaveUp)?;
        let outlet = outlet.guarded_by(self.guard.clone());
        let mut rules = job.record_rules(&[], &self.ledger).await?;
        rules.keeps_expired = true;
        rules.marks = Some(self.marks.clone());
        let names = match self.needs_sweep || !self.sweep.is_ours {
            true => Some(Arc::new(
                NameNotes::new(&std::env::temp_dir()).map_err(|e| self.no_room(&e))?,
            )),
            false => None,
        };
        rules.names.clone_from(&names);
        let deleting = outlet.clone();
        let (functions, codes) = mpsc::channel(FUNCTIONS_AHEAD);
        let reader = RecordReader::new(
            feed,
            Checksum::Verify,
            outlet,
            rules,
            self.ledger.clone(),
            functions,
        );
        let (read, functions) =
            tokio::join!(reader.run(), job.take_functions(codes, None, &self.ledger));
        let refused = &self.ledger.functions_refused;
        refused.fetch_add(functions.not_copied, Ordering::Relaxed);
        if read.is_ok()
            && let Some(names) = names
        {
            self.status
                .wait_for(Some("looking for keys that the source has no more".into()));
            let names = Arc::into_inner(names).ok_or(GaveUp)?;
            let stop = self.ledger.stop.clone();
            let finishing =
                tokio::task::spawn_blocking(move || names.finish(&std::env::temp_dir(), &stop));
            let names = finishing
                .await
                .unwrap_or_else(|e| Err(std::io::Error::other(e)));
            let names = names.map_err(|e| self.no_room(&e))?;
            self.sweep.run(&names, &self.slots, &deleting).await?;
            self.status.wait_for(None);
        }
        drop(deleting);
        way.join(&self.ledger).await;
        match read {
            Ok(()) if self.ledger.has_halted() => Err(GaveUp),
            Ok(()) => Ok(true),
            Err(RecordsError::Stopped) => Err(GaveUp),
            Err(RecordsError::Feed(FeedError::Link(e))) => {
                let line = format!(
                    "source: a snapshot broke off ({}), another one is taken",
                    keyhaul_client::chain(&e)
                );
                self.ledger.remark(line);
                Ok(false)
            }
            Err(e) => {
                self.ledger.halt(format!(
                    "source: what it sends is {}",
                    keyhaul_client::chain(&e)
                ));
                Err(GaveUp)
            }
        }
    }

    fn no_room(&self, error: &std::io::Error) -> GaveUp {
        self.ledger.halt(format!(
            "cannot note the names of keys in {}: {error}",
            std::env::temp_dir().display()
        ));
        GaveUp
    }

    async fn tick(&mut self) -> Result<(), GaveUp> {
        if !self.reporter.is_loaded() {
            return Ok(());
        }
        if let Some(failure) = self.marks.fields_failure() {
            self.ledger.halt(format!("cannot write to the state folder ({failure}): free space there, or name another folder by --state-dir"));
            return Err(GaveUp);
        }
        if let Some(failure) = self.job.checkpoint.as_ref().and_then(|kept| kept.failure()) {
            // Who is killed from here on would not know what is to be read again.
            self.ledger.halt(failure);
            return Err(GaveUp);
        }
        if let Some((offset, _)) = self.reporter.clock().latest() {
            self.applier.knows_source_offset(offset);
        }
        let reached = self.applied.reached();
        if self.marks.count() > 0 || self.noted.is_none_or(|noted| noted.elapsed() >= NOTE_EVERY) {
            self.note_position()?;
        }
        self.marks.forget(self.note.position().applied);
        self.intake.applied(reached.offset);
        self.reporter.show();
        let applied_ms = self.reporter.clock().applied_ms();
        due::work_off(
            self.applier.composer(),
            &self.guard,
            &self.marks,
            applied_ms,
            &self.ledger,
        )
        .await
    }

    fn note_position(&mut self) -> Result<(), GaveUp> {
        let reached = self.applied.reached();
        let applied_at_ms = self.reporter.clock().applied_ms();
        self.noted = Some(Instant::now());
        self.note.change(&self.ledger, |noted| {
            (noted.applied, noted.db) = (reached.offset, reached.db);
            noted.sent = noted.sent.max(reached.offset);
            noted.applied_at_ms = applied_at_ms.unwrap_or(noted.applied_at_ms);
        })
    }

    /// Whether a run that is to end has come to its end.
    async fn drained(&mut self, draining: &mut Draining) -> Result<Option<ShardEnd>, GaveUp> {
        if !self.reporter.is_loaded() {
            return Ok(Some(ShardEnd { is_synced: false }));
        }
        if draining.upto.is_none() {
            // What was told before the end was asked for does not tell where that is.
            draining.upto = self
                .reporter
                .clock()
                .latest()
                .filter(|(_, asked)| *asked > draining.since)
                .map(|(offset, _)| offset);
        }
        let reached = self.applied.reached().offset;
        let is_synced =
            draining.upto.is_some_and(|upto| reached >= upto) && self.marks.unwritten_count() == 0;
        if !is_synced && draining.since.elapsed() < DRAIN_MAX {
            return Ok(None);
        }
        tokio::select! {
            () = self.applied.wait_until_idle() => {}
            () = tokio::time::sleep(DRAIN_MAX) => {}
        }
        if is_synced {
            due::release(
                self.applier.composer(),
                &self.guard,
                &self.marks,
                &self.ledger,
                &self.steps,
            )
            .await?;
            self.reporter.show();
            self.reporter.ended_synced();
        }
        self.reporter.show();
        self.note_position()?;
        Ok(Some(ShardEnd { is_synced }))
    }
}

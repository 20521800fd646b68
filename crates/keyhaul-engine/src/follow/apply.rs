//! Applies the stream of one shard: command by command, each sent as it is, sent in another form, or its keys marked.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use keyhaul_client::{Slot, SlotSet};

use crate::follow::applied::Place;
use crate::follow::command::{
    Abilities, Args, Db, Deadline, Form, How, KeyAt, Kind, Malformed, Spec, Split, carries_expiry,
    deadline, form, how, keys, lookup, rewrite, selected_db, split, with_deadline,
};
use crate::follow::compose::Composer;
use crate::follow::guard::Guard;
use crate::follow::lane::{Keys, Look, Sent};
use crate::follow::marks::{Leave, Marks, SourceKey};
use crate::follow::names::Names;
use crate::follow::note::Note;
use crate::follow::parser::Parser;
use crate::follow::round::Round;
use crate::follow::source_asks::SourceAsks;
use crate::ledger::Ledger;
use crate::patience::GaveUp;

/// Bytes of one transaction that are held; of a longer one the commands are applied one by one.
const TRANSACTION_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What the target takes.
#[derive(Debug, Clone, Default)]
pub(crate) struct TargetKnows {
    /// Names of its commands, in capitals; empty: it does not tell, and errors say it.
    pub commands: HashSet<Vec<u8>>,
    pub abilities: Abilities,
}

/// What the applier does beside commands for keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    /// The shard is the whole source, and the target was empty when the job began: a FLUSHALL may be passed on.
    pub may_flush: bool,
    /// Messages are published on the target too.
    pub forwards_messages: bool,
    /// Function libraries go over.
    pub functions: bool,
}

/// Applies a stream.
pub(crate) struct Applier {
    parser: Parser,
    hands: Hands,
}

/// All but the parser, whose commands lie in its buffers.
struct Hands {
    composer: Composer,
    marks: Arc<Marks>,
    names: Names,
    guard: Arc<Guard>,
    knows: TargetKnows,
    habits: Habits,
    slots: Option<SlotSet>,
    asks: SourceAsks,
    note: Note,
    round: Arc<Round>,
    ledger: Arc<Ledger>,
    /// The db that is selected.
    db: u32,
    /// The commands of an open transaction.
    transaction: Option<Transaction>,
    /// Up to there the stream is handed out, or lies in the composer.
    end: Place,
    flushed: u64,
    /// What lies up to there may have been executed by the target already.
    uncertain_until: u64,
    /// While nobody followed, the target may have let keys expire that the source renewed: up to there a command that only
    /// renews has the key read again.
    renewals_until: u64,
    wants_ack: bool,
    /// Dbs of the target that were selected before.
    known_dbs: HashSet<u32>,
    scratch: Scratch,
}

#[derive(Default)]
struct Transaction {
    commands: Vec<Held>,
    bytes: usize,
    /// It is too long to be kept whole.
    is_split: bool,
}

struct Held {
    command: Bytes,
    db: u32,
}

#[derive(Default)]
struct Scratch {
    keys: Vec<KeyAt>,
}

/// What is done with a command.
enum Decision {
    /// It concerns no key that is followed, or what it does is there already.
    Nothing,
    /// These keys are read again.
    Mark(Vec<SourceKey>),
    /// It is sent as it is.
    Verbatim { lane: usize, db: u32 },
    /// It is sent like this.
    Written(Vec<Out>),
}

/// Encoded commands for one node.
struct Out {
    lane: usize,
    db: u32,
    bytes: Bytes,
    /// Replies to expect.
    count: usize,
}

/// What a shard's applier is made of.
pub(crate) struct ApplierParts {
    pub composer: Composer,
    pub marks: Arc<Marks>,
    pub names: Names,
    pub guard: Arc<Guard>,
    pub knows: TargetKnows,
    pub habits: Habits,
    /// The slots of the shard; `None`: it is the whole source.
    pub slots: Option<SlotSet>,
    pub asks: SourceAsks,
    pub note: Note,
    pub round: Arc<Round>,
    pub ledger: Arc<Ledger>,
}

impl Applier {
    /// Goes on behind `from`. What lies up to `uncertain_until` may have been executed already.
    pub(crate) fn new(parts: ApplierParts, from: Place, uncertain_until: u64) -> Self {
        let ApplierParts {
            composer,
            marks,
            names,
            guard,
            knows,
            habits,
            slots,
            asks,
            note,
            round,
            ledger,
        } = parts;
        Self {
            parser: Parser::new(from.offset),
            hands: Hands {
                composer,
                marks,
                names,
                guard,
                knows,
                habits,
                slots,
                asks,
                note,
                round,
                ledger,
                db: from.db,
                transaction: None,
                end: from,
                flushed: from.offset,
                uncertain_until,
                renewals_until: if uncertain_until > 0 { u64::MAX } else { 0 },
                wants_ack: false,
                known_dbs: HashSet::from([0]),
                scratch: Scratch::default(),
            },
        }
    }

    /// The way to the target.
    pub(crate) fn composer(&mut self) -> &mut Composer {
        &mut self.hands.composer
    }

    /// Whether the source has asked how far we are since the last call.
    pub(crate) fn take_ack_wish(&mut self) -> bool {
        std::mem::take(&mut self.hands.wants_ack)
    }

    /// The source was at this offset after this run had begun.
    pub(crate) fn knows_source_offset(&mut self, offset: u64) {
        if self.hands.renewals_until == u64::MAX {
            self.hands.renewals_until = offset;
        }
    }

    /// Begins a new history at `from`.
    pub(crate) fn reset(&mut self, from: Place) {
        self.parser = Parser::new(from.offset);
        let hands = &mut self.hands;
        hands.db = from.db;
        hands.transaction = None;
        hands.end = from;
        hands.flushed = from.offset;
        (hands.uncertain_until, hands.renewals_until) = (0, 0);
    }

    /// Applies the next bytes of the stream, that end at `end`.
    ///
    /// # Errors
    /// [`GaveUp`]: the job was halted, or everything begins again.
    pub(crate) async fn take(&mut self, bytes: Bytes, end: u64) -> Result<(), GaveUp> {
        let Self { parser, hands } = self;
        hands.marks.compose(end);
        hands.composer.refresh();
        parser.push(bytes);
        loop {
            let cut = match parser.next() {
                Ok(Some(cut)) => cut,
                Ok(None) => break,
                Err(e) => {
                    hands.round.begin_again(format!("source: {e}"));
                    return Err(GaveUp);
                }
            };
            let (args, is_short) = (cut.args(), cut.is_cut_short());
            hands
                .command(&args, || cut.run().into_bytes(), is_short, cut.end)
                .await?;
            if hands.transaction.is_none() {
                hands.end = Place {
                    offset: cut.end,
                    db: hands.db,
                };
                if hands.composer.is_full() {
                    hands.flush().await?;
                }
            }
        }
        if hands.transaction.is_none() {
            // Newlines between commands.
            hands.end.offset = hands.end.offset.max(parser.offset());
        }
        hands.flush().await
    }
}

impl Hands {
    /// Hands on what was put together.
    async fn flush(&mut self) -> Result<(), GaveUp> {
        if self.end.offset == self.flushed {
            return Ok(());
        }
        if !self.composer.is_empty() {
            self.guard.flush(&self.ledger)?;
            self.note.sent(self.end.offset, &self.ledger)?;
        }
        self.composer.flush(self.end).await;
        self.flushed = self.end.offset;
        Ok(())
    }

    fn begin_again(&self, reason: String) -> GaveUp {
        self.round.begin_again(reason);
        GaveUp
    }

    async fn command(
        &mut self,
        args: &Args<'_>,
        command: impl Fn() -> Bytes,
        is_short: bool,
        end: u64,
    ) -> Result<(), GaveUp> {
        let kind = lookup(args);
        match (kind, &mut self.transaction) {
            (Kind::Select, _) => match selected_db(args) {
                Some(db) => {
                    self.db = db;
                    self.check_db().await
                }
                None => Err(self.begin_again("the source's stream holds a SELECT of no db".into())),
            },
            (Kind::Multi, transaction) => {
                *transaction = Some(Transaction::default());
                Ok(())
            }
            (Kind::Exec, _) => {
                let transaction = self.transaction.take().unwrap_or_default();
                self.execute(transaction, end).await
            }
            (_, Some(transaction)) if !is_short && !transaction.is_split => {
                let command = command();
                transaction.bytes += command.len();
                let db = self.db;
                transaction.commands.push(Held { command, db });
                if transaction.bytes > TRANSACTION_BYTES_MAX {
                    transaction.is_split = true;
                    let commands = std::mem::take(&mut transaction.commands);
                    self.one_by_one(commands, end).await?;
                }
                Ok(())
            }
            _ => self.single(kind, args, command, is_short, end).await,
        }
    }

    /// A command that stands alone.
    async fn single(
        &mut self,
        kind: Kind,
        args: &Args<'_>,
        command: impl Fn() -> Bytes,
        is_short: bool,
        end: u64,
    ) -> Result<(), GaveUp> {
        match kind {
            Kind::Nothing | Kind::Select | Kind::Multi | Kind::Exec => {}
            Kind::GetAck => self.wants_ack = true,
            Kind::Flush { all } => self.flush_keys(all, &command())?,
            Kind::EmptySlots => {
                return Err(self.begin_again("slots were emptied on the source".into()));
            }
            Kind::SwapDb => {
                return Err(self.begin_again("two dbs changed places on the source".into()));
            }
            Kind::Publish { .. } => self.publish(&command(), end),
            Kind::Function => self.function(args, &command()),
            Kind::Script => self.push_to_every_node(&command()),
            Kind::Eval(spec) => self.script(spec, args, command, end).await?,
            Kind::Keys(spec) => {
                let decision = self.decide(spec, args, self.db, is_short, end).await?;
                self.carry_out(spec, args, decision, command, self.db);
            }
            Kind::Unknown => self.unknown(args, is_short).await?,
        }
        Ok(())
    }

    /// What is to be done with a command for keys.
    async fn decide(
        &mut self,
        spec: &'static Spec,
        args: &Args<'_>,
        db: u32,
        is_short: bool,
        end: u64,
    ) -> Result<Decision, GaveUp> {
        let is_plain = self.names.are_plain();
        let how = match is_short || (end <= self.renewals_until && renews_only(spec)) {
            true => How::Reread,
            false => how(spec, args),
        };
        let is_easy = is_plain
            && how == How::Verbatim
            && !self.knows.abilities.may_change(spec)
            && self.composer.is_standalone()
            && self.slots.is_none()
            && self.marks.count() == 0
            && end > self.uncertain_until
            && self.target_knows(spec);
        if is_easy {
            return Ok(Decision::Verbatim { lane: 0, db });
        }
        let mut found = std::mem::take(&mut self.scratch.keys);
        let decision = self.decide_by_keys(spec, args, (db, how, end), &mut found);
        let decision = decision.await;
        self.scratch.keys = found;
        decision
    }

    async fn decide_by_keys(
        &mut self,
        spec: &'static Spec,
        args: &Args<'_>,
        (db, how, end): (u32, How, u64),
        found: &mut Vec<KeyAt>,
    ) -> Result<Decision, GaveUp> {
        match keys(spec, args, found) {
            Ok(()) => {}
            Err(Malformed::KeysLost) => {
                let reason = format!("{} has too many or too long names of keys", spec.name);
                return Err(self.begin_again(reason));
            }
            Err(Malformed::Form) => {
                let reason = format!("{} of the source could not be understood", spec.name);
                return Err(self.begin_again(reason));
            }
        }
        if let Some(slots) = &self.slots {
            let slot_of = |key: &KeyAt| Slot::of_key(args.get(key.index).unwrap_or_default());
            if found.iter().any(|key| !slots.contains(slot_of(key))) {
                return Err(self.begin_again("slots move on the source".into()));
            }
        }
        let is_taken = |key: &KeyAt| {
            let name = args.get(key.index).unwrap_or_default();
            self.names.takes(db_of(key, db), name)
        };
        let taken = found.iter().filter(|key| is_taken(key)).count();
        if taken == 0 {
            return Ok(Decision::Nothing);
        }
        if taken < found.len() || end <= self.uncertain_until {
            return Ok(Decision::Mark(self.changed(args, db, found)));
        }
        if self.marks.count() > 0
            && let Some(decision) = self.look_at_marks(args, db, found, end).await?
        {
            return Ok(decision);
        }
        let leaves_db = found.iter().any(|key| db_of(key, db) != db);
        let must_reread = matches!(how, How::Reread | How::RelativeDeadline)
            || !self.target_knows(spec)
            || !self.names.takes_every_type()
            || (leaves_db && !(self.names.keeps_dbs() && self.composer.is_standalone()));
        if must_reread {
            return Ok(Decision::Mark(self.changed(args, db, found)));
        }
        Ok(self.form(spec, args, db, how, found))
    }

    /// In what form a command is sent whose keys are all free.
    fn form(
        &mut self,
        spec: &'static Spec,
        args: &Args<'_>,
        db: u32,
        how: How,
        found: &[KeyAt],
    ) -> Decision {
        let target_db = self.names.target_db(db);
        let rename = |name: &[u8]| self.names.other_name(name);
        let needs_rename = |key: &KeyAt| rename(args.get(key.index).unwrap_or_default()).is_some();
        let renamed = match found.iter().any(needs_rename) {
            false => None,
            true => {
                let written = rewrite(args, found, |name| match rename(name) {
                    Some(other) => Cow::Owned(other.to_vec()),
                    None => Cow::Borrowed(name),
                });
                match written {
                    Some(written) => Some(written),
                    None => return Decision::Mark(self.changed(args, db, found)),
                }
            }
        };
        let of_source = args;
        let args = &renamed.as_ref().map_or(*args, |written| written.args());
        let name = |key: &KeyAt| args.get(key.index).unwrap_or_default();
        let lane = found
            .first()
            .map_or(0, |key| self.composer.lane_of(name(key)));
        if !self.composer.is_standalone() {
            let mut out = BytesMut::new();
            let slot = |name: &[u8]| u16::try_from(Slot::of_key(name).index()).unwrap_or(0);
            match split(spec, args, found, slot, self.knows.abilities, &mut out) {
                Split::Whole => {}
                Split::Reread => return Decision::Mark(self.changed(of_source, db, found)),
                Split::Parts(_) if how != How::Verbatim => {
                    return Decision::Mark(self.changed(of_source, db, found));
                }
                Split::Parts(parts) => {
                    let out = out.freeze();
                    let outs = parts.into_iter().map(|part| Out {
                        lane: self
                            .composer
                            .lane_of(args.get(part.key).unwrap_or_default()),
                        db: target_db,
                        bytes: out.slice(part.bytes),
                        count: part.commands,
                    });
                    return Decision::Written(outs.collect());
                }
            }
        }
        if let (How::AbsoluteDeadline, Deadline::Absolute { at_ms }) = (how, deadline(spec, args)) {
            let mut written_ms = at_ms;
            for key in found.iter().filter(|key| key.role.changes()) {
                written_ms = self
                    .guard
                    .admit(target_db, name(key), at_ms)
                    .max(written_ms);
            }
            if written_ms != at_ms {
                let mut out = BytesMut::new();
                let abilities = self.knows.abilities;
                return match with_deadline(spec, args, written_ms, abilities, &mut out) {
                    Some(count) => Decision::Written(vec![Out {
                        lane,
                        db: target_db,
                        bytes: out.freeze(),
                        count,
                    }]),
                    None => Decision::Mark(self.changed(of_source, db, found)),
                };
            }
        }
        let mut out = BytesMut::new();
        match form(spec, args, self.knows.abilities, &mut out) {
            Form::AsItIs => {}
            Form::Commands(count) => {
                return Decision::Written(vec![Out {
                    lane,
                    db: target_db,
                    bytes: out.freeze(),
                    count,
                }]);
            }
            Form::Reread => return Decision::Mark(self.changed(of_source, db, found)),
        }
        match renamed {
            None => Decision::Verbatim {
                lane,
                db: target_db,
            },
            Some(written) => Decision::Written(vec![Out {
                lane,
                db: target_db,
                bytes: written.into_bytes(),
                count: 1,
            }]),
        }
    }

    /// What marks say to a command for these keys; `None`: all are free.
    async fn look_at_marks(
        &self,
        args: &Args<'_>,
        db: u32,
        found: &[KeyAt],
        end: u64,
    ) -> Result<Option<Decision>, GaveUp> {
        let all: Vec<(SourceKey, bool)> = found
            .iter()
            .map(|key| {
                let name = args.get(key.index).unwrap_or_default();
                let name = Bytes::copy_from_slice(name);
                ((db_of(key, db), name), key.role.changes())
            })
            .collect();
        // Nobody waits for what a stage that is being waited for does not end in.
        let is_known = |marks: &Marks| {
            !all.iter()
                .any(|(key, _)| marks.look(key, end) == Leave::Wait)
        };
        let stop = &self.ledger.stop;
        tokio::select! {
            () = self.marks.wait_until(is_known) => {}
            () = self.round.ended() => return Err(GaveUp),
            () = stop.cancelled() => return Err(GaveUp),
        }
        let looks: Vec<Leave> = all
            .iter()
            .map(|(key, _)| self.marks.look(key, end))
            .collect();
        if looks.iter().all(|look| *look == Leave::Free) {
            return Ok(None);
        }
        let mut changed = all.iter().zip(&looks).filter(|((_, changes), _)| *changes);
        if changed.all(|(_, look)| *look == Leave::Skip) {
            return Ok(Some(Decision::Nothing));
        }
        let changed = all.into_iter().filter(|(_, changes)| *changes);
        Ok(Some(Decision::Mark(changed.map(|(key, _)| key).collect())))
    }

    /// The keys that a command changes and that are followed.
    fn changed(&self, args: &Args<'_>, db: u32, found: &[KeyAt]) -> Vec<SourceKey> {
        changed_keys(&self.names, args, db, found)
    }

    fn target_knows(&self, spec: &Spec) -> bool {
        self.knows.commands.is_empty() || self.knows.commands.contains(spec.name.as_bytes())
    }

    /// Sends a command or marks its keys.
    fn carry_out(
        &mut self,
        spec: &'static Spec,
        args: &Args<'_>,
        decision: Decision,
        command: impl Fn() -> Bytes,
        db: u32,
    ) {
        let keys = || Keys::Of {
            command: command(),
            db,
        };
        let lane = match decision {
            Decision::Nothing => return,
            Decision::Mark(marked) => {
                for key in marked {
                    self.marks.mark(key);
                }
                return;
            }
            Decision::Verbatim { lane, db } => {
                let (keys, look) = (keys(), Look::Absence(spec));
                self.composer
                    .push(lane, db, &command(), Sent { keys, look });
                Some((lane, db))
            }
            Decision::Written(outs) => {
                let place = outs.first().map(|out| (out.lane, out.db));
                for out in outs {
                    let sent = (0..out.count).map(|_| Sent {
                        keys: keys(),
                        look: Look::Absence(spec.of_written()),
                    });
                    let bytes = out.bytes;
                    self.composer
                        .push_written(out.lane, out.db, sent.collect(), |buffer| {
                            buffer.extend_from_slice(&bytes);
                        });
                }
                place
            }
        };
        if let (Some(carry), Some((lane, lane_db))) = (carries_expiry(spec, args), lane) {
            self.look_at_expiry(args, carry.target, carry.target_db, (lane, lane_db, db));
        }
    }

    /// Behind a command that gives a key the expiry of another: the deadline may be held back, and nobody knows of this key.
    fn look_at_expiry(
        &mut self,
        args: &Args<'_>,
        key_at: usize,
        key_db: Db,
        (lane, lane_db, db): (usize, u32, u32),
    ) {
        let name = args.get(key_at).unwrap_or_default();
        let (source_db, target_db) = match key_db {
            Db::Same => (db, lane_db),
            Db::Other(other) => (other, self.names.target_db(other)),
        };
        let target_name = self.names.other_name(name);
        let source_key = (source_db, Bytes::copy_from_slice(name));
        let target_name = target_name.unwrap_or_else(|| source_key.1.clone());
        let sent = Sent {
            keys: Keys::Named(vec![source_key]),
            look: Look::Expiry,
        };
        self.composer
            .push_written(lane, target_db, vec![sent], |buffer| {
                keyhaul_resp::encode::command(buffer, &[b"PTTL", &target_name]);
            });
    }

    /// A transaction that was read to its end: whole where one node takes it, else its commands one by one.
    async fn execute(&mut self, transaction: Transaction, end: u64) -> Result<(), GaveUp> {
        let is_whole = transaction.commands.len() > 1 && self.is_only_writes(&transaction);
        if !is_whole || !self.execute_whole(&transaction, end).await? {
            self.one_by_one(transaction.commands, end).await?;
        }
        Ok(())
    }

    fn is_only_writes(&self, transaction: &Transaction) -> bool {
        transaction.commands.iter().all(|held| {
            let mut parser = Parser::new(0);
            parser.push(held.command.clone());
            let cut = parser.next();
            matches!(cut, Ok(Some(cut)) if matches!(lookup(&cut.args()), Kind::Keys(_)))
        })
    }

    /// Sends the commands as one transaction. `false`: that is not possible, and nothing was sent.
    async fn execute_whole(&mut self, transaction: &Transaction, end: u64) -> Result<bool, GaveUp> {
        let mut outs: Vec<(Out, &'static Spec)> = Vec::new();
        let mut slots = HashSet::new();
        for held in &transaction.commands {
            let mut parser = Parser::new(0);
            parser.push(held.command.clone());
            let Ok(Some(cut)) = parser.next() else {
                return Ok(false);
            };
            let args = cut.args();
            let Kind::Keys(spec) = lookup(&args) else {
                return Ok(false);
            };
            if carries_expiry(spec, &args).is_some() {
                return Ok(false);
            }
            let decision = self.decide(spec, &args, held.db, false, end).await?;
            match decision {
                Decision::Nothing => continue,
                Decision::Mark(_) => return Ok(false),
                Decision::Verbatim { lane, db } => outs.push((
                    Out {
                        lane,
                        db,
                        bytes: held.command.clone(),
                        count: 1,
                    },
                    spec,
                )),
                Decision::Written(written) => {
                    outs.extend(written.into_iter().map(|out| (out, spec.of_written())));
                }
            }
            if !self.composer.is_standalone() {
                let mut found = Vec::new();
                if keys(spec, &args, &mut found).is_err() {
                    return Ok(false);
                }
                for key in &found {
                    let name = args.get(key.index).unwrap_or_default();
                    let other = self.names.other_name(name);
                    let name = other.as_deref().unwrap_or(name);
                    slots.insert(Slot::of_key(name));
                }
            }
        }
        let Some((first, _)) = outs.first() else {
            return Ok(true);
        };
        let (lane, db) = (first.lane, first.db);
        let is_one_place = outs.iter().all(|(out, _)| (out.lane, out.db) == (lane, db));
        if !is_one_place || slots.len() > 1 {
            return Ok(false);
        }
        let commands = transaction.commands.iter();
        let commands = commands.map(|held| (held.command.clone(), held.db));
        self.send_whole((lane, db), outs, commands.collect());
        Ok(true)
    }

    fn send_whole(
        &mut self,
        (lane, db): (usize, u32),
        outs: Vec<(Out, &'static Spec)>,
        commands: Vec<(Bytes, u32)>,
    ) {
        let plain = || Sent {
            keys: Keys::None,
            look: Look::Queued,
        };
        let replies: usize = outs.iter().map(|(out, _)| out.count).sum();
        let mut sent: Vec<Sent> = (0..=replies).map(|_| plain()).collect();
        let specs = outs
            .iter()
            .flat_map(|(out, spec)| std::iter::repeat_n(Some(*spec), out.count));
        sent.push(Sent {
            keys: Keys::OfAll(commands),
            look: Look::Transaction(specs.collect()),
        });
        self.composer.push_written(lane, db, sent, |buffer| {
            keyhaul_resp::encode::command(buffer, &[b"MULTI"]);
            for (out, _) in &outs {
                buffer.extend_from_slice(&out.bytes);
            }
            keyhaul_resp::encode::command(buffer, &[b"EXEC"]);
        });
    }

    /// Commands of a transaction that no node takes whole.
    async fn one_by_one(&mut self, commands: Vec<Held>, end: u64) -> Result<(), GaveUp> {
        let db = self.db;
        for held in commands {
            let mut parser = Parser::new(0);
            parser.push(held.command.clone());
            if let Ok(Some(cut)) = parser.next() {
                let args = cut.args();
                self.db = held.db;
                let command = || held.command.clone();
                Box::pin(self.single(lookup(&args), &args, command, false, end)).await?;
            }
        }
        self.db = db;
        Ok(())
    }

    /// All keys of the source, or of a db, are gone.
    fn flush_keys(&mut self, all: bool, command: &Bytes) -> Result<(), GaveUp> {
        if !self.habits.may_flush || !self.names.are_plain() {
            return Err(self.begin_again("all keys of a db were deleted on the source".into()));
        }
        // What is being written may land behind this; it is looked at once more.
        self.marks.thaw();
        let db = if all { 0 } else { self.db };
        for lane in 0..self.composer.lane_count() {
            let sent = Sent {
                keys: Keys::Everything,
                look: Look::Errors,
            };
            self.composer.push(lane, db, command, sent);
        }
        Ok(())
    }

    /// A message: no data, and lost where it is uncertain whether it went.
    fn publish(&mut self, command: &Bytes, end: u64) {
        if self.habits.forwards_messages && end > self.uncertain_until {
            let sent = Sent {
                keys: Keys::None,
                look: Look::Nothing,
            };
            self.composer.push(0, 0, command, sent);
        }
    }

    /// A change of the function libraries. The same comes from each shard of a cluster.
    fn function(&mut self, args: &Args<'_>, command: &Bytes) {
        if !self.habits.functions {
            return;
        }
        let replaces = args.is(1, "LOAD") && !args.is(2, "REPLACE");
        if !replaces {
            return self.push_to_every_node(command);
        }
        let code = args.get(args.len() - 1).unwrap_or_default();
        let mut load = BytesMut::new();
        keyhaul_resp::encode::command(&mut load, &[b"FUNCTION", b"LOAD", b"REPLACE", code]);
        self.push_to_every_node(&load.freeze());
    }

    fn push_to_every_node(&mut self, command: &Bytes) {
        for lane in 0..self.composer.lane_count() {
            let sent = Sent {
                keys: Keys::None,
                look: Look::Nothing,
            };
            self.composer.push(lane, 0, command, sent);
        }
    }

    /// A script of an old source, which may write more than it names.
    async fn script(
        &mut self,
        spec: &'static Spec,
        args: &Args<'_>,
        command: impl Fn() -> Bytes,
        end: u64,
    ) -> Result<(), GaveUp> {
        let is_sendable = self.names.are_plain()
            && self.composer.is_standalone()
            && self.marks.count() == 0
            && end > self.uncertain_until;
        if is_sendable {
            let keys = Keys::Of {
                command: command(),
                db: self.db,
            };
            let look = Look::Errors;
            self.composer
                .push(0, self.db, &command(), Sent { keys, look });
            return Ok(());
        }
        self.ledger.remark(
            "a script of the source could not be passed on: the keys that it names were read again, others that it wrote may differ".into(),
        );
        let mut found = Vec::new();
        if keys(spec, args, &mut found).is_ok() {
            for key in self.changed(args, self.db, &found) {
                self.marks.mark(key);
            }
        }
        Ok(())
    }

    /// A command that only the source knows: it says which keys it has.
    async fn unknown(&mut self, args: &Args<'_>, is_short: bool) -> Result<(), GaveUp> {
        let name = crate::stats::key_text(args.name());
        if is_short {
            let reason = format!("{name} of the source is too long, and its keys are not known");
            return Err(self.begin_again(reason));
        }
        let found = self.asks.keys_of(args, &self.ledger).await?;
        match found {
            Ok(keys) => {
                for key in keys {
                    if self.names.takes(self.db, &key) {
                        self.marks.mark((self.db, key));
                    }
                }
            }
            Err(error) => self.ledger.remark(format!(
                "{name} of the source is not known here, and has no keys that could be read again ({error}): it was left out"
            )),
        }
        Ok(())
    }

    /// Makes sure that the target has the db, before anything is sent behind a SELECT of it.
    async fn check_db(&mut self) -> Result<(), GaveUp> {
        let db = self.names.target_db(self.db);
        let is_taken = self
            .names
            .dbs
            .as_ref()
            .is_none_or(|dbs| dbs.contains(&self.db));
        if self.known_dbs.contains(&db) || !is_taken {
            return Ok(());
        }
        if !self.composer.is_standalone() {
            self.ledger.halt(format!(
                "db {} of the source was written, and the target is a cluster, which has db 0 only: leave it out by --db, or map it by --db-map",
                self.db
            ));
            return Err(GaveUp);
        }
        self.flush().await?;
        // A refusal of the SELECT before it halts the job.
        let ping = vec![Bytes::from_static(b"PING")];
        self.composer.ask(0, db, vec![ping]).await;
        if self.ledger.has_halted() || self.round.has_ended() {
            return Err(GaveUp);
        }
        self.known_dbs.insert(db);
        Ok(())
    }
}

/// Whether it changes nothing of a key but its expiry.
fn renews_only(spec: &Spec) -> bool {
    const NAMES: [&str; 6] = [
        "PEXPIREAT",
        "EXPIREAT",
        "PEXPIRE",
        "EXPIRE",
        "PERSIST",
        "GETEX",
    ];
    NAMES.contains(&spec.name)
}

fn db_of(key: &KeyAt, selected: u32) -> u32 {
    match key.db {
        Db::Same => selected,
        Db::Other(db) => db,
    }
}

/// The keys that a command changes and that are followed.
fn changed_keys(names: &Names, args: &Args<'_>, db: u32, found: &[KeyAt]) -> Vec<SourceKey> {
    let changed = found.iter().filter(|key| key.role.changes());
    let keys = changed.map(|key| {
        let name = args.get(key.index).unwrap_or_default();
        (db_of(key, db), Bytes::copy_from_slice(name))
    });
    keys.filter(|(db, key)| names.takes(*db, key)).collect()
}

/// The keys of a command as it came: those that it changes and that are followed, and all that it only reads.
pub(crate) fn keys_of(names: &Names, command: &Bytes, db: u32) -> (Vec<SourceKey>, Vec<SourceKey>) {
    let nothing = (Vec::new(), Vec::new());
    let mut parser = Parser::new(0);
    parser.push(command.clone());
    let Ok(Some(cut)) = parser.next() else {
        return nothing;
    };
    let args = cut.args();
    let (Kind::Keys(spec) | Kind::Eval(spec)) = lookup(&args) else {
        return nothing;
    };
    let mut found = Vec::new();
    if keys(spec, &args, &mut found).is_err() {
        return nothing;
    }
    let read = found.iter().filter(|key| !key.role.changes()).map(|key| {
        let name = args.get(key.index).unwrap_or_default();
        (db_of(key, db), Bytes::copy_from_slice(name))
    });
    (changed_keys(names, &args, db, &found), read.collect())
}

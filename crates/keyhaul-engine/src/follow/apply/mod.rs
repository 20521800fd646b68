//! Applies the stream of one shard: command by command, each sent as it is, sent in another form, or its keys marked.
//!
//! [`decide`] has what becomes of a command for keys, [`transaction`] what belongs together, [`keyless`] the rest.

mod decide;
mod keyless;
mod transaction;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use keyhaul_client::SlotSet;

use crate::follow::applied::Place;
use crate::follow::command::{Abilities, Args, KeyAt, Kind, lookup, selected_db};
use crate::follow::compose::Composer;
use crate::follow::guard::Guard;
use crate::follow::lane::Look;
use crate::follow::marks::Marks;
use crate::follow::names::Names;
use crate::follow::note::Note;
use crate::follow::parser::Parser;
use crate::follow::round::Round;
use crate::follow::source_asks::SourceAsks;
use crate::ledger::Ledger;
use crate::patience::GaveUp;

pub(crate) use decide::keys_of;
use transaction::{Held, TRANSACTION_BYTES_MAX, Transaction};

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
    /// Up to there the stream is handed out, or lies in the composer; not within a transaction.
    end: Place,
    flushed: u64,
    /// The end of the last command that was looked at.
    seen: u64,
    /// What lies up to there may have been executed by the target already.
    uncertain_until: u64,
    /// While nobody followed, the target may have let keys expire that the source renewed: up to there a command that only
    /// renews has the key read again.
    renewals_until: u64,
    wants_ack: bool,
    /// The libraries are to be copied from the source.
    wants_libraries: bool,
    /// Dbs of the target that were selected before.
    known_dbs: HashSet<u32>,
    /// Keys of the last command; kept for its memory.
    found: Vec<KeyAt>,
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
                seen: from.offset,
                uncertain_until,
                renewals_until: if uncertain_until > 0 { u64::MAX } else { 0 },
                wants_ack: false,
                wants_libraries: false,
                known_dbs: HashSet::from([0]),
                found: Vec::new(),
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

    /// Whether the function libraries are to be copied from the source since the last call.
    pub(crate) fn take_library_wish(&mut self) -> bool {
        std::mem::take(&mut self.hands.wants_libraries)
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
        // What an interrupted call had put together.
        hands.composer.clear();
        hands.db = from.db;
        hands.transaction = None;
        hands.end = from;
        hands.flushed = from.offset;
        hands.seen = from.offset;
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
                .command(&args, || cut.to_bytes(), is_short, cut.end)
                .await?;
            hands.seen = cut.end;
            if hands.transaction.is_none() {
                hands.end = Place {
                    offset: cut.end,
                    db: hands.db,
                };
            }
            if hands.composer.is_full() {
                hands.flush().await?;
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
        let has_commands = !self.composer.is_empty();
        if self.end.offset == self.flushed && !has_commands {
            return Ok(());
        }
        if has_commands {
            self.guard.flush(&self.ledger)?;
            // Of a transaction that is too long to be kept, more than the end says.
            self.note
                .sent(self.seen.max(self.end.offset), &self.ledger)?;
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
            Kind::SwapDb => self.swap_dbs(args)?,
            Kind::Publish { sharded } => self.publish(args, sharded, &command(), end),
            Kind::Function => self.function(args, &command()),
            Kind::Script => self.push_to_every_node(&command(), || Look::Nothing),
            Kind::Eval(spec) => self.script(spec, args, command, end).await?,
            Kind::Keys(spec) => {
                let decision = self.decide(spec, args, self.db, is_short, end).await?;
                self.carry_out(spec, args, decision, command, self.db);
            }
            Kind::Unknown => self.unknown(args, is_short).await?,
        }
        Ok(())
    }

    /// Makes sure that the target has the db, before anything is sent behind a SELECT of it.
    async fn check_db(&mut self) -> Result<(), GaveUp> {
        let db = self.names.target_db(self.db);
        if self.known_dbs.contains(&db) || !self.follows_db(self.db) {
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

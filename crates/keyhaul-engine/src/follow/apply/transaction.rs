//! Transactions: kept whole where one node takes them, else command by command.

use std::collections::HashSet;

use bytes::Bytes;
use keyhaul_client::Slot;

use crate::follow::apply::Hands;
use crate::follow::apply::decide::{Decision, Out};
use crate::follow::command::{Kind, Spec, carries_expiry, keys, lookup};
use crate::follow::lane::{Keys, Look, Sent};
use crate::follow::parser::Parser;
use crate::patience::GaveUp;

/// Bytes of one transaction that are held; of a longer one the commands are applied one by one.
pub(super) const TRANSACTION_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Default)]
pub(super) struct Transaction {
    pub commands: Vec<Held>,
    pub bytes: usize,
    /// It is too long to be kept whole.
    pub is_split: bool,
}

pub(super) struct Held {
    pub command: Bytes,
    pub db: u32,
}

impl Hands {
    /// A transaction that was read to its end: whole where one node takes it, else its commands one by one.
    pub(super) async fn execute(
        &mut self,
        transaction: Transaction,
        end: u64,
    ) -> Result<(), GaveUp> {
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
            .flat_map(|(out, spec)| std::iter::repeat_n(*spec, out.count));
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
    pub(super) async fn one_by_one(&mut self, commands: Vec<Held>, end: u64) -> Result<(), GaveUp> {
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
}

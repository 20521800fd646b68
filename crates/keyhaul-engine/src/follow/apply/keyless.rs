//! Commands that are not about keys which can be told from them.

use bytes::{Bytes, BytesMut};

use crate::follow::apply::Hands;
use crate::follow::command::{Args, Spec, keys};
use crate::follow::lane::{Keys, Look, Sent};
use crate::patience::GaveUp;

impl Hands {
    /// All keys of the source, or of a db, are gone.
    pub(super) fn flush_keys(&mut self, all: bool, command: &Bytes) -> Result<(), GaveUp> {
        if !all && !self.follows_db(self.db) {
            return Ok(());
        }
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

    /// Two dbs changed places.
    pub(super) fn swap_dbs(&self, args: &Args<'_>) -> Result<(), GaveUp> {
        let db = |index| u32::try_from(args.integer(index)?).ok();
        match (db(1), db(2)) {
            (Some(one), Some(other)) if !self.follows_db(one) && !self.follows_db(other) => Ok(()),
            _ => Err(self.begin_again("two dbs changed places on the source".into())),
        }
    }

    pub(super) fn follows_db(&self, db: u32) -> bool {
        self.names.dbs.as_ref().is_none_or(|dbs| dbs.contains(&db))
    }

    /// A message: no data, and lost where it is uncertain whether it went.
    pub(super) fn publish(&mut self, args: &Args<'_>, is_sharded: bool, command: &Bytes, end: u64) {
        if self.habits.forwards_messages && end > self.uncertain_until {
            let sent = Sent {
                keys: Keys::None,
                look: Look::Nothing,
            };
            let channel = args.get(1).unwrap_or_default();
            let lane = if is_sharded {
                self.composer.lane_of(channel)
            } else {
                0
            };
            self.composer.push(lane, 0, command, sent);
        }
    }

    /// A change of the function libraries. The same comes from each shard of a cluster.
    pub(super) fn function(&mut self, args: &Args<'_>, command: &Bytes) {
        if !self.habits.functions {
            return;
        }
        if args.is(1, "RESTORE") {
            // Its payload may be of a version that the target does not read.
            if args.is(3, "FLUSH") {
                let mut flush = BytesMut::new();
                keyhaul_resp::encode::command(&mut flush, &[b"FUNCTION", b"FLUSH"]);
                self.push_to_every_node(&flush.freeze(), || Look::Function);
            }
            self.wants_libraries = true;
            return;
        }
        let replaces = args.is(1, "LOAD") && !args.is(2, "REPLACE");
        if !replaces {
            return self.push_to_every_node(command, || Look::Function);
        }
        let code = args.get(args.len() - 1).unwrap_or_default();
        let mut load = BytesMut::new();
        keyhaul_resp::encode::command(&mut load, &[b"FUNCTION", b"LOAD", b"REPLACE", code]);
        self.push_to_every_node(&load.freeze(), || Look::Function);
    }

    /// Sends what may be executed twice, and is when it is not certain whether it was.
    pub(super) fn push_to_every_node(&mut self, command: &Bytes, look: impl Fn() -> Look) {
        for lane in 0..self.composer.lane_count() {
            let sent = Sent {
                keys: Keys::Again(command.clone()),
                look: look(),
            };
            self.composer.push(lane, 0, command, sent);
        }
    }

    /// A script of an old source, which may write more than it names.
    pub(super) async fn script(
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
    pub(super) async fn unknown(&mut self, args: &Args<'_>, is_short: bool) -> Result<(), GaveUp> {
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
}

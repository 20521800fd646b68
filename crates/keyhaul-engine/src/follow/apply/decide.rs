//! What becomes of a command for keys: it is sent as it is, in another form, or its keys are marked.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use keyhaul_client::Slot;

use crate::follow::apply::Hands;
use crate::follow::command::{
    Args, Db, Deadline, Form, How, KeyAt, Kind, Malformed, Spec, Split, carries_expiry, deadline,
    form, how, keys, lookup, rewrite, split, with_deadline,
};
use crate::follow::lane::{Keys, Look, Sent};
use crate::follow::marks::{Leave, Marks, SourceKey};
use crate::follow::names::Names;
use crate::follow::parser::Parser;
use crate::patience::GaveUp;

/// What is done with a command.
pub(super) enum Decision {
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
pub(super) struct Out {
    pub lane: usize,
    pub db: u32,
    pub bytes: Bytes,
    /// Replies to expect.
    pub count: usize,
}

impl Hands {
    /// What is to be done with a command for keys.
    pub(super) async fn decide(
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
            && end > self.renewals_until
            && spec.name != "SORT"
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
        let mut found = std::mem::take(&mut self.found);
        let decision = self.decide_by_keys(spec, args, (db, how, end), &mut found);
        let decision = decision.await;
        self.found = found;
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
        let names_db = found.iter().any(|key| matches!(key.db, Db::Other(_)));
        let reads = found.iter().any(|key| !key.role.changes());
        let sets_fields = matches!(
            deadline(spec, args),
            Deadline::FieldsAbsolute { .. } | Deadline::FieldsRelative { .. }
        );
        if sets_fields {
            for key in self.changed(args, db, found) {
                self.marks.note_fields(&key, true);
            }
        }
        let must_reread = sets_fields
            || (spec.name.starts_with('H') && self.marks.has_too_many_fields())
            || matches!(how, How::Reread | How::RelativeDeadline)
            || !self.target_knows(spec)
            || !self.names.takes_every_type()
            || (names_db && !(self.names.keeps_dbs() && self.composer.is_standalone()))
            // While nobody followed, what it reads may have expired on the target.
            || (reads && end <= self.renewals_until)
            // Keys that a pattern names are not known.
            || (spec.name == "SORT" && has_pattern(args));
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
    pub(super) fn changed(&self, args: &Args<'_>, db: u32, found: &[KeyAt]) -> Vec<SourceKey> {
        changed_keys(&self.names, args, db, found)
    }

    pub(super) fn target_knows(&self, spec: &Spec) -> bool {
        self.knows.commands.is_empty() || self.knows.commands.contains(spec.name.as_bytes())
    }

    /// Sends a command or marks its keys.
    pub(super) fn carry_out(
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
}

/// Whether SORT looks at keys that a pattern names.
fn has_pattern(args: &Args<'_>) -> bool {
    (2..args.len()).any(|index| args.is(index, "BY") || args.is(index, "GET"))
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

//! Applies a stream to another server by what is known of commands, in several ways.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use keyhaul_resp::Token;
use keyhaul_testkit::Server;
use keyhaul_testkit::redis::{Cmd, Connection, ConnectionLike, Value, cmd};

use super::super::*;

/// How commands with keys are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// As they are, wherever that is permitted.
    Verbatim,
    /// Deadlines written anew, commands taken apart as if each key lay in a slot of its own.
    Anew,
    /// The same, for a target that knows less.
    AnewForOlder,
    /// All that they may change is read again.
    Reread,
}

pub(super) struct Mirror {
    way: Way,
    has_field_ttls: bool,
    /// Commands of the target.
    known: BTreeSet<String>,
    source: Connection,
    target: Connection,
    db: u32,
    /// Read again since the last step of the source.
    fresh: BTreeSet<(u32, Vec<u8>)>,
}

impl Mirror {
    pub(super) fn new(way: Way, source: &Server, target: &Server) -> Self {
        let has_field_ttls = target.version().has_field_ttls();
        let (source, mut target) = (source.client(), target.client());
        let list: Vec<Vec<Value>> = cmd("COMMAND").query(&mut target).unwrap();
        let names = list.into_iter().map(|entry| match &entry[0] {
            Value::BulkString(name) => String::from_utf8_lossy(name).to_uppercase(),
            Value::SimpleString(name) => name.to_uppercase(),
            other => panic!("{other:?}"),
        });
        let known = names.collect();
        let fresh = BTreeSet::new();
        Self {
            way,
            has_field_ttls,
            known,
            source,
            target,
            db: 0,
            fresh,
        }
    }

    /// All that the source has done is applied.
    pub(super) fn step_done(&mut self) {
        self.fresh.clear();
    }

    pub(super) fn apply(&mut self, command: &Written) {
        let args = command.args();
        match lookup(&args) {
            Kind::Select => {
                self.db = selected_db(&args).unwrap();
                self.select(self.db);
            }
            Kind::Multi | Kind::Exec | Kind::Nothing | Kind::GetAck | Kind::Publish { .. } => {}
            Kind::Flush { .. } | Kind::SwapDb | Kind::Function | Kind::Script => {
                self.send(&command.clone().into_bytes(), 1, &args);
            }
            Kind::Keys(spec) => self.apply_to_keys(spec, command),
            Kind::Eval(_) | Kind::EmptySlots | Kind::Unknown => panic!("{}", show(&args)),
        }
    }

    fn apply_to_keys(&mut self, spec: &Spec, command: &Written) {
        let args = command.args();
        let mut at = Vec::new();
        keys(spec, &args, &mut at).unwrap();
        let changed = self.changed(spec, &args);
        let how = how(spec, &args);
        let is_fresh = changed.iter().any(|key| self.fresh.contains(key));
        if self.way == Way::Reread || how == How::Reread || is_fresh {
            return self.reread(changed);
        }
        let abilities = self.abilities();
        let mut out = BytesMut::new();
        if self.way != Way::Verbatim {
            let slot = |key: &[u8]| {
                key.iter().fold(0, |sum: u16, &b| {
                    sum.wrapping_mul(31).wrapping_add(b.into())
                })
            };
            match split(spec, &args, &at, slot, abilities, &mut out) {
                Split::Whole => {}
                Split::Parts(parts) => {
                    for part in parts {
                        self.send(&out[part.bytes], part.commands, &args);
                    }
                    return;
                }
                Split::Reread => return self.reread(changed),
            }
        }
        let at_ms = match deadline(spec, &args) {
            Deadline::None => return self.send_form(spec, command),
            Deadline::Absolute { at_ms } | Deadline::FieldsAbsolute { at_ms } => at_ms,
            Deadline::Relative { ttl_ms } | Deadline::FieldsRelative { ttl_ms } => {
                now_ms() + ttl_ms
            }
            Deadline::Unclear => panic!("{}", show(&args)),
        };
        if self.way == Way::Verbatim && how == How::AbsoluteDeadline {
            return self.send_form(spec, command);
        }
        let count = with_deadline(spec, &args, at_ms, abilities, &mut out).unwrap();
        self.send(&out, count, &args);
    }

    /// The keys that the command may change.
    fn changed(&self, spec: &Spec, args: &Args<'_>) -> Vec<(u32, Vec<u8>)> {
        let mut at = Vec::new();
        keys(spec, args, &mut at).unwrap();
        let changed = at.iter().filter(|key| key.role.changes());
        let named = changed.map(|key| {
            let db = match key.db {
                Db::Same => self.db,
                Db::Other(db) => db,
            };
            (db, args.get(key.index).unwrap().to_vec())
        });
        named.collect()
    }

    fn abilities(&self) -> Abilities {
        if self.way == Way::AnewForOlder {
            // A target that has them keeps them, whatever is said.
            return Abilities {
                field_expiry: self.has_field_ttls,
                ..Abilities::default()
            };
        }
        Abilities::of_commands(|name| self.known.contains(name))
    }

    fn send_form(&mut self, spec: &Spec, command: &Written) {
        let args = command.args();
        let mut out = BytesMut::new();
        match form(spec, &args, self.abilities(), &mut out) {
            Form::AsItIs => self.send_whole(spec, command),
            Form::Commands(count) => {
                self.send(&out, count, &args);
            }
            Form::Reread => {
                let changed = self.changed(spec, &args);
                self.reread(changed);
            }
        }
    }

    fn send_whole(&mut self, spec: &Spec, command: &Written) {
        let args = command.args();
        let replies = self.send(&command.clone().into_bytes(), 1, &args);
        let tokens = replies.iter().flat_map(tokens);
        for token in tokens {
            // What is said of fields may be said in vain.
            let is_certain = token != Token::Int(-2);
            let shows = is_certain && shows_absence(spec, &token);
            assert!(!shows, "{}: {token:?}", show(&args));
        }
    }

    fn send(&mut self, bytes: &[u8], count: usize, args: &Args<'_>) -> Vec<Value> {
        let replies = self.target.req_packed_commands(bytes, 0, count);
        let replies = replies.unwrap_or_else(|error| panic!("{}: {error}", show(args)));
        assert_eq!(replies.len(), count);
        let is_error = |reply: &Value| matches!(reply, Value::ServerError(_));
        assert!(!replies.iter().any(is_error), "{}: {replies:?}", show(args));
        replies
    }

    fn reread(&mut self, changed: Vec<(u32, Vec<u8>)>) {
        for (db, key) in changed {
            let select = cmd("SELECT").arg(db).clone();
            let value: Option<Vec<u8>> = self.ask(&select, cmd("DUMP").arg(&key));
            let ttl_ms: i64 = self.ask(&select, cmd("PTTL").arg(&key));
            self.select(db);
            let write = match value {
                Some(value) => {
                    let mut restore = cmd("RESTORE");
                    restore.arg(&key).arg(ttl_ms.max(0)).arg(value);
                    restore.arg("REPLACE").clone()
                }
                None => cmd("DEL").arg(&key).clone(),
            };
            write.exec(&mut self.target).unwrap();
            self.fresh.insert((db, key));
        }
        self.select(self.db);
    }

    fn ask<T: keyhaul_testkit::redis::FromRedisValue>(&mut self, select: &Cmd, command: &Cmd) -> T {
        select.exec(&mut self.source).unwrap();
        command.query(&mut self.source).unwrap()
    }

    fn select(&mut self, db: u32) {
        cmd("SELECT").arg(db).exec(&mut self.target).unwrap();
    }
}

fn tokens(reply: &Value) -> Vec<Token> {
    match reply {
        Value::Int(n) => vec![Token::Int(*n)],
        Value::Nil => vec![Token::Null],
        Value::Array(items) => {
            let mut all = vec![Token::Array(items.len() as u64)];
            all.extend(items.iter().flat_map(tokens));
            all
        }
        _ => Vec::new(),
    }
}

pub(super) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

pub(super) fn show(args: &Args<'_>) -> String {
    let words: Vec<_> = args
        .iter()
        .map(|arg| arg.escape_ascii().to_string())
        .collect();
    words.join(" ")
}

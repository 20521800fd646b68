//! The keys of a command.

use thiserror::Error;

use super::Args;
use super::kind::db;
use super::table::{Does, KeysAt, Spec};

/// An argument that is a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyAt {
    /// Which argument.
    pub(crate) index: usize,
    /// What happens to it.
    pub(crate) role: Role,
    /// Where it lies.
    pub(crate) db: Db,
}

/// What happens to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It stays as it is.
    Read,
    /// It may be other than before; also gone.
    Write,
    /// It is gone.
    Remove,
}

impl Role {
    /// The key has to be read again when the command cannot be sent.
    pub(crate) fn changes(self) -> bool {
        self != Self::Read
    }
}

/// The db of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Db {
    /// The one that is selected.
    Same,
    /// Another one: where COPY and MOVE put it. May be the selected one nevertheless.
    Other(u32),
}

/// Which keys a command has cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Malformed {
    /// It is not of the form that is known.
    #[error("a command whose arguments are not as they should be")]
    Form,
    /// A key is too long to be held, or there are too many: only a full resync is exact.
    #[error("a command whose keys are too long, or too many, to be held")]
    KeysLost,
}

/// Puts the keys of a command into `out`, which is cleared; in the order of the arguments. The same argument comes
/// twice where MOVE takes a key from db to db.
///
/// Keys that a command names by patterns (SORT BY, GET), or that follow rules of a value (TS.CREATERULE), are not among them.
///
/// # Errors
/// [`Malformed`]; `out` holds anything then.
pub(crate) fn keys(spec: &Spec, args: &Args<'_>, out: &mut Vec<KeyAt>) -> Result<(), Malformed> {
    out.clear();
    find(spec, args, out).ok_or(if args.is_cut_off() {
        Malformed::KeysLost
    } else {
        Malformed::Form
    })?;
    // A script may name none.
    if out.is_empty() && spec.does != Does::Eval {
        return Err(Malformed::Form);
    }
    for key in out {
        if key.index >= args.len() && !args.is_cut_off() {
            return Err(Malformed::Form);
        }
        if key.index >= args.len() || args.is_cut(key.index) {
            return Err(Malformed::KeysLost);
        }
    }
    Ok(())
}

fn find(spec: &Spec, args: &Args<'_>, out: &mut Vec<KeyAt>) -> Option<()> {
    let mut key = |index, role| {
        let db = Db::Same;
        out.push(KeyAt { index, role, db });
    };
    match spec.keys_at {
        KeysAt::Nowhere => {}
        KeysAt::At(index, role) => key(index, role),
        KeysAt::Pair(first, second) => {
            key(1, first);
            key(2, second);
        }
        KeysAt::Each {
            first,
            step,
            last_left_out,
            role,
        } => {
            let end = whole(args)?.checked_sub(last_left_out)?;
            let all = first..end;
            if all.len() % step != 0 {
                return None;
            }
            all.step_by(step).for_each(|index| key(index, role));
        }
        KeysAt::Store(store) => {
            key(store, Role::Write);
            (store + 1..whole(args)?).for_each(|index| key(index, Role::Read));
        }
        KeysAt::StoreNumbered => {
            key(1, Role::Write);
            numbered(args, 2, 1)?.for_each(|index| key(index, Role::Read));
        }
        KeysAt::Numbered { count, step } => {
            numbered(args, count, step)?.for_each(|index| key(index, Role::Write));
        }
        KeysAt::Sort => {
            key(1, Role::Read);
            if let Some(index) = stored(args, 2, &["STORE"])? {
                key(index, Role::Write);
            }
        }
        KeysAt::Geo => {
            key(1, Role::Read);
            if let Some(index) = stored(args, 5, &["STORE", "STOREDIST"])? {
                key(index, Role::Write);
            }
        }
        KeysAt::CopyDb => {
            let other = match (3..whole(args)?).find(|&index| args.is(index, "DB")) {
                Some(index) => Db::Other(db(args, index + 1)?),
                None => Db::Same,
            };
            copied(out, (1, Role::Read), (2, other));
        }
        KeysAt::MoveDb => {
            let other = Db::Other(db(args, 2)?);
            copied(out, (1, Role::Remove), (1, other));
        }
        KeysAt::Streams => {
            let first = (1..whole(args)?).find(|&index| args.is(index, "STREAMS"))? + 1;
            let count = whole(args)?.checked_sub(first)?;
            if count % 2 != 0 {
                return None;
            }
            (first..first + count / 2).for_each(|index| key(index, Role::Write));
        }
        KeysAt::Migrated => {
            let first = (6..whole(args)?).find(|&index| args.is(index, "KEYS"));
            match first {
                Some(before) if args.get(3)?.is_empty() => {
                    (before + 1..args.len()).for_each(|index| key(index, Role::Remove));
                }
                _ => key(3, Role::Remove),
            }
        }
    }
    Some(())
}

/// From one db into another.
fn copied(out: &mut Vec<KeyAt>, (from, role): (usize, Role), (to, other): (usize, Db)) {
    out.push(KeyAt {
        index: from,
        role,
        db: Db::Same,
    });
    out.push(KeyAt {
        index: to,
        role: Role::Write,
        db: other,
    });
}

/// How many arguments there are; `None`: there are more than are held.
fn whole(args: &Args<'_>) -> Option<usize> {
    (!args.is_cut_off()).then_some(args.len())
}

/// The arguments behind their number.
fn numbered(args: &Args<'_>, count_at: usize, step: usize) -> Option<impl Iterator<Item = usize>> {
    let count = usize::try_from(args.integer(count_at)?).ok()?;
    let first = count_at + 1;
    let end = first.checked_add(count.checked_mul(step)?)?;
    (end <= args.len()).then(|| (first..end).step_by(step))
}

/// The argument behind the last of these words, as servers take it; the inner `None`: there is no such word.
fn stored(args: &Args<'_>, first: usize, words: &[&str]) -> Option<Option<usize>> {
    let mut found = None;
    let mut index = first;
    while index < whole(args)? {
        if words.iter().any(|word| args.is(index, word)) && index + 1 < args.len() {
            found = Some(index + 1);
            index += 2;
        } else if args.is(index, "BY") || args.is(index, "GET") {
            index += 2;
        } else if args.is(index, "LIMIT") {
            index += 3;
        } else {
            index += 1;
        }
    }
    Some(found)
}

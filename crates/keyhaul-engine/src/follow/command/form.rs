//! The same command in another form, for a target that does not take it as the source sends it.

use bytes::BytesMut;
use keyhaul_resp::encode;

use super::Args;
use super::deadline::{Deadline, deadline, has_option};
use super::deadline::{find, is_comparison, many_end, set, with_deadline};
use super::table::{Does, Spec};

/// Which forms the target takes. The default is the least: Redis 6.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Abilities {
    /// SET with PXAT: Redis >= 6.2, Valkey.
    pub(crate) set_pxat: bool,
    /// SET with IFEQ: Redis >= 8.4, Valkey >= 8.1.
    pub(crate) set_ifeq: bool,
    /// MSETEX: Redis >= 8.4, Valkey >= 9.1.
    pub(crate) msetex: bool,
    /// LPOP and RPOP with a count, LMOVE, XADD with NOMKSTREAM: Redis >= 6.2, Valkey.
    pub(crate) counted_pops: bool,
    /// ENTRIESREAD, ENTRIESADDED: Redis >= 7.0, Valkey.
    pub(crate) entries_read: bool,
    /// HPEXPIREAT: Redis >= 7.4, Valkey >= 9.0.
    pub(crate) field_expiry: bool,
    /// HSETEX, HGETDEL: Redis >= 8.0; HSETEX alone: Valkey 9.0.
    pub(crate) hsetex: bool,
    /// HGETDEL: Redis >= 8.0, Valkey >= 9.1.
    pub(crate) hgetdel: bool,
    /// XADD with KEEPREF, XDELEX: Redis >= 8.2.
    pub(crate) stream_refs: bool,
}

impl Abilities {
    /// What a target takes that has these commands (names in capitals): options came with commands.
    pub(crate) fn of_commands(has: impl Fn(&str) -> bool) -> Self {
        let is_6_2 = has("GETEX");
        Self {
            set_pxat: is_6_2,
            // Redis 8.4, Valkey 8.1.
            set_ifeq: has("DELEX") || has("COMMANDLOG"),
            msetex: has("MSETEX"),
            counted_pops: is_6_2,
            // 7.0
            entries_read: has("EXPIRETIME"),
            field_expiry: has("HPEXPIREAT"),
            hsetex: has("HSETEX"),
            hgetdel: has("HGETDEL"),
            stream_refs: has("XDELEX"),
        }
    }

    /// Whether [`form`] has to be asked about commands of this name.
    pub(crate) fn may_change(self, spec: &Spec) -> bool {
        match spec.does {
            Does::AddEntry | Does::TrimEntries | Does::Expire(_) => true,
            Does::Group | Does::SetLastId => !self.entries_read,
            Does::DeleteEntries | Does::AckEntries => !self.stream_refs,
            Does::FieldsSetExpire => !self.hsetex,
            Does::FieldsTake => !self.hgetdel,
            Does::FieldsExpire(_) | Does::FieldsPersist => !self.field_expiry,
            Does::Set => !(self.set_pxat && self.set_ifeq),
            Does::SetManyExpire => !self.msetex,
            Does::PopFirst | Does::PopLast | Does::MoveElementFrom => !self.counted_pops,
            _ => false,
        }
    }
}

/// How a command is said to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it came.
    AsItIs,
    /// By so many commands, which were appended.
    Commands(usize),
    /// The target has no words for it: its keys are read again.
    Reread,
}

/// Says a command, which may be sent with the deadline that it has ([`super::how`]), in words that the target takes. Costs next to
/// nothing for most commands.
///
/// Not all commands are looked at that a target may not know: it refuses the others, and their keys are read again.
///
/// Also for the newest target: XADD and XTRIM with LIMIT. A server sends `MAXLEN = n LIMIT m` (seen, 6.2 to 9.1) and takes it from
/// its own primary only: what has no `~` must have no LIMIT. And EXPIRE and its like lose NX, XX, GT and LT, which were met on the source and need
/// not be on a target that holds a deadline that was pushed out.
pub(crate) fn form(spec: &Spec, args: &Args<'_>, abilities: Abilities, out: &mut BytesMut) -> Form {
    if !abilities.may_change(spec) {
        return Form::AsItIs;
    }
    let before = out.len();
    let said = match spec.does {
        Does::AddEntry | Does::TrimEntries => trimmed(args, abilities, out),
        Does::Group => without_entries_read(args, out),
        Does::SetLastId | Does::Expire(_) if args.len() > 3 => {
            all(args, 0, 3).map(|plain| written(out, plain))
        }
        Does::DeleteEntries => delete_entries(args, out),
        Does::AckEntries | Does::FieldsExpire(_) | Does::FieldsPersist => None,
        Does::FieldsSetExpire => set_fields(spec, args, abilities, out),
        Does::FieldsTake => all(args, 4, args.len()).and_then(|fields| {
            let head = [&b"HDEL"[..], args.get(1)?].into_iter();
            Some(written(out, head.chain(fields)))
        }),
        Does::Set => plain_set(spec, args, abilities, out),
        Does::SetManyExpire => set_many(spec, args, abilities, out),
        Does::PopFirst | Does::PopLast if args.len() > 2 => popped(spec, args, out),
        Does::MoveElementFrom => {
            let is_old = args.is(3, "RIGHT") && args.is(4, "LEFT");
            all(args, 1, 3).filter(|_| is_old).map(|keys| {
                let head = [&b"RPOPLPUSH"[..]].into_iter();
                written(out, head.chain(keys))
            })
        }
        _ => Some(Form::AsItIs),
    };
    said.unwrap_or_else(|| {
        out.truncate(before);
        Form::Reread
    })
}

/// Appends a command whose number of arguments is not known beforehand.
pub(super) fn command<'a>(out: &mut BytesMut, args: impl Iterator<Item = &'a [u8]> + Clone) {
    encode::array_header(out, args.clone().count());
    args.for_each(|arg| encode::bulk(out, arg));
}

fn written<'a>(out: &mut BytesMut, args: impl Iterator<Item = &'a [u8]> + Clone) -> Form {
    command(out, args);
    Form::Commands(1)
}

/// The arguments at these places; `None`: there are not so many.
fn all<'a>(
    args: &Args<'a>,
    first: usize,
    end: usize,
) -> Option<impl Iterator<Item = &'a [u8]> + Clone> {
    let args = *args;
    (first < end && end <= args.len()).then(|| (first..end).filter_map(move |at| args.get(at)))
}

/// The arguments without those at these places.
fn except(args: &Args<'_>, left_out: &[usize], out: &mut BytesMut) -> Form {
    let kept = (0..args.len()).filter(|index| !left_out.contains(index));
    written(out, kept.filter_map(|index| args.get(index)))
}

/// XADD and XTRIM: `XADD key [NOMKSTREAM] [KEEPREF|DELREF|ACKED] [MAXLEN|MINID [=|~] threshold [LIMIT count]] id field value ...`
fn trimmed(args: &Args<'_>, abilities: Abilities, out: &mut BytesMut) -> Option<Form> {
    let mut left_out = [0; 4];
    let mut count = 0;
    let mut leave_out = |index: usize| {
        if let Some(place) = left_out.get_mut(count) {
            *place = index;
            count += 1;
        }
    };
    let mut is_about = false;
    let mut index = 2;
    loop {
        if args.is(index, "NOMKSTREAM") {
            // It was there on the source, so that something was added.
            if !abilities.counted_pops {
                leave_out(index);
            }
        } else if args.is(index, "KEEPREF") {
            if !abilities.stream_refs {
                leave_out(index);
            }
        } else if args.is(index, "DELREF") || args.is(index, "ACKED") {
            if !abilities.stream_refs {
                return None;
            }
        } else if args.is(index, "MAXLEN") || args.is(index, "MINID") {
            is_about = args.get(index + 1) == Some(b"~");
            let is_marked = is_about || args.get(index + 1) == Some(b"=");
            index += if is_marked { 2 } else { 1 };
        } else if args.is(index, "LIMIT") {
            if !is_about {
                leave_out(index);
                leave_out(index + 1);
            }
            index += 1;
        } else {
            break;
        }
        index += 1;
    }
    Some(match left_out.get(..count) {
        Some(left_out) if count > 0 => except(args, left_out, out),
        _ => Form::AsItIs,
    })
}

/// `XGROUP SETID key group id ENTRIESREAD n`, `XGROUP CREATE key group id MKSTREAM ENTRIESREAD n`
fn without_entries_read(args: &Args<'_>, out: &mut BytesMut) -> Option<Form> {
    Some(match find(args, 5, "ENTRIESREAD") {
        Some(at) => except(args, &[at, at + 1], out),
        None => Form::AsItIs,
    })
}

/// `XDELEX key KEEPREF IDS 1 id`
fn delete_entries(args: &Args<'_>, out: &mut BytesMut) -> Option<Form> {
    let ids = find(args, 2, "IDS")?;
    if (2..ids).any(|index| !args.is(index, "KEEPREF")) {
        return None;
    }
    let head = [&b"XDEL"[..], args.get(1)?].into_iter();
    let ids = all(args, ids + 2, args.len())?;
    Some(written(out, head.chain(ids)))
}

/// `HSETEX key [FNX|FXX] [PXAT t|KEEPTTL] FIELDS 1 field value`. HSET takes the expiry of the fields that it sets.
fn set_fields(
    spec: &Spec,
    args: &Args<'_>,
    abilities: Abilities,
    out: &mut BytesMut,
) -> Option<Form> {
    let key = args.get(1)?;
    let first = find(args, 2, "FIELDS")? + 2;
    let keeps = (2..first).any(|index| args.is(index, "KEEPTTL"));
    let at_ms = match deadline(spec, args) {
        Deadline::None if keeps && abilities.field_expiry => return None,
        Deadline::None => None,
        Deadline::FieldsAbsolute { at_ms } if abilities.field_expiry => Some(at_ms),
        _ => return None,
    };
    let mut text = itoa::Buffer::new();
    let pairs = all(args, first, args.len())?;
    let head = [&b"HSET"[..], key].into_iter();
    command(out, head.chain(pairs.clone()));
    let Some(at_ms) = at_ms else {
        return Some(Form::Commands(1));
    };
    let at = text.format(at_ms).as_bytes();
    let head = [b"HPEXPIREAT", key, at, b"FIELDS", args.get(first - 1)?].into_iter();
    command(out, head.chain(pairs.step_by(2)));
    Some(Form::Commands(2))
}

/// What a target does not know: PXAT, and comparisons, which were met on the source.
fn plain_set(
    spec: &Spec,
    args: &Args<'_>,
    abilities: Abilities,
    out: &mut BytesMut,
) -> Option<Form> {
    if args.len() == 3 {
        return Some(Form::AsItIs);
    }
    let compares = (3..args.len()).find(|&index| args.get(index).is_some_and(is_comparison));
    match deadline(spec, args) {
        Deadline::Absolute { at_ms } if compares.is_some() || !abilities.set_pxat => {
            let count = with_deadline(spec, args, at_ms, abilities, out)?;
            Some(Form::Commands(count))
        }
        _ => Some(match compares {
            Some(index) if !abilities.set_ifeq => except(args, &[index, index + 1], out),
            _ => Form::AsItIs,
        }),
    }
}

/// MSETEX, whose condition was met on the source, key by key.
fn set_many(
    spec: &Spec,
    args: &Args<'_>,
    abilities: Abilities,
    out: &mut BytesMut,
) -> Option<Form> {
    let end = many_end(args)?;
    let at_ms = match deadline(spec, args) {
        Deadline::Absolute { at_ms } => Some(at_ms),
        Deadline::None => None,
        _ => return None,
    };
    let keeps = has_option(args, end, "KEEPTTL");
    let mut text = itoa::Buffer::new();
    let at = at_ms.map(|at_ms| text.format(at_ms).as_bytes());
    let mut count = 0;
    for index in (2..end).step_by(2) {
        let (key, value) = (args.get(index)?, args.get(index + 1)?);
        count += match at {
            Some(at) => set(key, value, at, abilities, out),
            None if keeps => {
                encode::command(out, &[b"SET", key, value, b"KEEPTTL"]);
                1
            }
            None => {
                encode::command(out, &[b"SET", key, value]);
                1
            }
        };
    }
    Some(Form::Commands(count))
}

/// LPOP and RPOP with a count, by LTRIM.
fn popped(spec: &Spec, args: &Args<'_>, out: &mut BytesMut) -> Option<Form> {
    let key = args.get(1)?;
    let count = args.integer(2)?;
    let mut text = itoa::Buffer::new();
    if spec.does == Does::PopFirst {
        let first = text.format(count).as_bytes();
        encode::command(out, &[b"LTRIM", key, first, b"-1"]);
    } else {
        let last = text.format(count.checked_add(1)?.checked_neg()?).as_bytes();
        encode::command(out, &[b"LTRIM", key, b"0", last]);
    }
    Some(Form::Commands(1))
}

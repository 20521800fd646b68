//! The moment at which a command lets keys or fields expire, and the same command with another one.
//!
//! Seen in streams:
//!
//! | the client sent | 6.0 | 6.2 | Redis 7.0 to 8.2, Valkey 8.0 to 9.1 |
//! |---|---|---|---|
//! | SET EX, SETEX | as it was sent | SET PX | SET PXAT |
//! | SET EXAT, PXAT | unknown | SET PXAT | SET PXAT |
//! | EXPIRE, PEXPIRE | as it was sent | as it was sent | PEXPIREAT, its condition behind it |
//! | EXPIREAT | as it was sent | as it was sent | PEXPIREAT |
//! | GETEX with a time | unknown | PEXPIRE, PEXPIREAT | PEXPIREAT |
//! | GETEX PERSIST | unknown | PERSIST | PERSIST |
//! | a moment that has passed | DEL | DEL | DEL, UNLINK; SET PXAT as it is (Redis) |
//! | HEXPIRE, HGETEX | | | HPEXPIREAT, HPERSIST; Redis names those fields only that took it |
//! | HSETEX | | | HSETEX PXAT; Valkey leaves FNX and FXX out |
//! | MSETEX (Valkey 9.1) | | | MSETEX PXAT, its condition left out |
//!
//! A command is in the stream only if it did something: its condition (NX, XX, GT, LT, IFEQ) was met on the source. So
//! whoever writes it anew for a key leaves the condition out: the target, which may hold a deadline that was pushed
//! out, might judge otherwise. For fields it stays, as Valkey also names fields that did not take it.

use bytes::BytesMut;
use keyhaul_resp::encode;

use super::Args;
use super::form::{Abilities, command};
use super::table::{Clock, Does, Spec};

/// When what a command writes expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// It sets no moment.
    None,
    /// The keys that it writes, at this Unix time, ms.
    Absolute {
        /// May have passed, or be negative.
        at_ms: i64,
    },
    /// The keys that it writes, so long after the source executed it, ms.
    Relative {
        /// Not checked.
        ttl_ms: i64,
    },
    /// Fields of the key, at this Unix time, ms.
    FieldsAbsolute {
        /// May have passed.
        at_ms: i64,
    },
    /// Fields of the key, so long after the source executed it, ms.
    FieldsRelative {
        /// Not checked.
        ttl_ms: i64,
    },
    /// A moment that cannot be read. No server sends it.
    Unclear,
}

/// What may be done with a command that the target knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// It may be sent as it is.
    Verbatim,
    /// The same; it carries a deadline of keys or fields, which [`with_deadline`] can change.
    AbsoluteDeadline,
    /// The moment hangs on when it is executed: with the source's clock by [`with_deadline`], else its keys are read again.
    RelativeDeadline,
    /// It must not be sent: its keys are read again.
    Reread,
}

/// What may be done with a command whose arguments are all held. (One that is cut short has to be read again.)
pub(crate) fn how(spec: &Spec, args: &Args<'_>) -> How {
    match spec.does {
        Does::Uncertain => How::Reread,
        // Without a time in it, the server takes its own.
        Does::SeriesAdd if args.get(2) == Some(b"*") => How::Reread,
        Does::SeriesAddMany
            if (2..args.len())
                .step_by(3)
                .any(|at| args.get(at) == Some(b"*")) =>
        {
            How::Reread
        }
        Does::SeriesAddTo => match find(args, 3, "TIMESTAMP") {
            Some(at) if args.get(at + 1).is_some_and(|time| time != b"*") => How::Verbatim,
            _ => How::Reread,
        },
        _ => match deadline(spec, args) {
            Deadline::None => How::Verbatim,
            Deadline::Absolute { .. } | Deadline::FieldsAbsolute { .. } => How::AbsoluteDeadline,
            Deadline::Relative { .. } | Deadline::FieldsRelative { .. } => How::RelativeDeadline,
            Deadline::Unclear => How::Reread,
        },
    }
}

/// When what the command writes expires. RESTORE tells too, though it is never to be sent.
pub(crate) fn deadline(spec: &Spec, args: &Args<'_>) -> Deadline {
    let moment = match spec.does {
        Does::Set => option(args, 3, args.len()),
        Does::SetExpire(clock) | Does::Expire(clock) => Some(Moment { clock, at: 2 }),
        Does::GetExpire => option(args, 2, args.len()),
        Does::SetManyExpire => match many_end(args) {
            Some(end) => option(args, end, args.len()),
            None => return Deadline::Unclear,
        },
        Does::FieldsExpire(clock) => return fields(args, Some(Moment { clock, at: 2 })),
        Does::FieldsSetExpire | Does::FieldsGetExpire => {
            let end = find(args, 2, "FIELDS").unwrap_or(args.len());
            return fields(args, option(args, 2, end));
        }
        Does::Uncertain if spec.name.starts_with("RESTORE") => {
            if args.get(2) == Some(b"0") {
                return Deadline::None;
            }
            let clock = match find(args, 4, "ABSTTL") {
                Some(_) => Clock::AtMillis,
                None => Clock::Millis,
            };
            Some(Moment { clock, at: 2 })
        }
        _ => None,
    };
    match moment.map(|moment| moment.read(args)) {
        None => Deadline::None,
        Some(None) => Deadline::Unclear,
        Some(Some(Time::At(at_ms))) => Deadline::Absolute { at_ms },
        Some(Some(Time::In(ttl_ms))) => Deadline::Relative { ttl_ms },
    }
}

/// Appends commands that do what this one does, with this deadline (Unix time, ms) instead of its own, which must be one of keys or
/// fields. Says how many commands that are; `None`: it cannot be said in another form, and nothing was appended.
pub(crate) fn with_deadline(
    spec: &Spec,
    args: &Args<'_>,
    at_ms: i64,
    abilities: Abilities,
    out: &mut BytesMut,
) -> Option<usize> {
    let mut text = itoa::Buffer::new();
    let at = text.format(at_ms).as_bytes();
    let key = args.get(1)?;
    match spec.does {
        Does::Set => Some(set(key, args.get(2)?, at, abilities, out)),
        Does::SetExpire(_) => Some(set(key, args.get(3)?, at, abilities, out)),
        Does::SetManyExpire => set_many(args, at, abilities, out),
        Does::Expire(_) | Does::GetExpire => {
            encode::command(out, &[b"PEXPIREAT", key, at]);
            Some(1)
        }
        Does::FieldsExpire(_) => {
            let rest = (3..args.len()).filter_map(|index| args.get(index));
            command(out, [b"HPEXPIREAT", key, at].into_iter().chain(rest));
            Some(1)
        }
        Does::FieldsGetExpire => {
            let first = find(args, 2, "FIELDS")?;
            let rest = (first..args.len()).filter_map(|index| args.get(index));
            command(out, [b"HPEXPIREAT", key, at].into_iter().chain(rest));
            Some(1)
        }
        Does::FieldsSetExpire => {
            let first = find(args, 2, "FIELDS")?;
            let condition = (2..first).find(|&at| args.is(at, "FNX") || args.is(at, "FXX"));
            let condition = condition.and_then(|index| args.get(index));
            let rest = (first..args.len()).filter_map(|index| args.get(index));
            let head = [&b"HSETEX"[..], key].into_iter().chain(condition);
            command(out, head.chain([&b"PXAT"[..], at]).chain(rest));
            Some(1)
        }
        _ => None,
    }
}

pub(super) fn set(
    key: &[u8],
    value: &[u8],
    at: &[u8],
    abilities: Abilities,
    out: &mut BytesMut,
) -> usize {
    if abilities.set_pxat {
        encode::command(out, &[b"SET", key, value, b"PXAT", at]);
        1
    } else {
        encode::command(out, &[b"SET", key, value]);
        encode::command(out, &[b"PEXPIREAT", key, at]);
        2
    }
}

fn set_many(args: &Args<'_>, at: &[u8], abilities: Abilities, out: &mut BytesMut) -> Option<usize> {
    let end = many_end(args)?;
    if abilities.msetex {
        let pairs = (1..end).filter_map(|index| args.get(index));
        let head = [&b"MSETEX"[..]].into_iter();
        command(out, head.chain(pairs).chain([&b"PXAT"[..], at]));
        return Some(1);
    }
    let mut count = 0;
    for index in (2..end).step_by(2) {
        count += set(args.get(index)?, args.get(index + 1)?, at, abilities, out);
    }
    Some(count)
}

/// Where the pairs of MSETEX end.
pub(super) fn many_end(args: &Args<'_>) -> Option<usize> {
    let count = usize::try_from(args.integer(1)?).ok()?;
    let end = count.checked_mul(2)?.checked_add(2)?;
    (count > 0 && end <= args.len()).then_some(end)
}

/// Where a moment is told, and how.
#[derive(Debug, Clone, Copy)]
struct Moment {
    clock: Clock,
    at: usize,
}

enum Time {
    At(i64),
    In(i64),
}

impl Moment {
    /// `None`: there is no number, or one that no server takes.
    fn read(self, args: &Args<'_>) -> Option<Time> {
        let number = args.integer(self.at)?;
        Some(match self.clock {
            Clock::Seconds => Time::In(number.checked_mul(1000)?),
            Clock::Millis => Time::In(number),
            Clock::AtSeconds => Time::At(number.checked_mul(1000)?),
            Clock::AtMillis => Time::At(number),
        })
    }
}

fn fields(args: &Args<'_>, moment: Option<Moment>) -> Deadline {
    match moment.map(|moment| moment.read(args)) {
        None => Deadline::None,
        Some(None) => Deadline::Unclear,
        Some(Some(Time::At(at_ms))) => Deadline::FieldsAbsolute { at_ms },
        Some(Some(Time::In(ttl_ms))) => Deadline::FieldsRelative { ttl_ms },
    }
}

/// The moment among the options at these places.
fn option(args: &Args<'_>, first: usize, end: usize) -> Option<Moment> {
    let mut index = first;
    while index < end {
        let clock = match args.get(index)? {
            word if word.eq_ignore_ascii_case(b"EX") => Clock::Seconds,
            word if word.eq_ignore_ascii_case(b"PX") => Clock::Millis,
            word if word.eq_ignore_ascii_case(b"EXAT") => Clock::AtSeconds,
            word if word.eq_ignore_ascii_case(b"PXAT") => Clock::AtMillis,
            // The value that was compared might look like an option.
            word if is_comparison(word) => {
                index += 2;
                continue;
            }
            _ => {
                index += 1;
                continue;
            }
        };
        let at = index + 1;
        return Some(Moment { clock, at });
    }
    None
}

/// Of SET: Valkey >= 8.1 (IFEQ), Redis >= 8.4 (all of them).
pub(super) fn is_comparison(word: &[u8]) -> bool {
    let words = [&b"IFEQ"[..], b"IFNE", b"IFDEQ", b"IFDNE"];
    words.iter().any(|known| word.eq_ignore_ascii_case(known))
}

pub(super) fn has_option(args: &Args<'_>, first: usize, word: &str) -> bool {
    let mut index = first;
    while let Some(arg) = args.get(index) {
        if arg.eq_ignore_ascii_case(word.as_bytes()) {
            return true;
        }
        index += if is_comparison(arg) { 2 } else { 1 };
    }
    false
}

pub(super) fn find(args: &Args<'_>, first: usize, word: &str) -> Option<usize> {
    (first..args.len()).find(|&index| args.is(index, word))
}

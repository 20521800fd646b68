//! Commands over several keys, taken apart into one for each, where that is the same for each key.

use std::ops::Range;

use bytes::BytesMut;
use keyhaul_resp::encode;

use super::deadline::{Deadline, deadline, has_option, many_end, with_deadline};
use super::form::Abilities;
use super::table::{Does, Spec};
use super::{Args, KeyAt, Written};

/// How a command over several keys reaches a target that holds them in several places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Split {
    /// All of its keys are in one place: as it is.
    Whole,
    /// By these, in this order.
    Parts(Vec<Part>),
    /// What it does to one key hangs on the others: the keys that it changes are read again.
    Reread,
}

/// What is done for one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// The argument of the whole command that names the key.
    pub(crate) key: usize,
    /// Where the part lies in what was appended to, encoded.
    pub(crate) bytes: Range<usize>,
    /// How many commands it is.
    pub(crate) commands: usize,
}

/// Takes a command apart, if its keys are in several slots. The parts are appended to `out`. The command must be one that may
/// be sent ([`super::how`]); a deadline that is relative cannot be taken apart.
///
/// MSETNX, MSETEX NX and SMOVE are in a stream only if they did what they had to, so that parts need no condition.
pub(crate) fn split(
    spec: &Spec,
    args: &Args<'_>,
    keys: &[KeyAt],
    slot: impl Fn(&[u8]) -> u16,
    abilities: Abilities,
    out: &mut BytesMut,
) -> Split {
    let mut slots = keys
        .iter()
        .map(|key| slot(args.get(key.index).unwrap_or_default()));
    let first = slots.next();
    if slots.all(|slot| Some(slot) == first) {
        return Split::Whole;
    }
    let before = out.len();
    let mut parts = Parts {
        args,
        parts: Vec::new(),
        out,
    };
    match parts.all(spec, keys, abilities) {
        Some(()) => Split::Parts(parts.parts),
        None => {
            out.truncate(before);
            Split::Reread
        }
    }
}

struct Parts<'a, 'b> {
    args: &'b Args<'a>,
    parts: Vec<Part>,
    out: &'b mut BytesMut,
}

impl Parts<'_, '_> {
    fn all(&mut self, spec: &Spec, keys: &[KeyAt], abilities: Abilities) -> Option<()> {
        let args = *self.args;
        let get = |index| args.get(index);
        match spec.does {
            Does::Delete => {
                for key in keys {
                    self.part(key.index, &[get(0)?, get(key.index)?]);
                }
            }
            Does::SetMany => {
                for key in keys {
                    self.part(key.index, &[b"SET", get(key.index)?, get(key.index + 1)?]);
                }
            }
            Does::SetManyExpire => self.set_many_expire(spec, keys, abilities)?,
            Does::MoveMember => {
                let member = get(3)?;
                self.part(1, &[b"SREM", get(1)?, member]);
                self.part(2, &[b"SADD", get(2)?, member]);
            }
            Does::JsonSetMany => self.triples(b"JSON.SET", keys)?,
            Does::SeriesAddMany => self.triples(b"TS.ADD", keys)?,
            _ => return None,
        }
        Some(())
    }

    fn part(&mut self, key: usize, command: &[&[u8]]) {
        let start = self.out.len();
        encode::command(self.out, command);
        self.parts.push(Part {
            key,
            bytes: start..self.out.len(),
            commands: 1,
        });
    }

    fn triples(&mut self, name: &[u8], keys: &[KeyAt]) -> Option<()> {
        for key in keys {
            let [first, second, third] = [0, 1, 2].map(|at| self.args.get(key.index + at));
            self.part(key.index, &[name, first?, second?, third?]);
        }
        Some(())
    }

    fn set_many_expire(&mut self, spec: &Spec, keys: &[KeyAt], abilities: Abilities) -> Option<()> {
        let args = self.args;
        let deadline = deadline(spec, args);
        let keeps = has_option(args, many_end(args)?, "KEEPTTL");
        let set = super::table::find(b"SET")?;
        for key in keys {
            let (name, value) = (args.get(key.index)?, args.get(key.index + 1)?);
            match deadline {
                Deadline::Absolute { at_ms } => {
                    let start = self.out.len();
                    let single = Written::new([&b"SET"[..], name, value].into_iter())?;
                    let commands = with_deadline(set, &single.args(), at_ms, abilities, self.out)?;
                    self.parts.push(Part {
                        key: key.index,
                        bytes: start..self.out.len(),
                        commands,
                    });
                }
                Deadline::None if keeps => {
                    self.part(key.index, &[b"SET", name, value, b"KEEPTTL"]);
                }
                Deadline::None => self.part(key.index, &[b"SET", name, value]),
                _ => return None,
            }
        }
        Some(())
    }
}

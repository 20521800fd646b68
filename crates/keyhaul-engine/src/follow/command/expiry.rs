//! Commands that give a key the expiry of another one.

use super::kind::db;
use super::table::{Does, Spec};
use super::{Args, Db};

/// The expiry of one key goes to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carry {
    /// The argument that names the key whose expiry it is.
    pub(crate) source: usize,
    /// The argument that names the key which has it then.
    pub(crate) target: usize,
    /// The db of that one.
    pub(crate) target_db: Db,
    /// The first key is gone, or stays as it is.
    pub(crate) moves: bool,
}

/// The command makes one key carry the expiry of another: RENAME, RENAMENX, COPY, MOVE.
pub(crate) fn carries_expiry(spec: &Spec, args: &Args<'_>) -> Option<Carry> {
    let carry = |target, target_db, moves| Carry {
        source: 1,
        target,
        target_db,
        moves,
    };
    match spec.does {
        Does::Rename => Some(carry(2, Db::Same, true)),
        Does::Move => Some(carry(1, Db::Other(db(args, 2)?), true)),
        Does::Copy => {
            let other = (3..args.len()).find(|&index| args.is(index, "DB"));
            let other = match other {
                Some(index) => Db::Other(db(args, index + 1)?),
                None => Db::Same,
            };
            Some(carry(2, other, false))
        }
        _ => None,
    }
}

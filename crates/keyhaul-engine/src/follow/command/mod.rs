//! What is known of the commands that come in a replication stream. Sees bytes only; no I/O.
//!
//! `table.rs` names the commands; the other files answer one question each. Facts were seen on Redis 6.0 to 8.2 and
//! Valkey 8.0 to 9.1 where a comment says "seen"; `tests/` sees most of them again.
//!
//! Seen in streams, beside what the files tell:
//! - Blocking commands, and those over several keys that take from one, come as what they did: BLPOP and LMPOP as LPOP, BLMOVE as LMOVE, ZMPOP
//!   as ZPOPMIN with a count, BRPOPLPUSH as RPOPLPUSH; SPOP as SREM, or DEL or UNLINK; GETDEL and DELIFEQ as DEL.
//! - INCRBYFLOAT as SET KEEPTTL; HINCRBYFLOAT as HSET, on Redis 8.2 as HSETEX KEEPTTL; GEOADD as `zadd` (Valkey 9.1: ZADD).
//! - XADD has an id; `~` became `=` with what really stays, and LIMIT is still there. XREADGROUP and XAUTOCLAIM as XCLAIM FORCE JUSTID, one for
//!   each entry; from 7.2 on XGROUP SETID ENTRIESREAD behind them, XREADGROUP NOACK as that alone (before 7.0 without ENTRIESREAD).
//! - XREADGROUP that finds nothing makes its consumer on Redis 8.0, 8.2 and Valkey 8.0, 9.1, and nothing of that comes: no replica has it. On 6.2
//!   and 7.0 it makes none.
//! - A key that was found expired comes as DEL or UNLINK before the command that found it: on 7.0 and newer within a MULTI with it.
//! - What changed nothing does not come: SETNX of a key that is there, SETBIT of the same bit (7.0), LTRIM (6.2) of what is short.

mod args;
mod kind;
mod table;

mod deadline;
mod expiry;
mod form;
mod keys;
mod reply;
mod rewrite;
mod split;

pub(crate) use args::{ArgRange, Args, CUT, Written};
pub(crate) use deadline::{Deadline, How, deadline, how, with_deadline};
pub(crate) use expiry::carries_expiry;
pub(crate) use form::{Abilities, Form, form};
pub(crate) use keys::{Db, KeyAt, Malformed, keys};
pub(crate) use kind::{Kind, lookup, selected_db};
pub(crate) use reply::shows_absence;
pub(crate) use rewrite::rewrite;
pub(crate) use split::{Split, split};
pub(crate) use table::Spec;

#[cfg(test)]
mod tests;

//! What is known of the commands that come in a replication stream. Sees bytes only; no I/O.
//!
//! `table.rs` names the commands; the other files answer one question each. Facts were seen on Redis 6.0 to 8.2 and
//! Valkey 8.0 to 9.1 where a comment says "seen"; the tests of `tests/stream_facts.rs` see them again.

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
pub(crate) use expiry::{Carry, carries_expiry, clears_expiry};
pub(crate) use form::{Abilities, Form, form};
pub(crate) use keys::{Db, KeyAt, Malformed, Role, keys};
pub(crate) use kind::{Kind, emptied_slots, lookup, selected_db, swapped_dbs};
pub(crate) use reply::shows_absence;
pub(crate) use rewrite::rewrite;
pub(crate) use split::{Part, Split, split};
pub(crate) use table::Spec;

#[cfg(test)]
mod tests;

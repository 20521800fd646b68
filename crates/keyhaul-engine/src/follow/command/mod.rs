//! What is known of the commands that come in a replication stream. Sees bytes only; no I/O.

mod args;

pub(crate) use args::Args;

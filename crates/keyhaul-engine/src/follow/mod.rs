//! Following: every change of the source goes over, until told to stop. How and why is told in
//! `docs/design/following.md`.

mod applied;
mod apply;
mod clock;
mod command;
mod compose;
mod deadlines;
mod due;
mod folder;
mod foreign;
mod guard;
mod intake;
mod job;
mod lane;
mod marks;
mod name_set;
mod names;
mod note;
mod parser;
mod position;
mod reporter;
mod reread;
mod round;
mod shard;
mod source_asks;
mod spool;
mod status;
mod sweep;
mod target_watch;
pub(crate) mod tracking;

pub(crate) use guard::Guard;
pub(crate) use job::FollowJob;
pub(crate) use marks::Marks;
pub(crate) use name_set::NameNotes;
pub use status::{LiveStatus, ShardSnapshot, ShardStatus, State, StatusSnapshot};

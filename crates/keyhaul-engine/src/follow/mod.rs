//! Following: every change of the source goes over, until told to stop. How and why is told in
//! `docs/design/following.md`.

// Until the parts are put together.
#![allow(dead_code, unused_imports)]

mod applied;
mod clock;
mod command;
mod apply;
mod compose;
mod guard;
mod note;
mod source_asks;
mod lane;
mod marks;
mod names;
mod parser;
mod position;
mod reread;
mod round;
mod status;

pub use status::{LiveStatus, ShardSnapshot, ShardStatus, State, StatusSnapshot};

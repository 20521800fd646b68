//! Following: every change of the source goes over, until told to stop. How and why is told in
//! `docs/design/following.md`.

// Until the parts are put together.
#![allow(dead_code, unused_imports)]

mod command;
mod deadlines;
mod status;

pub use status::{LiveStatus, ShardSnapshot, ShardStatus, State, StatusSnapshot};

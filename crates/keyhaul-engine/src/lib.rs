//! The migration itself: plan, source -> transform -> target, verification. No terminal, no
//! environment, no exit codes.

pub mod options;
pub mod plan;

pub mod place;

mod copy;
mod prepare;

pub mod progress;
pub mod receipt;
pub mod stats;
pub mod transform;

mod bigkey;
mod checkpoint;
mod compare;
mod conversion;
mod entry;
mod ledger;
mod patience;
mod route;
mod site;
mod source;
mod target;
mod throttle;

pub use copy::{BigKeyListing, BigKeyWay, Job};

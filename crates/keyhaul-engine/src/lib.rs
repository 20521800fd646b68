//! The migration itself: plan, source -> transform -> target, verification. No terminal, no
//! environment, no exit codes.

pub mod options;
pub mod plan;

pub mod place;

pub mod amount;

pub mod compare;

pub mod follow;

mod copy;
mod prepare;

pub mod progress;
pub mod receipt;
pub mod stats;
pub mod survey;
pub mod transform;

mod bigkey;
mod checkpoint;
mod conversion;
mod disk_limit;
mod entry;
mod ledger;
mod patience;
mod replicas;
mod route;
mod site;
mod sorted;
mod source;
mod spill;
mod target;
mod throttle;

pub use copy::{BigKeyListing, BigKeyWay, Job};

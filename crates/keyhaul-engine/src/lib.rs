//! The migration itself: plan, source -> transform -> target, verification. No terminal, no
//! environment, no exit codes.

pub mod options;
pub mod plan;
pub mod progress;
pub mod receipt;
pub mod stats;
pub mod transform;

mod copy;

pub use copy::Job;

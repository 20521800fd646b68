//! Looks at both sides after the copy.

mod against_file;
mod big;
mod comparer;
mod delete;
mod extras;
mod file_index;
mod functions;
mod inside;
mod job;
mod judge;
mod large;
mod lookup;
mod notes;
pub mod options;
mod over;
mod pair_reader;
mod payload_digest;
mod processes;
mod quick;
mod recheck;
mod repair;
mod setup;
mod steps;
mod values;

pub(crate) use against_file::{read_back, verify_files};
pub(crate) use comparer::Comparer;
pub use job::{CompareJob, Listener};
pub(crate) use lookup::Lookup;
pub(crate) use over::{forth_over, forth_over_files, forth_over_named};
pub(crate) use payload_digest::DigestRules;
pub(crate) use quick::{QuickCheck, verify, verify_keys};
pub(crate) use setup::files_side;
pub(crate) use values::Side;

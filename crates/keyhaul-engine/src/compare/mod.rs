//! Looks at both sides after the copy.

mod against_file;
mod lookup;
mod quick;

pub(crate) use against_file::{read_back, verify_files};
pub(crate) use lookup::Lookup;
pub(crate) use quick::{QuickCheck, verify, verify_keys};

//! Looks at both sides after the copy.

mod lookup;
mod quick;

pub(crate) use lookup::Lookup;
pub(crate) use quick::{QuickCheck, verify};

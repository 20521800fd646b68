//! Writes to the target: [`restore`] is the command, [`lane`] one ordered stream of them,
//! [`functions`] what belongs to no key.

pub(crate) mod functions;
pub(crate) mod lane;
mod parts;
pub(crate) mod refusals;
mod restore;

pub(crate) use restore::restore_probe;

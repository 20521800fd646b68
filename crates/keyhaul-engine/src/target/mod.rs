//! Writes to the target: [`restore`] is the command, [`lane`] one ordered stream of them, [`repair`]
//! what it does about failures, [`parts`] how a large payload passes, [`functions`] what belongs to
//! no key. [`mod@file`] is an RDB file as the target, [`file_lane`] what writes it.

pub(crate) mod file;
pub(crate) mod file_lane;
pub(crate) mod functions;
pub(crate) mod graves;
pub(crate) mod lane;
mod links;
mod parts;
pub(crate) mod refusals;
mod repair;
mod restore;

pub(crate) use lane::too_large;
pub(crate) use repair::CONFLICT_EXISTS;
pub(crate) use restore::restore_probe;

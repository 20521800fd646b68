//! An RDB file as the target: [`rdb_file`] writes it, [`output`] holds bytes and checksum,
//! [`place`] knows where the file goes and puts it there when it is whole, [`duplicates`] finds the
//! keys that came twice (with `spill` for what memory does not hold), [`libraries`] the functions
//! that did. All of it blocks: it belongs on a thread of its own.

mod rdb_file;

mod duplicates;
mod error;
mod libraries;
mod names;
mod output;
mod place;

#[cfg(test)]
mod tests;

pub(crate) use duplicates::KeepWhich;
pub(crate) use error::FileError;
pub(crate) use libraries::library_name;
pub(crate) use names::{NameIndex, SharedNames};
pub(crate) use place::check_writable;
pub(crate) use rdb_file::{Finished, RdbFile};

//! Between source and target: which keys go, and under which db and name. Pure functions.

mod db_map;
mod filter;
mod glob;
mod origins;
mod rename;

pub use db_map::DbMap;
pub use filter::KeyFilter;
pub use glob::Glob;
pub(crate) use origins::Origins;
pub use rename::{BadRename, PrefixRename, renamed};

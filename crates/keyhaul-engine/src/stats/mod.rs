//! What is remembered about keys, in bounded memory.

mod key_facts;
mod key_text;
mod not_moved;

pub mod report;

pub use key_facts::KeyFacts;
pub use key_text::key_text;
pub use not_moved::{NotMoved, NotMovedKey, NotMovedList};

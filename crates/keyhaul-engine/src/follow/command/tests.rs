//! What is known of commands, held against real servers of every version.

mod examples;
mod forms;
mod known;
mod mirror;
mod replica;
mod stream;

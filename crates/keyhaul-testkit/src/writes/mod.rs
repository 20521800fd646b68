//! Random writes of every kind that a server knows, seeded; and writes whose end state is known.
//!
//! ```text
//! COMMAND of the server ──► names it has ──┐
//! templates: name, forms of the call ──────┴──► maker: random call ──► writer: routes, pipelines, counts
//! ```
//!
//! [`Writer`] sends random calls over a small pool of keys of each type, so that most succeed. [`Exact`] writes
//! counters, lists, strings and streams of which it is known afterwards what they must hold. [`Renewer`] keeps
//! short-lived keys alive and tells whether one was missing.

mod asked;
mod exact;
mod links;
mod maker;
mod place;
mod renewer;
mod settle;
mod templates;
mod writer;

pub use asked::{WriteCommands, write_commands};
pub use exact::{Exact, ExactBooks};
pub use place::Place;
pub use renewer::{Missing, Renewer};
pub use settle::wait_until_short_lived_are_gone;
pub use templates::{FIELD_TTL_COMMANDS, FLUSHES, NOT_CALLED};
pub use writer::{Count, Stats, WriteOptions, Writer};

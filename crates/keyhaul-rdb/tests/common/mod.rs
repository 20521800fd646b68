//! What the tests of the codec share: the fixtures and their truths, and ways to drive the decoder.

#![allow(
    dead_code,
    unused_imports,
    reason = "every test file uses a part of it"
)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "as in tests: fixtures are as they are, and seeds are printed"
)]

mod check;
mod file;
mod fixtures;
mod mutate;
mod truth;
mod value;

pub(crate) use check::{check_any_value, check_file, check_payload};
pub(crate) use file::{File, Portions, Seen, Taking, decode, run};
pub(crate) use fixtures::{Fixture, Payload, fixtures, payloads, records};
pub(crate) use mutate::{fix_file_checksum, fix_payload_checksum, mutate, payload_of, rounds};
pub(crate) use truth::{Key, Truth};
pub(crate) use value::{Limit, lines, lines_in_portions, reduced};

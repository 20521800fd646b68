//! What the tests against real servers share: which server reads what, how it is asked, and what
//! becomes of a truth on the way to another server.

#![allow(dead_code, reason = "every test file uses a part of it")]
#![allow(unused_imports, reason = "every test file uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failure is a panic with a message; what ran is told on stderr"
)]

mod asking;
mod expected;
mod origin;
mod using;

pub(crate) use asking::{Answer, Throwaway, restore};
pub(crate) use expected::{Truth, assert_same, expected, has_field_expiry, known_to_both};
pub(crate) use origin::{Key, Origin, origins};
pub(crate) use using::commands_for;

use keyhaul_rdb::{FieldExpiry, Modules, Reader, rdb_version};
use keyhaul_testkit::{Family, Version, require};

/// Set to 1 for all pairs of versions, and ten minutes of mutation.
const LONG: &str = "KEYHAUL_TEST_LONG";

pub(crate) fn is_long() -> bool {
    std::env::var(LONG).is_ok_and(|value| value == "1")
}

/// The RDB version that a server reads and writes.
pub(crate) fn rdb_version_of(version: Version) -> u16 {
    let (major, minor) = version.number();
    rdb_version(version.family() == Family::Valkey, major, minor)
}

/// What the engine knows of a server of this version.
pub(crate) fn reader(version: Version, field_expiry: FieldExpiry) -> Reader {
    let modules = match version.is_at_least(Family::Redis, 8, 0) {
        true => Modules::VectorSets,
        false => Modules::None,
    };
    Reader {
        rdb_version: rdb_version_of(version),
        modules,
        field_expiry,
    }
}

/// The versions that are at hand; says which are not.
pub(crate) fn at_hand() -> Vec<Version> {
    let versions: Vec<Version> = Version::ALL.into_iter().filter(|v| require(*v)).collect();
    eprintln!("with {versions:?}");
    versions
}

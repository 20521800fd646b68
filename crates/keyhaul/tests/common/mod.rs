//! Runs the built binary as a user would, in an environment without passwords of the machine's own.

#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod big;
pub(crate) mod compare;
pub(crate) mod copying;
pub(crate) mod keystats;
pub(crate) mod live;
pub(crate) mod rdb;
pub(crate) mod renewals;
pub(crate) mod rights;
pub(crate) mod running;
pub(crate) mod tracking;

use std::process::Command;
use std::time::Duration;

use keyhaul_testkit::process::{self, Outcome};

/// Far above what any of these runs need: a hang fails with a name.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// The command with these arguments, not started yet.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyhaul"));
    command.args(args);
    // Checkpoints of runs that are stopped on purpose do not belong into a home.
    command.env("XDG_STATE_HOME", env!("CARGO_TARGET_TMPDIR"));
    for variable in [
        "KEYHAUL_SOURCE_PASS",
        "KEYHAUL_TARGET_PASS",
        "REDISCLI_AUTH",
    ] {
        command.env_remove(variable);
    }
    command
}

/// Runs keyhaul with these arguments to its end.
pub(crate) fn keyhaul(args: &[&str]) -> Outcome {
    process::run(command(args), DEADLINE)
}

/// Runs keyhaul with these arguments and variables to its end.
pub(crate) fn keyhaul_with(args: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let mut command = command(args);
    command.envs(variables.iter().copied());
    process::run(command, DEADLINE)
}

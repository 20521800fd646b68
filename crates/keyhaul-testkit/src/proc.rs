//! What Linux tells about a process in `/proc`.

use std::process::{Command, Stdio};

/// Ticks per second of the times in `/proc/PID/stat`; Linux shows 100 on every architecture we
/// know.
const TICKS_PER_SECOND: f64 = 100.0;

/// The state letter and the CPU seconds (user and system, 10 ms steps) of a process; a process that
/// has ended but was not waited for (state `Z`) still has them. Children that were waited for are
/// not counted.
pub(crate) fn state_and_cpu_seconds(pid: u32) -> Option<(char, f64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may itself hold spaces and parentheses.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let state = fields.first()?.chars().next()?;
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some((state, ticks as f64 / TICKS_PER_SECOND))
}

/// The CPU seconds of the children of a process that have ended and were waited for. None when it has ended.
pub(crate) fn children_cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(13)?.parse::<u64>().ok()? + fields.get(14)?.parse::<u64>().ok()?;
    Some(ticks as f64 / TICKS_PER_SECOND)
}

/// A field of `/proc/PID/status` that is a number of kB (`VmRSS`, `VmHWM`), in bytes. None when the
/// process has ended.
pub(crate) fn status_bytes(pid: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Sends a signal (`STOP`, `CONT`, `INT`, ...) by the `kill` program, since the workspace forbids
/// unsafe code.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .expect("the kill program can be run");
    assert!(
        status.success(),
        "kill -{name} {pid} failed: has the process ended?"
    );
}

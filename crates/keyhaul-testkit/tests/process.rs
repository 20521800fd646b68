//! Programs are run, measured, signalled and never outlive their test.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use keyhaul_testkit::process::{self, Process};

const DEADLINE: Duration = Duration::from_secs(20);

fn shell(script: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", script]);
    command
}

#[test]
fn output_and_exit_code_are_captured() {
    let mut command = shell("echo \"out $WORD $PWD\"; echo err >&2; exit 3");
    command.env("WORD", "word").current_dir("/");
    let outcome = process::run(command, DEADLINE);
    assert_eq!((outcome.code, outcome.signal), (Some(3), None));
    assert_eq!(
        (&outcome.stdout[..], &outcome.stderr[..]),
        ("out word /\n", "err\n")
    );
}

#[test]
fn more_output_than_a_pipe_holds_does_not_block() {
    let outcome = process::run(
        shell("head -c 3000000 /dev/zero | tr '\\0' x; exit 0"),
        DEADLINE,
    );
    assert_eq!((outcome.stdout.len(), outcome.code), (3_000_000, Some(0)));
}

#[test]
fn signals_arrive() {
    let script = "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.01; done";
    let mut process = Process::start(shell(script));
    process.wait_for_output("ready", DEADLINE);
    process.interrupt();
    let outcome = process.wait(DEADLINE);
    assert_eq!(
        (outcome.code, &outcome.stdout[..]),
        (Some(7), "ready\ncaught\n")
    );

    let mut process = Process::start(shell("echo ready; exec sleep 100"));
    process.wait_for_output("ready", DEADLINE);
    process.kill();
    let outcome = process.wait(DEADLINE);
    assert_eq!((outcome.code, outcome.signal), (None, Some(9)));
}

#[test]
fn memory_and_time_are_measured() {
    let busy = "x=$(head -c 40000000 /dev/zero | tr '\\0' x); for ((i=0;i<300000;i++)); do :; done";
    let busy = process::run(shell(busy), DEADLINE);
    let idle = process::run(shell("sleep 0.1"), DEADLINE);
    assert!(busy.peak_rss_bytes > 40_000_000, "{}", busy.peak_rss_bytes);
    assert!(busy.cpu_seconds > 0.1, "{}", busy.cpu_seconds);
    assert!(idle.peak_rss_bytes < 20_000_000, "{}", idle.peak_rss_bytes);
    assert!(idle.cpu_seconds < 0.1 && idle.elapsed >= Duration::from_millis(100));
}

#[test]
#[should_panic(expected = "did not end within")]
fn a_program_that_hangs_is_a_failure() {
    process::run(shell("exec sleep 100"), Duration::from_millis(50));
}

#[test]
#[should_panic(expected = "it ended without \"never\"")]
fn waiting_for_output_ends_with_the_program() {
    Process::start(shell("echo other")).wait_for_output("never", DEADLINE);
}

#[test]
fn a_dropped_process_is_dead() {
    let process = Process::start(shell("exec sleep 100"));
    let pid = process.pid();
    drop(process);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

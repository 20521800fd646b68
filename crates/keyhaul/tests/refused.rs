//! What ends before anything is written: refused (3), or stopped while both ends are probed (5).

mod common;

use std::time::Duration;

use common::{DEADLINE, command, keyhaul_with};
use keyhaul_testkit::process::Process;
use keyhaul_testkit::{Behaviour, FakePeer};

fn report(path: &std::path::Path) -> serde_json::Value {
    let bytes = std::fs::read(path).expect("a report was written");
    serde_json::from_slice(&bytes).expect("a report is JSON")
}

#[test]
fn a_server_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("unix://u:hunter2@{}/none.sock", folder.path().display());
    let path = folder.path().join("r.json");
    let args = [
        "replicate",
        &socket,
        &socket,
        "-v",
        "--report",
        path.to_str().unwrap(),
    ];
    let outcome = keyhaul_with(&args, &[("KEYHAUL_TARGET_PASS", "hunter2")]);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert!(
        outcome.stderr.contains("cannot connect to unix://"),
        "{outcome:?}"
    );
    assert_eq!(
        (outcome.stderr.lines().count(), outcome.stdout.as_str()),
        (1, ""),
        "{outcome:?}"
    );
    let report = report(&path);
    assert_eq!(
        (&report["outcome"], &report["exit_code"]),
        (&"refused".into(), &3.into())
    );
    assert!(
        report["error"].as_str().unwrap().contains("cannot connect"),
        "{report}"
    );
    assert!(!outcome.stderr.contains("hunter2") && !report.to_string().contains("hunter2"));
}

#[test]
fn interrupted_while_a_server_is_silent() {
    let peer = FakePeer::start(Behaviour::Silence);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.json");
    let uri = peer.uri();
    let mut process = Process::start(command(&[
        "replicate",
        &uri,
        &uri,
        "--report",
        path.to_str().unwrap(),
    ]));
    keyhaul_testkit::wait_until("a connection", DEADLINE, || peer.connections() > 0);
    process.interrupt();
    process.wait_for_output("stopping: ", DEADLINE);
    let outcome = process.wait(Duration::from_secs(5));
    assert_eq!(
        (outcome.code, outcome.stdout.as_str()),
        (Some(5), ""),
        "{outcome:?}"
    );
    assert!(
        outcome
            .stderr
            .contains("stopped before anything was written"),
        "{outcome:?}"
    );
    assert_eq!(report(&path)["outcome"], "stopped");
}

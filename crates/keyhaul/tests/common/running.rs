//! A copy that is still running: so that something can happen to it.

use std::time::Duration;

use keyhaul_testkit::process::Process;
use serde_json::Value;
use tempfile::TempDir;

use super::copying::Ran;
use super::{DEADLINE, command};

/// A running copy and the folder of its report.
pub(crate) struct Running {
    pub(crate) process: Process,
    folder: TempDir,
}

impl Running {
    /// Starts a copy and waits until keys move.
    pub(crate) fn start(source: &str, target: &str, options: &[&str]) -> Running {
        let mut running = Running::start_planning(source, target, options);
        running
            .process
            .wait_for_output("state=copying", Duration::from_secs(20));
        running
    }

    /// Starts a copy.
    pub(crate) fn start_planning(source: &str, target: &str, options: &[&str]) -> Running {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("report.json");
        let mut command = command(&["replicate", source, target, "--progress", "plain"]);
        command.args(options).arg("--report").arg(&file);
        let process = Process::start(command);
        Running { process, folder }
    }

    /// Waits for its end.
    pub(crate) fn finish(self) -> Ran {
        let outcome = self.process.wait(DEADLINE);
        let file = self.folder.path().join("report.json");
        let report = std::fs::read(&file).map_or(Value::Null, |text| {
            serde_json::from_slice(&text).expect("the report is JSON")
        });
        Ran { outcome, report }
    }
}

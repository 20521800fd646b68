//! A run that was killed is gone on with by the same command, and comes to exactly what an unbroken one comes to.

mod common;

use std::time::Duration;

use common::keystats::{
    Sizes, keystats, keystats_ending, shards_of, shards_told, sizes_of, sizes_told,
};
use common::rdb::{Folder, populate};
use common::{DEADLINE, command};
use keyhaul_testkit::process::{Outcome, Process};
use keyhaul_testkit::{Cluster, Server, Version, key_slot, wait_until};

/// One key a SCAN step: slow enough to be caught on the way.
const SLOWLY: [&str; 2] = ["--scan-count", "1"];
const KEYS: usize = 60_000;

struct Job<'a> {
    args: Vec<&'a str>,
    state: &'a Folder,
}

impl Job<'_> {
    fn command(&self, more: &[&str]) -> std::process::Command {
        let mut command = command(&["keystats"]);
        command.args(&self.args).args(more);
        command.args([
            "--state-dir",
            &self.state.path("state"),
            "--progress",
            "plain",
        ]);
        command
    }

    /// Starts it, and waits until it has written down how far it is: at its first page, and then each second.
    fn start_and_wait(&self) -> Process {
        let mut process = Process::start(self.command(&SLOWLY));
        process.wait_for_output("state=scanning", Duration::from_secs(20));
        wait_until("it has written down how far it is", DEADLINE, || {
            self.journal()
                .is_some_and(|text| text.contains(r#""is":"stats""#))
        });
        process
    }

    /// Starts it, and kills it on the way.
    fn start_and_kill(&self) {
        let process = self.start_and_wait();
        process.kill();
        let ended = process.wait(DEADLINE);
        assert_eq!(ended.signal, Some(9), "{}", ended.stderr);
    }

    fn finish(&self, more: &[&str]) -> Outcome {
        let ran = keyhaul_testkit::process::run(self.command(more), DEADLINE);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(self.files(), Vec::<String>::new());
        ran
    }

    fn files(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.state.path("state")) else {
            return Vec::new();
        };
        let path = |entry: std::io::Result<std::fs::DirEntry>| {
            let path = entry.expect("can be listed").path();
            path.to_str().expect("is UTF-8").to_owned()
        };
        entries.map(path).collect()
    }

    fn journal(&self) -> Option<String> {
        let files = self.files();
        let journal = files.iter().find(|file| file.ends_with(".journal"))?;
        std::fs::read_to_string(journal).ok()
    }
}

fn server() -> (Server, Sizes) {
    let server = Server::start(Version::VALKEY_8_0);
    populate(&server, KEYS, 40);
    let sizes = sizes_of(&server, 0);
    (server, sizes)
}

#[track_caller]
fn assert_went_on(ran: &Outcome) {
    assert!(
        ran.stderr.contains("goes on where an earlier run"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr
            .contains(&format!("looked at  {},000 keys", KEYS / 1000)),
        "{}",
        ran.stderr
    );
}

#[test]
fn rows_after_a_kill() {
    let ((server, sizes), state) = (server(), Folder::new());
    let uri = server.uri();
    let job = Job {
        args: vec!["memkeys", &uri, "--mem-limit", "0"],
        state: &state,
    };
    let process = job.start_and_wait();
    // Rows that were found after that was written down are found again.
    wait_until("it has told some", DEADLINE, || {
        process.stdout_so_far().lines().count() > 5000
    });
    process.kill();
    assert_eq!(process.wait(DEADLINE).signal, Some(9));
    // Of this one rows are told that the first one found.
    let process = job.start_and_wait();
    process.interrupt();
    assert_eq!(process.wait(DEADLINE).code, Some(5));
    let ran = job.finish(&[]);
    assert_went_on(&ran);
    assert_eq!(sizes_told(&ran.stdout), sizes);
    // In the same order too, as nothing was written.
    let unbroken = keystats(&["memkeys", &uri, "--mem-limit", "0"]);
    assert_eq!(ran.stdout, unbroken.stdout);
}

#[test]
fn sums_after_a_kill() {
    let ((server, sizes), state) = (server(), Folder::new());
    let uri = server.uri();
    let job = Job {
        args: vec!["slots", &uri],
        state: &state,
    };
    job.start_and_kill();
    job.start_and_kill();
    let ran = job.finish(&[]);
    assert_went_on(&ran);
    assert_eq!(shards_told(&ran.stdout), shards_of(&sizes, 100));
}

#[test]
fn a_report_after_a_kill() {
    let ((server, sizes), state) = (server(), Folder::new());
    let uri = server.uri();
    let job = Job {
        args: vec!["report", &uri, "--json"],
        state: &state,
    };
    job.start_and_kill();
    let ran = job.finish(&[]);
    assert_went_on(&ran);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).expect("is JSON");
    let all = serde_json::json!([sizes.len(), sizes.values().sum::<u64>()]);
    for sum in ["/totals", "/prefixes", "/dbs/0", "/types/0"] {
        let row = report.pointer(sum).expect("is there");
        assert_eq!(serde_json::json!([row["keys"], row["bytes"]]), all, "{sum}");
    }
    // Nothing of the interrupted run alone, and nothing twice.
    let whole = keystats(&["report", &uri, "--json", "--restart"]);
    let whole: serde_json::Value = serde_json::from_str(&whole.stdout).expect("is JSON");
    for part in [
        "types",
        "slots",
        "prefixes",
        "dbs",
        "expiry",
        "spread_of_bytes",
    ] {
        assert_eq!(report[part], whole[part], "{part}");
    }
}

#[test]
fn sums_after_an_interrupt() {
    let ((server, sizes), state) = (server(), Folder::new());
    let uri = server.uri();
    let job = Job {
        args: vec!["slots", &uri],
        state: &state,
    };
    let process = job.start_and_wait();
    process.interrupt();
    let ended = process.wait(DEADLINE);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(5), ""),
        "{}",
        ended.stderr
    );
    assert!(
        ended
            .stderr
            .contains("to go on, give the same command again"),
        "{}",
        ended.stderr
    );
    // Another pass is another job.
    let other = keystats(&["slots", &uri, "--key-pattern", "key:*"]);
    assert_eq!(shards_told(&other.stdout), shards_of(&sizes, 100));
    // How the sums are told is not: they are kept by slot.
    let ran = job.finish(&["--shards", "7"]);
    assert_went_on(&ran);
    assert_eq!(shards_told(&ran.stdout), shards_of(&sizes, 7));
}

#[test]
fn anew_when_that_is_asked_for() {
    let ((server, sizes), state) = (server(), Folder::new());
    let uri = server.uri();
    let job = Job {
        args: vec!["memkeys", &uri, "--mem-limit", "0"],
        state: &state,
    };
    job.start_and_kill();
    let ran = job.finish(&["--restart"]);
    assert!(!ran.stderr.contains("goes on"), "{}", ran.stderr);
    assert_eq!(sizes_told(&ran.stdout), sizes);
}

#[test]
fn a_server_that_was_restarted_between_two_runs() {
    let ((mut server, sizes), state) = (server(), Folder::new());
    let uri = server.uri();
    let job = Job {
        args: vec!["slots", &uri],
        state: &state,
    };
    job.start_and_kill();
    server.shutdown_save();
    server.restart();
    let ran = job.finish(&[]);
    assert!(ran.stderr.contains("it begins anew"), "{}", ran.stderr);
    assert_eq!(shards_told(&ran.stdout), shards_of(&sizes, 100));
}

#[test]
fn a_server_that_is_restarted_on_the_way() {
    let ((mut server, sizes), state) = (server(), Folder::new());
    let uri = server.uri();
    let job = Job {
        args: vec!["slots", &uri],
        state: &state,
    };
    let process = job.start_and_wait();
    server.shutdown_save();
    server.restart();
    let ran = process.wait(DEADLINE);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("db 0 is read again"), "{}", ran.stderr);
    assert_eq!(shards_told(&ran.stdout), shards_of(&sizes, 100));
}

#[test]
fn a_report_that_counts_twice() {
    let ((mut server, _), state) = (server(), Folder::new());
    let uri = server.uri();
    let job = Job {
        args: vec!["report", &uri, "--json"],
        state: &state,
    };
    let process = job.start_and_wait();
    server.shutdown_save();
    server.restart();
    let ran = process.wait(DEADLINE);
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    assert!(ran.stderr.contains("counts twice"), "{}", ran.stderr);
    assert_eq!(job.files(), Vec::<String>::new());
}

#[test]
fn a_run_that_is_running() {
    let ((server, _), state) = (server(), Folder::new());
    let uri = server.uri();
    let job = Job {
        args: vec!["slots", &uri],
        state: &state,
    };
    let process = job.start_and_wait();
    let second = keystats_ending(&["slots", &uri, "--state-dir", &state.path("state")]);
    assert_eq!(second.code, Some(3), "{}", second.stderr);
    assert!(
        second.stderr.contains("is running already"),
        "{}",
        second.stderr
    );
    process.kill();
    process.wait(DEADLINE);
}

#[test]
fn a_cluster_after_a_kill() {
    let (cluster, state) = (Cluster::start(Version::VALKEY_8_0, 2), Folder::new());
    let slots_of_first = cluster.slots_of(0);
    let mut sizes = Sizes::new();
    for (node, server) in cluster.nodes().iter().enumerate() {
        let mut pipe = redis::pipe();
        let names = (0..KEYS).map(|n| format!("key:{n}"));
        let is_here =
            |name: &String| slots_of_first.contains(&key_slot(name.as_bytes())) == (node == 0);
        for name in names.filter(is_here) {
            pipe.cmd("SET").arg(name).arg("v").ignore();
        }
        let () = pipe.query(&mut server.client()).unwrap();
        sizes.extend(sizes_of(server, 0));
    }
    let uri = cluster.uri();
    let job = Job {
        args: vec!["slots", &uri, "--shards", "16384"],
        state: &state,
    };
    job.start_and_kill();
    let ran = job.finish(&[]);
    assert_went_on(&ran);
    assert_eq!(shards_told(&ran.stdout), shards_of(&sizes, 16_384));
}

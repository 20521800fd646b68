//! Following: the full sync of 1.2 million keys by PSYNC, then what a free-running writer and keyhaul do to one
//! another; a native replica of the same data beside it for the record.
//!
//! Unlike in the other rows, the process that a source forks to save the snapshot is counted with the source.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use keyhaul_testkit::process::Process;
use keyhaul_testkit::{Server, Version, redis, wait_until};

use crate::load::Load;
use crate::measured::{self, Measured};
use crate::small;

/// How long the writer runs in each setting.
const LOAD_TIME: Duration = Duration::from_secs(10);
/// The longest wait for a state.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at the lag.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// What keyhaul is asked for.
const FOLLOW: &[&str] = &["replicate", "--mode", "live", "--method", "psync"];

/// What a writer and who follows it did.
pub(crate) struct Followed {
    pub(crate) name: &'static str,
    /// Commands a second that the source took.
    pub(crate) writes_per_second: f64,
    /// CPU seconds of the follower, per second.
    pub(crate) own_cpu: f64,
    /// Peak since its start.
    pub(crate) rss_mib: f64,
    /// The greatest that were seen while the writer ran; None: not told.
    pub(crate) lag_bytes_max: Option<u64>,
    /// The same, ms.
    pub(crate) lag_ms_max: Option<u64>,
    /// From the last write until nothing was open.
    pub(crate) settled_seconds: f64,
}

/// The full syncs, and the writer alone, with keyhaul and with a replica.
pub(crate) fn measure(keyhaul: &str, runs: usize) -> (Vec<Measured>, Vec<Followed>) {
    let source = Server::builder(Version::REDIS_7_0)
        .tcp()
        .arg("repl-diskless-sync-delay", 0)
        .start();
    println!("filling the source for live mode");
    small::fill(&source);
    let mut syncs = Vec::new();
    for _ in 0..runs {
        syncs.push(full_sync(keyhaul, &source));
    }
    syncs.push(native_sync(&source));
    let followed = vec![
        alone(&source),
        with_keyhaul(keyhaul, &source),
        with_replica(&source),
    ];
    (syncs, followed)
}

fn full_sync(keyhaul: &str, source: &Server) -> Measured {
    let target = Server::start(Version::VALKEY_8_0);
    let state = tempfile::tempdir().expect("a folder can be made");
    let uris = [unix_uri(source), target.uri()];
    let mut command = Command::new(keyhaul);
    command.args(FOLLOW).args(uris);
    command.args(["--until", "synced", "--progress", "none", "--state-dir"]);
    command.arg(state.path());
    with_children(source, || {
        measured::measure_command("live: full sync, PSYNC", command, &[source], &[&target])
    })
}

/// The same data by REPLICAOF, which loads it without commands.
fn native_sync(source: &Server) -> Measured {
    let replica = Server::start(source.version());
    let before = (source.cpu_seconds(), replica.cpu_seconds());
    let measured = with_children(source, || {
        let started = Instant::now();
        attach(source, &replica);
        let wall = started.elapsed().as_secs_f64();
        let source_cpu = source.cpu_seconds() - before.0;
        let target_cpu = replica.cpu_seconds() - before.1;
        Measured {
            name: "live: native REPLICAOF".into(),
            wall,
            source_cpu,
            target_cpu,
            busiest_cpu: source_cpu.max(target_cpu),
            own_cpu: 0.0,
            others_cpu: 0.0,
            rss_mib: 0.0,
            bystanders: None,
        }
    });
    detach(&replica);
    measured
}

/// Counts the process that saves the snapshot with the source.
fn with_children(source: &Server, run: impl FnOnce() -> Measured) -> Measured {
    let before = source.children_cpu_seconds();
    let mut measured = run();
    wait_until("the source has waited for its child", PATIENCE, || {
        source.info("rdb_bgsave_in_progress") == "0"
    });
    let children = source.children_cpu_seconds() - before;
    measured.source_cpu += children;
    measured.busiest_cpu = measured.busiest_cpu.max(children);
    measured.others_cpu = (measured.others_cpu - children).max(0.0);
    measured
}

fn alone(source: &Server) -> Followed {
    let load = Load::start(source);
    std::thread::sleep(LOAD_TIME);
    Followed {
        name: "nobody follows",
        writes_per_second: load.stop(),
        own_cpu: 0.0,
        rss_mib: 0.0,
        lag_bytes_max: None,
        lag_ms_max: None,
        settled_seconds: 0.0,
    }
}

fn with_keyhaul(keyhaul: &str, source: &Server) -> Followed {
    let target = Server::start(Version::VALKEY_8_0);
    let state = tempfile::tempdir().expect("a folder can be made");
    let port = free_port();
    let mut command = Command::new(keyhaul);
    command.args(FOLLOW).args([unix_uri(source), target.uri()]);
    command.args([
        "--progress",
        "none",
        "--status-listen",
        &format!("127.0.0.1:{port}"),
    ]);
    command.arg("--state-dir").arg(state.path());
    let process = Process::start(command);
    let is_synced = || status(port).is_some_and(|text| text.contains("\"state\":\"synced\""));
    wait_until("keyhaul is synced", PATIENCE, is_synced);

    let cpu_before = process.cpu_seconds_now().expect("keyhaul runs");
    let load = Load::start(source);
    let started = Instant::now();
    let (mut lag_bytes_max, mut lag_ms_max) = (None, None);
    while started.elapsed() < LOAD_TIME {
        if let Some(text) = status(port) {
            lag_bytes_max = lag_bytes_max.max(number(&text, "lag_bytes"));
            lag_ms_max = lag_ms_max.max(number(&text, "lag_ms"));
        }
        std::thread::sleep(LOOK_PAUSE);
    }
    let writes_per_second = load.stop();
    let own_cpu = process.cpu_seconds_now().expect("keyhaul runs") - cpu_before;
    let own_cpu = own_cpu / started.elapsed().as_secs_f64();
    let stopped = Instant::now();
    let offset: u64 = source.info("master_repl_offset").parse().expect("a number");
    wait_until("keyhaul has caught up", PATIENCE, || {
        status(port).is_some_and(|text| number(&text, "applied_offset") >= Some(offset))
    });
    let settled_seconds = stopped.elapsed().as_secs_f64();
    let rss_bytes = process.rss_peak_bytes_now().expect("keyhaul runs");
    process.interrupt();
    let outcome = process.wait(PATIENCE);
    assert_eq!(
        outcome.code,
        Some(0),
        "{}\n{}",
        outcome.stdout,
        outcome.stderr
    );
    Followed {
        name: "keyhaul follows",
        writes_per_second,
        own_cpu,
        rss_mib: rss_bytes as f64 / 1024.0 / 1024.0,
        lag_bytes_max,
        lag_ms_max,
        settled_seconds,
    }
}

fn with_replica(source: &Server) -> Followed {
    let replica = Server::start(source.version());
    attach(source, &replica);
    let cpu_before = replica.cpu_seconds();
    let load = Load::start(source);
    let started = Instant::now();
    let mut lag_bytes_max = None;
    while started.elapsed() < LOAD_TIME {
        let offset =
            |server: &Server, field: &str| -> u64 { server.info(field).parse().expect("a number") };
        let reached = offset(&replica, "slave_repl_offset");
        let lag_bytes = offset(source, "master_repl_offset").saturating_sub(reached);
        lag_bytes_max = lag_bytes_max.max(Some(lag_bytes));
        std::thread::sleep(LOOK_PAUSE);
    }
    let writes_per_second = load.stop();
    let own_cpu = (replica.cpu_seconds() - cpu_before) / started.elapsed().as_secs_f64();
    let stopped = Instant::now();
    wait_until("the replica has caught up", PATIENCE, || {
        replica.info("slave_repl_offset") == source.info("master_repl_offset")
    });
    let settled_seconds = stopped.elapsed().as_secs_f64();
    detach(&replica);
    Followed {
        name: "a native replica follows",
        writes_per_second,
        own_cpu,
        rss_mib: replica.rss_bytes() as f64 / 1024.0 / 1024.0,
        lag_bytes_max,
        lag_ms_max: None,
        settled_seconds,
    }
}

/// Makes it a replica and waits until it holds all.
fn attach(source: &Server, replica: &Server) {
    let mut client = replica.client();
    let mut command = redis::cmd("REPLICAOF");
    command.arg("127.0.0.1").arg(source.port());
    command.exec(&mut client).expect("REPLICAOF");
    wait_until("the replica is linked", PATIENCE, || {
        replica.info("master_link_status") == "up"
    });
}

fn detach(replica: &Server) {
    let mut command = redis::cmd("REPLICAOF");
    command.arg("NO").arg("ONE");
    command
        .exec(&mut replica.client())
        .expect("REPLICAOF NO ONE");
}

fn unix_uri(server: &Server) -> String {
    format!("unix://{}", server.socket().display())
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port can be bound");
    listener.local_addr().expect("it is bound").port()
}

/// What keyhaul says of following; None while it says nothing.
fn status(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream
        .write_all(b"GET /status HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    let (_, live) = reply.split_once("\"live\":{")?;
    Some(live.to_owned())
}

/// The first number of this name in a JSON text.
fn number(text: &str, name: &str) -> Option<u64> {
    let (_, rest) = text.split_once(&format!("\"{name}\":"))?;
    let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
    rest[..digits].parse().ok()
}

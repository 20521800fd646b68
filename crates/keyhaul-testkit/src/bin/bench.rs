//! `make bench`: how close a copy comes to what the two servers can do, as ratios within one run.
//!
//! The floor of a run is the time that it cannot be shorter than: the CPU time of the busier side,
//! or all CPU time spread over all cores. Machines differ and are noisy; the ratio of wall time to
//! the floor of the same run is what can be compared.
//!
//! Usage: bench KEYHAUL_BINARY [RUNS]; a table goes to standard output, JSON to bench/results.json.

#![allow(clippy::print_stdout, reason = "a program that prints a table")]

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use keyhaul_testkit::{Cluster, Server, Tls, Version, process, require};

/// Keys of the data set: strings of 100 bytes, and collections of 20 elements.
const STRINGS: usize = 1_000_000;
const COLLECTIONS: usize = 200_000;
const ELEMENTS: usize = 20;
const DEADLINE: Duration = Duration::from_secs(600);

/// One measured copy.
struct Measured {
    name: &'static str,
    wall: f64,
    source_cpu: f64,
    target_cpu: f64,
    /// CPU of the busiest process of a side: one thread does the work of a server.
    busiest_cpu: f64,
    own_cpu: f64,
    rss_mib: f64,
}

impl Measured {
    fn floor(&self) -> f64 {
        let cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        self.busiest_cpu
            .max((self.source_cpu + self.target_cpu + self.own_cpu) / cores)
    }

    fn wall_ratio(&self) -> f64 {
        self.wall / self.floor()
    }

    fn own_cpu_percent(&self) -> f64 {
        self.own_cpu / (self.source_cpu + self.target_cpu) * 100.0
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let keyhaul = args.next().expect("usage: bench KEYHAUL_BINARY [RUNS]");
    let runs: usize = args
        .next()
        .map_or(3, |runs| runs.parse().expect("a number of runs"));
    let tls = Tls::new();
    let source = Server::builder(Version::REDIS_7_0).tls(&tls).start();
    println!("filling the source with {} keys", STRINGS + COLLECTIONS);
    fill(&source);

    let mut measured = Vec::new();
    for _ in 0..runs {
        let target = Server::start(Version::VALKEY_8_0);
        let args = [socket_uri(&source), target.uri()];
        measured.push(measure(
            "standalone, Unix socket",
            &keyhaul,
            &args,
            &source,
            &[&target],
        ));
    }
    {
        let target = Server::builder(Version::VALKEY_8_0).tls(&tls).start();
        let uri = |server: &Server| format!("rediss://127.0.0.1:{}", server.tls_port());
        let ca = tls.ca().display().to_string();
        let args = [
            uri(&source),
            uri(&target),
            "--source-cacert".into(),
            ca.clone(),
            "--target-cacert".into(),
            ca,
        ];
        measured.push(measure(
            "standalone, TLS",
            &keyhaul,
            &args,
            &source,
            &[&target],
        ));
    }
    {
        let target = Cluster::start(Version::VALKEY_8_0, 3);
        let nodes: Vec<&Server> = target.nodes().iter().collect();
        let args = [socket_uri(&source), target.uri()];
        measured.push(measure(
            "to a cluster of 3, TCP",
            &keyhaul,
            &args,
            &source,
            &nodes,
        ));
    }
    {
        redis::cmd("SAVE")
            .exec(&mut source.client())
            .expect("the source saves");
        let file = source.dir().join("dump.rdb").display().to_string();
        for _ in 0..runs {
            let target = Server::start(Version::VALKEY_8_0);
            let args = [format!("file:{file}"), target.uri()];
            measured.push(measure_with(
                "an RDB file",
                &keyhaul,
                &args,
                &[],
                &[&target],
            ));
        }
        let backup = source.dir().join("backup.rdb").display().to_string();
        let args = [socket_uri(&source), format!("file:{backup}")];
        measured.push(measure_with(
            "to an RDB file, PSYNC",
            &keyhaul,
            &args,
            &[&source],
            &[],
        ));
    }
    drop(source);
    if require(Version::REDIS_8_2) && require(Version::VALKEY_8_1) {
        let source = Server::start(Version::REDIS_8_2);
        fill(&source);
        for _ in 0..runs {
            let target = Server::start(Version::VALKEY_8_1);
            let args = [source.uri(), target.uri()];
            measured.push(measure(
                "Redis 8.2 to Valkey 8.1",
                &keyhaul,
                &args,
                &source,
                &[&target],
            ));
        }
    }
    report(&measured);
}

/// The source listens on a Unix socket beside its TLS port.
fn socket_uri(server: &Server) -> String {
    format!("unix://{}", server.socket().display())
}

fn measure(
    name: &'static str,
    keyhaul: &str,
    args: &[String],
    source: &Server,
    targets: &[&Server],
) -> Measured {
    measure_with(name, keyhaul, args, &[source], targets)
}

/// Either side may be a file, which takes no CPU time of its own.
fn measure_with(
    name: &'static str,
    keyhaul: &str,
    args: &[String],
    sources: &[&Server],
    targets: &[&Server],
) -> Measured {
    let cpu = |servers: &[&Server]| {
        servers
            .iter()
            .map(|s| s.cpu_seconds())
            .collect::<Vec<f64>>()
    };
    let (sources_before, targets_before) = (cpu(sources), cpu(targets));
    let mut command = Command::new(keyhaul);
    command
        .arg("replicate")
        .args(args)
        .args(["--verify", "none", "--progress", "none"]);
    let outcome = process::run(command, DEADLINE);
    assert_eq!(
        outcome.code,
        Some(0),
        "{}\n{}",
        outcome.stdout,
        outcome.stderr
    );
    let spent = |servers: &[&Server], before: &[f64]| -> Vec<f64> {
        let pairs = cpu(servers).into_iter().zip(before);
        pairs.map(|(after, before)| after - before).collect()
    };
    let per_source = spent(sources, &sources_before);
    let per_target = spent(targets, &targets_before);
    Measured {
        name,
        wall: outcome.elapsed.as_secs_f64(),
        source_cpu: per_source.iter().sum(),
        target_cpu: per_target.iter().sum(),
        busiest_cpu: per_source
            .iter()
            .chain(&per_target)
            .copied()
            .fold(0.0, f64::max),
        own_cpu: outcome.cpu_seconds,
        rss_mib: outcome.peak_rss_bytes as f64 / 1024.0 / 1024.0,
    }
}

fn fill(server: &Server) {
    const PIPELINE: usize = 1000;
    let mut connection = server.client();
    for first in (0..STRINGS + COLLECTIONS).step_by(PIPELINE) {
        let mut pipe = redis::pipe();
        for n in first..first + PIPELINE {
            if n < STRINGS {
                pipe.cmd("SET")
                    .arg(format!("string:{n}"))
                    .arg(format!("{n:0>100}"))
                    .ignore();
                continue;
            }
            let kind = n % 4;
            let (command, name) = [
                ("HSET", "hash"),
                ("ZADD", "zset"),
                ("SADD", "set"),
                ("RPUSH", "list"),
            ][kind];
            pipe.cmd(command).arg(format!("{name}:{n}"));
            for element in 0..ELEMENTS {
                match command {
                    "HSET" => pipe
                        .arg(format!("field:{element}"))
                        .arg(format!("value:{n}")),
                    "ZADD" => pipe.arg(element * n).arg(format!("member:{element}")),
                    _ => pipe.arg(format!("element:{element}:{n}")),
                };
            }
            pipe.ignore();
        }
        pipe.query::<()>(&mut connection)
            .expect("the source takes the data");
    }
}

fn report(measured: &[Measured]) {
    println!(
        "{:<26} {:>7} {:>7} {:>7} {:>7} {:>7} {:>11} {:>9} {:>8}",
        "copy of 1.2 million keys",
        "wall s",
        "floor s",
        "source",
        "target",
        "own",
        "wall/floor",
        "own CPU",
        "RSS"
    );
    let mut json = String::from("[\n");
    for (index, m) in measured.iter().enumerate() {
        println!(
            "{:<26} {:>7.2} {:>7.2} {:>7.2} {:>7.2} {:>7.2} {:>11.2} {:>7.1} % {:>4.1} MB",
            m.name,
            m.wall,
            m.floor(),
            m.source_cpu,
            m.target_cpu,
            m.own_cpu,
            m.wall_ratio(),
            m.own_cpu_percent(),
            m.rss_mib
        );
        let comma = if index + 1 < measured.len() { "," } else { "" };
        writeln!(
            json,
            "  {{\"name\": \"{}\", \"wall_s\": {:.3}, \"floor_s\": {:.3}, \"source_cpu_s\": {:.3}, \
             \"target_cpu_s\": {:.3}, \"own_cpu_s\": {:.3}, \"wall_per_floor\": {:.3}, \
             \"own_cpu_percent\": {:.2}, \"rss_mib\": {:.1}}}{comma}",
            m.name,
            m.wall,
            m.floor(),
            m.source_cpu,
            m.target_cpu,
            m.own_cpu,
            m.wall_ratio(),
            m.own_cpu_percent(),
            m.rss_mib
        )
        .expect("a String takes everything");
    }
    json.push_str("]\n");
    std::fs::create_dir_all("bench").expect("the folder bench can be made");
    std::fs::write("bench/results.json", json).expect("bench/results.json can be written");
    println!(
        "budgets: wall/floor <= 1.25, own CPU <= 12 %, RSS <= 64 MB (standalone, Unix socket; Redis 8.2 \
         to Valkey 8.1)\n         wall/floor <= 1.10, own CPU <= 12 %, RSS <= 64 MB (an RDB file)"
    );
    println!("JSON: bench/results.json");
}

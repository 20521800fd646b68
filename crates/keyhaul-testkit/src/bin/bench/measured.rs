//! One copy, comparison or scan: how long it took, and what it took of the two servers and of its own.

use std::process::Command;
use std::time::Duration;

use keyhaul_testkit::{Server, process};

use crate::bystander::{Bystander, Waits};
use crate::machine;

/// The longest that a copy may take.
const DEADLINE: Duration = Duration::from_secs(600);

/// One measured copy.
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) wall: f64,
    pub(crate) source_cpu: f64,
    pub(crate) target_cpu: f64,
    /// CPU of the busiest process of a side: one thread does the work of a server.
    pub(crate) busiest_cpu: f64,
    pub(crate) own_cpu: f64,
    /// CPU of everything else on the machine meanwhile.
    pub(crate) others_cpu: f64,
    pub(crate) rss_mib: f64,
    /// What a bystander of each server felt, where there was one: source, target.
    pub(crate) bystanders: Option<(Waits, Waits)>,
}

impl Measured {
    pub(crate) fn floor(&self) -> f64 {
        let cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        self.busiest_cpu
            .max((self.source_cpu + self.target_cpu + self.own_cpu) / cores)
    }

    pub(crate) fn wall_ratio(&self) -> f64 {
        self.wall / self.floor()
    }

    pub(crate) fn own_cpu_percent(&self) -> f64 {
        self.own_cpu / (self.source_cpu + self.target_cpu) * 100.0
    }
}

/// What keyhaul does.
pub(crate) const COPY: &[&str] = &["replicate", "--verify", "none"];
/// The same.
pub(crate) const COMPARE: &[&str] = &["compare"];

/// Finds the keys above a size.
pub(crate) const MEM_KEYS: &[&str] = &["keystats", "memkeys"];

/// Runs keyhaul with these arguments. Either side may be a file, which takes no CPU time of
/// its own.
pub(crate) fn measure(
    name: &str,
    keyhaul: &str,
    job: &[&str],
    args: &[String],
    sources: &[&Server],
    targets: &[&Server],
) -> Measured {
    let mut command = Command::new(keyhaul);
    command.args(job).args(args).args(["--progress", "none"]);
    measure_command(name, command, sources, targets)
}

/// Runs any program.
pub(crate) fn measure_command(
    name: &str,
    command: Command,
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
    let machine_before = machine::cpu_seconds_of_others();
    let outcome = process::run(command, DEADLINE);
    assert_eq!(
        outcome.code,
        Some(0),
        "{}\n{}",
        outcome.stdout,
        outcome.stderr
    );
    let machine_cpu = machine::cpu_seconds_of_others() - machine_before;
    let spent = |servers: &[&Server], before: &[f64]| -> Vec<f64> {
        let pairs = cpu(servers).into_iter().zip(before);
        pairs.map(|(after, before)| after - before).collect()
    };
    let per_source = spent(sources, &sources_before);
    let per_target = spent(targets, &targets_before);
    let (source_cpu, target_cpu) = (per_source.iter().sum(), per_target.iter().sum());
    Measured {
        name: name.into(),
        wall: outcome.elapsed.as_secs_f64(),
        source_cpu,
        target_cpu,
        busiest_cpu: per_source
            .iter()
            .chain(&per_target)
            .copied()
            .fold(0.0, f64::max),
        own_cpu: outcome.cpu_seconds,
        others_cpu: (machine_cpu - source_cpu - target_cpu - outcome.cpu_seconds).max(0.0),
        rss_mib: outcome.peak_rss_bytes as f64 / 1024.0 / 1024.0,
        bystanders: None,
    }
}

/// The same between two servers, with a bystander at each.
pub(crate) fn measure_with_bystanders(
    name: &str,
    keyhaul: &str,
    args: &[String],
    source: &Server,
    target: &Server,
) -> Measured {
    let at_source = Bystander::start(source);
    let at_target = Bystander::start(target);
    let measured = measure(name, keyhaul, COPY, args, &[source], &[target]);
    Measured {
        bystanders: Some((at_source.stop(), at_target.stop())),
        ..measured
    }
}

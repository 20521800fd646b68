//! `make bench`: how close a copy comes to what the two servers can do, as ratios within one run.
//!
//! The floor of a run is the time that it cannot be shorter than: the CPU time of the busier side,
//! or all CPU time spread over all cores. Machines differ and are noisy; the ratio of wall time to
//! the floor of the same run is what can be compared.
//!
//! Usage: bench KEYHAUL_BINARY [RUNS [small|giants|live|all]]; tables go to standard output, JSON to
//! bench/results.json.

#![allow(clippy::print_stdout, reason = "a program that prints a table")]

mod bystander;
mod giants;
mod live;
mod load;
mod machine;
mod measured;
mod report;
mod small;

const USAGE: &str = "usage: bench KEYHAUL_BINARY [RUNS [small|giants|live|all]]";

fn main() {
    let mut args = std::env::args().skip(1);
    let keyhaul = args.next().expect(USAGE);
    let runs: usize = args.next().map_or(3, |runs| runs.parse().expect(USAGE));
    let part = args.next().unwrap_or_else(|| "all".into());
    assert!(
        ["small", "giants", "live", "all"].contains(&part.as_str()),
        "{USAGE}"
    );
    let asked = |name: &str| part == name || part == "all";
    let mut rows = Vec::new();
    if asked("small") {
        let measured = small::measure(&keyhaul, runs);
        report::print_small(&measured);
        rows.extend(measured.iter().map(report::json));
    }
    if asked("live") {
        let (syncs, followed) = live::measure(&keyhaul, runs);
        report::print_live(&syncs, &followed);
        rows.extend(syncs.iter().map(report::json));
        rows.extend(followed.iter().map(report::followed_json));
    }
    if asked("giants") {
        // One of each takes a quarter of an hour, most of it to make a large sorted set.
        let runs = if part == "all" { 1 } else { runs };
        let (measured, baselines) = giants::measure(&keyhaul, runs);
        report::print_giants(&measured, &baselines);
        rows.extend(measured.iter().map(report::json));
        rows.extend(baselines.iter().map(report::baseline_json));
    }
    report::write_json(&rows);
}

//! Tables for people, JSON for what draws curves.

use crate::bystander::Waits;
use crate::giants::Baseline;
use crate::live::Followed;
use crate::measured::Measured;

const FILE: &str = "bench/results.json";

/// Prints copies of small keys.
pub(crate) fn print_small(measured: &[Measured]) {
    println!(
        "{:<26} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>11} {:>9} {:>8}",
        "copy of 1.2 million keys",
        "wall s",
        "floor s",
        "source",
        "target",
        "own",
        "others",
        "wall/floor",
        "own CPU",
        "RSS"
    );
    for m in measured {
        println!("{:<26} {}", m.name, columns(m));
    }
    println!(
        "budgets: wall/floor <= 1.25, own CPU <= 12 %, RSS <= 64 MB (standalone, Unix socket; Redis 8.2 \
         to Valkey 8.1)\n         wall/floor <= 1.10, own CPU <= 12 %, RSS <= 64 MB (an RDB file)\n         wall/floor <= 1.30, \
         RSS <= 64 MB (a comparison)\n         wall/source <= 1.15, and a fifth of the wall time of redis-cli --memkeys, RSS <= 100 MB (keystats memkeys)"
    );
}

/// Prints copies of giants, and what bystanders felt.
pub(crate) fn print_giants(measured: &[Measured], baselines: &[Baseline]) {
    println!(
        "{:<26} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>11} {:>9} {:>8} {:>23} {:>23}",
        "copy of one key",
        "wall s",
        "floor s",
        "source",
        "target",
        "own",
        "others",
        "wall/floor",
        "own CPU",
        "RSS",
        "PING source p99.9, max",
        "PING target p99.9, max"
    );
    for m in measured {
        let waits = m.bystanders.as_ref().map(both_waits).unwrap_or_default();
        println!("{:<26} {} {waits}", m.name, columns(m));
    }
    for baseline in baselines {
        println!("{:<104} {}", baseline.name, both_waits(&baseline.waits));
    }
    println!("budgets: wall/floor <= 1.25, RSS <= 64 MB, PING p99.9 < 50 ms on both servers");
    println!("         RSS <= 64 MB (a comparison)");
    println!("others: CPU seconds of everything else on the machine meanwhile");
    println!("PING: one each millisecond, milliseconds from when it was due to its answer");
}

/// Prints full syncs, and what a writer and who follows it did.
pub(crate) fn print_live(syncs: &[Measured], followed: &[Followed]) {
    println!(
        "{:<26} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>11} {:>9} {:>8}",
        "sync of 1.2 million keys",
        "wall s",
        "floor s",
        "source",
        "target",
        "own",
        "others",
        "wall/floor",
        "own CPU",
        "RSS"
    );
    for m in syncs {
        println!("{:<26} {}", m.name, columns(m));
    }
    println!(
        "{:<26} {:>10} {:>9} {:>9} {:>14} {:>10} {:>10}",
        "following -P 16 writes", "writes/s", "own CPU", "RSS", "lag max", "lag max", "settled in"
    );
    for f in followed {
        let shown = |number: Option<u64>| number.map_or("-".into(), |number| number.to_string());
        println!(
            "{:<26} {:>10.0} {:>7.1} % {:>6.1} MB {:>8} bytes {:>7} ms {:>8.2} s",
            f.name,
            f.writes_per_second,
            f.own_cpu * 100.0,
            f.rss_mib,
            shown(f.lag_bytes_max),
            shown(f.lag_ms_max),
            f.settled_seconds
        );
    }
    println!(
        "budgets: wall/floor <= 1.10, own CPU <= 12 %, RSS <= 96 MB (full sync); as many writes as without, lag below \
         1 s (following)\nsource: with the process that it forks to save the snapshot"
    );
}

/// What a writer and who follows it did, as a JSON object.
pub(crate) fn followed_json(f: &Followed) -> String {
    let shown = |number: Option<u64>| number.map_or("null".into(), |number| number.to_string());
    format!(
        "{{\"name\": \"{}\", \"writes_per_second\": {:.0}, \"own_cpu_per_second\": {:.3}, \"rss_mib\": {:.1}, \
         \"lag_bytes_max\": {}, \"lag_ms_max\": {}, \"settled_s\": {:.3}}}",
        f.name,
        f.writes_per_second,
        f.own_cpu,
        f.rss_mib,
        shown(f.lag_bytes_max),
        shown(f.lag_ms_max),
        f.settled_seconds
    )
}

fn columns(m: &Measured) -> String {
    format!(
        "{:>7.2} {:>7.2} {:>7.2} {:>7.2} {:>7.2} {:>7.2} {:>11.2} {:>7.1} % {:>5.1} MB",
        m.wall,
        m.floor(),
        m.source_cpu,
        m.target_cpu,
        m.own_cpu,
        m.others_cpu,
        m.wall_ratio(),
        m.own_cpu_percent(),
        m.rss_mib
    )
}

fn both_waits((source, target): &(Waits, Waits)) -> String {
    let waits = |w: &Waits| format!("{:>11.2} {:>8.2} ms", w.p999_ms, w.max_ms);
    format!("{} {}", waits(source), waits(target))
}

/// One copy as a JSON object.
pub(crate) fn json(m: &Measured) -> String {
    format!(
        "{{\"name\": \"{}\", \"wall_s\": {:.3}, \"floor_s\": {:.3}, \"source_cpu_s\": {:.3}, \
         \"target_cpu_s\": {:.3}, \"own_cpu_s\": {:.3}, \"others_cpu_s\": {:.3}, \"wall_per_floor\": {:.3}, \
         \"own_cpu_percent\": {:.2}, \"rss_mib\": {:.1}{}}}",
        m.name,
        m.wall,
        m.floor(),
        m.source_cpu,
        m.target_cpu,
        m.own_cpu,
        m.others_cpu,
        m.wall_ratio(),
        m.own_cpu_percent(),
        m.rss_mib,
        m.bystanders.as_ref().map(waits_json).unwrap_or_default()
    )
}

/// What bystanders felt without a copy, as a JSON object.
pub(crate) fn baseline_json(baseline: &Baseline) -> String {
    let waits = waits_json(&baseline.waits);
    format!("{{\"name\": \"{}\"{waits}}}", baseline.name)
}

fn waits_json((source, target): &(Waits, Waits)) -> String {
    let waits = |side: &str, w: &Waits| {
        format!(
            ", \"{side}_pings\": {}, \"{side}_ping_p999_ms\": {:.3}, \"{side}_ping_max_ms\": {:.3}, \
             \"{side}_oversleep_p999_ms\": {:.3}",
            w.pings, w.p999_ms, w.max_ms, w.oversleep_p999_ms
        )
    };
    waits("source", source) + &waits("target", target)
}

/// Writes the objects as one list.
pub(crate) fn write_json(rows: &[String]) {
    let text = format!("[\n  {}\n]\n", rows.join(",\n  "));
    std::fs::create_dir_all("bench").expect("the folder bench can be made");
    std::fs::write(FILE, text).expect("the file can be written");
    println!("JSON: {FILE}");
}

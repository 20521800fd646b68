//! One giant key of each type from Redis 7.0 to Valkey 8.0, over Unix sockets, with a bystander at each
//! server; and what a bystander feels when nothing is copied.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keyhaul_testkit::giant::{self, Giant, GiantKind};
use keyhaul_testkit::{Server, Version};

use crate::bystander::{Bystander, Waits};
use crate::measured::{self, COMPARE, Measured, measure_with_bystanders};

/// A share of the full size in percent, for a look at the bench itself; 100 unless set.
const PERCENT: &str = "KEYHAUL_BENCH_GIANT_PERCENT";
/// Only this type, as TYPE names it.
const ONLY: &str = "KEYHAUL_BENCH_GIANT";
/// A copy keeps three processes busy: two servers and itself.
const BUSY_THREADS: usize = 3;
const BASELINE_TIME: Duration = Duration::from_secs(20);
/// Above the longest string: its payload, were it sent whole, is a little longer.
const STRING_MARGIN_BYTES: u64 = 1 << 20;

/// What bystanders of two servers felt that do nothing.
pub(crate) struct Baseline {
    pub(crate) name: &'static str,
    pub(crate) waits: (Waits, Waits),
}

/// The copies, and what bystanders feel without them.
pub(crate) fn measure(keyhaul: &str, runs: usize) -> (Vec<Measured>, Vec<Baseline>) {
    let baselines = baselines();
    let only = std::env::var(ONLY).ok();
    let percent = std::env::var(PERCENT).map_or(100, |text| text.parse().expect(PERCENT));
    let mut measured = Vec::new();
    for kind in GiantKind::ALL {
        if only.as_ref().is_none_or(|only| *only == kind.to_string()) {
            let giant = Giant::new(kind, kind.giant_bytes() / 100 * percent);
            copies(&giant, keyhaul, runs, &mut measured);
        }
    }
    (measured, baselines)
}

/// Makes a giant, copies it so many times to an empty target, and compares each time.
fn copies(giant: &Giant, keyhaul: &str, runs: usize, measured: &mut Vec<Measured>) {
    let source = Server::start(Version::REDIS_7_0);
    let started = Instant::now();
    let made = giant.fill(&source);
    let mb = made.memory_bytes as f64 / 1e6;
    println!(
        "{}: {} elements, {mb:.0} MB, made in {:.0} s",
        giant.kind,
        made.elements,
        started.elapsed().as_secs_f64()
    );
    for _ in 0..runs {
        let target = Server::start(Version::VALKEY_8_0);
        if giant.kind == GiantKind::Text {
            giant::take_strings_of(giant.bytes + STRING_MARGIN_BYTES, &target);
        }
        let state = tempfile::tempdir().expect("a folder can be made");
        let args = [
            source.uri(),
            target.uri(),
            "--state-dir".into(),
            state.path().display().to_string(),
        ];
        let name = format!("{} of {mb:.0} MB", giant.kind);
        let copy = measure_with_bystanders(&name, keyhaul, &args, &source, &target);
        let compared = Instant::now();
        giant::assert_same(&source, &target, &giant.key);
        println!(
            "{name}: {:.1} s, compared in {:.0} s",
            copy.wall,
            compared.elapsed().as_secs_f64()
        );
        measured.push(copy);
        let args = [source.uri(), target.uri()];
        let name = format!("comparison, {}", giant.kind);
        measured.push(measured::measure(
            &name,
            keyhaul,
            COMPARE,
            &args,
            &[&source],
            &[&target],
        ));
    }
}

/// Two idle servers, first on a machine that is idle too, then beside as many busy threads as a copy
/// keeps busy: what part of a wait the scheduler alone may be to blame for.
fn baselines() -> Vec<Baseline> {
    let servers = (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::VALKEY_8_0),
    );
    let idle = Baseline {
        name: "nobody copies",
        waits: bystanders(&servers),
    };
    let stop = AtomicBool::new(false);
    let busy = std::thread::scope(|scope| {
        for _ in 0..BUSY_THREADS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let waits = bystanders(&servers);
        stop.store(true, Ordering::Relaxed);
        Baseline {
            name: "nobody copies, three threads spin",
            waits,
        }
    });
    vec![idle, busy]
}

fn bystanders(servers: &(Server, Server)) -> (Waits, Waits) {
    let (one, other) = (Bystander::start(&servers.0), Bystander::start(&servers.1));
    std::thread::sleep(BASELINE_TIME);
    (one.stop(), other.stop())
}

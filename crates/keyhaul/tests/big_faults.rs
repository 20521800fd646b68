//! Big keys and what breaks: full targets, servers that restart, links that are cut.

mod common;

use std::time::Duration;

use common::big::{Job, KINDS, Kind, Marked, PATIENCE, Seen, Underway, same};
use common::copying::run;
use keyhaul_testkit::{Direction, Proxy, Server, Version, wait_until};

const CHUNKS: [&str; 4] = ["--chunk-threshold", "10kb", "--chunk-size", "100"];
const SLOWLY: [&str; 6] = [
    "--chunk-threshold",
    "10kb",
    "--chunk-size",
    "100",
    "--rate-limit",
    "4mb",
];

/// The targets that become full are known to be too small beforehand.
const NO_ROOM: [&str; 2] = ["--accept-loss", "no-room"];

struct Ends {
    source: Server,
    target: Server,
    all: Vec<Marked>,
}

/// About 1 MB of each type; on the target the keys of before.
fn ends() -> Ends {
    let source = Server::start(Version::REDIS_7_0);
    let target = Server::start(Version::VALKEY_8_0);
    let marked = |kind| {
        let elements = if kind == Kind::Text { 25_000 } else { 2000 };
        let marked = Marked::new(kind, elements, 500);
        marked.make(&mut source.client(), 2);
        marked
    };
    let all = KINDS.map(marked).into();
    Ends {
        source,
        target,
        all,
    }
}

impl Ends {
    /// Small values of the same names on the target.
    fn with_old_values(self) -> Ends {
        for marked in &self.all {
            self.old(marked).make(&mut self.target.client(), 1);
        }
        self
    }

    fn old(&self, marked: &Marked) -> Marked {
        Marked {
            elements: 80,
            element_bytes: 20,
            ..marked.clone()
        }
    }

    fn job(&self, options: &[&str]) -> Job {
        Job::replicate(&self.source.uri(), &self.target.uri(), options)
    }

    /// Room for so many bytes more on the target.
    fn leave_room(&self, bytes: u64) {
        let used: u64 = self
            .target
            .info("used_memory")
            .parse()
            .expect("is a number");
        let limit = used + bytes;
        run(&self.target, 0, &format!("CONFIG SET maxmemory {limit}"));
    }

    #[track_caller]
    fn finish(&self, job: &Job, underway: Underway) {
        underway.finish().exits_with(0);
        job.left_nothing(&[&self.target]);
        same(&self.source, &self.target);
    }
}

#[test]
fn a_full_target_that_gets_room_goes_on() {
    let ends = ends().with_old_values();
    ends.leave_room(1_500_000);
    let job = ends.job(&[&CHUNKS[..], &NO_ROOM, &["--verbose"]].concat());
    let mut underway = job.start();
    underway.process.wait_for_output("OOM", PATIENCE);
    for marked in &ends.all {
        let old = ends.old(marked).look(&mut ends.target.client());
        let new = marked.look(&mut ends.target.client());
        assert!(
            old == Seen::Whole(1) || new == Seen::Whole(2),
            "{old:?} {new:?}"
        );
    }
    run(&ends.target, 0, "CONFIG SET maxmemory 0");
    ends.finish(&job, underway);
}

#[test]
fn a_target_that_stays_full_keeps_its_old_values() {
    let ends = ends().with_old_values();
    ends.leave_room(600_000);
    let job = ends.job(&[&CHUNKS[..], &NO_ROOM, &["--retry-for", "1s"]].concat());
    let ran = job.run().exits_with(5);
    assert!(ran.outcome.stdout.contains("OOM"), "{ran:#?}");
    assert!(ran.outcome.stdout.contains("same command"), "{ran:#?}");
    for marked in &ends.all {
        let old = ends.old(marked).look(&mut ends.target.client());
        let new = marked.look(&mut ends.target.client());
        assert!(
            old == Seen::Whole(1) || new == Seen::Whole(2),
            "{old:?} {new:?}"
        );
    }
    run(&ends.target, 0, "CONFIG SET maxmemory 0");
    let underway = job.start();
    ends.finish(&job, underway);
}

#[test]
fn a_target_that_restarts_with_its_data() {
    let mut ends = ends().with_old_values();
    let job = ends.job(&SLOWLY);
    let underway = job.start();
    underway.wait_staged(&ends.target, 300_000);
    ends.target.shutdown_save();
    ends.target.restart();
    ends.finish(&job, underway);
}

#[test]
fn a_target_that_restarts_without_its_data() {
    let mut ends = ends();
    // One key alone, so that none was done before.
    for marked in &ends.all[1..] {
        run(&ends.source, 0, &format!("DEL {}", marked.key));
    }
    let options = [
        "--chunk-threshold",
        "10kb",
        "--chunk-size",
        "50",
        "--rate-limit",
        "1mb",
    ];
    let job = ends.job(&options);
    let underway = job.start();
    underway.wait_staged(&ends.target, 300_000);
    ends.target.stop();
    ends.target.restart();
    ends.finish(&job, underway);
}

#[test]
fn a_source_that_restarts() {
    let mut ends = ends();
    let job = ends.job(&SLOWLY);
    let underway = job.start();
    underway.wait_staged(&ends.target, 300_000);
    ends.source.shutdown_save();
    ends.source.restart();
    ends.finish(&job, underway);
}

#[test]
fn a_target_that_stands_still() {
    let ends = ends();
    let job = ends.job(&SLOWLY);
    let underway = job.start();
    underway.wait_staged(&ends.target, 300_000);
    ends.target.pause();
    // Nothing is there to wait for: it must stand the silence.
    std::thread::sleep(Duration::from_millis(700));
    ends.target.resume();
    ends.finish(&job, underway);
}

/// Cuts a link after each of these bytes, one cut after the other.
fn cut_and_compare(side: &str, direction: Direction, offsets: &[u64]) {
    let ends = ends();
    let proxy = Proxy::start(if side == "source" {
        &ends.source
    } else {
        &ends.target
    });
    let (source, target) = match side {
        "source" => (proxy.uri(), ends.target.uri()),
        _ => (ends.source.uri(), proxy.uri()),
    };
    let job = Job::replicate(&source, &target, &SLOWLY);
    let underway = job.start();
    underway.wait_staged(&ends.target, 50_000);
    for offset in offsets {
        proxy.cut_after_bytes(direction, *offset);
        wait_until("the link is cut", PATIENCE, || proxy.has_cut(direction));
    }
    let ran = underway.finish().exits_with(0);
    assert!(ran.count("retries") > 0, "{ran:#?}");
    assert!(ran.not_moved().is_empty(), "{ran:#?}");
    job.left_nothing(&[&ends.target]);
    same(&ends.source, &ends.target);
}

#[test]
fn the_target_is_cut_off_in_our_requests() {
    let offsets = [100_003, 1, 700_000, 5, 300_000, 77_777, 250_000, 3];
    cut_and_compare("target", Direction::ToServer, &offsets);
}

#[test]
fn the_target_is_cut_off_in_its_replies() {
    cut_and_compare(
        "target",
        Direction::FromServer,
        &[10, 1, 200, 40, 333, 7, 100, 2],
    );
}

#[test]
fn the_source_is_cut_off_in_its_replies() {
    let offsets = [100_003, 1, 700_000, 5, 300_000, 77_777, 250_000, 3];
    cut_and_compare("source", Direction::FromServer, &offsets);
}

#[test]
fn the_source_is_cut_off_in_our_requests() {
    cut_and_compare(
        "source",
        Direction::ToServer,
        &[30, 1, 200, 40, 333, 7, 100, 2],
    );
}

#[test]
fn killed_behind_a_link_that_is_cut() {
    let ends = ends();
    let proxy = Proxy::start(&ends.target);
    let job = Job::replicate(&ends.source.uri(), &proxy.uri(), &SLOWLY);
    for round in 0..3 {
        let underway = job.start();
        let before = proxy.bytes(Direction::ToServer);
        underway.wait_until("bytes pass", || {
            proxy.bytes(Direction::ToServer) > before + 300_000
        });
        proxy.cut_after_bytes(Direction::FromServer, round * 31);
        underway.wait_until("the link is cut", || proxy.has_cut(Direction::FromServer));
        underway.process.kill();
        assert_eq!(underway.finish().outcome.signal, Some(9));
    }
    let underway = job.start();
    ends.finish(&job, underway);
}

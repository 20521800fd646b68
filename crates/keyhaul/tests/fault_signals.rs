//! Ctrl-C once and twice, SIGTERM, kill -9: what was acknowledged is whole, and the same command again ends well.

mod common;

use std::time::{Duration, Instant};

use common::copying::{Ran, copy, key_count};
use common::running::Running;
use keyhaul_testkit::diff::{DiffOptions, View, assert_equal, keyspaces};
use keyhaul_testkit::{Dataset, Server, Version, wait_until};

const PATIENCE: Duration = Duration::from_secs(20);

struct Ends {
    source: Server,
    target: Server,
}

fn ends() -> Ends {
    let source = Server::start(Version::REDIS_7_0);
    Dataset {
        keys: 30_000,
        small_only: true,
        ..Dataset::default()
    }
    .fill(&source);
    Ends {
        source,
        target: Server::start(Version::VALKEY_8_0),
    }
}

impl Ends {
    fn start(&self) -> Running {
        let options = ["--rate-limit", "1mb"];
        let running = Running::start(&self.source.uri(), &self.target.uri(), &options);
        wait_until("keys arrive", PATIENCE, || key_count(&self.target) > 1000);
        running
    }

    /// What is on the target is on the source in the same way; then the same command ends well.
    fn goes_on(&self) {
        let (source, target) = (View::server(&self.source), View::server(&self.target));
        let found = keyspaces(&source, &target, &DiffOptions::default());
        let odd: Vec<_> = found
            .iter()
            .filter(|difference| difference.kind != keyhaul_testkit::diff::DifferenceKind::Missing)
            .collect();
        assert!(odd.is_empty(), "{odd:#?}");
        copy(&self.source.uri(), &self.target.uri(), &[]).exits_with(0);
        assert_equal(&source, &target);
    }
}

fn says_how_to_go_on(ran: &Ran) {
    assert!(ran.outcome.stdout.contains("same command"), "{ran:#?}");
    assert!(ran.not_moved().is_empty(), "{ran:#?}");
}

#[test]
fn an_interrupt_finishes_what_is_in_flight() {
    let ends = ends();
    let running = ends.start();
    running.process.interrupt();
    let ran = running.finish().exits_with(5);
    says_how_to_go_on(&ran);
    assert_eq!(ran.count("copied"), key_count(&ends.target), "{ran:#?}");
    ends.goes_on();
}

#[test]
fn a_termination_does_the_same() {
    let ends = ends();
    let running = ends.start();
    running.process.terminate();
    says_how_to_go_on(&running.finish().exits_with(5));
    ends.goes_on();
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let ends = ends();
    let mut running = ends.start();
    ends.target.pause();
    running.process.interrupt();
    running.process.wait_for_output("being finished", PATIENCE);
    let asked = Instant::now();
    running.process.interrupt();
    let ran = running.finish();
    ends.target.resume();
    assert_eq!(ran.outcome.code, Some(5), "{ran:#?}");
    assert!(asked.elapsed() < Duration::from_secs(5), "{ran:#?}");
    ends.goes_on();
}

#[test]
fn killed_again_and_again() {
    let ends = ends();
    for _ in 0..5 {
        let running = ends.start();
        running.process.kill();
        assert_eq!(running.finish().outcome.signal, Some(9));
    }
    ends.goes_on();
}

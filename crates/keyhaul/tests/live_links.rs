//! Links that break or crawl, during the copy and while changes are followed: nothing is lost and nothing doubled.

mod common;

use common::live::{Live, PATIENCE, Side, at_full_length, writes_for};
use keyhaul_testkit::writes::{Exact, Writer};
use keyhaul_testkit::{Direction, Proxy, Version, wait_until};

const KEYS: usize = 8000;

/// The link that breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Source,
    Target,
}

/// When it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Copy,
    Following,
}

/// A job with one link through a proxy, and writes that go on all the time.
struct Setup {
    source: Side,
    target: Side,
    proxy: Proxy,
    live: Live,
    writer: Writer,
    exact: Exact,
}

impl Setup {
    fn new(link: Link, seed: u64) -> Setup {
        let (source, target) = (
            Side::one(Version::REDIS_7_0),
            Side::one(Version::VALKEY_8_0),
        );
        source.fill_for(&target, KEYS);
        let proxied = if link == Link::Source {
            &source
        } else {
            &target
        };
        let proxy = Proxy::start(proxied.server());
        let uris = match link {
            Link::Source => (proxy.uri(), target.uri()),
            Link::Target => (source.uri(), proxy.uri()),
        };
        let place = source.place();
        Setup {
            live: Live::new(&uris.0, &uris.1, &["--method", "psync"]),
            writer: Writer::start(
                &place,
                source.version(),
                seed,
                &writes_for(&source, &target),
            ),
            exact: Exact::start(&place, "links", 3, Some(500)),
            source,
            target,
            proxy,
        }
    }

    /// Cuts after each of these bytes, one cut after the other.
    #[track_caller]
    fn cut(&self, direction: Direction, offsets: &[u64]) {
        for offset in offsets {
            self.proxy.cut_after_bytes(direction, *offset);
            wait_until("the link is cut", PATIENCE, || {
                self.proxy.has_cut(direction)
            });
        }
    }

    #[track_caller]
    fn ends_equal(self, follower: common::live::Follower) {
        self.writer.wait_for(2000, PATIENCE);
        self.writer.stop();
        let books = self.exact.stop();
        follower.ends_equal(&self.source, &self.target);
        books.assert_held_by(&self.source.place());
        books.assert_held_by(&self.target.place());
    }
}

#[track_caller]
fn check(link: Link, phase: Phase, direction: Direction, offsets: &[u64]) {
    let setup = Setup::new(link, 71);
    let follower = setup.live.start();
    match phase {
        Phase::Copy => {
            let direction = match link {
                Link::Source => Direction::FromServer,
                Link::Target => Direction::ToServer,
            };
            setup.proxy.throttle(direction, Some(500_000));
            follower.wait_copying();
        }
        Phase::Following => follower.wait_following(),
    }
    let offsets = if at_full_length() {
        offsets.repeat(5)
    } else {
        offsets.to_vec()
    };
    setup.cut(direction, &offsets);
    for direction in [Direction::FromServer, Direction::ToServer] {
        setup.proxy.throttle(direction, None);
    }
    setup.ends_equal(follower);
}

#[test]
fn the_source_is_cut_off_in_its_snapshot() {
    check(
        Link::Source,
        Phase::Copy,
        Direction::FromServer,
        &[3000, 100_000, 18, 250_001],
    );
}

#[test]
fn the_source_is_cut_off_in_its_stream() {
    check(
        Link::Source,
        Phase::Following,
        Direction::FromServer,
        &[1, 10_007, 50_000, 3, 77],
    );
}

#[test]
fn the_source_is_cut_off_in_our_acknowledgements() {
    check(
        Link::Source,
        Phase::Following,
        Direction::ToServer,
        &[5, 60, 1, 33],
    );
}

#[test]
fn the_target_is_cut_off_while_keys_go_over() {
    check(
        Link::Target,
        Phase::Copy,
        Direction::ToServer,
        &[20, 30_000, 200_001, 1],
    );
}

#[test]
fn the_target_is_cut_off_in_our_commands() {
    check(
        Link::Target,
        Phase::Following,
        Direction::ToServer,
        &[9, 10_003, 5, 60_000, 1],
    );
}

#[test]
fn the_target_is_cut_off_in_its_replies() {
    check(
        Link::Target,
        Phase::Following,
        Direction::FromServer,
        &[2, 999, 5001, 1, 40],
    );
}

#[test]
fn a_source_that_dribbles_is_read_right() {
    // A fiftieth of it at a time: marks and commands are torn apart.
    let setup = Setup::new(Link::Source, 72);
    setup.proxy.throttle(Direction::FromServer, Some(4000));
    let follower = setup.live.start();
    wait_until("the snapshot begins to come", PATIENCE, || {
        setup.proxy.bytes(Direction::FromServer) > 12_000
    });
    setup.proxy.throttle(Direction::FromServer, None);
    follower.wait_following();
    setup.proxy.throttle(Direction::FromServer, Some(5000));
    let before = setup.proxy.bytes(Direction::FromServer);
    wait_until("some of the stream dribbles", PATIENCE, || {
        setup.proxy.bytes(Direction::FromServer) > before + 10_000
    });
    setup.proxy.throttle(Direction::FromServer, None);
    setup.ends_equal(follower);
}

#[test]
fn a_target_that_crawls_is_caught_up_with() {
    let setup = Setup::new(Link::Target, 73);
    let follower = setup.live.start();
    follower.wait_following();
    setup.proxy.throttle(Direction::ToServer, Some(20_000));
    follower.wait_status("it lags", |status| {
        status["live"]["lag_bytes"].as_u64() > Some(300_000)
    });
    setup.proxy.throttle(Direction::ToServer, None);
    setup.ends_equal(follower);
}

#[test]
fn a_target_that_stands_still_lets_the_spool_grow() {
    let setup = Setup::new(Link::Target, 74);
    let follower = setup.live.start();
    follower.wait_following();
    setup.proxy.stall(true);
    setup.writer.wait_for(8000, PATIENCE);
    setup.proxy.stall(false);
    setup.ends_equal(follower);
}

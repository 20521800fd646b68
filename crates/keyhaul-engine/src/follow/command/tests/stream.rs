//! What really comes in streams, and that what is done with it gives the same data.

use keyhaul_testkit::diff::{self, DiffOptions, DifferenceKind, View};
use keyhaul_testkit::redis::{Value, cmd};
use keyhaul_testkit::{Server, Version, require};

use super::super::*;
use super::examples::{EXAMPLES, lines, parse};
use super::mirror::{Mirror, Way, now_ms, show};
use super::replica::Replica;

/// After so many commands the two sides are compared.
const COMMANDS_A_LOOK: usize = 8;

/// A command of a stream, looked at.
fn look(version: Version, line: &str, command: &Written) {
    let args = command.args();
    let shown = || format!("{version}: {line}: {}", show(&args));
    let Kind::Keys(spec) = lookup(&args) else {
        assert_ne!(lookup(&args), Kind::Unknown, "{}", shown());
        return;
    };
    let how = how(spec, &args);
    // What 7.0 sends never hangs on when it is executed.
    if version.number() >= (7, 0) {
        assert!(
            matches!(how, How::Verbatim | How::AbsoluteDeadline),
            "{}",
            shown()
        );
    } else {
        assert_ne!(how, How::Reread, "{}", shown());
    }
    let is_about = |at_ms: i64, ttl_ms: i64| (at_ms - now_ms() - ttl_ms).abs() < 20_000;
    let is_far = |at_ms: i64| (4_000_000_000_000..4_000_000_001_001).contains(&at_ms);
    match deadline(spec, &args) {
        Deadline::Absolute { at_ms } | Deadline::FieldsAbsolute { at_ms } => assert!(
            is_far(at_ms)
                || [100_000, 200_000, 300_000]
                    .iter()
                    .any(|&ttl_ms| is_about(at_ms, ttl_ms)),
            "{}",
            shown()
        ),
        Deadline::Relative { ttl_ms } | Deadline::FieldsRelative { ttl_ms } => {
            assert!([100_000, 200_000, 300_000].contains(&ttl_ms), "{}", shown());
            assert!(version.number() < (7, 0), "{}", shown());
        }
        Deadline::None => {}
        Deadline::Unclear => panic!("{}", shown()),
    }
}

fn follow(version: Version, way: Way) {
    let (source, target) = (Server::start(version), Server::start(version));
    let mut client = source.client();
    let delay = ["SET", "repl-diskless-sync-delay", "0"];
    cmd("CONFIG").arg(&delay).exec(&mut client).unwrap();
    let mut replica = Replica::connect(&source);
    let mut mirror = Mirror::new(way, &source, &target);
    let mut is_open = false;
    let last = lines(EXAMPLES).count() - 1;
    for (number, line) in lines(EXAMPLES).enumerate() {
        // Those that a server does not know, it refuses.
        let reply = parse(line).query::<Value>(&mut client);
        is_open = (is_open || line == "MULTI") && line != "EXEC";
        if is_open || (reply.is_err() && number != last) {
            continue;
        }
        cmd("PUBLISH")
            .arg("mark")
            .arg(line)
            .exec(&mut client)
            .unwrap();
        loop {
            let command = replica.next();
            if command.args().get(1) == Some(b"mark") {
                break;
            }
            look(version, line, &command);
            mirror.apply(&command);
        }
        mirror.step_done();
        if number % COMMANDS_A_LOOK != 0 && number != last {
            continue;
        }
        let differences = differences(&source, &target);
        assert!(
            differences.is_empty(),
            "{version}, {way:?}: before or at {line}: {differences:?}"
        );
    }
    // A PING may have come.
    while replica.offset() != source.info("master_repl_offset").parse::<u64>().unwrap() {
        assert_eq!(lookup(&replica.next().args()), Kind::Nothing);
    }
}

fn differences(source: &Server, target: &Server) -> Vec<diff::Difference> {
    let options = DiffOptions {
        ignore_expiry_tolerance_ms: 2000,
        ..DiffOptions::default()
    };
    let mut all = diff::keyspaces(&View::server(source), &View::server(target), &options);
    all.retain(|difference| difference.kind != DifferenceKind::Unreadable);
    all
}

fn follow_each(versions: &[Version], way: Way) {
    std::thread::scope(|scope| {
        for &version in versions.iter().filter(|version| require(**version)) {
            scope.spawn(move || follow(version, way));
        }
    });
}

/// The oldest, the newest, and where streams changed.
const SOME: [Version; 4] = [
    Version::REDIS_6_0,
    Version::REDIS_7_0,
    Version::REDIS_8_2,
    Version::VALKEY_9_1,
];

#[test]
fn what_may_be_sent_as_it_is_gives_the_same() {
    follow_each(&Version::ALL, Way::Verbatim);
}

#[test]
fn what_is_written_anew_gives_the_same() {
    follow_each(&SOME, Way::Anew);
}

#[test]
fn what_is_written_for_a_target_that_knows_less_gives_the_same() {
    follow_each(&SOME, Way::AnewForOlder);
}

#[test]
fn the_keys_that_are_read_again_are_all_that_changed() {
    follow_each(&SOME, Way::Reread);
}

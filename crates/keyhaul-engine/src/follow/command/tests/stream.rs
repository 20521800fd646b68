//! What really comes in streams, and that what is done with it gives the same data.

use keyhaul_testkit::diff::{self, DiffOptions, DifferenceKind, View};
use keyhaul_testkit::redis::{Value, cmd};
use keyhaul_testkit::{Server, Version};

use super::super::*;
use super::examples::{EXAMPLES, lines, parse};
use super::mirror::{Mirror, Way, now_ms, show};
use super::replica::Replica;

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
    for line in lines(EXAMPLES) {
        // Those that a server does not know, it refuses.
        let reply = parse(line).query::<Value>(&mut client);
        is_open = (is_open || line == "MULTI") && line != "EXEC";
        if is_open || reply.is_err() {
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
        let differences = differences(&source, &target);
        assert!(
            differences.is_empty(),
            "{version}, {way:?}: {line}: {differences:?}"
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

fn follow_all(way: Way) {
    std::thread::scope(|scope| {
        for version in Version::all_available() {
            scope.spawn(move || follow(version, way));
        }
    });
}

#[test]
fn what_may_be_sent_as_it_is_gives_the_same() {
    follow_all(Way::Verbatim);
}

#[test]
fn what_is_written_anew_gives_the_same() {
    follow_all(Way::Anew);
}

#[test]
fn what_is_written_for_a_target_that_knows_less_gives_the_same() {
    follow_all(Way::AnewForOlder);
}

#[test]
fn the_keys_that_are_read_again_are_all_that_changed() {
    follow_all(Way::Reread);
}

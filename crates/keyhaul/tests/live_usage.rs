//! The options of `--mode live`: those that go together, and the one line that says why others do not.

mod common;

use common::keyhaul;

/// (what is added to `replicate a b`, what the complaint says)
const ROWS: &[(&str, &str)] = &[
    // Options that only following knows.
    (
        "--spool-limit 1gb",
        "--spool-limit is for following the source: add --mode live",
    ),
    (
        "--prefer-replica",
        "--prefer-replica is for following the source: add --mode live",
    ),
    (
        "--pubsub",
        "--pubsub is for following the source: add --mode live",
    ),
    (
        "--until synced",
        "--until is for following the source: add --mode live",
    ),
    (
        "--mode scan --until synced",
        "--until is for following the source: add --mode live",
    ),
    // Options that following cannot keep.
    (
        "--mode live --verify full",
        "--mode live does not take --verify quick or full: give keyhaul compare",
    ),
    (
        "--mode liveonly --verify quick",
        "--mode liveonly does not take --verify quick or full",
    ),
    (
        "--mode live --on-conflict skip",
        "--mode live takes only --on-conflict replace",
    ),
    (
        "--mode liveonly --on-conflict fail",
        "--mode liveonly takes only --on-conflict replace",
    ),
    (
        "--mode live --pubsub --method scan",
        "from the replication stream: leave --method scan out",
    ),
    // Values.
    (
        "--mode live --spool-limit 63mb",
        "--spool-limit needs a size of at least 64.0 MB",
    ),
    (
        "--mode live --spool-limit much",
        "--spool-limit needs a size",
    ),
    (
        "--mode live --until done",
        "--until <STATE> takes one of synced",
    ),
    (
        "--status-listen host",
        "--status-listen needs an address like 127.0.0.1:9121",
    ),
    (
        "--status-listen 127.0.0.1:99999",
        "--status-listen needs an address",
    ),
    (
        "--mode forever",
        "--mode <MODE> takes one of scan, live, liveonly",
    ),
];

#[test]
fn what_does_not_go_together_is_told_in_one_line() {
    for (added, expected) in ROWS {
        let args: Vec<&str> = ["replicate", "a", "b"]
            .into_iter()
            .chain(added.split_whitespace())
            .collect();
        complains(&args, expected);
    }
}

#[test]
fn a_file_neither_changes_nor_follows() {
    complains(
        &["replicate", "--mode", "live", "dump.rdb", "b"],
        "--mode live needs a server as the source: a file does not change; leave --mode out",
    );
    complains(
        &["replicate", "--mode", "liveonly", "a", "file:x"],
        "--mode liveonly needs a server as the target: a file cannot follow",
    );
    complains(
        &["plan", "--mode", "live", "a", "x.rdb"],
        "--mode live needs a server as the target",
    );
}

fn complains(args: &[&str], expected: &str) {
    let outcome = keyhaul(args);
    assert_eq!(outcome.code, Some(2), "{args:?}: {outcome:?}");
    assert_eq!(outcome.stdout, "", "{args:?}");
    let one_line = outcome.stderr.trim_end();
    assert!(
        one_line.starts_with("error: ") && one_line.lines().count() == 1,
        "{args:?}: {one_line}"
    );
    assert!(one_line.contains(expected), "{args:?}: {one_line}");
}

#[test]
fn the_help_tells_of_following() {
    let outcome = keyhaul(&["replicate", "--help"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    for text in [
        "liveonly:",
        "--spool-limit <SIZE>",
        "[default: 16gb]",
        "--prefer-replica",
        "--pubsub",
        "--until <STATE>",
        "--status-listen <ADDR>",
        "--mode live --until synced",
    ] {
        assert!(outcome.stdout.contains(text), "{text}: {}", outcome.stdout);
    }
}

/// Well-formed command lines get as far as the endpoints: nobody listens there.
#[test]
fn what_goes_together_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = format!("unix://{}", folder.path().join("nobody.sock").display());
    for added in [
        "--mode live",
        "--mode LIVEONLY --until synced",
        "--mode live --spool-limit 64mb --prefer-replica --pubsub --until SYNCED",
        "--mode live --verify none --on-conflict replace --rate-limit 1mb/s --method psync",
        "--mode live --method scan",
    ] {
        let args: Vec<&str> = ["plan", "--retry-for", "1s", &nobody, &nobody]
            .into_iter()
            .chain(added.split_whitespace())
            .collect();
        let outcome = keyhaul(&args);
        assert_eq!(outcome.code, Some(3), "{added}: {outcome:?}");
        assert!(
            outcome.stderr.contains("nobody.sock"),
            "{added}: {outcome:?}"
        );
    }
}

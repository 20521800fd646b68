//! Wrong command lines: exit code 2, a line that helps, and never a password.

mod common;

use common::{keyhaul, keyhaul_with};

/// Stands for every password here; no output may hold it.
const PASSWORD: &str = "hunter2";

/// (arguments, what the complaint says)
const ROWS: &[(&str, &str)] = &[
    ("", "the command is missing"),
    ("replikate a b", "the command is missing or unknown"),
    (
        "redis://u:hunter2@a redis://b",
        "the command is missing or unknown",
    ),
    ("replicate", "<SOURCE>, <TARGET> is missing"),
    ("replicate redis://u:hunter2@a", "<TARGET> is missing"),
    ("replicate a b redis://u:hunter2@c", "an argument too many"),
    (
        "replicate a b --no-such-option",
        "unknown option --no-such-option",
    ),
    (
        "replicate a b --source-pas=hunter2",
        "did you mean --source-pass",
    ),
    (
        "replicate a b --sourcepassword hunter2",
        "unknown option --sourcepassword",
    ),
    ("replicate a b -p hunter2", "unknown option -p"),
    ("replicate a b -phunter2", "unknown option -p"),
    ("replicate a b --:hunter2@c", "an argument too many"),
    (
        "replicate a b --source-pass",
        "--source-pass <PASSWORD> needs a value",
    ),
    (
        "replicate a b --dry-run=hunter2",
        "--dry-run takes no value",
    ),
    (
        "replicate a b --threads 1 --threads 2",
        "--threads <N> is given more than once",
    ),
    // Endpoints.
    ("replicate u:hunter2@a b", "source: a login needs a scheme"),
    (
        "replicate a redis://u:hunter2@b:x",
        "target: bad address 'b:x'",
    ),
    (
        "replicate a redis://u:hunter2@b/x",
        "target: bad db number 'x'",
    ),
    (
        "replicate http://u:hunter2@a b",
        "source: unknown scheme 'http://'",
    ),
    (
        "replicate redis://u:hunter2@ b",
        "source: the address is empty",
    ),
    (
        "replicate redis://a?password=hunter2 b",
        "source: the only parameter",
    ),
    (
        "replicate unix://u:hunter2@ b",
        "source: the path of the socket is missing",
    ),
    (
        "replicate redis-sentinel://:hunter2@a b",
        "source: the name of the primary is missing",
    ),
    (
        "replicate file: b",
        "source: file: needs a path, like file:dump.rdb",
    ),
    (
        "replicate a.rdb b --source-user u",
        "--source-user does not fit a file",
    ),
    (
        "replicate a file:b.rdb --rdb-version 8",
        "--rdb-version needs one of 9, 10, 11, 12, 80",
    ),
    ("replicate a b --accept-loss x", "takes one of field-ttl"),
    (
        "replicate a b --source-cert c",
        "--source-cert needs --source-key",
    ),
    (
        "replicate a b --target-key c",
        "--target-key needs --target-cert",
    ),
    (
        "replicate a unix:///b --target-insecure",
        "--target-insecure does not fit a Unix socket",
    ),
    (
        "replicate a b --source-insecure --source-cacert c",
        "not both",
    ),
    // What is copied.
    (
        "replicate a b --key-type hash,hunter",
        "--key-type: unknown type 'hunter'",
    ),
    ("replicate a b --db x", "--db needs numbers"),
    ("replicate a b --db 1,all", "--db needs numbers"),
    ("replicate a b --db +1", "--db needs numbers"),
    ("replicate a b --db-map 1", "--db-map needs pairs"),
    ("replicate a b --db-map 1:x", "--db-map needs pairs"),
    (
        "replicate a b --db-map 1:2,1:3",
        "--db-map sends db 1 to two places",
    ),
    (
        "replicate a b --db 0 --db-map 1:2",
        "--db-map names db 1, which --db leaves out",
    ),
    (
        "replicate a b --rename-prefix a:b:c",
        "--rename-prefix: use OLD:NEW",
    ),
    ("replicate a b --mem-limit big", "--mem-limit needs a size"),
    ("replicate a b --mem-limit 0", "--mem-limit needs a size"),
    // Comparing.
    (
        "compare a b --delete-extra",
        "--delete-extra needs --repair",
    ),
    (
        "compare a b --recheck 0",
        "--recheck needs a number from 1 to 20",
    ),
    (
        "compare a b --ttl-tolerance 1w",
        "--ttl-tolerance needs a number of ms",
    ),
    (
        "compare a b --only-keys /no/such/file",
        "--only-keys: cannot read /no/such/file",
    ),
    (
        "compare a b --diff-file /no/such/folder/d.txt",
        "--diff-file: cannot write to /no/such/folder/d.txt: there is no such folder",
    ),
    ("compare a b --verify full", "unknown option --verify"),
    ("replicate a b --mode hunter", "--mode <MODE> takes one of"),
    (
        "replicate a b --on-conflict hunter2",
        "takes one of replace, skip, fail",
    ),
    (
        "replicate a b --scan-count 0",
        "--scan-count needs a number from 1",
    ),
    (
        "replicate a b --threads 65",
        "--threads needs a number from 1 to 64",
    ),
    (
        "replicate a b --read-threads x",
        "--read-threads needs a number from 1 to 64",
    ),
    (
        "replicate a b --memory 1mb",
        "--memory needs a size of at least 4.0 MB",
    ),
    (
        "replicate a b --rate-limit fast",
        "--rate-limit needs a size",
    ),
    (
        "replicate a b --retry-for soon",
        "--retry-for needs a duration",
    ),
    // Output.
    (
        "replicate a b --report /no/such/folder/r.json",
        "--report: cannot write to /no/such",
    ),
    (
        "replicate a b --report /dev/null",
        "it is there and no regular file",
    ),
    ("completions", "<SHELL> is missing"),
    ("completions cmd", "takes one of bash"),
];

#[test]
fn wrong_command_lines() {
    let variables = [
        "KEYHAUL_SOURCE_PASS",
        "KEYHAUL_TARGET_PASS",
        "REDISCLI_AUTH",
    ]
    .map(|name| (name, PASSWORD));
    for (line, complaint) in ROWS {
        let args: Vec<_> = line.split_whitespace().collect();
        let outcome = keyhaul_with(&args, &variables);
        assert_eq!(outcome.code, Some(2), "{line}: {outcome:?}");
        assert!(outcome.stderr.contains(complaint), "{line}: {outcome:?}");
        assert!(outcome.stderr.starts_with("error: "), "{line}: {outcome:?}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{line}: {outcome:?}");
        assert!(!outcome.stderr.contains(PASSWORD), "{line}: {outcome:?}");
        assert_eq!(outcome.stdout, "", "{line}: {outcome:?}");
    }
}

#[test]
fn help_shows_no_password_of_the_environment() {
    let outcome = keyhaul_with(
        &["replicate", "--help"],
        &[("KEYHAUL_SOURCE_PASS", PASSWORD)],
    );
    assert_eq!(outcome.code, Some(0));
    assert!(outcome.stdout.contains("KEYHAUL_SOURCE_PASS"));
    assert!(!outcome.stdout.contains(PASSWORD));
}

#[test]
fn help_needs_no_manual() {
    for args in [&["replicate", "--help"][..], &["replicate", "-h"]] {
        let outcome = keyhaul(args);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
        for text in [
            "Endpoints:",
            "Which keys:",
            "How:",
            "Safety:",
            "Output:",
            "Examples:",
            "Exit codes:",
            "[default: 128mb]",
            "--target-insecure",
        ] {
            assert!(
                outcome.stdout.contains(text),
                "{text} is not in\n{}",
                outcome.stdout
            );
        }
    }
}

#[test]
fn help_version_completions_and_manual() {
    let rows: [(&[&str], &str); 8] = [
        (&["--help"], "replicate"),
        (
            &["--version"],
            concat!("keyhaul ", env!("CARGO_PKG_VERSION")),
        ),
        (&["completions", "bash"], "_keyhaul()"),
        (&["completions", "zsh"], "#compdef keyhaul"),
        (&["completions", "fish"], "complete -c keyhaul"),
        (&["completions", "elvish"], "replicate"),
        (&["completions", "powershell"], "replicate"),
        (&["man"], ".TH keyhaul"),
    ];
    for (args, text) in rows {
        let outcome = keyhaul(args);
        assert_eq!(
            (outcome.code, outcome.stderr.as_str()),
            (Some(0), ""),
            "{args:?}"
        );
        assert!(
            outcome.stdout.contains(text),
            "{args:?}: {}",
            outcome.stdout
        );
    }
}

#[test]
fn manual_pages_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let outcome = keyhaul(&["man", pages.to_str().unwrap()]);
    assert_eq!(
        (outcome.code, outcome.stdout.as_str()),
        (Some(0), ""),
        "{outcome:?}"
    );
    let main = std::fs::read_to_string(pages.join("keyhaul.1")).unwrap();
    let replicate = std::fs::read_to_string(pages.join("keyhaul-replicate.1")).unwrap();
    assert!(
        main.contains("replicate") && replicate.contains("on\\-conflict"),
        "{replicate}"
    );
    assert!(pages.join("keyhaul-completions.1").exists() && pages.join("keyhaul-man.1").exists());
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut command = common::command(&["completions", "bash"]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}

//! What each right that is not needed costs when it is missing: one plain line, never the run.

mod common;

use common::copying::{Ran, copy, key_count, run};
use common::rights::{LOGIN, assert_equal, dataset, lacks, load_function};
use keyhaul_testkit::diff::{self, DiffOptions, View};
use keyhaul_testkit::{Server, Version};

/// (what is taken away, the word of its line or none where nothing is lost)
const ONE_LESS: &[(&str, &str)] = &[
    ("-info", "INFO"),
    ("-config", "CONFIG"),
    ("-client|setname", "CLIENT SETNAME"),
    ("-function", "FUNCTION"),
    ("-memory", "MEMORY"),
    ("-time", "TIME"),
    ("-role", ""),
    ("-dbsize", ""),
    ("-command", ""),
    ("-hello", ""),
    ("-ping", ""),
    ("-cluster", ""),
    (
        "-@admin -@dangerous +dump +restore +scan +info +config +role",
        "",
    ),
    ("-pexpiretime", "PEXPIRETIME"),
];

#[test]
fn each_other_right_may_lack_and_costs_a_line() {
    for (less, word) in ONE_LESS {
        let rules = format!("on >secret ~* &* +@all {less}");
        let source = Server::builder(Version::REDIS_7_0)
            .acl_user("mover", &rules)
            .start();
        dataset().fill(&source);
        // Small enough that sizes of keys matter.
        let target = Server::builder(Version::VALKEY_8_0)
            .arg("proto-max-bulk-len", "1mb")
            .start();
        let options = [&LOGIN[..4], &["--key-exclude", "*AboveMb*"]].concat();
        let ran = copy(&source.uri(), &target.uri(), &options);
        assert_eq!(ran.outcome.code, Some(0), "source {less}: {ran:#?}");
        let key = |key: &[u8]| !key.windows(7).any(|part| part == b"AboveMb");
        let options = DiffOptions {
            only: Box::new(move |_, name| key(name)),
            ..Default::default()
        };
        diff::assert_equal_with(&View::server(&source), &View::server(&target), &options);
        assert_one_line(&ran, "source", less, word);
    }
}

#[test]
fn each_other_right_of_a_target_may_lack_and_costs_a_line() {
    let source = Server::start(Version::REDIS_7_0);
    dataset().fill(&source);
    for (less, word) in ONE_LESS {
        let rules = format!("on >secret ~* &* +@all {less}");
        let target = Server::builder(Version::VALKEY_8_0)
            .acl_user("mover", &rules)
            .start();
        let ran = copy(&source.uri(), &target.uri(), &LOGIN[4..]);
        assert_eq!(ran.outcome.code, Some(0), "target {less}: {ran:#?}");
        assert_equal(&source, &target);
        // Nothing of these is needed there where no functions go over and no key is too large.
        let word = if ["-function", "-memory"].contains(less) {
            ""
        } else {
            word
        };
        assert_one_line(&ran, "target", less, word);
    }
}

#[track_caller]
fn assert_one_line(ran: &Ran, side: &str, less: &str, word: &str) {
    let lines = lacks(ran);
    let expected = usize::from(!word.is_empty());
    assert_eq!(
        lines.len(),
        expected,
        "{side} {less}: {lines:#?} of {ran:#?}"
    );
    if let [line] = &lines[..] {
        assert!(line.contains(word), "{side} {less}: {line}");
    }
}

#[test]
fn functions_that_the_target_does_not_take_are_told() {
    let source = Server::start(Version::REDIS_7_0);
    load_function(&source);
    run(&source, 0, "SET a:1 1");
    let rules = "on >secret ~* &* +@all -function";
    let target = Server::builder(Version::VALKEY_8_0)
        .acl_user("mover", rules)
        .start();
    let ran = copy(&source.uri(), &target.uri(), &LOGIN[4..]).exits_with(4);
    assert!(
        ran.report["remarks"].to_string().contains("'one'"),
        "{ran:#?}"
    );
    assert_equal(&source, &target);
    copy(
        &source.uri(),
        &target.uri(),
        &[&LOGIN[4..], &["--no-functions"]].concat(),
    )
    .exits_with(0);
}

#[test]
fn a_limit_of_memory_names_the_right_to_grant() {
    let rules = "on >secret ~* &* +@all -memory";
    let source = Server::builder(Version::REDIS_7_0)
        .acl_user("mover", rules)
        .start();
    let target = Server::start(Version::VALKEY_8_0);
    dataset().fill(&source);
    let options = [&LOGIN[..4], &["--mem-limit", "10kb"]].concat();
    copy(&source.uri(), &target.uri(), &options)
        .exits_with(3)
        .says("+memory|usage");
    assert_eq!(key_count(&target), 0);
}

#[test]
fn a_plan_invents_no_counts() {
    let rules = "on >secret ~* &* +@all -info -dbsize";
    let source = Server::builder(Version::REDIS_7_0)
        .acl_user("mover", rules)
        .start();
    let target = Server::start(Version::VALKEY_8_0);
    dataset().fill(&source);
    let ran = copy(&source.uri(), &target.uri(), &LOGIN[..4]).exits_with(0);
    let dbs = ran
        .outcome
        .stderr
        .lines()
        .filter(|line| line.contains(" -> "));
    let invented: Vec<&str> = dbs.filter(|line| line.contains(", 0 keys")).collect();
    assert!(invented.is_empty(), "{invented:#?} of {ran:#?}");
    assert_equal(&source, &target);
}

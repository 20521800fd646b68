//! The least rights that do, what each missing one costs, and which are demanded.

mod common;

use common::copying::{Ran, copy, copy_twice, key_count, run};
use keyhaul_testkit::diff::{self, View};
use keyhaul_testkit::{Cluster, Dataset, Server, Version, key_slot, require};

const LOGIN: [&str; 8] = [
    "--source-user",
    "mover",
    "--source-pass",
    "secret",
    "--target-user",
    "mover",
    "--target-pass",
    "secret",
];

fn dataset() -> Dataset {
    Dataset {
        seed: 71,
        keys: 400,
        dbs: vec![0, 3],
        ..Dataset::default()
    }
}

fn dataset_of_one_db() -> Dataset {
    Dataset {
        dbs: vec![0],
        ..dataset()
    }
}

fn rules(rights: &str) -> String {
    format!("on >secret ~* -@all {rights}")
}

/// A server with a user of exactly these rights.
fn server(version: Version, rights: &str) -> Server {
    Server::builder(version)
        .acl_user("mover", &rules(rights))
        .start()
}

fn cluster(version: Version, rights: &str) -> Cluster {
    let user = format!("mover {}", rules(rights));
    Cluster::builder(version)
        .primaries(2)
        .arg("user", user)
        .start()
}

fn assert_equal(source: &Server, target: &Server) {
    diff::assert_equal(&View::server(source), &View::server(target));
}

/// The rights without which nothing goes: of a source and of a target, by version and verification.
struct Least {
    source_version: Version,
    target_version: Version,
    verify: &'static str,
    source: &'static str,
    target: &'static str,
}

const LEAST: &[Least] = &[
    Least {
        source_version: Version::REDIS_7_0,
        target_version: Version::VALKEY_8_0,
        verify: "quick",
        source: "+select +scan +dump +pexpiretime +type",
        target: "+select +restore +pexpiretime +type",
    },
    Least {
        source_version: Version::REDIS_7_0,
        target_version: Version::VALKEY_8_0,
        verify: "none",
        source: "+select +scan +dump +pexpiretime",
        target: "+select +restore",
    },
    // No PEXPIRETIME before 7.0.
    Least {
        source_version: Version::REDIS_6_2,
        target_version: Version::REDIS_6_2,
        verify: "quick",
        source: "+select +scan +dump +pttl +time +type",
        target: "+select +restore +pttl +time +type",
    },
    Least {
        source_version: Version::REDIS_6_2,
        target_version: Version::REDIS_8_2,
        verify: "none",
        source: "+select +scan +dump +pttl +time",
        target: "+select +restore",
    },
    Least {
        source_version: Version::REDIS_8_2,
        target_version: Version::REDIS_8_2,
        verify: "quick",
        source: "+select +scan +dump +pexpiretime +type",
        target: "+select +restore +pexpiretime +type",
    },
];

#[test]
fn the_least_rights_do() {
    for row in LEAST {
        if !(require(row.source_version) && require(row.target_version)) {
            continue;
        }
        let source = server(row.source_version, row.source);
        let target = server(row.target_version, row.target);
        dataset().fill(&source);
        let options = [&LOGIN[..], &["--verify", row.verify]].concat();
        copy_twice(&source.uri(), &target.uri(), &options, || {
            assert_equal(&source, &target)
        });
    }
}

#[test]
fn each_of_the_least_rights_is_demanded_by_name() {
    let without = |rights: &str, right: &str| -> String {
        let left: Vec<_> = rights.split(' ').filter(|one| *one != right).collect();
        left.join(" ")
    };
    for row in &LEAST[..2] {
        // SELECT of the source has a test of its own.
        let of_source = row.source.split(' ').skip(1).map(|right| ("source", right));
        let of_target = row.target.split(' ').map(|right| ("target", right));
        for (side, right) in of_source.chain(of_target) {
            let (mut of_source, mut of_target) = (row.source.to_owned(), row.target.to_owned());
            let less = if side == "source" {
                &mut of_source
            } else {
                &mut of_target
            };
            *less = without(less, right);
            let (source, target) = (
                server(row.source_version, &of_source),
                server(row.target_version, &of_target),
            );
            run(&source, 0, "SET one 1");
            run(&source, 3, "SET two 2");
            let options = [&LOGIN[..], &["--verify", row.verify]].concat();
            let ran = copy(&source.uri(), &target.uri(), &options);
            assert_refused(ran, &target, side, right);
        }
    }
}

/// Refused in one line that names the side and the command; nothing was written.
#[track_caller]
fn assert_refused(ran: Ran, target: &Server, side: &str, right: &str) {
    assert_eq!(
        ran.outcome.code,
        Some(3),
        "{side} without {right}: {ran:#?}"
    );
    let line = ran.outcome.stderr.to_lowercase();
    for text in [side, right.trim_start_matches('+')] {
        assert!(line.contains(text), "{side} without {right}: {ran:#?}");
    }
    assert_eq!(line.lines().count(), 1, "{side} without {right}: {ran:#?}");
    assert_eq!(key_count(target), 0);
}

/// Other dbs may hold keys that this user cannot see: to pass over them would be a silent hole.
#[test]
fn a_source_that_may_not_select_is_no_success_unless_one_db_was_asked_for() {
    let row = &LEAST[0];
    let source = server(row.source_version, &row.source.replace("+select ", ""));
    let target = server(row.target_version, row.target);
    run(&source, 0, "SET one 1");
    copy(
        &source.uri(),
        &target.uri(),
        &[&LOGIN[..], &["--db", "0"]].concat(),
    )
    .exits_with(0);
    assert_equal(&source, &target);
    run(&target, 0, "FLUSHALL");
    run(&source, 3, "SET two 2");
    assert_refused(
        copy(&source.uri(), &target.uri(), &LOGIN),
        &target,
        "source",
        "+select",
    );
}

/// What makes it comfortable: nothing is said to be missing.
const COMFORT: &str = "+info +config|get +client|setname +time +function|list";

#[test]
fn with_all_rights_of_use_nothing_is_said_to_be_missing() {
    let row = &LEAST[0];
    let source = server(
        row.source_version,
        &format!("{} {COMFORT} +memory|usage", row.source),
    );
    let target = server(
        row.target_version,
        &format!("{} {COMFORT} +function|load", row.target),
    );
    dataset().fill(&source);
    load_function(&source);
    let options = [&LOGIN[..], &["--mem-limit", "500mb"]].concat();
    let ran = copy_twice(&source.uri(), &target.uri(), &options, || {
        assert_equal(&source, &target);
        assert_eq!(diff::functions(&source), diff::functions(&target));
    });
    assert!(lacks(&ran).is_empty(), "{ran:#?}");
}

#[test]
fn the_least_rights_in_clusters() {
    let of_cluster = "+cluster|slots +cluster|nodes";
    for row in &LEAST[..2] {
        let source = cluster(
            row.source_version,
            &format!("{} {of_cluster}", row.source).replace("+select ", ""),
        );
        let target = cluster(
            row.target_version,
            &format!("{} {of_cluster}", row.target).replace("+select ", ""),
        );
        dataset_of_one_db().fill_cluster(&source);
        let options = [&LOGIN[..], &["--verify", row.verify]].concat();
        copy_twice(&source.uri(), &target.uri(), &options, || {
            diff::assert_equal(&View::cluster(&source), &View::cluster(&target));
        });
    }
}

#[test]
fn a_cluster_that_may_not_be_asked_for_its_slots_is_refused() {
    let row = &LEAST[0];
    let source = cluster(row.source_version, row.source);
    let target = server(row.target_version, row.target);
    assert_refused(
        copy(&source.uri(), &target.uri(), &LOGIN),
        &target,
        "source",
        "+cluster",
    );
}

#[test]
fn slots_on_the_move_need_asking() {
    copy_while_slots_move("+asking");
}

#[test]
fn slots_on_the_move_with_the_right_to_the_clock_too() {
    copy_while_slots_move("+asking +time");
}

/// A slot of each side is half moved: some of its keys are on one node, some on another.
fn copy_while_slots_move(more: &str) {
    let row = &LEAST[0];
    let of_cluster = format!("+cluster|slots +cluster|nodes {more}");
    let source = cluster(row.source_version, &format!("{} {of_cluster}", row.source));
    let target = cluster(row.target_version, &format!("{} {of_cluster}", row.target));
    dataset_of_one_db().fill_cluster(&source);
    let slot = key_slot(b"{moving}");
    for n in 0..40 {
        let key = format!("{{moving}}:{n}");
        let set = redis::cmd("SET")
            .arg(&key)
            .arg(n)
            .exec(&mut source.connection_for(b"{moving}"));
        set.expect("is taken");
    }
    let ends = [&source, &target].map(|cluster| {
        let owner = cluster.owner_of(b"{moving}");
        cluster.begin_moving_slot(owner, 1 - owner, slot, 15);
        (cluster, owner)
    });
    copy(&source.uri(), &target.uri(), &LOGIN).exits_with(0);
    for (cluster, owner) in ends {
        cluster.move_slots(owner, 1 - owner, &[slot]);
    }
    diff::assert_equal(&View::cluster(&source), &View::cluster(&target));
    copy(&source.uri(), &target.uri(), &LOGIN).exits_with(0);
    diff::assert_equal(&View::cluster(&source), &View::cluster(&target));
}

#[test]
fn a_limit_of_memory_needs_sizes() {
    let options = ["--mem-limit", "1kb", "--key-exclude", "*"];
    assert_needed(&LEAST[0], &options, "+memory|usage", "");
}

#[test]
fn names_that_may_collide_need_exists() {
    assert_needed(&LEAST[0], &["--rename-prefix", "a::b:"], "+exists", "");
    assert_needed(&LEAST[0], &["--db-map", "3:0"], "+exists", "");
}

#[test]
fn the_search_for_conflicts_needs_the_right_to_read_the_target() {
    assert_needed(&LEAST[0], &["--on-conflict", "fail"], "", "+dump");
    assert_needed(
        &LEAST[1],
        &["--on-conflict", "fail"],
        "",
        "+dump +pexpiretime",
    );
}

/// What an option needs beyond the least rights is demanded before anything is written.
#[track_caller]
fn assert_needed(row: &Least, options: &[&str], source_more: &str, target_more: &str) {
    let options = [&LOGIN[..], &["--verify", row.verify], options].concat();
    let attempt = |of_source: &str, of_target: &str| {
        let source = server(row.source_version, &format!("{} {of_source}", row.source));
        let target = server(row.target_version, &format!("{} {of_target}", row.target));
        run(&source, 0, "SET a:1 1");
        run(&source, 3, "SET a:2 2");
        let first = copy(&source.uri(), &target.uri(), &options);
        (first, target, source)
    };
    let (first, target, source) = attempt(source_more, target_more);
    first.exits_with(0);
    copy(&source.uri(), &target.uri(), &options).exits_with(0);
    for right in source_more.split_whitespace() {
        let (first, target, _) = attempt("", target_more);
        let name = right.split('|').next().expect("has a name");
        assert_refused(first, &target, "source", name);
    }
    for right in target_more.split_whitespace() {
        let (first, target, _) = attempt(source_more, &target_more.replace(right, ""));
        assert_refused(first, &target, "target", right);
    }
}

/// Without EXISTS two keys with one new name cannot be told: one of them would be lost.
#[test]
fn collisions_that_cannot_be_looked_for_are_no_success() {
    let row = &LEAST[0];
    for (options, keys) in [
        (["--rename-prefix", "a::b:"], [(0, "a:1"), (0, "b:1")]),
        (["--db-map", "3:0"], [(0, "a:1"), (3, "a:1")]),
    ] {
        let source = server(row.source_version, row.source);
        let target = server(row.target_version, row.target);
        keys.map(|(db, key)| run(&source, db, &format!("SET {key} of-{db}-{key}")));
        let ran = copy(
            &source.uri(),
            &target.uri(),
            &[&LOGIN[..], &options].concat(),
        );
        assert_refused(ran, &target, "source", "+exists");
    }
}

fn load_function(server: &Server) {
    let code = "#!lua name=one\nredis.register_function('f', function() return 1 end)";
    let load = redis::cmd("FUNCTION")
        .arg("LOAD")
        .arg(code)
        .exec(&mut server.client());
    load.expect("is taken");
}

/// The lines and remarks about what could not be asked.
fn lacks(ran: &Ran) -> Vec<String> {
    let all = format!("{}{}", ran.outcome.stderr, ran.outcome.stdout);
    let is_one = |line: &&str| line.contains("is not available") || line.contains("is refused");
    all.lines().filter(is_one).map(Into::into).collect()
}

/// (what is taken away, the word of its line or none where nothing is lost)
const ONE_LESS: &[(&str, &str)] = &[
    ("-info", "INFO"),
    ("-config", "CONFIG"),
    ("-client|setname", "CLIENT SETNAME"),
    ("-function", "FUNCTION"),
    ("-memory", "MEMORY"),
    ("-time", "TIME"),
    ("-pexpiretime", "PEXPIRETIME"),
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
        let options = keyhaul_testkit::diff::DiffOptions {
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

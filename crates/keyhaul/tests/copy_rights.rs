//! The least rights that do, and that each of them is demanded by name.

mod common;

use std::time::Duration;

use common::copying::{copy, copy_twice, run};
use common::rights::{
    LEAST, LOGIN, Least, assert_equal, assert_refused, cluster, dataset, lacks, load_function,
    server,
};
use keyhaul_testkit::diff::{self, View};
use keyhaul_testkit::{Dataset, key_slot, process, require};

fn dataset_of_one_db() -> Dataset {
    Dataset {
        dbs: vec![0],
        ..dataset()
    }
}

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
    for row in LEAST {
        if !(require(row.source_version) && require(row.target_version)) {
            continue;
        }
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
    let of_cluster = "+cluster|slots";
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
fn a_conflict_that_cannot_be_judged_is_no_success() {
    let row = &LEAST[0];
    let source = server(row.source_version, row.source);
    let (can, cannot) = (format!("{} +dump", row.target), row.target);
    for (rights, codes) in [(can.as_str(), [0, 0]), (cannot, [3, 4])] {
        let target = server(row.target_version, rights);
        run(&source, 0, "SET one 1");
        run(&target, 0, "SET one 1");
        let options = [&LOGIN[..], &["--on-conflict", "fail"]].concat();
        let ran = copy(&source.uri(), &target.uri(), &options);
        let code = ran.outcome.code.unwrap_or(-1);
        assert!(codes.contains(&code), "{rights}: {ran:#?}");
        // Whatever it is called: the right that is missing is named.
        let all = format!("{}{}", ran.outcome.stderr, ran.report).to_lowercase();
        assert!(code == 0 || all.contains("dump"), "{rights}: {ran:#?}");
        assert_equal(&source, &target);
    }
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
        for (db, key) in keys {
            run(&source, db, &format!("SET {key} of-{db}-{key}"));
        }
        let ran = copy(
            &source.uri(),
            &target.uri(),
            &[&LOGIN[..], &options].concat(),
        );
        assert_refused(ran, &target, "source", "+exists");
    }
}

/// Without ASKING, keys of a slot that moves cannot be had: the run says so in the time it was given.
#[test]
fn a_slot_on_the_move_without_the_right_to_ask_ends_the_run() {
    let rights = "+cluster|slots +cluster|nodes +time";
    let row = &LEAST[0];
    let source = cluster(row.source_version, &format!("{} {rights}", row.source));
    let target = server(row.target_version, row.target);
    for n in 0..40 {
        let key = format!("{{moving}}:{n}");
        let set = redis::cmd("SET")
            .arg(&key)
            .arg(n)
            .exec(&mut source.connection_for(b"{moving}"));
        set.expect("is taken");
    }
    let owner = source.owner_of(b"{moving}");
    source.begin_moving_slot(owner, 1 - owner, key_slot(b"{moving}"), 15);
    let (from, to) = (source.uri(), target.uri());
    let args = [&["replicate", &from, &to, "--retry-for", "2s"], &LOGIN[..]].concat();
    let outcome = process::run(common::command(&args), Duration::from_secs(20));
    assert!(matches!(outcome.code, Some(3..=5)), "{outcome:#?}");
    let all = format!("{}{}", outcome.stderr, outcome.stdout);
    assert!(all.contains("asking"), "{outcome:#?}");
}

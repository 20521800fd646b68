//! Big keys that the target already holds, and what a reader of the target sees meanwhile.

mod common;

use common::big::{Job, KINDS, Marked, Seen, net_input, same, staged_bytes, watcher};
use common::copying::run;
use keyhaul_testkit::{Server, Version};
use redis::cmd;

fn pair() -> (Server, Server) {
    (
        Server::start(Version::REDIS_7_0),
        Server::start(Version::VALKEY_8_0),
    )
}

const OPTIONS: [&str; 6] = [
    "--chunk-threshold",
    "1kb",
    "--chunk-size",
    "40",
    "--rate-limit",
    "400kb",
];

fn with(more: &[&'static str]) -> Vec<&'static str> {
    [&OPTIONS[..], more].concat()
}

/// A key of each type on both sides, in two generations.
fn rivals(source: &Server, target: &Server) -> Vec<Marked> {
    let all: Vec<Marked> = KINDS.map(|kind| Marked::new(kind, 1600, 60)).into();
    for marked in &all {
        marked.make(&mut source.client(), 2);
        marked.make(&mut target.client(), 1);
    }
    all
}

#[test]
fn a_reader_sees_the_old_value_until_the_new_one_is_there() {
    let (source, target) = pair();
    let all = rivals(&source, &target);
    let watchers: Vec<_> = all.iter().map(|marked| watcher(&target, marked)).collect();
    let job = Job::replicate(&source.uri(), &target.uri(), &OPTIONS);
    job.ends(&[&target], 0);
    same(&source, &target);
    for (watcher, marked) in watchers.into_iter().zip(&all) {
        let (seen, looks) = watcher.stop();
        assert_eq!(seen, [Seen::Whole(1), Seen::Whole(2)], "{marked:?}");
        assert!(looks > 20, "only {looks} looks at {marked:?}");
    }
}

#[test]
fn a_reader_sees_nothing_and_then_all_of_it() {
    let (source, target) = pair();
    let all = rivals(&source, &target);
    run(&target, 0, "FLUSHALL");
    let watchers: Vec<_> = all.iter().map(|marked| watcher(&target, marked)).collect();
    let job = Job::big_keys(&source.uri(), &target.uri(), &with(&["--mem-limit", "2kb"]));
    job.ends(&[&target], 0);
    same(&source, &target);
    for (watcher, marked) in watchers.into_iter().zip(&all) {
        assert_eq!(
            watcher.stop().0,
            [Seen::Absent, Seen::Whole(2)],
            "{marked:?}"
        );
    }
}

#[test]
fn an_old_value_of_another_type_is_there_until_the_end() {
    let (source, target) = pair();
    let all = rivals(&source, &target);
    for marked in &all {
        run(&target, 0, &format!("DEL {}", marked.key));
        let old = if marked.kind == KINDS[0] {
            "RPUSH"
        } else {
            "HSET"
        };
        let rest = if marked.kind == KINDS[0] { "a" } else { "a b" };
        run(&target, 0, &format!("{old} {} {rest}", marked.key));
        run(&target, 0, &format!("PEXPIRE {} 100000000", marked.key));
    }
    let watchers: Vec<_> = all.iter().map(|marked| watcher(&target, marked)).collect();
    Job::replicate(&source.uri(), &target.uri(), &OPTIONS).ends(&[&target], 0);
    same(&source, &target);
    for (watcher, marked) in watchers.into_iter().zip(&all) {
        assert_eq!(
            watcher.stop().0,
            [Seen::Other, Seen::Whole(2)],
            "{marked:?}"
        );
    }
}

/// The target's keys are as they were, and no more than a look was sent there.
fn assert_left_alone(target: &Server, all: &[Marked], input_before: u64) {
    for marked in all {
        assert_eq!(
            marked.look(&mut target.client()),
            Seen::Whole(1),
            "{marked:?}"
        );
    }
    let input = net_input(target) - input_before;
    assert!(
        input < all[0].bytes(),
        "{input} bytes were sent for nothing"
    );
}

#[test]
fn kept_where_keys_are_skipped() {
    let (source, target) = pair();
    let all = rivals(&source, &target);
    let before = net_input(&target);
    let job = Job::replicate(
        &source.uri(),
        &target.uri(),
        &with(&["--on-conflict", "skip"]),
    );
    let ran = job.ends(&[&target], 0);
    assert!(ran.not_moved().is_empty(), "{ran:#?}");
    assert_left_alone(&target, &all, before);
}

#[test]
fn kept_and_listed_where_a_conflict_fails() {
    let (source, target) = pair();
    let all = rivals(&source, &target);
    let before = net_input(&target);
    let jobs = [
        Job::replicate(
            &source.uri(),
            &target.uri(),
            &with(&["--on-conflict", "fail"]),
        ),
        Job::big_keys(&source.uri(), &target.uri(), &with(&["--mem-limit", "1kb"])),
    ];
    for job in jobs {
        let ran = job.ends(&[&target], 4);
        assert_eq!(ran.not_moved().len(), all.len(), "{ran:#?}");
        assert_left_alone(&target, &all, before);
    }
}

/// A key that somebody writes to the target while ours is built.
fn a_rival_appears(options: &[&'static str], code: i32, is_kept: bool) {
    let (source, target) = pair();
    let marked = Marked::new(KINDS[0], 4000, 60);
    marked.make(&mut source.client(), 2);
    let job = Job::replicate(&source.uri(), &target.uri(), &with(options));
    let underway = job.start();
    underway.wait_staged(&target, 20_000);
    run(&target, 0, &format!("SET {} rival", marked.key));
    assert!(staged_bytes(&target) > 0, "it was done too soon");
    underway.finish().exits_with(code);
    job.left_nothing(&[&target]);
    let value: Result<String, _> = cmd("GET").arg(&marked.key).query(&mut target.client());
    assert_eq!(value.ok().as_deref(), is_kept.then_some("rival"));
    if !is_kept {
        same(&source, &target);
    }
}

#[test]
fn a_key_that_appears_meanwhile_is_replaced() {
    a_rival_appears(&[], 0, false);
}

#[test]
fn a_key_that_appears_meanwhile_is_kept_where_keys_are_skipped() {
    a_rival_appears(&["--on-conflict", "skip", "--verify", "none"], 0, true);
}

#[test]
fn a_key_that_appears_meanwhile_is_kept_and_listed_where_a_conflict_fails() {
    a_rival_appears(&["--on-conflict", "fail", "--verify", "none"], 4, true);
}

#[test]
fn small_keys_do_not_wait_for_big_ones() {
    let (source, target) = pair();
    for n in 0..3 {
        let mut marked = Marked::new(KINDS[0], 10_000, 100);
        marked.key = format!("big:{n}");
        marked.make(&mut source.client(), 1);
    }
    let mut pipe = redis::pipe();
    for n in 0..3000 {
        pipe.cmd("SET").arg(format!("small:{n}")).arg(n).ignore();
    }
    pipe.exec(&mut source.client()).expect("is taken");
    let options = [
        "--chunk-threshold",
        "100kb",
        "--chunk-size",
        "100",
        "--rate-limit",
        "700kb",
    ];
    let job = Job::replicate(&source.uri(), &target.uri(), &options);
    let underway = job.start();
    let count = |pattern: &str| -> usize {
        let names: Vec<String> = cmd("KEYS")
            .arg(pattern)
            .query(&mut target.client())
            .expect("names");
        names.len()
    };
    underway.wait_until("all small keys are there", || count("small:*") == 3000);
    assert_eq!(count("big:*"), 0, "they came after a big one");
    underway.wait_until("a big one is on its way", || staged_bytes(&target) > 0);
    underway.finish().exits_with(0);
    job.left_nothing(&[&target]);
    same(&source, &target);
}

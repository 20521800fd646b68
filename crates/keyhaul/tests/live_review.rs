//! Following by PSYNC: expiries that are renewed, runs that pause, commands between dbs and names, a source that is frozen.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::copying::run;
use common::live::{Live, PATIENCE, Side, is_past_copy, is_synced};
use common::renewals::count;
use keyhaul_testkit::diff::{DiffOptions, assert_equal_with};
use keyhaul_testkit::{Version, require, wait_until};
use redis::{Value, cmd, pipe};

/// Lives of what is renewed, and between two renewals.
const LIFE_MS: u32 = 2000;
const RENEWED_EACH: Duration = Duration::from_millis(500);

/// Redis 7.0 and Valkey 8.0.
fn ends() -> (Side, Side) {
    (
        Side::one(Version::REDIS_7_0),
        Side::one(Version::VALKEY_8_0),
    )
}

/// Counts in hashes whose field lives for [`LIFE_MS`] from then on, until it is told to stop.
fn renew_fields(source: &Side, keys: &[String], stop: &AtomicBool) {
    let mut client = source.server().client();
    while !stop.load(Ordering::Relaxed) {
        let mut all = pipe();
        for key in keys {
            all.cmd("HINCRBY").arg(key).arg("f").arg(1).ignore();
            let renew = all.cmd("HPEXPIRE").arg(key).arg(LIFE_MS);
            renew.arg("FIELDS").arg(1).arg("f").ignore();
        }
        all.exec(&mut client).expect("they are renewed");
        std::thread::sleep(RENEWED_EACH);
    }
}

/// Ends the renewals also where the test fails.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn fields_that_are_renewed_outlive_a_slow_copy() {
    if !require(Version::REDIS_8_2) {
        return;
    }
    let (source, target) = (Side::one(Version::REDIS_8_2), Side::one(Version::REDIS_8_2));
    source.fill_for(&target, 4000);
    let keys: Vec<String> = (0..40).map(|n| format!("renewed:{n}")).collect();
    // Half of them hold a field without an end too.
    for key in keys.iter().step_by(2) {
        run(source.server(), 0, &format!("HSET {key} stays 1"));
    }
    let options = ["--method", "psync", "--rate-limit", "450kb"];
    let live = Live::new(&source.uri(), &target.uri(), &options);
    let stop = AtomicBool::new(false);
    let follower = std::thread::scope(|scope| {
        let _stops = Stops(&stop);
        scope.spawn(|| renew_fields(&source, &keys, &stop));
        wait_until("they are there", PATIENCE, || {
            count(&source, &keys) == keys.len() as u64
        });
        let started = Instant::now();
        let follower = live.start();
        follower.wait_following();
        let two_lives = Duration::from_millis(2 * u64::from(LIFE_MS));
        assert!(started.elapsed() > two_lives, "the copy was too fast");
        follower
    });
    for (n, key) in keys.iter().enumerate() {
        let last = match n % 4 < 2 {
            true => format!("HPERSIST {key} FIELDS 1 f"),
            false => format!("HPEXPIRE {key} 3600000 FIELDS 1 f"),
        };
        let done: Vec<i64> = redis::from_redis_value(run(source.server(), 0, &last))
            .expect("one number for each field");
        assert_eq!(
            done,
            [1],
            "{last}: it was renewed too late to show anything"
        );
    }
    follower.ends_equal(&source, &target);
}

#[test]
fn what_reads_keys_that_the_target_lost_in_a_pause_is_right() {
    const LIFE: &str = "4000";
    let (source, target) = ends();
    let server = source.server();
    for words in [
        "SADD in:set 1 2 3",
        "ZADD in:zset 1 a 2 b",
        "SET in:bits abc",
        "RPUSH in:list 3 1 2",
        "PFADD in:pf a b c",
        "SET in:copied abc",
        "SET in:renamed 41",
        "SET in:number 41",
        "SADD out:set 9",
        "SET stays 1",
    ] {
        run(server, 0, words);
    }
    let keys: Vec<String> = [
        "set", "zset", "bits", "list", "pf", "copied", "renamed", "number",
    ]
    .map(|name| format!("in:{name}"))
    .into();
    let live = Live::new(&source.uri(), &target.uri(), &["--method", "psync"]);
    let follower = live.start();
    follower.wait_following();
    for key in &keys {
        run(server, 0, &format!("PEXPIRE {key} {LIFE}"));
    }
    follower.wait_applied(&source, &target);
    follower.stop();
    for words in [
        "SUNIONSTORE out:set in:set",
        "SINTERSTORE out:inter in:set in:set",
        "ZUNIONSTORE out:zset 1 in:zset",
        "BITOP OR out:bits in:bits",
        "SORT in:list STORE out:list",
        "PFMERGE out:pf in:pf",
        "COPY in:copied out:copied",
        "RENAME in:renamed out:renamed",
        "INCR in:number",
        "PERSIST out:renamed",
        "PERSIST out:copied",
    ] {
        let reply = run(server, 0, words);
        assert_ne!(reply, Value::Int(0), "{words}: it was gone already");
    }
    for key in keys.iter().filter(|key| *key != "in:renamed") {
        let reply = run(server, 0, &format!("PERSIST {key}"));
        assert_eq!(reply, Value::Int(1), "{key} was gone already");
    }
    wait_until("the target loses them", PATIENCE, || {
        count(&target, &keys) == 0
    });
    let follower = live.start();
    follower.ends_equal(&source, &target);
}

/// COPY and MOVE between dbs where db 3 becomes db 7.
#[track_caller]
fn copies_between_dbs(more: &[&str], compared: DiffOptions) {
    let (source, target) = ends();
    let server = source.server();
    for (db, words) in [
        (0, "SET a:0 zero"),
        (0, "SET moved:0 zero"),
        (3, "RPUSH a:3 1 2 3"),
        (3, "SET there old"),
        (3, "SET moved:3 three"),
    ] {
        run(server, db, words);
    }
    let mut options = vec!["--method", "psync", "--db-map", "3:7"];
    options.extend(more);
    let live = Live::new(&source.uri(), &target.uri(), &options);
    let follower = live.start();
    follower.wait_following();
    for (db, words) in [
        (3, "COPY a:3 same DB 3"),
        (3, "COPY a:3 plain"),
        (3, "COPY a:3 there DB 3 REPLACE"),
        (3, "COPY a:3 away DB 0"),
        (0, "COPY a:0 came DB 3"),
        (0, "MOVE moved:0 3"),
        (3, "MOVE moved:3 0"),
        (3, "RPUSH same 4"),
    ] {
        let reply = run(server, db, words);
        assert_ne!(reply, Value::Int(0), "{words}");
    }
    follower.wait_applied(&source, &target);
    follower.stop();
    assert_equal_with(&source.view(), &target.view(), &compared);
}

#[test]
fn a_copy_to_a_db_that_has_another_number_goes_there() {
    let mapped = DiffOptions {
        map_db: Box::new(|db| if db == 3 { 7 } else { db }),
        ..DiffOptions::as_a_replica()
    };
    copies_between_dbs(&[], mapped);
}

#[test]
fn a_copy_to_the_one_db_that_is_followed_goes_there() {
    copies_between_dbs(&["--db", "3"], DiffOptions::as_a_replica().mapping_db(3, 7));
}

#[test]
fn what_sort_looks_up_by_pattern_is_found_under_other_names() {
    let (source, target) = ends();
    let server = source.server();
    run(server, 0, "RPUSH in:list 1 2 3");
    for n in 1..=3 {
        run(server, 0, &format!("SET in:w_{n} {}", 9 - n));
        run(server, 0, &format!("SET out:w_{n} {}", 9 - n));
        run(server, 0, &format!("HSET in:h_{n} w {} v of:{n}", 9 - n));
    }
    let options = ["--method", "psync", "--rename-prefix", "in:=new:"];
    let live = Live::new(&source.uri(), &target.uri(), &options);
    let follower = live.start();
    follower.wait_following();
    for words in [
        "SORT in:list BY in:w_* STORE in:by",
        "SORT in:list BY in:w_* GET in:w_* STORE in:get",
        "SORT in:list BY out:w_* GET out:w_* GET # STORE in:others",
        "SORT in:list BY in:h_*->w GET in:h_*->v STORE in:hash",
        "SORT in:list BY nosort GET in:w_* STORE out:nosort",
    ] {
        let reply = run(server, 0, words);
        assert_ne!(reply, Value::Int(0), "{words}");
    }
    let renamed = DiffOptions::as_a_replica().renaming_prefix(b"in:", b"new:");
    follower.ends_equal_but_for(&source, &target, &renamed);
}

#[test]
fn a_source_that_stands_still_is_not_followed() {
    let (source, target) = ends();
    source.fill_for(&target, 100);
    let live = Live::new(&source.uri(), &target.uri(), &["--method", "psync"]);
    let follower = live.start();
    follower.wait_following();
    follower.wait_applied(&source, &target);
    source.server().pause();
    let mut since: Option<Instant> = None;
    // And it stays so: longer than anything is asked anew.
    follower.wait_status("it says so", |status| {
        assert!(is_past_copy(status), "{status}");
        if is_synced(status) {
            assert!(since.is_none(), "synced with a frozen source: {status}");
            return false;
        }
        since.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(2)
    });
    source.server().resume();
    let set = cmd("SET")
        .arg("later")
        .arg(1)
        .exec(&mut source.server().client());
    set.expect("SET");
    follower.ends_equal(&source, &target);
}

//! While both ends are written in step: never a difference that is none, and one that is there is found.

#![allow(clippy::print_stderr, reason = "says how much was written")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::big::Again;
use common::compare::{Compared, Row, compare, rows, script, twin};
use keyhaul_testkit::diff::{View, assert_equal};
use keyhaul_testkit::{Dataset, Endpoint, Server, Version};
use redis::Cmd;

/// Set to 1 for ten runs instead of three.
const LONG: &str = "KEYHAUL_TEST_LONG";
/// Keys that are written, of each type.
const HOT_KEYS: u64 = 500;
/// Commands that go to one end and then to the other.
const BATCH: u64 = 10;
/// The writes before it are those that make the keys.
const FIRST: u64 = 16 * HOT_KEYS;
/// From the start of one batch to that of the next: 5,000 commands a second.
const STEP: Duration = Duration::from_millis(2);

fn runs() -> usize {
    match std::env::var(LONG) {
        Ok(value) if value == "1" => 10,
        _ => 3,
    }
}

/// The write with this number: of every type, some of them deletions and expiries.
fn write(number: u64) -> Cmd {
    // Keys in an order without pattern, so that the same key is written again soon and late.
    let n = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let (kind, n) = (number % 16, n % HOT_KEYS);
    let words: Vec<String> = match kind {
        0 => format!("SET hot:text:{n} {number}"),
        1 => format!("INCR hot:number:{n}"),
        2 => format!("APPEND hot:long:{n} {number}"),
        3 => format!("SETRANGE hot:long:{n} 0 {number}"),
        4 => format!("LPUSH hot:list:{n} {number}"),
        5 => format!("LTRIM hot:list:{n} 0 20"),
        6 => format!("SADD hot:set:{n} {}", number % 1000),
        7 => format!("SREM hot:set:{n} {}", number % 999),
        8 => format!("HSET hot:hash:{n} f{} {number}", number % 700),
        9 => format!("HINCRBY hot:hash:{n} count 1"),
        10 => format!("ZADD hot:zset:{n} {number} m{}", number % 300),
        11 => format!("ZINCRBY hot:zset:{n} 0.1 m{}", number % 300),
        12 => format!("XADD hot:stream:{n} MAXLEN 50 {}-1 f {number}", number + 1),
        13 => format!("PEXPIREAT hot:text:{n} {}", 4_102_444_800_000 + number),
        14 => format!("DEL hot:number:{n}"),
        _ => format!("SET hot:number:{n} {number}"),
    }
    .split(' ')
    .map(Into::into)
    .collect();
    let mut command = Cmd::new();
    command.arg(&words);
    command
}

/// Writes the same to both until it is stopped; the counter tells how much.
fn writer(ends: [Endpoint; 2], written: Arc<AtomicU64>) -> Again<u64> {
    let mut links = ends.map(|end| end.connection(0));
    let started = Instant::now();
    Again::start(0, move |batches: &mut u64| {
        let mut pipe = redis::pipe();
        for n in 0..BATCH {
            pipe.add_command(write(FIRST + *batches * BATCH + n))
                .ignore();
        }
        for link in &mut links {
            pipe.exec(link).expect("is taken");
        }
        *batches += 1;
        written.fetch_add(BATCH, Ordering::Relaxed);
        let due = STEP * u32::try_from(*batches).expect("no test is that long");
        std::thread::sleep(due.saturating_sub(started.elapsed()));
    })
}

struct Ends {
    source: Server,
    target: Server,
}

/// The same keys on both: some that are not written, and those that will be.
fn ends(keys: usize) -> Ends {
    let source = Server::start(Version::REDIS_7_0);
    let dataset = Dataset {
        seed: 511,
        keys,
        small_only: true,
        ..Dataset::default()
    };
    dataset.fill(&source);
    let mut pipe = redis::pipe();
    (0..FIRST).for_each(|number| {
        pipe.add_command(write(number)).ignore();
    });
    pipe.exec(&mut source.client()).expect("is taken");
    let target = twin(&source);
    Ends { source, target }
}

/// Compares again and again while both are written.
fn under_writes(ends: &Ends, options: &[&str], cold: &[&str], hot: &[String]) {
    let written = Arc::new(AtomicU64::new(0));
    let again = writer(
        [ends.source.endpoint(), ends.target.endpoint()],
        written.clone(),
    );
    for run in 0..runs() {
        let before = written.load(Ordering::Relaxed);
        let ran = compare(&ends.source.uri(), &ends.target.uri(), options);
        let during = written.load(Ordering::Relaxed) - before;
        eprintln!(
            "run {run}: {during} writes in {:.2} s, {} unsettled",
            ran.outcome.elapsed.as_secs_f64(),
            ran.count("unsettled")
        );
        assert!(during > 100, "hardly any writes: {during}");
        settled(&ran, &rows(cold), hot);
    }
    again.stop();
}

/// Fails if it counts a difference that was not planted, or lacks one. What differs and is written may also be
/// unsettled.
#[track_caller]
fn settled(ran: &Compared, cold: &BTreeSet<Row>, hot: &[String]) {
    let found = ran.lines.clone().unwrap_or_default();
    let is_hot = |row: &&Row| hot.contains(&row.2);
    assert_eq!(found.iter().filter(is_hot).count(), hot.len(), "{ran:#?}");
    let told: BTreeSet<Row> = found
        .iter()
        .filter(|row| row.0 != '!' && !(row.0 == '*' && is_hot(row)))
        .cloned()
        .collect();
    assert_eq!(&told, cold, "{ran:#?}");
    assert_eq!(ran.count("errors"), 0, "{ran:#?}");
    let code = i32::from(!found.is_empty());
    assert_eq!(ran.outcome.code, Some(code), "{ran:#?}");
}

#[test]
fn no_false_difference() {
    let ends = ends(2000);
    under_writes(&ends, &[], &[], &[]);
    // They were in step.
    assert_equal(&View::server(&ends.source), &View::server(&ends.target));
    compare(&ends.source.uri(), &ends.target.uri(), &[]).exits_with(0);
}

#[test]
fn no_false_difference_by_elements() {
    let ends = ends(500);
    under_writes(&ends, &["--chunk-threshold", "1"], &[], &[]);
}

#[test]
fn what_differs_is_found_meanwhile() {
    let ends = ends(2000);
    let (mut source, mut target) = (ends.source.client(), ends.target.client());
    script(&mut source, "cold:hash", "HSET @ f v");
    script(&mut target, "cold:hash", "HSET @ f w");
    script(&mut source, "cold:missing", "SET @ 1");
    script(&mut target, "cold:extra", "SET @ 1");
    // These are written on both all the time, and yet are not the same.
    let hot: Vec<String> = (0..10).map(|n| format!("hot:hash:{n}")).collect();
    for key in &hot {
        script(&mut source, key, "HSET @ both 1");
        script(&mut target, key, "HSET @ both 1 planted 1");
    }
    let cold = ["*cold:hash", "+cold:extra", "-cold:missing"];
    under_writes(&ends, &[], &cold, &hot);
}

//! What is held and settled when, and what lies on the disk.

mod model;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use tempfile::TempDir;

use super::bucket::{MINUTE_MS, Span};
use super::store::Limits;
use super::*;

const SECOND_MS: i64 = 1000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// The beginning of an hour in 2026.
const NOW_MS: i64 = 1_790_000_000_000 / HOUR_MS * HOUR_MS;

fn open() -> (TempDir, Deadlines) {
    let folder = tempfile::tempdir().unwrap();
    let deadlines = Deadlines::open(&folder.path().join("d")).unwrap();
    (folder, deadlines)
}

fn reopen(folder: &TempDir) -> Deadlines {
    Deadlines::open(&folder.path().join("d")).unwrap()
}

fn record(key: &str, at_ms: i64, held_ms: i64) -> Record {
    let key = Bytes::copy_from_slice(key.as_bytes());
    Record {
        db: 0,
        key,
        at_ms,
        held_ms,
    }
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn what_is_written_for_a_deadline() {
    let check = |after_ms: i64, written_after_ms: i64| {
        let (_folder, deadlines) = open();
        let written_ms = deadlines.admit(0, b"k", NOW_MS + after_ms, NOW_MS);
        assert_eq!(written_ms - NOW_MS, written_after_ms, "{after_ms}");
    };
    // Near: later by a day.
    check(0, SHIFT_MS);
    check(5 * SECOND_MS, 5 * SECOND_MS + SHIFT_MS);
    check(HOLD_MS + EARLY_MS - 1, HOLD_MS + EARLY_MS - 1 + SHIFT_MS);
    // Not near: as it is.
    check(HOLD_MS + EARLY_MS, HOLD_MS + EARLY_MS);
    check(3 * DAY_MS, 3 * DAY_MS);
    check(FAR_MS + 1, FAR_MS + 1);
    // Past: later by a day, where that is not past as well.
    check(-HOUR_MS, SHIFT_MS - HOUR_MS);
    check(-23 * HOUR_MS, SHIFT_MS - 23 * HOUR_MS);
    check(-23 * HOUR_MS - 1, SHIFT_MS);
    check(-1000 * DAY_MS, SHIFT_MS);
    check(-NOW_MS, SHIFT_MS);
    check(i64::MIN / 2, SHIFT_MS);
}

#[test]
fn what_is_far_or_has_a_long_name_is_not_noted() {
    let (_folder, deadlines) = open();
    let far_ms = NOW_MS + FAR_MS + 1;
    assert_eq!(deadlines.admit(0, b"far", far_ms, NOW_MS), far_ms);
    assert_eq!(deadlines.admit(0, b"very far", i64::MAX, NOW_MS), i64::MAX);
    let long = vec![b'x'; KEY_BYTES_MAX + 1];
    assert_eq!(deadlines.admit(0, &long, NOW_MS, NOW_MS), NOW_MS);
    assert!(deadlines.store().buckets.is_empty());

    let longest = vec![b'x'; KEY_BYTES_MAX];
    let written_ms = deadlines.admit(0, &longest, NOW_MS, NOW_MS);
    deadlines.flush().unwrap();
    let applied_ms = Some(NOW_MS + MINUTE_MS);
    let work = deadlines.step(NOW_MS, applied_ms, 100).unwrap().unwrap();
    let key = Bytes::from(longest);
    let record = Record {
        db: 0,
        key,
        at_ms: NOW_MS,
        held_ms: written_ms,
    };
    assert!(work == Work::Settle(vec![record]));
}

#[test]
fn a_deadline_is_held_once_and_settled_once() {
    let (folder, mut deadlines) = open();
    let at_ms = NOW_MS + 3 * DAY_MS + 5 * SECOND_MS;
    assert_eq!(deadlines.admit(0, b"k", at_ms, NOW_MS), at_ms);
    deadlines.flush().unwrap();
    let expected = vec![record("k", at_ms, at_ms + SHIFT_MS)];

    let minute_ms = at_ms - 5 * SECOND_MS;
    let early_ms = minute_ms - HOLD_MS - 1;
    assert_eq!(deadlines.step(early_ms, Some(early_ms), 10).unwrap(), None);
    let near_ms = minute_ms - HOLD_MS;
    for _ in 0..3 {
        let work = deadlines.step(near_ms, Some(near_ms), 10).unwrap();
        assert_eq!(work, Some(Work::Hold(expected.clone())), "not done yet");
        deadlines = reopen(&folder);
    }
    deadlines.step(near_ms, Some(near_ms), 10).unwrap();
    deadlines.done().unwrap();
    for applied_ms in [None, Some(near_ms), Some(minute_ms + MINUTE_MS - 1)] {
        assert_eq!(deadlines.step(near_ms, applied_ms, 10).unwrap(), None);
        deadlines = reopen(&folder);
    }
    let applied_ms = Some(minute_ms + MINUTE_MS);
    for _ in 0..3 {
        let work = deadlines.step(near_ms, applied_ms, 10).unwrap();
        assert_eq!(work, Some(Work::Settle(expected.clone())), "not done yet");
        deadlines = reopen(&folder);
    }
    deadlines.step(near_ms, applied_ms, 10).unwrap();
    deadlines.done().unwrap();
    assert_eq!(deadlines.step(near_ms, applied_ms, 10).unwrap(), None);
    deadlines = reopen(&folder);
    assert_eq!(deadlines.step(near_ms, applied_ms, 10).unwrap(), None);
    assert!(deadlines.store().buckets.is_empty());
}

#[test]
fn a_past_deadline_waits_for_the_minute_behind_the_one_being_applied() {
    let (_folder, deadlines) = open();
    assert_eq!(deadlines.step(NOW_MS, Some(NOW_MS), 10).unwrap(), None);
    let at_ms = NOW_MS - 100 * DAY_MS;
    let held_ms = deadlines.admit(0, b"k", at_ms, NOW_MS);
    deadlines.flush().unwrap();
    let end_ms = NOW_MS + 2 * MINUTE_MS;
    assert_eq!(deadlines.step(NOW_MS, Some(end_ms - 1), 10).unwrap(), None);
    let work = deadlines.step(NOW_MS, Some(end_ms), 10).unwrap();
    let expected = vec![record("k", at_ms, held_ms)];
    assert_eq!(work, Some(Work::Settle(expected)));
}

#[test]
fn settled_by_time_in_portions() {
    let (_folder, deadlines) = open();
    for n in (0..100).rev() {
        let at_ms = NOW_MS + n % 10 * MINUTE_MS;
        deadlines.admit(0, format!("{n:03}").as_bytes(), at_ms, NOW_MS);
    }
    deadlines.flush().unwrap();
    let mut minutes = Vec::new();
    let applied_ms = Some(NOW_MS + HOUR_MS);
    while let Some(work) = deadlines.step(NOW_MS, applied_ms, 3).unwrap() {
        let Work::Settle(records) = work else {
            panic!("{work:?}");
        };
        assert!(records.len() <= 3);
        minutes.extend(records.iter().map(|record| record.at_ms));
        deadlines.done().unwrap();
    }
    assert_eq!(minutes.len(), 100);
    assert!(minutes.is_sorted(), "{minutes:?}");
}

#[test]
fn what_is_released_is_held_again_by_a_later_run() {
    let (folder, deadlines) = open();
    let soon_ms = NOW_MS + SECOND_MS;
    let later_ms = NOW_MS + HOLD_MS + EARLY_MS;
    let held_ms = deadlines.admit(0, b"soon", soon_ms, NOW_MS);
    deadlines.admit(0, b"later", later_ms, NOW_MS);
    deadlines.admit(0, b"much later", NOW_MS + DAY_MS, NOW_MS);
    deadlines.flush().unwrap();
    let now_ms = NOW_MS + EARLY_MS;
    let later = record("later", later_ms, later_ms + SHIFT_MS);
    let soon = record("soon", soon_ms, held_ms);
    let work = deadlines.step(now_ms, None, 10).unwrap();
    assert_eq!(work, Some(Work::Hold(vec![later.clone()])));
    deadlines.done().unwrap();

    for _ in 0..2 {
        assert_eq!(deadlines.release(10).unwrap(), Some(vec![soon.clone()]));
    }
    deadlines.done().unwrap();
    assert_eq!(deadlines.release(10).unwrap(), Some(vec![later.clone()]));
    drop(deadlines);
    let deadlines = reopen(&folder);
    assert_eq!(deadlines.release(10).unwrap(), Some(vec![later.clone()]));
    deadlines.done().unwrap();
    assert_eq!(deadlines.release(10).unwrap(), None);

    let deadlines = reopen(&folder);
    let held_again = [soon, later].map(|record| {
        let work = deadlines.step(now_ms, None, 10).unwrap();
        assert_eq!(work, Some(Work::Hold(vec![record.clone()])));
        deadlines.done().unwrap();
        record
    });
    assert_eq!(deadlines.step(now_ms, None, 10).unwrap(), None);
    for record in held_again {
        assert_eq!(deadlines.release(10).unwrap(), Some(vec![record]));
        deadlines.done().unwrap();
    }
    assert_eq!(deadlines.release(10).unwrap(), None);
}

#[test]
fn nothing_to_flush_writes_nothing() {
    let (folder, deadlines) = open();
    deadlines.admit(0, b"k", NOW_MS, NOW_MS);
    deadlines.flush().unwrap();
    let log = folder.path().join("d/log");
    // Emptied behind its back, so that any write would show.
    fs::write(&log, b"").unwrap();
    deadlines.flush().unwrap();
    assert_eq!(fs::read(&log).unwrap(), b"");
    deadlines.admit(0, b"k", NOW_MS, NOW_MS);
    deadlines.flush().unwrap();
    assert_ne!(fs::read(&log).unwrap(), b"");
}

#[test]
fn a_log_that_was_cut_at_any_byte_is_read_up_to_there() {
    let (folder, deadlines) = open();
    let log = folder.path().join("d/log");
    let mut ends = vec![fs::metadata(&log).unwrap().len()];
    for n in 0..3 {
        deadlines.admit(0, b"some key", NOW_MS + n * MINUTE_MS, NOW_MS);
        deadlines.flush().unwrap();
        ends.push(fs::metadata(&log).unwrap().len());
    }
    let whole = fs::read(&log).unwrap();
    for length in ends[0]..=ends[3] {
        fs::write(&log, &whole[..length as usize]).unwrap();
        let deadlines = reopen(&folder);
        let count = ends.iter().filter(|end| **end <= length).count() - 1;
        assert_eq!(deadlines.store().buckets.len(), count, "{length}");
        // What is written now is behind what counted.
        deadlines.admit(0, b"another", NOW_MS + HOUR_MS, NOW_MS);
        deadlines.flush().unwrap();
        assert_eq!(reopen(&folder).store().buckets.len(), count + 1, "{length}");
    }
}

#[test]
fn damage_is_an_error_and_begin_anew_is_a_way_on() {
    let (folder, deadlines) = open();
    let at_ms = NOW_MS + HOUR_MS;
    deadlines.admit(0, b"k", at_ms, NOW_MS);
    deadlines.store().limits.log_bytes = 0;
    deadlines.flush().unwrap();
    let path = folder.path().join("d");
    assert_eq!(
        names_in(&path),
        BTreeSet::from(["1", "log"].map(str::to_owned))
    );
    let log = fs::read(path.join("log")).unwrap();

    let check = |what: &str| {
        let opened = Deadlines::open(&path).map(|_| ()).map_err(|e| e.kind());
        assert_eq!(opened, Err(io::ErrorKind::InvalidData), "{what}");
    };
    let bucket = fs::read(path.join("1")).unwrap();
    fs::write(path.join("1"), &bucket[1..]).unwrap();
    check("a short file");
    fs::remove_file(path.join("1")).unwrap();
    check("no file");
    fs::write(path.join("1"), &bucket).unwrap();
    // A length above the longest, an unknown tag, an unknown span.
    for at in [11, 12, 13] {
        let mut other = log.clone();
        other[at] = 0xff;
        fs::write(path.join("log"), &other).unwrap();
        check(&format!("byte {at}"));
    }
    fs::write(path.join("log"), b"something").unwrap();
    check("another log");
    let deadlines = Deadlines::begin_anew(&path).unwrap();
    assert_eq!(
        deadlines.step(at_ms, Some(at_ms + DAY_MS), 10).unwrap(),
        None
    );
    assert_eq!(names_in(&path), BTreeSet::from(["log".to_owned()]));
}

#[test]
fn cleared_for_a_later_run_too() {
    let (folder, deadlines) = open();
    let path = folder.path().join("d");
    deadlines.store().limits.log_bytes = 0;
    for n in 0..10 {
        deadlines.admit(0, b"k", NOW_MS + n * HOUR_MS, NOW_MS);
    }
    deadlines.flush().unwrap();
    assert_eq!(names_in(&path).len(), 11);
    deadlines.admit(0, b"not flushed", NOW_MS, NOW_MS);
    deadlines.clear().unwrap();
    assert_eq!(names_in(&path), BTreeSet::from(["log".to_owned()]));
    let end_ms = NOW_MS + DAY_MS;
    assert_eq!(deadlines.step(end_ms, Some(end_ms), 10).unwrap(), None);
    drop(deadlines);
    let deadlines = reopen(&folder);
    assert_eq!(deadlines.step(end_ms, Some(end_ms), 10).unwrap(), None);
}

#[test]
fn memory_and_buckets_are_bounded() {
    let (_folder, deadlines) = open();
    deadlines.store().limits.log_bytes = 10_000;
    for n in 0..20_000_i64 {
        // From two years ago to two years ahead.
        let at_ms = NOW_MS + (n * 7919 % 20_000 - 10_000) * 2 * DAY_MS / 25;
        deadlines.admit(0, format!("{n}").as_bytes(), at_ms, NOW_MS);
        if n % 10 == 9 {
            deadlines.flush().unwrap();
            let store = deadlines.store();
            let buffers = store.buckets.values().map(|bucket| bucket.buffer.len());
            assert!(buffers.sum::<usize>() <= 10_000);
        }
    }
    let count = deadlines.store().buckets.len();
    assert!(count < 1000, "{count}");
    let spans = deadlines
        .store()
        .buckets
        .keys()
        .map(|id| id.span)
        .collect::<BTreeSet<_>>();
    assert_eq!(spans, BTreeSet::from([Span::Minute, Span::Hour, Span::Day]));
}

#[test]
fn a_flush_that_failed_is_tried_again() {
    let (folder, deadlines) = open();
    let path = folder.path().join("d");
    deadlines.store().limits.log_bytes = 0;
    deadlines.admit(0, b"k", NOW_MS, NOW_MS);
    // The next log cannot be made where a folder is.
    fs::create_dir(path.join("log.next")).unwrap();
    assert!(deadlines.flush().is_err());
    deadlines.admit(0, b"l", NOW_MS, NOW_MS);
    assert!(deadlines.flush().is_err());
    fs::remove_dir(path.join("log.next")).unwrap();
    deadlines.flush().unwrap();
    drop(deadlines);
    let deadlines = reopen(&folder);
    let work = deadlines
        .step(NOW_MS, Some(NOW_MS + MINUTE_MS), 10)
        .unwrap();
    let held_ms = NOW_MS + SHIFT_MS;
    let expected = ["k", "l"].map(|key| record(key, NOW_MS, held_ms)).to_vec();
    assert_eq!(work, Some(Work::Settle(expected)));
}

#[test]
fn a_split_that_failed_is_in_the_next_flush() {
    let (folder, deadlines) = open();
    let path = folder.path().join("d");
    let at_ms = NOW_MS + 10 * HOUR_MS;
    for n in 0..5 {
        deadlines.admit(0, b"moved", at_ms + n, NOW_MS);
    }
    let limits = deadlines.store().limits;
    deadlines.store().limits.log_bytes = 0;
    deadlines.flush().unwrap();
    deadlines.store().limits = limits;
    fs::create_dir(path.join("log.next")).unwrap();
    assert!(deadlines.step(at_ms - HOUR_MS, None, 10).is_err());
    // The log on the disk still says that all is in there.
    assert!(path.join("1").exists());
    fs::remove_dir(path.join("log.next")).unwrap();
    // In the bucket of the minute it stands behind what was moved there, and so it must on the disk.
    deadlines.admit(0, b"admitted", at_ms, at_ms - HOUR_MS);
    deadlines.flush().unwrap();
    assert!(!path.join("1").exists());
    let spans = |deadlines: &Deadlines| -> Vec<Span> {
        let store = deadlines.store();
        store.buckets.keys().map(|id| id.span).collect()
    };
    assert_eq!(spans(&deadlines), [Span::Minute]);

    let hold = |deadlines: &Deadlines| {
        let work = deadlines.step(at_ms - HOLD_MS, None, 10).unwrap();
        let Some(Work::Hold(records)) = work else {
            panic!("{work:?}");
        };
        let keys = records.into_iter().map(|record| record.key);
        keys.collect::<Vec<_>>()
    };
    let in_memory = hold(&deadlines);
    assert_eq!(in_memory.len(), 6);
    drop(deadlines);
    let deadlines = reopen(&folder);
    assert_eq!(spans(&deadlines), [Span::Minute]);
    assert_eq!(hold(&deadlines), in_memory);
}

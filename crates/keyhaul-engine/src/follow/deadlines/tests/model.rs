//! A target and a source that are numbers, many deadlines at random, and crashes between any two writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::follow::deadlines::bucket::minute_of;

/// What was admitted and flushed.
#[derive(Debug)]
struct Noted {
    at_ms: i64,
    /// What the target's expiry is.
    expiry_ms: i64,
    was_plain: bool,
    /// By work whose done survives.
    held: u32,
    settled: u32,
}

struct World {
    random: StdRng,
    folder: TempDir,
    deadlines: Deadlines,
    now_ms: i64,
    /// By how much the source is behind what is now, with the difference of its clock.
    behind_ms: i64,
    noted: BTreeMap<Bytes, Noted>,
    names: u32,
}

impl World {
    fn new(seed: u64, behind_ms: i64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let deadlines = open_small(folder.path());
        Self {
            random: StdRng::seed_from_u64(seed),
            folder,
            deadlines,
            now_ms: NOW_MS,
            behind_ms,
            noted: BTreeMap::new(),
            names: 0,
        }
    }

    fn applied_ms(&self) -> i64 {
        self.now_ms - self.behind_ms
    }

    fn admit_some(&mut self) -> Vec<(Bytes, Noted)> {
        let count = self.random.random_range(0..40);
        let mut admitted = Vec::new();
        for _ in 0..count {
            let spread = [
                10 * SECOND_MS,
                20 * MINUTE_MS,
                5 * HOUR_MS,
                4 * DAY_MS,
                60 * DAY_MS,
            ][self.random.random_range(0..5)];
            let after_ms = match self.random.random_range(0..20) {
                0 => -self.random.random_range(0..2 * DAY_MS),
                _ => self.random.random_range(0..spread),
            };
            let at_ms = self.now_ms + after_ms;
            self.names += 1;
            let length = self.random.random_range(0..60);
            let key = Bytes::from(format!("{:08}{}", self.names, "x".repeat(length)));
            let expiry_ms = self.deadlines.admit(3, &key, at_ms, self.now_ms);
            let was_plain = expiry_ms == at_ms;
            let noted = Noted {
                at_ms,
                expiry_ms,
                was_plain,
                held: 0,
                settled: 0,
            };
            admitted.push((key, noted));
        }
        admitted
    }

    fn apply(&mut self, work: &Work) {
        let (records, is_hold) = match work {
            Work::Hold(records) => (records, true),
            Work::Settle(records) => (records, false),
        };
        for record in records {
            assert_eq!(record.db, 3);
            let minute = minute_of(record.at_ms);
            let noted = self.noted.get_mut(&record.key).expect("was noted");
            assert_eq!(record.at_ms, noted.at_ms);
            let (now, becomes) = if is_hold {
                assert!(noted.was_plain);
                assert!(minute <= minute_of(self.now_ms + HOLD_MS));
                (record.at_ms, record.held_ms)
            } else {
                assert!(minute < minute_of(self.now_ms - self.behind_ms));
                (record.held_ms, record.at_ms)
            };
            if noted.expiry_ms == now {
                noted.expiry_ms = becomes;
            }
        }
    }

    fn count_done(&mut self, work: &Work) {
        let (Work::Hold(records) | Work::Settle(records)) = work;
        for record in records {
            let noted = self.noted.get_mut(&record.key).expect("was noted");
            match work {
                Work::Hold(_) => noted.held += 1,
                Work::Settle(_) => noted.settled += 1,
            }
        }
    }

    /// Does what is due. Stops in the middle now and then.
    fn drain(&mut self, stops: Stops) {
        let count = self.random.random_range(1..30);
        loop {
            let is_to_stop = stops == Stops::Sometimes && self.random.random_range(0..30) == 0;
            if is_to_stop {
                return;
            }
            let applied_ms = Some(self.applied_ms());
            let Some(work) = self.deadlines.step(self.now_ms, applied_ms, count).unwrap() else {
                return;
            };
            self.apply(&work);
            if is_to_stop || (stops == Stops::Sometimes && self.random.random_range(0..20) == 0) {
                return;
            }
            self.deadlines.done().unwrap();
            self.count_done(&work);
        }
    }

    /// The process is killed and begins anew, with what such a death leaves on the disk.
    fn crash(&mut self) {
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            // A part of a frame behind a log, and of frames that no log counts behind a bucket.
            let half = [40, 0, 0, 0, b'n', b'm', 1];
            let half = &half[..self.random.random_range(0..half.len())];
            if self.random.random_range(0..3) == 0 {
                let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
                file.write_all(half).unwrap();
            }
        }
        fs::write(self.folder.path().join("log.next"), b"KHEX").unwrap();
        fs::write(self.folder.path().join("999999999"), b"?").unwrap();
        self.deadlines = open_small(self.folder.path());
    }

    /// Does something, and is killed before a new log has taken the place of the one before.
    fn crash_during(&mut self, act: impl FnOnce(&mut Self)) {
        let folder = self.folder.path().to_owned();
        let log = fs::read(folder.join("log")).unwrap();
        let before = tempfile::tempdir().unwrap();
        link_files(&folder, before.path());
        act(self);
        // What was appended to files stays, what was removed is there: that comes behind the log.
        link_files(before.path(), &folder);
        fs::write(folder.join("log.before"), log).unwrap();
        fs::rename(folder.join("log.before"), folder.join("log")).unwrap();
        self.crash();
    }

    fn check_drained(&self) {
        let applied_minute = minute_of(self.applied_ms());
        let near_ms = self.now_ms + HOLD_MS;
        for (key, noted) in &self.noted {
            if minute_of(noted.at_ms) < applied_minute {
                continue;
            }
            let is_held = noted.expiry_ms != noted.at_ms;
            assert!(
                is_held || noted.at_ms >= near_ms,
                "{key:?} {noted:?} at {}",
                self.now_ms
            );
            assert!(noted.held <= 1 && noted.settled <= 1, "{key:?} {noted:?}");
        }
    }

    /// All that is left comes by and by, and nothing stays.
    fn finish(mut self) {
        self.drain(Stops::Never);
        self.check_drained();
        self.now_ms += 70 * DAY_MS + self.behind_ms.max(0);
        self.drain(Stops::Never);
        self.now_ms += 3 * MINUTE_MS;
        self.drain(Stops::Never);
        for (key, noted) in &self.noted {
            assert_eq!(noted.expiry_ms, noted.at_ms, "{key:?} {noted:?}");
            assert_eq!(noted.settled, 1, "{key:?} {noted:?}");
            assert!(
                noted.held <= u32::from(noted.was_plain),
                "{key:?} {noted:?}"
            );
        }
        assert!(self.deadlines.store().buckets.is_empty());
        let names = names_in(self.folder.path());
        assert_eq!(names, BTreeSet::from(["log".to_owned()]));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stops {
    Never,
    Sometimes,
}

/// Links all that is in a folder and not in the other.
fn link_files(source: &Path, target: &Path) {
    for name in names_in(source).difference(&names_in(target)) {
        fs::hard_link(source.join(name), target.join(name)).unwrap();
    }
}

fn open_small(folder: &Path) -> Deadlines {
    let deadlines = Deadlines::open(folder).unwrap();
    deadlines.store().limits = Limits {
        log_bytes: 4000,
        split_bytes: 700,
    };
    deadlines
}

fn run(seed: u64, behind_ms: i64) {
    println!("seed {seed}, behind {behind_ms} ms");
    let mut world = World::new(seed, behind_ms);
    for _ in 0..150 {
        match world.random.random_range(0..10) {
            0..4 => {
                let admitted = world.admit_some();
                world.deadlines.flush().unwrap();
                world.noted.extend(admitted);
            }
            4 => {
                // Killed before they were written, or while they were.
                world.crash_during(|world| {
                    world.admit_some();
                    world.deadlines.flush().unwrap();
                });
            }
            5 => world.crash(),
            6 => world.drain(Stops::Sometimes),
            7 => {
                world.drain(Stops::Never);
                world.check_drained();
            }
            8 => {
                // One portion is done on the target, and perhaps split, but its log is lost.
                world.crash_during(|world| {
                    let applied_ms = Some(world.applied_ms());
                    if let Some(work) = world.deadlines.step(world.now_ms, applied_ms, 7).unwrap() {
                        world.apply(&work);
                        world.deadlines.done().unwrap();
                    }
                });
            }
            _ => {
                let limit = [MINUTE_MS, 20 * MINUTE_MS, 3 * HOUR_MS, 3 * DAY_MS];
                let limit = limit[world.random.random_range(0..4)];
                world.now_ms += world.random.random_range(0..limit);
            }
        }
    }
    world.finish();
}

#[test]
fn nothing_is_lost_whatever_happens_when() {
    for seed in 0..4 {
        run(seed, [0, 700, 2 * HOUR_MS, -HOUR_MS][seed as usize % 4]);
    }
}

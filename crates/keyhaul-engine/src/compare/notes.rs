//! What a comparison notes for a later run of the same command: how far its scans have come, and which keys it
//! has seen that are not known to be the same. These are looked at again by the later run, so nothing that it
//! tells is older than itself.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use crate::checkpoint::{Checkpoint, JobIdentity, OpenKey, Resumed, ScanPosition};
use crate::compare::options::{CompareOptions, EarlierRun};
use crate::compare::processes::Processes;
use crate::ledger::Ledger;
use crate::place::Place;
use crate::source::records::now_ms;

/// Keys that are noted; a comparison that finds more of them begins anew after a stop.
const OPEN_MAX: usize = 100_000;
/// Their names together, bytes.
const OPEN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The notes of one comparison; shared by its tasks.
#[derive(Debug)]
pub(crate) struct Notes {
    pub(crate) checkpoint: Arc<Checkpoint>,
    open: Mutex<Open>,
}

/// Which keys are noted as open, by their digests.
#[derive(Debug, Default)]
struct Open {
    keys: HashSet<u128>,
    bytes: usize,
    is_given_up: bool,
}

/// What an earlier run left.
#[derive(Debug, Default)]
pub(crate) struct Left {
    pub positions: Vec<ScanPosition>,
    pub of_source: Vec<(u32, Bytes)>,
    pub of_target: Vec<(u32, Bytes)>,
    /// The run.
    pub run: Option<EarlierRun>,
}

/// What makes another run the same comparison, as the user said it.
pub(super) fn identity(source: &Place, target: &Place, options: &CompareOptions) -> JobIdentity {
    let copy = &options.copy;
    let patterns = (&copy.key_patterns, &copy.key_excludes);
    let names = (&copy.db_map, &copy.renames);
    let keys = (&copy.key_types, &copy.dbs);
    let looks = (options.depth, options.ttl_tolerance_ms, options.repair);
    JobIdentity {
        source: source.to_string(),
        target: target.to_string(),
        options: format!("compare {patterns:?} {names:?} {keys:?} {looks:?}"),
    }
}

impl Notes {
    pub(super) fn new(checkpoint: Arc<Checkpoint>) -> Self {
        Self {
            checkpoint,
            open: Mutex::default(),
        }
    }

    /// Takes over what an earlier run noted, unless one of the servers is another process now: what was the same then
    /// says nothing any more.
    pub(super) fn take_over(
        &self,
        resumed: Resumed,
        processes: &Processes,
        ledger: &Ledger,
    ) -> Left {
        if resumed.lines_dropped > 0 {
            ledger.remark(format!(
                "the checkpoint was damaged: {} lines of it are of no use",
                resumed.lines_dropped
            ));
        }
        if resumed.positions.is_empty() {
            self.begin_anew(processes);
            return Left::default();
        }
        let was = resumed.target.as_deref().and_then(Processes::of_text);
        if was.is_none_or(|was| !processes.are_of(&was)) {
            ledger.remark("a server was restarted, or failed over, since an earlier run of this command stopped: all keys are compared".into());
            self.begin_anew(processes);
            return Left::default();
        }
        ledger.remark(format!(
            "goes on where an earlier run of this command stopped: it had found about {} keys to be the same",
            resumed.keys_done
        ));
        let mut left = Left {
            positions: resumed.positions,
            run: Some(EarlierRun {
                keys_same: resumed.keys_done,
                ago: Duration::from_millis(
                    u64::try_from(now_ms().saturating_sub(resumed.saved_at_ms)).unwrap_or(0),
                ),
            }),
            ..Left::default()
        };
        let mut open = self.lock();
        for key in resumed.open {
            open.insert(&key);
            let keys = match key.of_target {
                true => &mut left.of_target,
                false => &mut left.of_source,
            };
            keys.push((key.db, key.key));
        }
        left
    }

    /// Notes which processes what follows is about, and that nothing is known of them.
    pub(super) fn begin_anew(&self, processes: &Processes) {
        let mut open = self.lock();
        open.keys.clear();
        open.bytes = 0;
        self.checkpoint.begin_anew();
        self.checkpoint.target(&processes.text());
    }

    /// Notes a key, before the page on which it was found counts as gone through.
    pub(crate) fn open_key(&self, of_target: bool, db: u32, key: &Bytes) {
        let mut open = self.lock();
        if open.is_given_up {
            return;
        }
        let key = OpenKey {
            of_target,
            db,
            key: key.clone(),
        };
        if !open.insert(&key) {
            return;
        }
        if open.keys.len() > OPEN_MAX || open.bytes > OPEN_BYTES_MAX {
            open.is_given_up = true;
            let reason = format!("more than {OPEN_MAX} keys, or very long names, are not the same");
            self.checkpoint.give_up(reason);
            return;
        }
        self.checkpoint.open_key(key);
    }

    /// Notes that a key of the source is the same, if it was noted as open.
    pub(crate) fn settled(&self, db: u32, key: &Bytes, keys_same: u64) {
        let mut open = self.lock();
        if open.keys.is_empty() {
            return;
        }
        let key = OpenKey {
            of_target: false,
            db,
            key: key.clone(),
        };
        if open.keys.remove(&digest(&key)) {
            open.bytes = open.bytes.saturating_sub(key.key.len());
            self.checkpoint.settled(key, keys_same);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Whether it is new.
    fn insert(&mut self, key: &OpenKey) -> bool {
        let is_new = self.keys.insert(digest(key));
        if is_new {
            self.bytes += key.key.len();
        }
        is_new
    }
}

fn digest(key: &OpenKey) -> u128 {
    let mut digest = Xxh3::new();
    digest.update(&[u8::from(key.of_target)]);
    digest.update(&key.db.to_le_bytes());
    digest.update(&key.key);
    digest.digest128()
}

//! What is compared with what, and the books of it: what each key turned out to be, counted, told and kept.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use crate::compare::judge::Finding;
use crate::compare::notes::Notes;
use crate::compare::options::{CompareCounts, Depth, KeyDiff, Mark};
use crate::compare::payload_digest::DigestRules;
use crate::compare::values::Side;
use crate::ledger::Ledger;
use crate::progress::Progress;
use crate::stats::key_text;
use crate::throttle::Throttle;
use crate::transform::{DbMap, KeyFilter, PrefixRename, renamed};

/// Names that are kept for a later look, or a repair, bytes.
const NAMES_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Characters of a name that are shown in the summary.
const NAME_SHOWN_MAX: usize = 200;

/// Differences that are told by name in the summary.
const EXAMPLES_MAX: usize = 20;

/// Keys that are kept to be looked at again at the end; when there are so many, they are at once.
const SUSPECTS_MAX: usize = 20_000;

/// Keys that differ which are kept for a repair; so many names take some hundred megabytes at worst, and far
/// more are better copied anew.
const DIFFERING_MAX: usize = 1_000_000;

/// Keys that are told which are remembered by their digest, 16 bytes each.
const TOLD_MAX: usize = 250_000;

/// Takes what is known of a key.
pub(crate) type Tell = Arc<dyn Fn(KeyDiff) + Send + Sync>;

/// What is compared with what, and the books of it.
pub(crate) struct Comparer {
    pub source: Side,
    pub target: Side,
    pub filter: Arc<KeyFilter>,
    /// The dbs of the source that are compared; `None`: all.
    pub dbs: Option<Vec<u32>>,
    pub db_map: DbMap,
    pub renames: Vec<PrefixRename>,
    pub depth: Depth,
    pub rules: DigestRules,
    /// Payloads of the two sides may hold the same value in other bytes throughout.
    pub expects_other_bytes: bool,
    pub tolerance_ms: i64,
    pub rechecks: u32,
    pub shows_diffs: bool,
    pub tells_same: bool,
    /// Keys that differ are kept, for a repair.
    pub keeps_differing: bool,
    /// A key of the target that is there is right, whatever it holds (`--on-conflict skip`).
    pub any_value: bool,
    pub retry_for: Duration,
    pub throttle: Arc<Throttle>,
    pub ledger: Arc<Ledger>,
    pub tell: Tell,
    /// What a later run needs to go on; `None`: it begins anew.
    pub notes: Option<Arc<Notes>>,
    pub results: Mutex<Results>,
}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub counts: CompareCounts,
    pub examples: Vec<String>,
    /// Keys that differ for certain.
    pub differing: Vec<(Mark, u32, Bytes)>,
    /// Digests of keys that are no more to be counted: SCAN may return a key twice, and a scan may begin anew.
    told: HashSet<u128>,
    /// Differences that there is no room for among those that are kept.
    pub not_kept: u64,
    kept_bytes: usize,
    suspect_bytes: usize,
    /// Keys that differ and are listed as not moved by the copy.
    pub listed: u64,
    /// To be looked at again: db and name on the source.
    pub suspects: Vec<(u32, Bytes)>,
    /// To be compared element by element.
    pub large: Vec<(u32, Bytes)>,
}

impl Results {
    /// Each once.
    fn take_suspects(&mut self) -> Vec<(u32, Bytes)> {
        self.suspect_bytes = 0;
        let mut suspects = std::mem::take(&mut self.suspects);
        suspects.sort();
        suspects.dedup();
        suspects
    }

    /// Notes a key that is told; whether it is the first time that it is told as that.
    fn is_new(&mut self, seed: u64, told_as: ToldAs, db: u32, key: &[u8]) -> bool {
        let mut digest = Xxh3::with_seed(seed);
        digest.update(&[told_as as u8]);
        digest.update(&db.to_le_bytes());
        digest.update(key);
        let digest = digest.digest128();
        if self.told.len() < TOLD_MAX {
            return self.told.insert(digest);
        }
        !self.told.contains(&digest)
    }
}

/// What a key is told as. One that was the same may differ when a scan returns it again.
#[derive(Debug, Clone, Copy)]
enum ToldAs {
    Same = 0,
    Different = 1,
    Extra = 2,
}

impl Comparer {
    fn books(&self) -> MutexGuard<'_, Results> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of these keys on the target.
    pub(crate) fn target_names(&self, keys: &[Bytes]) -> Vec<Bytes> {
        let named = |key: &Bytes| renamed(&self.renames, key).unwrap_or_else(|| key.clone());
        keys.iter().map(named).collect()
    }

    /// The keys of the source that would have this name on the target. `None`: the key is not compared, as the
    /// filters leave out the name that it has on the source, or no key of the source can get it: then it belongs to
    /// somebody else.
    pub(crate) fn source_names(&self, target_db: u32, name: &Bytes) -> Option<Vec<(u32, Bytes)>> {
        let mut names: Vec<Bytes> = Vec::new();
        for rename in &self.renames {
            if let Some(rest) = name.strip_prefix(rename.replacement()) {
                names.push([rename.old(), rest].concat().into());
            }
        }
        names.push(name.clone());
        names.retain(|source_name| {
            let becomes = renamed(&self.renames, source_name);
            becomes.as_ref().unwrap_or(source_name) == name
        });
        // A name with the new prefix had the old one, unless both are in use.
        if !self.filter.takes_name(names.first()?) {
            return None;
        }
        names.sort();
        names.dedup();
        let dbs = self.source_dbs(target_db);
        let of_db = |db: u32| names.iter().map(move |name| (db, name.clone()));
        Some(dbs.into_iter().flat_map(of_db).collect())
    }

    /// The dbs of the source that go to this one of the target.
    pub(crate) fn source_dbs(&self, target_db: u32) -> Vec<u32> {
        let named = self.db_map.iter().filter(|(_, to)| *to == target_db);
        let mut dbs: Vec<u32> = named.map(|(from, _)| from).collect();
        if !self.db_map.names(target_db) {
            dbs.push(target_db);
        }
        dbs.retain(|db| self.dbs.as_ref().is_none_or(|chosen| chosen.contains(db)));
        dbs
    }

    /// Counts and tells what a key is for certain.
    pub(crate) fn settle(&self, db: u32, key: &Bytes, finding: Finding, inside: Vec<String>) {
        if !matches!(finding, Finding::Same | Finding::OutOfScope) {
            self.note_open(false, db, key);
        }
        let mut results = self.books();
        let is_untold = finding == Finding::Same && !self.tells_same;
        let is_remembered = finding != Finding::OutOfScope && !is_untold;
        let told_as = match finding {
            Finding::Same => ToldAs::Same,
            _ => ToldAs::Different,
        };
        if is_remembered && !results.is_new(self.rules.seed, told_as, db, key) {
            return;
        }
        let counts = &mut results.counts;
        let (mark, what) = match finding {
            Finding::OutOfScope => return,
            Finding::Same => {
                counts.same += 1;
                if let Some(notes) = &self.notes {
                    notes.settled(db, key, counts.same);
                }
                (Mark::Same, String::new())
            }
            Finding::Missing => {
                counts.missing += 1;
                (Mark::Missing, "missing on the target".to_owned())
            }
            Finding::Type(what) => {
                counts.type_differs += 1;
                (Mark::Different, what)
            }
            Finding::Value(what, _) => {
                counts.value_differs += 1;
                (Mark::Different, what)
            }
            Finding::Expiry(what) => {
                counts.expiry_differs += 1;
                (Mark::Different, what)
            }
            Finding::Error(what) => {
                counts.errors += 1;
                (Mark::Unknown, what)
            }
            Finding::Unsettled | Finding::OtherBytes | Finding::Large => {
                counts.unsettled += 1;
                let what = "written each time it was looked at".to_owned();
                (Mark::Unknown, what)
            }
        };
        counts.checked += 1;
        if mark != Mark::Same && self.ledger.not_moved.contains(db, key) {
            results.listed += 1;
        }
        self.note(
            &mut results,
            KeyDiff {
                mark,
                db,
                key: key.clone(),
                what,
                inside,
            },
        );
    }

    /// Counts and tells of a key that only the target has.
    pub(crate) fn settle_extra(&self, target_db: u32, key: &Bytes) {
        self.note_open(true, target_db, key);
        let mut results = self.books();
        if !results.is_new(self.rules.seed, ToldAs::Extra, target_db, key) {
            return;
        }
        results.counts.extra += 1;
        results.counts.checked += 1;
        self.note(
            &mut results,
            KeyDiff {
                mark: Mark::Extra,
                db: target_db,
                key: key.clone(),
                what: "only on the target".to_owned(),
                inside: Vec::new(),
            },
        );
    }

    /// Counts and tells of a key that may be one that only the target has.
    pub(crate) fn settle_unsettled_extra(&self, target_db: u32, key: &Bytes) {
        self.note_open(true, target_db, key);
        let mut results = self.books();
        if !results.is_new(self.rules.seed, ToldAs::Extra, target_db, key) {
            return;
        }
        results.counts.unsettled += 1;
        results.counts.checked += 1;
        self.note(
            &mut results,
            KeyDiff {
                mark: Mark::Unknown,
                db: target_db,
                key: key.clone(),
                what: "missing on the source each time it was looked at, and written on the target"
                    .to_owned(),
                inside: Vec::new(),
            },
        );
    }

    /// Keeps a key to be compared element by element.
    pub(crate) fn hand_over(&self, db: u32, key: Bytes) {
        self.note_open(false, db, &key);
        let mut results = self.books();
        results.large.push((db, Bytes::copy_from_slice(&key)));
    }

    /// The keys that are to be looked at again.
    pub(crate) fn take_suspects(&self) -> Vec<(u32, Bytes)> {
        self.books().take_suspects()
    }

    /// The keys that are to be compared element by element.
    pub(crate) fn take_large(&self) -> Vec<(u32, Bytes)> {
        let mut results = self.books();
        std::mem::take(&mut results.large)
    }

    /// Keeps keys of one end to be looked at again; where there is no room for more, returns all of them, to be looked
    /// at now.
    pub(crate) fn suspect(&self, of_target: bool, db: u32, keys: Vec<Bytes>) -> Vec<(u32, Bytes)> {
        keys.iter()
            .for_each(|key| self.note_open(of_target, db, key));
        let mut results = self.books();
        for key in keys {
            results.suspect_bytes += key.len();
            // Copied: a slice would keep a whole network buffer alive.
            results.suspects.push((db, Bytes::copy_from_slice(&key)));
        }
        let is_full =
            results.suspects.len() >= SUSPECTS_MAX || results.suspect_bytes > NAMES_BYTES_MAX;
        match is_full {
            true => results.take_suspects(),
            false => Vec::new(),
        }
    }

    fn note(&self, results: &mut Results, mut diff: KeyDiff) {
        if diff.mark == Mark::Same {
            if self.tells_same {
                (self.tell)(diff);
            }
            return;
        }
        // Copied: a slice would keep a whole network buffer alive.
        diff.key = Bytes::copy_from_slice(&diff.key);
        if results.examples.len() < EXAMPLES_MAX {
            let (db, mut key) = (diff.db, key_text(&diff.key));
            if key.chars().count() > NAME_SHOWN_MAX {
                key = key
                    .chars()
                    .take(NAME_SHOWN_MAX)
                    .chain("...".chars())
                    .collect();
            }
            let mut line = format!("db {db} \"{key}\": {}", diff.what);
            diff.inside.iter().for_each(|inside| {
                line.push_str("\n  ");
                line.push_str(inside);
            });
            results.examples.push(line);
        }
        if self.keeps_differing && diff.mark != Mark::Unknown {
            // What is not known to differ is not written.
            match results.kept_bytes + diff.key.len() <= NAMES_BYTES_MAX
                && results.differing.len() < DIFFERING_MAX
            {
                true => {
                    results.kept_bytes += diff.key.len();
                    let kept = (diff.mark, diff.db, diff.key.clone());
                    results.differing.push(kept);
                }
                false => results.not_kept += 1,
            }
        }
        (self.tell)(diff);
    }

    /// What was found; the books are empty then.
    pub(crate) fn take_results(&self) -> Results {
        let mut results = self.books();
        std::mem::take(&mut results)
    }

    /// Notes a key that is not known to be the same, for a later run.
    fn note_open(&self, of_target: bool, db: u32, key: &Bytes) {
        if let Some(notes) = &self.notes {
            notes.open_key(of_target, db, key);
        }
    }

    /// Keys that are the same so far, in earlier runs too.
    pub(crate) fn same(&self) -> u64 {
        self.books().counts.same
    }

    /// Counts keys that an earlier run found to be the same.
    pub(crate) fn were_same(&self, keys: u64) {
        let mut results = self.books();
        results.counts.same += keys;
        results.counts.checked += keys;
    }

    /// Notes that keys were looked at, for the progress.
    pub(crate) fn looked_at(&self, keys: usize) {
        Progress::add(&self.ledger.progress.keys_verified, keys as u64);
    }
}

//! Holds keys of the source against those of the target: batch by batch, and one by one where they differ.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use keyhaul_rdb::KeyType;
use xxhash_rust::xxh3::Xxh3;

use crate::compare::notes::Notes;
use crate::compare::options::{CompareCounts, Depth, KeyDiff, Mark};
use crate::compare::payload_digest::DigestRules;
use crate::compare::values::{How, Seen, SeenKey, Side, SideReader};
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::progress::Progress;
use crate::source::records::now_ms;
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

/// What a pair of keys turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    Same,
    /// Gone from the source, or of a type that was not asked for.
    OutOfScope,
    Missing,
    Type(String),
    /// What differs, and digests of the two values.
    Value(String, (u128, u128)),
    Expiry(String),
    /// Written too often to be known.
    Unsettled,
    Error(String),
    /// Other bytes, which may hold the same value.
    OtherBytes,
    /// Too large to be read whole.
    Large,
}

/// Reads both sides; one for each task.
pub(crate) struct PairReader {
    pub comparer: Arc<Comparer>,
    pub source: SideReader,
    pub target: SideReader,
    /// The last batch held values in other bytes: digests of values are computed at once.
    expects_other_bytes: bool,
}

impl PairReader {
    pub(crate) fn new(comparer: Arc<Comparer>) -> Self {
        let reader = |side: &Side| {
            SideReader::new(side.clone(), comparer.retry_for, comparer.throttle.clone())
        };
        Self {
            source: reader(&comparer.source),
            target: reader(&comparer.target),
            expects_other_bytes: comparer.expects_other_bytes,
            comparer,
        }
    }

    /// One finding for each key of a db of the source.
    ///
    /// # Errors
    /// [`GaveUp`].
    pub(crate) async fn look(&mut self, db: u32, keys: &[Bytes]) -> Result<Vec<Finding>, GaveUp> {
        let seen = self.read(db, keys, self.expects_other_bytes, false).await?;
        let judged = seen.into_iter().map(|(s, t)| self.comparer.judge(&s, &t));
        let mut findings: Vec<Finding> = judged.collect();
        let open = |finding: &Finding| *finding == Finding::OtherBytes;
        let doubtful = findings
            .iter()
            .zip(keys)
            .filter(|(finding, _)| open(finding));
        let doubtful: Vec<Bytes> = doubtful.map(|(_, key)| key.clone()).collect();
        self.expects_other_bytes |= doubtful.len() > keys.len() / 8;
        if doubtful.is_empty() {
            return Ok(findings);
        }
        let seen = self.read(db, &doubtful, true, false).await?;
        let mut judged = seen.into_iter().map(|(s, t)| self.comparer.judge(&s, &t));
        for finding in findings.iter_mut().filter(|finding| open(finding)) {
            if let Some(closer) = judged.next() {
                *finding = closer;
            }
        }
        Ok(findings)
    }

    /// A large key that has no elements to be read.
    ///
    /// # Errors
    /// [`GaveUp`].
    pub(crate) async fn look_whole(&mut self, db: u32, key: &Bytes) -> Result<Finding, GaveUp> {
        let seen = self
            .read_as(db, std::slice::from_ref(key), true, false, true)
            .await?;
        let judged = seen.first().map(|(s, t)| self.comparer.judge(s, t));
        Ok(judged.unwrap_or(Finding::Unsettled))
    }

    /// Both sides of these keys, read at the same time.
    ///
    /// # Errors
    /// [`GaveUp`].
    pub(crate) async fn read(
        &mut self,
        db: u32,
        keys: &[Bytes],
        canonical: bool,
        keeps: bool,
    ) -> Result<Vec<(Seen, Seen)>, GaveUp> {
        self.read_as(db, keys, canonical, keeps, false).await
    }

    async fn read_as(
        &mut self,
        db: u32,
        keys: &[Bytes],
        canonical: bool,
        keeps: bool,
        whole: bool,
    ) -> Result<Vec<(Seen, Seen)>, GaveUp> {
        let comparer = &self.comparer;
        let how = How {
            depth: comparer.depth,
            rules: comparer.rules,
            canonical,
            keeps,
            whole,
            existence: false,
        };
        let target_db = comparer.db_map.target_db(db);
        let target_keys = comparer.target_names(keys);
        let (source, target) = tokio::join!(
            self.source.read(db, keys, how, &comparer.ledger),
            self.target
                .read(target_db, &target_keys, how, &comparer.ledger),
        );
        Ok(source?.into_iter().zip(target?).collect())
    }
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

    /// What two readings of a key say.
    pub(crate) fn judge(&self, source: &Seen, target: &Seen) -> Finding {
        if let Seen::Refused(error) = source {
            return Finding::Error(format!("the source answered: {error}"));
        }
        let source = match source {
            Seen::Missing => return Finding::OutOfScope,
            Seen::Key(key) if !self.takes_type(key) => return Finding::OutOfScope,
            source => source,
        };
        match (source, target) {
            (_, Seen::Refused(error)) => Finding::Error(format!("the target answered: {error}")),
            (Seen::Large, _) | (Seen::Key(_), Seen::Large) => Finding::Large,
            (Seen::Key(source), Seen::Missing) if self.has_expired(source) => Finding::OutOfScope,
            (_, Seen::Missing) => Finding::Missing,
            (Seen::Key(source), Seen::Key(target)) => self.judge_keys(source, target),
            _ => Finding::Unsettled,
        }
    }

    /// Whether keys of this type are compared.
    pub(crate) fn takes_type(&self, key: &SeenKey) -> bool {
        let name = std::str::from_utf8(&key.type_name).ok();
        let key_type = name.and_then(|name| name.parse::<KeyType>().ok());
        self.filter.takes_type(key_type)
    }

    /// Whether its time is over, by the clock of this machine: a file does not forget it. A server does, so what it has
    /// is not over.
    fn has_expired(&self, key: &SeenKey) -> bool {
        let is_file = matches!(self.source, Side::Files(_));
        let is_over = |at: i64| at <= now_ms();
        is_file && key.expire_at_ms.is_some_and(|(_, high)| is_over(high))
    }

    fn judge_keys(&self, source: &SeenKey, target: &SeenKey) -> Finding {
        if self.any_value {
            return Finding::Same;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // The name of a module's type is not known from a payload.
        let is_module = [source, target]
            .iter()
            .any(|key| key.type_name == KeyType::Module.name());
        if source.type_name != target.type_name && !is_module {
            let (s, t) = (text(&source.type_name), text(&target.type_name));
            return Finding::Type(format!("type {s} on the source, {t} on the target"));
        }
        if let Some(differs) = self.judge_values(source, target) {
            return differs;
        }
        match self.judge_expiries(source.expire_at_ms, target.expire_at_ms) {
            None => Finding::Same,
            Some(what) => Finding::Expiry(what),
        }
    }

    fn judge_values(&self, source: &SeenKey, target: &SeenKey) -> Option<Finding> {
        if self.depth == Depth::Quick {
            return None;
        }
        if source.raw.is_some() && source.raw == target.raw {
            return None;
        }
        match (source.canonical, target.canonical) {
            (Some(source), Some(target)) if source == target => None,
            // What only its module can read may be the same in other bytes.
            (Some(source), Some(target)) if source.is_opaque || target.is_opaque => {
                let what = "a module's value in other bytes, which only the module can compare";
                Some(Finding::Error(what.to_owned()))
            }
            (Some(source), Some(target)) => {
                let digests = (source.digest, target.digest);
                let (one, other) = (source.elements, target.elements);
                let unit = match (source.key_type, one) {
                    (KeyType::String, 1) => "byte",
                    (KeyType::String, _) => "bytes",
                    (_, 1) => "element",
                    _ => "elements",
                };
                let what = match one == other {
                    true => format!("value differs, {one} {unit} on both sides"),
                    false => {
                        format!("value differs: {one} {unit} on the source, {other} on the target")
                    }
                };
                Some(Finding::Value(what, digests))
            }
            _ if !(source.tried_canonical && target.tried_canonical) => Some(Finding::OtherBytes),
            _ => {
                let what = "the value is in other bytes on either side, and cannot be decoded";
                Some(Finding::Error(what.to_owned()))
            }
        }
    }

    /// What differs; `None`: they agree.
    pub(crate) fn judge_expiries(
        &self,
        source: Option<(i64, i64)>,
        target: Option<(i64, i64)>,
    ) -> Option<String> {
        let agree = match (source, target) {
            (None, None) => true,
            (Some((low, high)), Some((other_low, other_high))) => {
                let tolerance_ms = self.tolerance_ms;
                low.saturating_sub(tolerance_ms) <= other_high
                    && other_low <= high.saturating_add(tolerance_ms)
            }
            _ => false,
        };
        if agree {
            return None;
        }
        let show =
            |at: Option<(i64, i64)>| at.map_or("never".to_owned(), |(low, _)| low.to_string());
        Some(format!(
            "expires at {} on the source, {} on the target (Unix ms)",
            show(source),
            show(target)
        ))
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

//! The verification after a copy: every source key that matched the filters is looked up on the
//! target; existence, type and expiry must be the same.
//!
//! A key that differs is looked at again a few times, with growing waits, before it counts: it may
//! have been written or have expired between the two looks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use keyhaul_client::{KeyLook, ServerError};
use keyhaul_rdb::KeyType;
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use crate::compare::Lookup;
use crate::ledger::Ledger;
use crate::options::OnConflict;
use crate::patience::GaveUp;
use crate::progress::Progress;
use crate::receipt::VerifyCounts;
use crate::site::Site;
use crate::source::KeyBatch;
use crate::source::reader::KeyQueue;
use crate::source::records::now_ms;
use crate::source::rounds::Pass;
use crate::source::scan::ScanEnd;
use crate::stats::key_text;
use crate::transform::{DbMap, KeyFilter, PrefixRename, renamed};

/// Waits before a suspect is looked at again.
const RECHECK_WAITS_MS: [u64; 4] = [0, 100, 400, 1600];
/// Suspects that are kept for later looks; further ones are looked at again at once, without waits.
const SUSPECTS_MAX: usize = 100_000;
/// Differences that are shown by name.
const EXAMPLES_MAX: usize = 20;
/// Keys looked up at once when suspects are looked at again.
const RECHECK_KEYS: usize = 256;

/// What is compared with what.
#[derive(Debug)]
pub(crate) struct QuickCheck {
    /// `None`: the source is a file, whose records tell.
    pub source: Option<Arc<Site>>,
    pub target: Arc<Site>,
    pub filter: Arc<KeyFilter>,
    pub db_map: DbMap,
    pub renames: Vec<PrefixRename>,
    pub on_conflict: OnConflict,
    pub retry_for: Duration,
    pub ledger: Arc<Ledger>,
    pub results: Mutex<Results>,
}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Results {
    counts: VerifyCounts,
    suspects: Vec<(u32, Bytes)>,
}

/// What one key turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Finding {
    Same,
    /// Gone from the source, or of a type that was not asked for.
    OutOfScope,
    Missing,
    Type(String),
    Expiry(String),
    Error(String),
}

/// Goes over all keys of `pass` and compares.
///
/// # Errors
/// [`GaveUp`] when the job was halted or is to stop.
pub(crate) async fn verify(check: Arc<QuickCheck>, pass: Pass) -> Result<VerifyCounts, GaveUp> {
    /// Two at a time for each node, so that neither side waits for the other.
    const WORKERS: usize = 2;
    pass.run(|_node_id, queue, tasks| {
        for _ in 0..WORKERS {
            tasks.spawn(work(check.clone(), queue.clone()));
        }
    })
    .await?;
    check.recheck().await?;
    Ok(check.take_counts())
}

/// Compares these keys.
///
/// # Errors
/// As [`verify`].
pub(crate) async fn verify_keys(
    check: Arc<QuickCheck>,
    keys: Vec<(u32, Bytes)>,
) -> Result<VerifyCounts, GaveUp> {
    let (sender, queue) = mpsc::channel(1);
    let working = tokio::spawn(work(check.clone(), Arc::new(AsyncMutex::new(queue))));
    for (db, key) in keys {
        let batch = KeyBatch {
            db,
            keys: vec![key],
            ..KeyBatch::default()
        };
        if sender.send(batch).await.is_err() {
            break;
        }
    }
    drop(sender);
    working.await.map_err(|_| GaveUp)??;
    check.recheck().await?;
    Ok(check.take_counts())
}

async fn work(check: Arc<QuickCheck>, queue: KeyQueue) -> Result<ScanEnd, GaveUp> {
    let mut looker = Looker::new(check.clone());
    loop {
        let batch = queue.lock().await.recv().await;
        let Some(batch) = batch else {
            return Ok(ScanEnd::Complete);
        };
        let findings = looker.look(batch.db, &batch.keys).await?;
        let mut later = Vec::new();
        for (key, finding) in batch.keys.iter().zip(findings) {
            if check.is_settled(&finding, batch.db, key) {
                check.count(batch.db, key, finding);
            } else {
                later.push(key.clone());
            }
        }
        let overflow = check.suspect(batch.db, later);
        let findings = looker.look(batch.db, &overflow).await?;
        for (key, finding) in overflow.iter().zip(findings) {
            check.count(batch.db, key, finding);
        }
        Progress::add(
            &check.ledger.progress.keys_verified,
            batch.keys.len() as u64,
        );
    }
}

/// Looks at both sides over connections of its own.
struct Looker {
    check: Arc<QuickCheck>,
    /// Of a source that is no server nothing is looked up this way.
    source: Option<Lookup>,
    target: Lookup,
}

impl Looker {
    fn new(check: Arc<QuickCheck>) -> Self {
        let source = check.source.clone();
        let source = source.map(|source| Lookup::new(source, check.retry_for));
        let target = Lookup::new(check.target.clone(), check.retry_for);
        Self {
            check,
            source,
            target,
        }
    }

    async fn look(&mut self, db: u32, keys: &[Bytes]) -> Result<Vec<Finding>, GaveUp> {
        let Some(source) = self.source.as_mut().filter(|_| !keys.is_empty()) else {
            return Ok(Vec::new());
        };
        let check = &self.check;
        let target_db = check.db_map.target_db(db);
        let named = |key: &Bytes| renamed(&check.renames, key).unwrap_or_else(|| key.clone());
        let target_keys: Vec<Bytes> = keys.iter().map(named).collect();
        let (source, target) = tokio::join!(
            source.look(db, keys, &check.ledger),
            self.target.look(target_db, &target_keys, &check.ledger),
        );
        Ok(source?
            .into_iter()
            .zip(target?)
            .map(|(s, t)| check.judge(s, t))
            .collect())
    }
}

impl QuickCheck {
    /// All that was counted.
    pub(crate) fn take_counts(&self) -> VerifyCounts {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut results.counts)
    }

    /// Judges and counts a record of a file.
    pub(crate) fn judge_record(
        &self,
        db: u32,
        key: &[u8],
        source: KeyLook,
        target: Result<KeyLook, ServerError>,
    ) {
        let expires = source.expire_at_ms;
        let finding = match self.judge(Ok(source), target) {
            // It has expired meanwhile, as it would have on any server.
            Finding::Missing if expires.is_some_and(|(at, _)| at <= now_ms()) => {
                Finding::OutOfScope
            }
            finding => finding,
        };
        self.count(db, key, finding);
    }

    fn judge(
        &self,
        source: Result<KeyLook, ServerError>,
        target: Result<KeyLook, ServerError>,
    ) -> Finding {
        let (source, target) = match (source, target) {
            (Ok(source), Ok(target)) => (source, target),
            (Err(e), _) => return Finding::Error(format!("the source answered: {e}")),
            (_, Err(e)) => return Finding::Error(format!("the target answered: {e}")),
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let key_type = text(&source.key_type).parse::<KeyType>().ok();
        if source.is_missing() || !self.filter.takes_type(key_type) {
            return Finding::OutOfScope;
        }
        if target.is_missing() {
            return Finding::Missing;
        }
        if self.on_conflict == OnConflict::Skip {
            return Finding::Same; // what was there already stays as it is
        }
        // The name of a module's type is not known from a file.
        let is_module = source.key_type == KeyType::Module.name();
        if source.key_type != target.key_type && !is_module {
            let (s, t) = (text(&source.key_type), text(&target.key_type));
            return Finding::Type(format!("type {s} on the source, {t} on the target"));
        }
        let agree = match (source.expire_at_ms, target.expire_at_ms) {
            (None, None) => true,
            (Some((low, high)), Some((other_low, other_high))) => {
                low <= other_high && other_low <= high
            }
            _ => false,
        };
        if agree {
            return Finding::Same;
        }
        let show =
            |at: Option<(i64, i64)>| at.map_or("never".to_owned(), |(low, _)| low.to_string());
        let (s, t) = (show(source.expire_at_ms), show(target.expire_at_ms));
        Finding::Expiry(format!(
            "expires at {s} on the source, {t} on the target (Unix ms)"
        ))
    }

    /// Whether another look could change nothing.
    fn is_settled(&self, finding: &Finding, db: u32, key: &[u8]) -> bool {
        matches!(finding, Finding::Same | Finding::OutOfScope)
            || self.ledger.not_moved.contains(db, key)
    }

    /// Keeps suspects for later; returns those for which there is no room.
    fn suspect(&self, db: u32, keys: Vec<Bytes>) -> Vec<Bytes> {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        let room = SUSPECTS_MAX.saturating_sub(results.suspects.len());
        let mut keys = keys;
        let overflow = keys.split_off(keys.len().min(room));
        // Copied: the slices would keep whole network buffers alive.
        results
            .suspects
            .extend(keys.iter().map(|key| (db, Bytes::copy_from_slice(key))));
        overflow
    }

    /// Looks at the suspects again until they are the same or the waits are used up.
    async fn recheck(self: &Arc<Self>) -> Result<(), GaveUp> {
        let mut looker = Looker::new(self.clone());
        for (round, wait_ms) in RECHECK_WAITS_MS.into_iter().enumerate() {
            let suspects = {
                let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut results.suspects)
            };
            if suspects.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            let is_last = round + 1 == RECHECK_WAITS_MS.len();
            for group in suspects.chunk_by(|one, other| one.0 == other.0) {
                for part in group.chunks(RECHECK_KEYS) {
                    let Some((db, _)) = part.first() else {
                        continue;
                    };
                    let keys: Vec<Bytes> = part.iter().map(|(_, key)| key.clone()).collect();
                    let findings = looker.look(*db, &keys).await?;
                    for (key, finding) in keys.into_iter().zip(findings) {
                        if is_last || self.is_settled(&finding, *db, &key) {
                            self.count(*db, &key, finding);
                        } else {
                            self.suspect(*db, vec![key]);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn count(&self, db: u32, key: &[u8], finding: Finding) {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = &mut results.counts;
        let what = match finding {
            Finding::OutOfScope => return,
            Finding::Same => {
                counts.checked += 1;
                counts.same += 1;
                return;
            }
            Finding::Missing => {
                counts.missing += 1;
                "MISSING on the target".to_owned()
            }
            Finding::Type(text) => {
                counts.type_differs += 1;
                text
            }
            Finding::Expiry(text) => {
                counts.expiry_differs += 1;
                text
            }
            Finding::Error(text) => {
                counts.errors += 1;
                text
            }
        };
        counts.checked += 1;
        if self.ledger.not_moved.contains(db, key) {
            counts.listed_as_not_moved += 1;
        }
        if counts.examples.len() < EXAMPLES_MAX {
            counts
                .examples
                .push(format!("db {db} \"{}\": {what}", key_text(key)));
        }
    }
}

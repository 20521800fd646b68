//! The checkpoint of a job: what the same command needs to know to go on where this run stops.
//!
//! It is a journal, one file per job in the state folder, to which lines are appended ([`record`]). What
//! is noted must be out of this process before the job relies on it, many times a second, so it has to
//! cost one small write and no sync: a killed process loses nothing. A power cut may tear the end off;
//! the rest is still good ([`load`]).
//!
//! When it is opened again it is compacted: what is alive is written beside it and renamed ([`file`]).
//! When the job has come to its end the file goes.
//!
//! What the notes mean for keys (whether a cursor is still good, whether what was built is still the
//! beginning of a value) is left to those who make them.

mod error;
mod file;
mod load;
mod record;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::ledger::Ledger;
use crate::options::CopyOptions;
use crate::plan::PlanError;
pub(crate) use error::CheckpointError;
use load::{Alive, Loaded};
use record::{Record, VERSION, line};

/// What makes two runs the same job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobIdentity {
    /// Where it reads, without credentials.
    pub source: String,
    /// Where it writes, without credentials.
    pub target: String,
    /// Whatever decides which keys go over and under which names, as text.
    pub options: String,
}

impl JobIdentity {
    /// The number of the job: the same in every run of it.
    pub(crate) fn id(&self) -> u64 {
        let mut hash = Xxh3::new();
        for field in [&self.source, &self.target, &self.options] {
            // With lengths, so that no text can move from one field into the next.
            hash.update(&(field.len() as u64).to_le_bytes());
            hash.update(field.as_bytes());
        }
        hash.digest()
    }
}

/// How far the scan of one db of a node has come: all that it returned before is settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScanPosition {
    /// It is the target that is scanned, as a comparison does too.
    #[serde(default)]
    pub of_target: bool,
    pub node_id: String,
    /// The process of the server that gave out the cursor.
    pub process: String,
    pub db: u32,
    /// Where it goes on; 0: the db is at its end.
    pub cursor: u64,
}

impl ScanPosition {
    /// Whether the other one is a position in the same db of the same node.
    fn is_of_the_same_scan(&self, other: &Self) -> bool {
        (self.of_target, self.db, &self.node_id) == (other.of_target, other.db, &other.node_id)
    }
}

/// A key that a comparison has seen and that is not known to be the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct OpenKey {
    /// Db and name are those on the target, and the source seems not to have it.
    pub of_target: bool,
    pub db: u32,
    #[serde(with = "record::hex_bytes")]
    pub key: Bytes,
}

/// How much of a big key is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Elements from its beginning.
    pub elements: u64,
    /// Digest of all that was read up to there.
    #[serde(with = "record::hex_digest")]
    pub digest: u128,
    /// Of a stream: the ID of the last entry.
    pub last_id: Option<String>,
    /// Which of the staging keys holds it.
    pub generation: u32,
    /// The length of the staging key, as the target acknowledged it.
    pub length: u64,
}

/// So many of the last marks of a key are known later: more than can be in flight.
pub(crate) const MARKS_KEPT: usize = 12;

/// A journal that notes statistics is compacted when it is longer than this, bytes, or than twice what it was when it
/// was compacted last.
const STATS_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How often it is looked how long a journal is in which keys are opened and settled.
const LINES_BETWEEN_LOOKS: u64 = 10_000;

/// A key that goes over in chunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BigKey {
    /// The db of the source.
    pub db: u32,
    /// The name on the source.
    #[serde(with = "record::hex_bytes")]
    pub key: Bytes,
    /// What it takes on the source.
    pub memory_bytes: u64,
}

/// What is known of a big key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BigKeyState {
    pub key: BigKey,
    /// The last marks, [`MARKS_KEPT`] at most; none: nothing is built, or it is done.
    pub marks: Vec<Mark>,
    /// Moved or listed.
    pub is_done: bool,
}

/// A key that was listed as not moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NotMovedRecord {
    /// The db of the source.
    pub db: u32,
    /// The name on the source.
    #[serde(with = "record::hex_bytes")]
    pub key: Bytes,
    pub reason: String,
}

/// Whether a run goes on where an earlier one stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Go on, if there is something to go on from.
    Resume,
    /// Begin anew, also where the journal cannot be read.
    Restart,
}

/// What an earlier run left behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Earlier {
    /// Nothing.
    Nothing,
    /// Work to go on with.
    Unfinished(Resumed),
    /// [`Start::Restart`]: nothing but big keys that were not done, for their staging keys have to be
    /// removed. They stay in the journal as they are, so that this is made up for when the run is killed
    /// before; [`Checkpoint::big_reset`] says that it was done.
    SetAside(Vec<BigKeyState>),
}

/// What came of opening the journal of a job.
#[derive(Debug)]
pub(crate) enum Opened {
    /// It is kept, and this is what was in it.
    Kept(Arc<Checkpoint>, Box<Earlier>),
    /// It is not, for a reason that is worth a line.
    Without(String),
}

/// Where an earlier run stopped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resumed {
    /// When the job was begun, Unix time.
    pub began_at_ms: i64,
    /// When the last position was noted (or else the job begun), Unix time.
    pub saved_at_ms: i64,
    /// What the target was, if it was noted.
    pub target: Option<String>,
    /// The target held nothing when the job was begun.
    pub target_was_empty: bool,
    /// What was last noted of statistics.
    pub stats: Option<serde_json::Value>,
    /// At most one for each db of a node, and of each end where both are scanned.
    pub positions: Vec<ScanPosition>,
    /// In the order in which they were found.
    pub big_keys: Vec<BigKeyState>,
    /// Each key once, with the last reason.
    pub not_moved: Vec<NotMovedRecord>,
    /// Keys that the job was done with, copied or found to be the same, as noted last.
    pub keys_done: u64,
    /// Of a comparison.
    pub open: Vec<OpenKey>,
    /// Lines of a damaged journal that were dropped; 0 after a kill or a power cut.
    pub lines_dropped: u64,
}

/// The checkpoint of a running job; shared by its tasks. It is locked as long as it lives.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    path: PathBuf,
    identity: JobIdentity,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    /// The numbers of big keys, by db and name.
    bigs: HashMap<u32, HashMap<Bytes, u64>>,
    bigs_count: u64,
    /// See [`STATS_BYTES_MAX`].
    compact_above: u64,
    /// Keys that were opened or settled.
    lines: u64,
    failure: Option<String>,
}

impl Checkpoint {
    /// Opens the journal of a job in `state_dir`, and makes both if they are not there. Holds it against
    /// other processes. A file that is no journal, or that of another job, is replaced.
    ///
    /// # Errors
    /// - [`CheckpointError::Running`]: the same job is running.
    /// - [`CheckpointError::Newer`]: a later keyhaul wrote it; not with [`Start::Restart`].
    /// - [`CheckpointError::Io`]: the system refused. An existing journal is as it was.
    pub(crate) fn open(
        state_dir: &Path,
        identity: &JobIdentity,
        start: Start,
    ) -> Result<(Self, Earlier), CheckpointError> {
        file::make_folder(state_dir)?;
        let path = state_dir.join(format!("{:016x}.journal", identity.id()));
        let old = file::open_locked(&path)?;
        let found = match (file::read(&path, &old, identity)?, start) {
            (Loaded::Newer(version), Start::Resume) => {
                let known = VERSION;
                return Err(CheckpointError::Newer {
                    path,
                    version,
                    known,
                });
            }
            (Loaded::Journal(alive), _) => Some(*alive),
            (Loaded::Nothing | Loaded::Newer(_), _) => None,
        };
        let (alive, earlier) = match (found, start) {
            (None, _) => (Alive::new(now_ms()), Earlier::Nothing),
            (Some(alive), Start::Resume) => {
                let resumed = resumed(&alive);
                (alive, Earlier::Unfinished(resumed))
            }
            (Some(mut found), Start::Restart) => {
                found.big_keys.retain(|state| !state.is_done);
                let left = found.big_keys.clone();
                let mut alive = Alive::new(now_ms());
                alive.big_keys = found.big_keys;
                (alive, Earlier::SetAside(left))
            }
        };
        let file = file::replace(&path, &alive, identity)?;
        // Held until the new file had the name.
        drop(old);
        let mut inner = Inner::new(file);
        for state in &alive.big_keys {
            inner.number(&state.key);
        }
        let inner = Mutex::new(inner);
        let identity = identity.clone();
        let checkpoint = Self {
            path,
            identity,
            inner,
        };
        Ok((checkpoint, earlier))
    }

    /// Opens the journal of a job in `state_dir`, by its options. Where it cannot be kept and the user did not ask for it,
    /// the job goes on without.
    ///
    /// # Errors
    /// [`PlanError::Refused`] where the same job is running, or the journal cannot be kept and the user named the folder.
    pub(crate) fn open_for(
        state_dir: &Path,
        identity: &JobIdentity,
        options: &CopyOptions,
    ) -> Result<Opened, PlanError> {
        let start = match options.restart {
            true => Start::Restart,
            false => Start::Resume,
        };
        match Self::open(state_dir, identity, start) {
            Ok((checkpoint, earlier)) => Ok(Opened::Kept(Arc::new(checkpoint), Box::new(earlier))),
            Err(e @ CheckpointError::Io { .. }) if !options.needs_state_dir => {
                let reason = keyhaul_client::chain(&e);
                let line = format!("a run that stops cannot be gone on with: {reason}");
                Ok(Opened::Without(line))
            }
            Err(e) => Err(PlanError::Refused(keyhaul_client::chain(&e))),
        }
    }

    /// The journal.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Notes how far a scan has come, and with how many keys the job is done.
    pub(crate) fn position(&self, position: &ScanPosition, keys_done: u64) {
        let position = position.clone();
        self.append(
            &mut self.lock(),
            &Record::Position {
                at_ms: now_ms(),
                position,
                keys_done,
            },
        );
    }

    /// Notes what the target is: what was acknowledged is there as long as it is the same.
    pub(crate) fn target(&self, target: &str) {
        let target = target.to_owned();
        self.append(&mut self.lock(), &Record::Target { target });
    }

    /// Notes that the target held nothing when the job began: all that is there is the job's.
    pub(crate) fn target_was_empty(&self) {
        self.append(&mut self.lock(), &Record::TargetWasEmpty);
    }

    /// Notes that all keys are gone over once more: positions are void, and no big key is done.
    pub(crate) fn begin_anew(&self) {
        self.append(&mut self.lock(), &Record::Anew);
    }

    /// Notes a big key, before anything else of it. One that is known already stays as it is.
    pub(crate) fn big_found(&self, key: &BigKey) {
        let mut inner = self.lock();
        if let Some(big) = inner.number(key) {
            let key = key.clone();
            self.append(&mut inner, &Record::Big { big, key });
        }
    }

    /// Notes how much of a big key is built. It is not done, then, whatever was noted before.
    pub(crate) fn big_mark(&self, db: u32, key: &[u8], mark: &Mark) {
        let mark = mark.clone();
        self.append_big(db, key, |big| Record::Mark { big, mark });
    }

    /// Notes that nothing of a big key is built, and that it is not done.
    pub(crate) fn big_reset(&self, db: u32, key: &[u8]) {
        self.append_big(db, key, |big| Record::Reset { big });
    }

    /// Notes that a big key is settled: moved or listed.
    pub(crate) fn big_done(&self, db: u32, key: &[u8]) {
        self.append_big(db, key, |big| Record::Done { big });
    }

    /// Notes a key that was not moved. It may be noted again.
    pub(crate) fn not_moved(&self, db: u32, key: &[u8], reason: &str) {
        let (key, reason) = (Bytes::copy_from_slice(key), reason.to_owned());
        let record = Record::NotMoved(NotMovedRecord { db, key, reason });
        self.append(&mut self.lock(), &record);
    }

    /// Notes all that statistics need to go on; it takes the place of what was noted before. Where that makes the
    /// file long, it is compacted.
    pub(crate) fn stats(&self, state: serde_json::Value) {
        let mut inner = self.lock();
        self.append(&mut inner, &Record::Stats { state });
        self.compact_if_long(&mut inner);
    }

    fn compact_if_long(&self, inner: &mut Inner) {
        let bytes = |file: &File| file.metadata().map_or(0, |is| is.len());
        if inner.failure.is_some() || bytes(&inner.file) <= inner.compact_above {
            return;
        }
        match self.compacted() {
            // The lock of the old one goes with it, now that the new one has the name.
            Ok(file) => {
                inner.compact_above = STATS_BYTES_MAX.max(2 * bytes(&file));
                inner.file = file;
            }
            Err(e) => inner.failure = Some(keyhaul_client::chain(&e)),
        }
    }

    /// Puts a journal of what is alive in the place of this one, whose lock is held.
    fn compacted(&self) -> Result<File, CheckpointError> {
        let journal = File::open(&self.path);
        let journal = journal.map_err(CheckpointError::during("read", &self.path))?;
        let alive = match file::read(&self.path, &journal, &self.identity)? {
            Loaded::Journal(alive) => *alive,
            Loaded::Nothing | Loaded::Newer(_) => Alive::new(now_ms()),
        };
        file::replace(&self.path, &alive, &self.identity)
    }

    /// Notes a key that a comparison does not know to be the same.
    pub(crate) fn open_key(&self, key: OpenKey) {
        let mut inner = self.lock();
        self.append(&mut inner, &Record::Open(key));
        self.compact_now_and_then(&mut inner);
    }

    /// Notes that such a key turned out to be the same, and how many keys are.
    pub(crate) fn settled(&self, key: OpenKey, keys_done: u64) {
        let mut inner = self.lock();
        self.append(&mut inner, &Record::Settled { key, keys_done });
        self.compact_now_and_then(&mut inner);
    }

    /// Keys may be opened and settled for weeks, thousands of them a second.
    fn compact_now_and_then(&self, inner: &mut Inner) {
        inner.lines += 1;
        if inner.lines.is_multiple_of(LINES_BETWEEN_LOOKS) {
            self.compact_if_long(inner);
        }
    }

    /// Notes that this run cannot be gone on with, and nothing from then on.
    pub(crate) fn give_up(&self, reason: String) {
        let mut inner = self.lock();
        self.append(&mut inner, &Record::Anew);
        inner.failure.get_or_insert(reason);
    }

    /// Why nothing is noted any more, in one line; `None`: all was written so far.
    pub(crate) fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    /// At the end: a job that is done leaves no checkpoint. Returns where that of one is which is not.
    pub(crate) fn close(&self, ledger: &Ledger, is_stopped: bool) -> Option<PathBuf> {
        if !is_stopped {
            if let Err(e) = self.finish() {
                ledger.remark(keyhaul_client::chain(&e));
            }
            return None;
        }
        match self.failure() {
            None => Some(self.path().to_owned()),
            Some(reason) => {
                ledger.remark(format!(
                    "how far it came could not be saved all the time ({reason}): the same command may begin anew"
                ));
                None
            }
        }
    }

    /// The job came to its end: the file goes. What is noted later is lost.
    ///
    /// # Errors
    /// [`CheckpointError::Io`] if it cannot be removed.
    pub(crate) fn finish(&self) -> Result<(), CheckpointError> {
        file::remove(&self.path, &self.lock().file)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append_big(&self, db: u32, key: &[u8], record: impl FnOnce(u64) -> Record) {
        let mut inner = self.lock();
        let big = inner.bigs.get(&db).and_then(|keys| keys.get(key)).copied();
        debug_assert!(big.is_some(), "a big key is noted when it is found");
        if let Some(big) = big {
            self.append(&mut inner, &record(big));
        }
    }

    /// Appends a line in one write. Behind the first failure nothing is written: the line may be there
    /// in part, and the journal has to end with it.
    fn append(&self, inner: &mut Inner, record: &Record) {
        if inner.failure.is_some() {
            return;
        }
        let written = line(record).and_then(|line| inner.file.write_all(&line));
        if let Err(e) = written {
            let path = self.path.display();
            inner.failure = Some(format!("cannot write the checkpoint '{path}': {e}"));
        }
    }
}

impl Inner {
    fn new(file: File) -> Self {
        Self {
            file,
            bigs: HashMap::new(),
            bigs_count: 0,
            compact_above: STATS_BYTES_MAX,
            lines: 0,
            failure: None,
        }
    }

    /// Gives a big key the next number; `None` if it has one.
    fn number(&mut self, key: &BigKey) -> Option<u64> {
        let keys = self.bigs.entry(key.db).or_default();
        if keys.contains_key(&key.key) {
            return None;
        }
        let big = self.bigs_count;
        keys.insert(key.key.clone(), big);
        self.bigs_count += 1;
        Some(big)
    }
}

impl Drop for Inner {
    /// Gives the lock back. To close the file is not enough: the lock is that of the open file, and a
    /// process that was forked off a moment ago has it open too until it executes its program.
    fn drop(&mut self) {
        // Cannot be refused for a lock that is held; and whoever dies without gives it back all the same.
        let _ = self.file.unlock();
    }
}

fn resumed(alive: &Alive) -> Resumed {
    let last = alive.positions.last();
    let positions = alive.positions.iter().map(|saved| saved.position.clone());
    Resumed {
        began_at_ms: alive.began_at_ms,
        saved_at_ms: last.map_or(alive.began_at_ms, |saved| saved.at_ms),
        target: alive.target.clone(),
        target_was_empty: alive.target_was_empty,
        stats: alive.stats.clone(),
        positions: positions.collect(),
        big_keys: alive.big_keys.clone(),
        not_moved: alive.not_moved.clone(),
        keys_done: last.map_or(0, |_| alive.keys_done),
        open: alive.open.iter().cloned().collect(),
        lines_dropped: alive.lines_dropped,
    }
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.ok()
        .and_then(|now| i64::try_from(now.as_millis()).ok())
        .unwrap_or(0)
}

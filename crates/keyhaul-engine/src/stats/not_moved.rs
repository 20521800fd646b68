//! The list of keys that were not moved: every one of them, in bounded memory.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::stats::key_text;

/// How many keys are kept at hand for the summary.
const FIRST_MAX: usize = 20;
/// How many keys are remembered by hash, 8 bytes each, to tell the verification about them.
const HASHES_MAX: usize = 1_000_000;

/// One key that was not moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotMovedKey {
    /// The db of the source.
    pub db: u32,
    /// The name as text, see [`key_text`].
    pub key: String,
    /// Why.
    pub reason: String,
}

/// What became of a key that was tried once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// It is not on the list, and was not.
    NotListed,
    /// It was moved.
    TakenOff,
    /// It is on the list.
    Listed,
}

/// The list while the job runs; shared by its tasks.
#[derive(Debug, Default)]
pub struct NotMovedList(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    count: u64,
    first: Vec<NotMovedKey>,
    /// At which line each key stands.
    lines: HashMap<u64, u64>,
    lines_count: u64,
    /// Lines of keys that were moved after all.
    void: HashSet<u64>,
    /// Keys that are being tried once more.
    tried: HashSet<u64>,
    spill: Option<BufWriter<File>>,
    failed: Option<io::Error>,
}

impl NotMovedList {
    /// Adds a key; `false` if it is on the list already (a rescan finds a key again).
    pub fn add(&self, db: u32, key: &[u8], reason: String) -> bool {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = hash(db, key);
        inner.tried.remove(&hash);
        if inner.lines.contains_key(&hash) {
            return false;
        }
        if inner.lines.len() < HASHES_MAX {
            let line = inner.lines_count;
            inner.lines.insert(hash, line);
        }
        inner.lines_count += 1;
        inner.count += 1;
        let entry = NotMovedKey {
            db,
            key: key_text(key),
            reason,
        };
        if let Err(e) = inner.write(&entry) {
            inner.failed.get_or_insert(e);
        }
        if inner.first.len() < FIRST_MAX {
            inner.first.push(entry);
        }
        true
    }

    /// Whether a key is on the list (as far as it is remembered by hash).
    pub fn contains(&self, db: u32, key: &[u8]) -> bool {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.lines.contains_key(&hash(db, key))
    }

    /// A key that may be on the list is about to be moved once more; [`NotMovedList::tried`] ends it.
    pub fn try_again(&self, db: u32, key: &[u8]) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = hash(db, key);
        if inner.lines.contains_key(&hash) {
            inner.tried.insert(hash);
        }
    }

    /// It was tried: unless it was added again, it is taken off the list.
    pub fn tried(&self, db: u32, key: &[u8]) -> Tried {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = hash(db, key);
        let was_moved = inner.tried.remove(&hash);
        match (was_moved, inner.lines.get(&hash).copied()) {
            (true, Some(line)) => {
                inner.lines.remove(&hash);
                inner.void.insert(line);
                inner.count -= 1;
                let text = key_text(key);
                inner
                    .first
                    .retain(|listed| (listed.db, &listed.key) != (db, &text));
                Tried::TakenOff
            }
            (_, Some(_)) => Tried::Listed,
            (_, None) => Tried::NotListed,
        }
    }

    /// Forgets all keys: they are looked at again.
    pub fn clear(&self) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *inner = Inner::default();
    }

    /// The finished list.
    pub fn finish(&self) -> NotMoved {
        let inner = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let spill = inner
            .spill
            .map(|spill| spill.into_inner().map_err(io::IntoInnerError::into_error));
        let (spill, failed) = match spill.transpose() {
            Ok(spill) => (spill, inner.failed),
            Err(e) => (None, inner.failed.or(Some(e))),
        };
        NotMoved {
            count: inner.count,
            first: inner.first,
            void: inner.void,
            spill,
            failed,
        }
    }
}

impl Inner {
    fn write(&mut self, entry: &NotMovedKey) -> io::Result<()> {
        if self.spill.is_none() {
            self.spill = Some(BufWriter::new(tempfile::tempfile()?));
        }
        if let Some(spill) = &mut self.spill {
            serde_json::to_writer(&mut *spill, entry)?;
            spill.write_all(b"\n")?;
        }
        Ok(())
    }
}

/// The list of a job that ended.
#[derive(Debug)]
pub struct NotMoved {
    /// How many keys.
    pub count: u64,
    /// The first of them.
    pub first: Vec<NotMovedKey>,
    void: HashSet<u64>,
    spill: Option<File>,
    failed: Option<io::Error>,
}

impl NotMoved {
    /// Hands every key to `take`, in the order in which they were found.
    ///
    /// # Errors
    /// When the temporary file could not be written or read (a full disk), or `take` fails.
    pub fn for_each(
        &mut self,
        mut take: impl FnMut(NotMovedKey) -> io::Result<()>,
    ) -> io::Result<()> {
        if let Some(e) = self.failed.take() {
            return Err(e);
        }
        let Some(spill) = &mut self.spill else {
            return Ok(());
        };
        spill.rewind()?;
        for (line, text) in (0..).zip(BufReader::new(spill).lines()) {
            let text = text?;
            if !self.void.contains(&line) {
                take(serde_json::from_str(&text)?)?;
            }
        }
        Ok(())
    }
}

fn hash(db: u32, key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (db, key).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_moved_after_all_is_taken_off() {
        let list = NotMovedList::default();
        for name in ["a", "b", "c"] {
            list.add(0, name.as_bytes(), "first".into());
        }
        for name in ["a", "b", "x"] {
            list.try_again(0, name.as_bytes());
        }
        assert!(!list.add(0, b"b", "second".into()));
        let tried = ["a", "b", "x", "c"].map(|name| list.tried(0, name.as_bytes()));
        let expected = [
            Tried::TakenOff,
            Tried::Listed,
            Tried::NotListed,
            Tried::Listed,
        ];
        assert_eq!(tried, expected);
        assert!(list.add(0, b"a", "third".into()));
        let mut finished = list.finish();
        let mut told = Vec::new();
        let collect = |entry: NotMovedKey| {
            told.push((entry.key, entry.reason));
            Ok(())
        };
        finished.for_each(collect).unwrap();
        let rows = [("b", "first"), ("c", "first"), ("a", "third")];
        let rows = rows.map(|(key, reason)| (key.to_owned(), reason.to_owned()));
        assert_eq!((finished.count, told), (3, rows.to_vec()));
        assert_eq!(finished.first.len(), 3);
    }

    #[test]
    fn every_key_is_listed_once() {
        let list = NotMovedList::default();
        for n in 0..100_u32 {
            assert!(list.add(n % 2, format!("k{n}").as_bytes(), "too large".into()));
        }
        assert!(!list.add(0, b"k0", "too large".into()));
        assert!(list.contains(1, b"k1") && !list.contains(0, b"k1"));
        let mut finished = list.finish();
        let mut keys = Vec::new();
        finished
            .for_each(|entry| {
                keys.push(entry.key);
                Ok(())
            })
            .unwrap();
        assert_eq!(
            (finished.count, finished.first.len(), keys.len()),
            (100, FIRST_MAX, 100)
        );
        assert_eq!(keys[99], "k99");
    }
}

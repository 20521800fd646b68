//! The names of the keys of a snapshot, as digests on the disk: what else the target holds is not of the source any more.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::sorted::{KeyedRow, Rows, Sorted, key_digest};
use crate::spill::SpillRow;

const ROW_BYTES: usize = 16;

/// The digest of a key of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name(u128);

impl SpillRow<ROW_BYTES> for Name {
    fn to_bytes(self) -> [u8; ROW_BYTES] {
        self.0.to_le_bytes()
    }

    fn of_bytes(bytes: &[u8; ROW_BYTES]) -> Self {
        Self(u128::from_le_bytes(*bytes))
    }
}

impl KeyedRow<ROW_BYTES> for Name {
    fn key(self) -> u128 {
        self.0
    }
}

/// Names that are being noted.
#[derive(Debug)]
pub(crate) struct NameNotes {
    seed: u64,
    rows: Mutex<io::Result<Rows<Name, ROW_BYTES>>>,
}

/// Names that were noted.
#[derive(Debug)]
pub(crate) struct NameSet {
    seed: u64,
    sorted: Sorted<Name, ROW_BYTES>,
}

impl NameNotes {
    /// Notes none yet. What memory does not hold lies in nameless files in `folder`.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            // Nobody who names keys can know it.
            seed: RandomState::new().hash_one(0),
            rows: Mutex::new(Ok(Rows::new(folder)?)),
        })
    }

    /// Notes a name on the target. An error is kept for [`NameNotes::finish`].
    pub(crate) fn note(&self, db: u32, name: &[u8]) {
        let digest = key_digest(self.seed, db, name);
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(noted) = &mut *rows
            && let Err(e) = noted.add(Name(digest))
        {
            *rows = Err(e);
        }
    }

    /// All were noted.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn finish(self, folder: &Path, stop: &CancellationToken) -> io::Result<NameSet> {
        let rows = self
            .rows
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)?;
        Ok(NameSet {
            seed: self.seed,
            sorted: rows.finish(folder, stop)?,
        })
    }
}

impl NameSet {
    /// Whether each of these names was noted.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn contain<'a>(
        &self,
        db: u32,
        names: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<Vec<bool>> {
        let mut finder = self.sorted.finder();
        names
            .map(|name| Ok(finder.find(key_digest(self.seed, db, name))?.is_some()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_there_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let notes = NameNotes::new(dir.path()).unwrap();
        let name = |n: u32| format!("key:{n}").into_bytes();
        for n in 0..250_000 {
            notes.note(n % 3, &name(n));
        }
        let set = notes.finish(dir.path(), &CancellationToken::new()).unwrap();
        for db in 0..3 {
            let names: Vec<_> = (0..1000).map(name).collect();
            let there = set.contain(db, names.iter().map(Vec::as_slice)).unwrap();
            for (n, is_there) in (0..1000).zip(there) {
                assert_eq!(is_there, n % 3 == db, "{n} in db {db}");
            }
        }
        let other = set.contain(0, [&b"another"[..]].into_iter()).unwrap();
        assert_eq!(other, [false]);
    }
}

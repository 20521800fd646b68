//! What RDB files hold, as an index on disk: every key that a server would have after it loaded them, in
//! the order in which they are given, with type, expiry and the digest of its value.
//!
//! ```text
//! files ──► walk ──► rows of 56 bytes ──► sorted runs ──► one sorted file ◄── look
//!   └─────► walk ──► names
//! ```
//!
//! [`walk`] decodes and digests, [`row`] is what is kept of a key, [`sorted`] merges and searches, [`names`]
//! goes over the files again. Memory is bounded for any number of keys: below 10 MB while the index is made,
//! 4 KB for a search, and what the longest element of a value needs while it is digested.

mod names;
mod row;
mod walk;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use keyhaul_client::FunctionLibrary;
use keyhaul_rdb::{Canonical, KeyType, StreamDetail};
use tokio_util::sync::CancellationToken;

use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::plan::CheckedFile;
use crate::sorted::{Rows, Sorted, key_digest};
use crate::target::file::library_name;

pub(crate) use names::Names;
use row::Row;

use walk::{Broken, walk};

/// What the index keeps, and what its digests can be compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexRules {
    /// Seed of all digests; random, so that nobody can make names or values with the same.
    pub seed: u64,
    /// How much of streams is digested.
    pub detail: StreamDetail,
    /// Whether values are digested at all.
    pub with_values: bool,
    /// Keys that have expired by then are left out, Unix ms.
    pub now_ms: i64,
}

/// What a file says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexedKey {
    /// Its type.
    pub key_type: KeyType,
    /// Absolute Unix ms; `None`: does not expire.
    pub expire_at_ms: Option<i64>,
    /// What its value is. `None`: values were not asked for, or this one cannot be taken apart.
    pub value: Option<Canonical>,
}

/// The keys of files. The file that holds it has no name and goes when the index is dropped.
#[derive(Debug)]
pub(crate) struct FileIndex {
    rules: IndexRules,
    /// Records that have not expired; more than there are keys where some stand in several files.
    records: u64,
    sorted: Sorted<Row, { Row::BYTES }>,
    libraries: Vec<FunctionLibrary>,
}

impl FileIndex {
    /// Reads files from start to end; as much of damaged ones as is sound. Needs 112 bytes a key in the
    /// folder for temporary files, half of them only while it is made.
    ///
    /// # Errors
    /// [`GaveUp`] when a stop is wanted, or when a file cannot be read any more or the index not be written;
    /// the job is halted then.
    pub(crate) async fn build(
        files: &[CheckedFile],
        rules: IndexRules,
        ledger: &Ledger,
    ) -> Result<Self, GaveUp> {
        Self::build_in(std::env::temp_dir(), files, rules, ledger).await
    }

    async fn build_in(
        folder: PathBuf,
        files: &[CheckedFile],
        rules: IndexRules,
        ledger: &Ledger,
    ) -> Result<Self, GaveUp> {
        let files = files.to_vec();
        // Ends the thread too when nobody waits for it any more.
        let stop = ledger.stop.child_token();
        let _guard = stop.clone().drop_guard();
        let building =
            tokio::task::spawn_blocking(move || Self::read(&folder, &files, rules, &stop));
        let built = building.await.map_err(Broken::of_task);
        built.flatten().map_err(|broken| broken.halt(ledger))
    }

    /// Blocks.
    fn read(
        folder: &Path,
        files: &[CheckedFile],
        rules: IndexRules,
        stop: &CancellationToken,
    ) -> Result<Self, Broken> {
        let no_room = |e: io::Error| Broken::Failed(no_room(folder, &e));
        let mut rows = Rows::new(folder).map_err(no_room)?;
        let mut records = 0;
        let mut libraries: Vec<FunctionLibrary> = Vec::new();
        for file in files {
            let codes = walk(file, &rules, stop, |record| {
                let digest = key_digest(rules.seed, record.db, record.key);
                records += 1;
                rows.add(Row::new(digest, records, &record))
                    .map_err(no_room)
            })?;
            // As with keys, that of the last file counts.
            for code in codes {
                let name = library_name(&code).unwrap_or_else(|| b"(unnamed)".to_vec());
                libraries.retain(|known| known.name != name);
                let name = Bytes::from(name);
                libraries.push(FunctionLibrary { name, code });
            }
        }
        let sorted = rows.finish(folder, stop).map_err(|e| match e {
            _ if stop.is_cancelled() => Broken::Stopped,
            e => no_room(e),
        })?;
        Ok(Self {
            rules,
            records,
            sorted,
            libraries,
        })
    }

    /// What the files say of these keys, one after another; `None`: they do not hold it, or it has expired.
    /// Blocks for a few small reads a key.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn look(&self, db: u32, keys: &[Bytes]) -> io::Result<Vec<Option<IndexedKey>>> {
        let mut finder = self.sorted.finder();
        let mut look = |key: &Bytes| -> io::Result<Option<IndexedKey>> {
            let row = finder.find(key_digest(self.rules.seed, db, key))?;
            row.map(Row::indexed).transpose()
        };
        keys.iter().map(&mut look).collect()
    }

    /// How many keys the files hold together, of all dbs, without those that have expired.
    pub(crate) fn keys(&self) -> u64 {
        self.sorted.rows()
    }

    /// The function libraries of the files.
    pub(crate) fn libraries(&self) -> &[FunctionLibrary] {
        &self.libraries
    }

    /// Goes over the names once more: each key once, in the order of the records that count.
    pub(crate) fn names(self: &Arc<Self>, files: &[CheckedFile], ledger: &Arc<Ledger>) -> Names {
        Names::new(self.clone(), files.to_vec(), ledger.clone())
    }

    /// Whether some keys stand in more than one record.
    fn has_doubles(&self) -> bool {
        self.records > self.keys()
    }
}

/// For an index that cannot be written.
fn no_room(folder: &Path, error: &io::Error) -> String {
    format!(
        "cannot keep an index of the keys of the files in {}: {error}; free space there or name another folder by TMPDIR",
        folder.display()
    )
}

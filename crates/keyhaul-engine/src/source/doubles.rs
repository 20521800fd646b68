//! Records of files that would become one key on the target because names or dbs change on the way.
//!
//! A live source is asked whether the other key is there (`sieve.rs`). A file cannot be asked, so it is
//! read once more before: of all records that share a name on the target the first keeps it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use keyhaul_rdb::{Checksum, Decoder, Event, Record};

use crate::plan::CheckedFile;
use crate::source::feed::{Feed, FeedError};
use crate::target::file::{NameIndex, SharedNames};
use crate::transform::{DbMap, PrefixRename, renamed};

/// Names on the target that more than one record has.
#[derive(Debug, Default)]
pub(crate) enum Doubles {
    /// None can be.
    #[default]
    Impossible,
    /// They are known before the records are read.
    Known(Found),
    /// Of a snapshot, that is read once: they are known afterwards.
    Noting(Naming, Mutex<std::io::Result<NameIndex>>),
}

#[derive(Debug)]
pub(crate) struct Found {
    shared: SharedNames,
    naming: Naming,
    /// By name on the target: the record that has it.
    owners: Mutex<HashMap<(u32, Bytes), (u32, Bytes)>>,
}

/// How records are named on the target.
#[derive(Debug, Clone)]
pub(crate) struct Naming {
    pub db_map: DbMap,
    pub renames: Vec<PrefixRename>,
}

impl Naming {
    fn target(&self, db: u32, key: &Bytes) -> (u32, Bytes) {
        let key = renamed(&self.renames, key).unwrap_or_else(|| key.clone());
        (self.db_map.target_db(db), key)
    }
}

impl Doubles {
    /// Reads the files for the names that `is_wanted` takes. Names are held as digests on the disk, so
    /// memory depends on those that are shared alone.
    ///
    /// # Errors
    /// The reason, readable.
    pub(crate) async fn find(
        files: &[CheckedFile],
        naming: Naming,
        is_wanted: impl Fn(&Record) -> bool,
    ) -> Result<Self, String> {
        let mut index = NameIndex::new(std::env::temp_dir());
        for file in files {
            let mut feed = Feed::file(file);
            let mut decoder = Decoder::new(Checksum::Trust);
            loop {
                match decoder.next_event() {
                    Ok(Some(Event::Record(record))) => {
                        if !is_wanted(&record) {
                            continue;
                        }
                        let (db, key) = naming.target(record.db, &record.key);
                        index
                            .note((db, &key), (record.db, &record.key))
                            .map_err(no_room)?;
                    }
                    // The end, or damage that is known.
                    Ok(Some(Event::End { .. })) | Err(_) => break,
                    Ok(Some(_)) => {}
                    Ok(None) => match feed.next().await.map_err(|e: FeedError| e.to_string())? {
                        Some(portion) => decoder.input().extend_from_slice(&portion),
                        None => break,
                    },
                }
            }
        }
        let shared = index.finish().map_err(no_room)?;
        Ok(Self::Known(Found {
            shared,
            naming,
            owners: Mutex::default(),
        }))
    }

    /// Takes note of the names of all records that are asked for.
    pub(crate) fn noting(naming: Naming) -> Self {
        let index = NameIndex::new(std::env::temp_dir());
        Self::Noting(naming, Mutex::new(Ok(index)))
    }

    /// The end of all records whose names were noted.
    ///
    /// # Errors
    /// The reason, readable: some keys became one, or that is not known.
    pub(crate) fn finish_noting(&self) -> Result<(), String> {
        let Self::Noting(_, index) = self else {
            return Ok(());
        };
        let mut index = index.lock().unwrap_or_else(PoisonError::into_inner);
        let index = std::mem::replace(&mut *index, Err(std::io::Error::other("it is in use")));
        let shared = index.and_then(NameIndex::finish).map_err(no_room)?;
        match shared.count() {
            0 => Ok(()),
            count => Err(format!(
                "other names or dbs make one key of several for {count} names, and a snapshot cannot say which: --method scan leaves them out and lists them"
            )),
        }
    }

    /// Whether another record has this one's name on the target already. The first one asked for
    /// keeps it.
    pub(crate) fn contains(&self, db: u32, key: &[u8]) -> bool {
        let found = match self {
            Self::Impossible => return false,
            Self::Known(found) => found,
            Self::Noting(naming, index) => {
                let target = naming.target(db, &Bytes::copy_from_slice(key));
                let mut index = index.lock().unwrap_or_else(PoisonError::into_inner);
                if let Ok(names) = &mut *index
                    && let Err(e) = names.note((target.0, &target.1), (db, key))
                {
                    *index = Err(e);
                }
                return false;
            }
        };
        let key = &Bytes::copy_from_slice(key);
        let target = found.naming.target(db, key);
        if !found.shared.contains(target.0, &target.1) {
            return false;
        }
        let mut owners = found.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = owners.entry(target).or_insert_with(|| (db, key.clone()));
        (owner.0, &owner.1) != (db, key)
    }
}

fn no_room(error: std::io::Error) -> String {
    format!(
        "cannot note the names of keys in {}: {error}",
        std::env::temp_dir().display()
    )
}

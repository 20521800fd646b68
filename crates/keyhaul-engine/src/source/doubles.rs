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
pub(crate) struct Doubles(Option<Found>);

#[derive(Debug)]
struct Found {
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
        let no_room = |e: std::io::Error| {
            format!(
                "cannot note the names of keys in {}: {e}",
                std::env::temp_dir().display()
            )
        };
        let mut index = NameIndex::new(std::env::temp_dir());
        for file in files {
            let mut feed = Feed::file(&file.path);
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
        Ok(Self(Some(Found {
            shared,
            naming,
            owners: Mutex::default(),
        })))
    }

    /// Whether another record has this one's name on the target already. The first one asked for
    /// keeps it.
    pub(crate) fn contains(&self, db: u32, key: &[u8]) -> bool {
        let Some(found) = &self.0 else {
            return false;
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

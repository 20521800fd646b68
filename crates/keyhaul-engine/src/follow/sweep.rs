//! Deletes keys of the target that the snapshot of the source does not hold: they were deleted while nobody followed.
//!
//! Keys that the target held when the job began stay (`foreign.rs`). It is done between the snapshot and the first command behind
//! it: a key that the source made anew meanwhile would else be added to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keyhaul_client::{ClientError, ScanOptions, Slot, SlotSet};

use crate::entry::{Payload, Usage};
use crate::follow::foreign::Foreign;
use crate::follow::name_set::NameSet;
use crate::ledger::Ledger;
use crate::patience::{GaveUp, Patience};
use crate::route::Outlet;
use crate::site::Site;
use crate::transform::Origins;

/// Keys of the target that are looked at in one step.
const SCAN_COUNT: u32 = 1000;

/// What it takes to sweep.
pub(crate) struct Sweep {
    pub target: Arc<Site>,
    pub origins: Origins,
    pub ledger: Arc<Ledger>,
    pub retry_for: Duration,
    /// The target was empty when the job began: what it holds is of the source.
    pub is_ours: bool,
    /// Where the keys are noted that it held else.
    pub foreign: PathBuf,
}

impl Sweep {
    /// Deletes what is not in `names`, of keys that come from these slots of the source. The lanes of `outlet` must have
    /// settled all else.
    ///
    /// # Errors
    /// [`GaveUp`]: the job was halted.
    pub(crate) async fn run(
        &self,
        names: &NameSet,
        slots: &SlotSet,
        outlet: &Outlet,
    ) -> Result<(), GaveUp> {
        let known = match self.is_ours {
            true => Some(Foreign::default()),
            false => Foreign::load(&self.foreign).map_err(|e| self.halt(&e))?,
        };
        let Some(foreign) = known else {
            return self.note_foreign(names, slots).await;
        };
        let mut patience = Patience::new(self.retry_for);
        loop {
            let found = self.try_run(names, slots, Take::Delete(&foreign, outlet));
            match found.await {
                Ok(()) => return Ok(()),
                Err(Stuck::Target(e)) => {
                    self.target.recover(&e, &mut patience, &self.ledger).await?;
                }
                Err(Stuck::Disk(e)) => return Err(self.halt(&e)),
            }
        }
    }

    /// Notes the keys that only the target has: this is the first snapshot, so they are not of the source.
    async fn note_foreign(&self, names: &NameSet, slots: &SlotSet) -> Result<(), GaveUp> {
        let mut patience = Patience::new(self.retry_for);
        let foreign = loop {
            let mut foreign = Foreign::default();
            let mut are_few = true;
            let found = self.try_run(names, slots, Take::Note(&mut foreign, &mut are_few));
            match found.await {
                Ok(()) if are_few => break foreign,
                Ok(()) => {
                    self.ledger.remark(
                        "the target held so many keys before this job that they cannot be told from those of the source: what is deleted on the source while it is not followed, and by FLUSHALL, stays there; keyhaul compare --delete-extra lists and deletes it".into(),
                    );
                    return Ok(());
                }
                Err(Stuck::Target(e)) => {
                    self.target.recover(&e, &mut patience, &self.ledger).await?;
                }
                Err(Stuck::Disk(e)) => return Err(self.halt(&e)),
            }
        };
        if foreign.len() > 0 {
            self.ledger.remark(format!(
                "the target holds {} keys that the source does not have: they stay; keyhaul compare --delete-extra lists and deletes them",
                foreign.len()
            ));
        }
        foreign.save(&self.foreign).map_err(|e| self.halt(&e))
    }

    fn halt(&self, error: &std::io::Error) -> GaveUp {
        self.ledger.halt(format!(
            "cannot keep the names of keys on the disk: {error}"
        ));
        GaveUp
    }

    /// Goes over the target for keys that are not in `names` and hands them on.
    async fn try_run(
        &self,
        names: &NameSet,
        slots: &SlotSet,
        mut take: Take<'_>,
    ) -> Result<(), Stuck> {
        for (_, address) in self.target.primaries() {
            let mut connection = self.target.open(&address).await?;
            for db in connection.dbs_with_keys().await? {
                connection.select(db).await?;
                let options = ScanOptions {
                    count: SCAN_COUNT,
                    ..ScanOptions::default()
                };
                let mut cursor = 0;
                loop {
                    let page = connection.scan(cursor, &options).await?;
                    let gone = self.gone(db, page.keys, names, slots)?;
                    take.take(gone).await;
                    cursor = page.cursor;
                    if cursor == 0 {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Those of these keys of the target that could be of the shard and are not in `names`.
    fn gone(
        &self,
        db: u32,
        keys: Vec<Bytes>,
        names: &NameSet,
        slots: &SlotSet,
    ) -> Result<Vec<Gone>, Stuck> {
        let are_there = names.contain(db, keys.iter().map(|key| &key[..]))?;
        let mut gone = Vec::new();
        for (key, is_there) in keys.into_iter().zip(are_there) {
            let is_of_shard = |(_, name): &(u32, Bytes)| slots.contains(Slot::of_key(name));
            let source = match is_there {
                true => None,
                false => self.origins.keys(db, &key).into_iter().find(is_of_shard),
            };
            if let Some(source) = source {
                let target = (db, key);
                gone.push(Gone { source, target });
            }
        }
        Ok(gone)
    }
}

/// A key that only the target has.
struct Gone {
    source: (u32, Bytes),
    target: (u32, Bytes),
}

/// What is done with keys that only the target has.
enum Take<'a> {
    Delete(&'a Foreign, &'a Outlet),
    /// And whether there are not too many.
    Note(&'a mut Foreign, &'a mut bool),
}

impl Take<'_> {
    async fn take(&mut self, gone: Vec<Gone>) {
        match self {
            Self::Note(foreign, are_few) => {
                for key in gone {
                    **are_few = **are_few && foreign.add(key.target.0, &key.target.1);
                }
            }
            Self::Delete(foreign, outlet) => {
                let mut entries = Vec::new();
                for Gone { source, target } in gone {
                    if !foreign.contains(target.0, &target.1) {
                        let (db, name) = source;
                        entries.push(outlet.entry(db, name, Payload::Gone, None, Usage::default()));
                    }
                }
                if !entries.is_empty() {
                    outlet.send_and_settle(entries).await;
                }
            }
        }
    }
}

/// Why a sweep stopped.
enum Stuck {
    Target(ClientError),
    Disk(std::io::Error),
}

impl From<ClientError> for Stuck {
    fn from(error: ClientError) -> Self {
        Self::Target(error)
    }
}

impl From<std::io::Error> for Stuck {
    fn from(error: std::io::Error) -> Self {
        Self::Disk(error)
    }
}

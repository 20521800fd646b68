//! Deletes keys of the target that the snapshot of the source does not hold: they were deleted while nobody followed.
//!
//! Between the snapshot and the first command behind it: a key that the source made anew meanwhile would else be added to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keyhaul_client::{ClientError, ReadConnection, ScanOptions, Slot, SlotSet};

use crate::entry::{Payload, Usage};
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
        if !self.is_ours {
            self.ledger.remark(
                "the target held keys before this job: what was deleted on the source while it was not followed is not deleted there, for it cannot be told from them; keyhaul compare --delete-extra lists and deletes it".into(),
            );
            return Ok(());
        }
        let mut patience = Patience::new(self.retry_for);
        loop {
            match self.try_run(names, slots, outlet).await {
                Ok(()) => return Ok(()),
                Err(Stuck::Target(e)) => {
                    self.target.recover(&e, &mut patience, &self.ledger).await?;
                }
                Err(Stuck::Disk(e)) => {
                    self.ledger
                        .halt(format!("cannot look up the names of a snapshot: {e}"));
                    return Err(GaveUp);
                }
            }
        }
    }

    async fn try_run(
        &self,
        names: &NameSet,
        slots: &SlotSet,
        outlet: &Outlet,
    ) -> Result<(), Stuck> {
        for (_, address) in self.target.primaries() {
            let mut connection = self.target.open(&address).await?;
            for db in dbs_with_keys(&mut connection).await? {
                connection.select(db).await?;
                let options = ScanOptions {
                    count: SCAN_COUNT,
                    ..ScanOptions::default()
                };
                let mut cursor = 0;
                loop {
                    let page = connection.scan(cursor, &options).await?;
                    self.look((db, &page.keys), names, slots, outlet).await?;
                    cursor = page.cursor;
                    if cursor == 0 {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    async fn look(
        &self,
        (db, keys): (u32, &[Bytes]),
        names: &NameSet,
        slots: &SlotSet,
        outlet: &Outlet,
    ) -> Result<(), Stuck> {
        let are_there = names.contain(db, keys.iter().map(|key| &key[..]))?;
        let mut gone = Vec::new();
        for (key, is_there) in keys.iter().zip(are_there) {
            let is_of_shard = |(_, name): &(u32, Bytes)| slots.contains(Slot::of_key(name));
            let origin = self.origins.keys(db, key).into_iter().find(is_of_shard);
            if let Some((source_db, name)) = origin.filter(|_| !is_there) {
                gone.push(outlet.entry(source_db, name, Payload::Gone, None, Usage::default()));
            }
        }
        if !gone.is_empty() {
            outlet.send_and_settle(gone).await;
        }
        Ok(())
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

async fn dbs_with_keys(connection: &mut ReadConnection) -> Result<Vec<u32>, ClientError> {
    let info = connection.info(Some("keyspace")).await?;
    let dbs = info
        .lines()
        .filter_map(|line| line.strip_prefix("db")?.split_once(':'));
    Ok(dbs.filter_map(|(db, _)| db.parse().ok()).collect())
}

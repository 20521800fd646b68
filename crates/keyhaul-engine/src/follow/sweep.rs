//! Looks for keys of the target that the source has no more, and marks them: they are read again, and deleted if that is so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use keyhaul_client::{ClientError, ReadConnection, ScanOptions, Slot, SlotSet};

use crate::follow::marks::{Marks, SourceKey};
use crate::follow::names::Names;
use crate::follow::round::Round;
use crate::ledger::Ledger;
use crate::patience::{GaveUp, Patience};
use crate::site::Site;

/// Keys of the target that are looked at in one step.
const SCAN_COUNT: u32 = 500;

/// What it takes to sweep.
#[derive(Clone)]
pub(crate) struct Sweep {
    tools: Arc<Tools>,
    is_busy: Arc<AtomicBool>,
}

/// The ends of a sweep.
pub(crate) struct Tools {
    pub source: Arc<Site>,
    pub target: Arc<Site>,
    pub names: Names,
    pub marks: Arc<Marks>,
    pub ledger: Arc<Ledger>,
    pub round: Arc<Round>,
    pub retry_for: std::time::Duration,
    /// The target was empty when the job began: what it holds is of the source.
    pub is_ours: bool,
}

impl Sweep {
    pub(crate) fn new(tools: Tools) -> Self {
        Self {
            tools: Arc::new(tools),
            is_busy: Arc::default(),
        }
    }

    /// Whether it is not at its end.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::Acquire)
    }

    /// Begins, for keys of these slots of the source.
    pub(crate) fn begin(&self, slots: &SlotSet) {
        if !self.tools.is_ours {
            self.tools.ledger.remark(
                "the target held keys before this job: what was deleted on the source meanwhile is not deleted there, for it cannot be told from them; keyhaul compare --delete-extra lists and deletes it".into(),
            );
            return;
        }
        self.is_busy.store(true, Ordering::Release);
        let (tools, is_busy, slots) = (self.tools.clone(), self.is_busy.clone(), slots.clone());
        tokio::spawn(async move {
            let (round, stop) = (tools.round.clone(), tools.ledger.stop.clone());
            tokio::select! {
                swept = tools.sweep(&slots) => if swept.is_ok() {
                    is_busy.store(false, Ordering::Release);
                },
                () = round.ended() => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

impl Tools {
    async fn sweep(&self, slots: &SlotSet) -> Result<(), GaveUp> {
        let mut patience = Patience::new(self.retry_for);
        loop {
            match self.try_sweep(slots).await {
                Ok(()) => return Ok(()),
                Err((site, e)) => site.recover(&e, &mut patience, &self.ledger).await?,
            }
        }
    }

    /// From the start; what is marked twice is read once.
    async fn try_sweep(&self, slots: &SlotSet) -> Result<(), (&Site, ClientError)> {
        let of_target = |e| (&*self.target, e);
        for (_, address) in self.target.primaries() {
            let mut connection = self.target.open(&address).await.map_err(of_target)?;
            let dbs = dbs_with_keys(&mut connection).await.map_err(of_target)?;
            for db in dbs {
                let options = ScanOptions {
                    count: SCAN_COUNT,
                    ..ScanOptions::default()
                };
                let mut cursor = 0;
                loop {
                    connection.select(db).await.map_err(of_target)?;
                    let page = connection.scan(cursor, &options).await.map_err(of_target)?;
                    self.look(db, &page.keys, slots).await?;
                    cursor = page.cursor;
                    if cursor == 0 {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Marks those of these keys of the target that the source lacks under every name that they may have there.
    async fn look(
        &self,
        target_db: u32,
        keys: &[Bytes],
        slots: &SlotSet,
    ) -> Result<(), (&Site, ClientError)> {
        let of_source = |e| (&*self.source, e);
        let dbs = self.source_dbs(target_db);
        let mut groups: Vec<(keyhaul_client::Address, u32, Vec<SourceKey>)> = Vec::new();
        for key in keys {
            for named in self.names.source_keys(target_db, key, &dbs) {
                if !slots.contains(Slot::of_key(&named.1)) {
                    continue;
                }
                let address = self.source.address_of_key(&named.1).map_err(of_source)?;
                match groups
                    .iter_mut()
                    .find(|(known, db, _)| *known == address && *db == named.0)
                {
                    Some((_, _, group)) => group.push(named),
                    None => groups.push((address, named.0, vec![named])),
                }
            }
        }
        for (address, db, group) in groups {
            let mut connection = self.source.open(&address).await.map_err(of_source)?;
            connection.select(db).await.map_err(of_source)?;
            let names: Vec<Bytes> = group.iter().map(|key| key.1.clone()).collect();
            let are_there = connection.exist(&names).await.map_err(of_source)?;
            for (key, is_there) in group.into_iter().zip(are_there) {
                if !is_there {
                    self.marks.mark(key);
                }
            }
        }
        self.marks.wait_until(|marks| !marks.is_full()).await;
        Ok(())
    }

    /// Dbs of the source whose keys may be in this one of the target.
    fn source_dbs(&self, target_db: u32) -> Vec<u32> {
        let mapped = self.names.db_map.iter();
        let mut dbs: Vec<u32> = mapped
            .filter(|(_, to)| *to == target_db)
            .map(|(from, _)| from)
            .collect();
        if !self.names.db_map.names(target_db) {
            dbs.push(target_db);
        }
        dbs
    }
}

async fn dbs_with_keys(connection: &mut ReadConnection) -> Result<Vec<u32>, ClientError> {
    let info = connection.info(Some("keyspace")).await?;
    let dbs = info
        .lines()
        .filter_map(|line| line.strip_prefix("db")?.split_once(':'));
    Ok(dbs.filter_map(|(db, _)| db.parse().ok()).collect())
}

//! Keys from RDB files, and from the snapshots that primaries send to a replica.

use std::sync::Arc;

use bytes::Bytes;
use keyhaul_client::{ClientError, Mode, ReplicaLink};
use keyhaul_rdb::Checksum;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::copy::Job;
use crate::copy::target::Way;
use crate::ledger::Ledger;
use crate::patience::{GaveUp, Patience};
use crate::plan::CheckedFile;
use crate::prepare::{self, TargetEnd};
use crate::progress::Progress;
use crate::route::Outlet;
use crate::site::Site;
use crate::source::doubles::{Doubles, Naming};
use crate::source::feed::{Feed, FeedError};
use crate::source::overflow::Overflow;
use crate::source::records::{RecordReader, RecordRules, RecordsError};
use crate::source::rounds::{moved_between, topology_now};
use crate::target::functions::FunctionCounts;

/// Function libraries between an RDB and the target.
pub(crate) const FUNCTIONS_AHEAD: usize = 8;

/// What one snapshot is read with.
#[derive(Clone)]
struct Snapshot {
    site: Arc<Site>,
    outlet: Outlet,
    rules: RecordRules,
    ledger: Arc<Ledger>,
    functions: mpsc::Sender<Bytes>,
    /// Whether keys of a snapshot that broke off do no harm: the next one replaces them.
    can_repeat: bool,
}

impl Job {
    /// Copies the records of files, one file after the other.
    pub(super) async fn copy_files(
        &self,
        files: &[CheckedFile],
        outlet: Outlet,
        way: &Way,
        ledger: &Arc<Ledger>,
    ) -> Result<FunctionCounts, GaveUp> {
        let bytes = files.iter().map(|file| file.bytes).sum();
        Progress::add(&ledger.progress.bytes_expected, bytes);
        let rules = self.record_rules(files, ledger).await?;
        let (functions, codes) = mpsc::channel(FUNCTIONS_AHEAD);
        let reading = async move {
            for file in files {
                let upto = file
                    .damage
                    .as_ref()
                    .map(|damage| damage.upto.unwrap_or(u64::MAX));
                if let Some(damage) = &file.damage {
                    let path = file.path.display();
                    ledger.remark(format!("{path} is damaged {}", damage.text));
                }
                let reader = RecordReader::of_file(
                    file,
                    upto,
                    outlet.clone(),
                    rules.clone(),
                    ledger.clone(),
                    functions.clone(),
                );
                match reader.run().await {
                    Ok(()) if file.has_changed() => {
                        let path = file.path.display();
                        ledger.halt(format!(
                            "{path} was written to while it was read: copy it elsewhere first and give the command again"
                        ));
                        return Err(GaveUp);
                    }
                    Ok(()) => {}
                    Err(RecordsError::Stopped) => return Err(GaveUp),
                    Err(e) => {
                        ledger.halt(format!(
                            "{}: {}",
                            file.path.display(),
                            keyhaul_client::chain(&e)
                        ));
                        return Err(GaveUp);
                    }
                }
            }
            Ok(())
        };
        let (read, functions) = tokio::join!(
            reading,
            self.take_functions(codes, way.file.as_ref(), ledger)
        );
        read.map(|()| functions)
    }

    /// Copies the snapshots of all primaries, side by side.
    pub(super) async fn copy_snapshots(
        &self,
        site: &Arc<Site>,
        outlet: Outlet,
        way: &Way,
        ledger: &Arc<Ledger>,
    ) -> Result<FunctionCounts, GaveUp> {
        let mut rules = self.record_rules(&[], ledger).await?;
        let collisions = Arc::new(self.noted_names());
        rules.collisions = collisions.clone();
        let (functions, codes) = mpsc::channel(FUNCTIONS_AHEAD);
        let snapshot = Snapshot {
            site: site.clone(),
            outlet,
            rules,
            ledger: ledger.clone(),
            functions,
            can_repeat: matches!(self.prepared.target, TargetEnd::Servers { .. }),
        };
        let retry_for = self.prepared.options.retry_for;
        let before = match site.routing.mode() {
            Mode::Cluster => Some(topology_now(site, retry_for, ledger).await?),
            Mode::Standalone => None,
        };
        let mut tasks = JoinSet::new();
        for (node_id, _) in site.primaries() {
            let patience = Patience::new(self.prepared.options.retry_for);
            tasks.spawn(read_snapshot(snapshot.clone(), node_id, patience));
        }
        drop(snapshot);
        let reading = async {
            let mut read = Ok(());
            while let Some(joined) = tasks.join_next().await {
                match joined {
                    Ok(Ok(())) => {}
                    Ok(Err(GaveUp)) => read = Err(GaveUp),
                    Err(e) => {
                        ledger.halt(format!("a task failed: {e}"));
                        read = Err(GaveUp);
                    }
                }
            }
            read
        };
        let (read, functions) = tokio::join!(
            reading,
            self.take_functions(codes, way.file.as_ref(), ledger)
        );
        read?;
        if let Some(before) = before {
            let after = topology_now(site, retry_for, ledger).await?;
            let moved = moved_between(&before, &after).len();
            if moved > 0 {
                // A key may have left one node before its snapshot and come to another one after its.
                ledger.halt(format!(
                    "source: {moved} slots moved, or may have, while the snapshots were taken, and keys may be missing: give the command again when no slot moves, or use --method scan"
                ));
                return Err(GaveUp);
            }
        }
        // Which keys they are is known only when all went by: too late to leave them out.
        collisions.finish_noting().map_err(|reason| {
            ledger.halt(format!("source: {reason}"));
            GaveUp
        })?;
        Ok(functions)
    }

    /// Where names or dbs change: an index of the names that go by.
    fn noted_names(&self) -> Doubles {
        let options = &self.prepared.options;
        match options.renames.is_empty() && options.db_map.iter().next().is_none() {
            true => Doubles::default(),
            false => Doubles::noting(self.naming()),
        }
    }

    fn naming(&self) -> Naming {
        let options = &self.prepared.options;
        Naming {
            db_map: options.db_map.clone(),
            renames: options.renames.clone(),
        }
    }

    pub(crate) async fn record_rules(
        &self,
        files: &[CheckedFile],
        ledger: &Arc<Ledger>,
    ) -> Result<RecordRules, GaveUp> {
        let prepared = &self.prepared;
        let options = &prepared.options;
        let dbs: Vec<u32> = prepared.plan.dbs.iter().map(|db| db.source_db).collect();
        let mut collisions = Doubles::default();
        if prepare::collisions_are_possible(options, &dbs) && !files.is_empty() {
            let found = Doubles::find(files, self.naming(), |record| {
                let chosen = prepared.chosen_dbs.as_ref();
                chosen.is_none_or(|dbs| dbs.contains(&record.db))
                    && self.filter.takes_name(&record.key)
                    && self.filter.takes_type(Some(record.form.key_type()))
            });
            collisions = found.await.map_err(|reason| {
                ledger.halt(reason);
                GaveUp
            })?;
        }
        Ok(RecordRules {
            marks: None,
            names: None,
            keeps_expired: false,
            dbs: prepared.chosen_dbs.clone(),
            value_max: options.mem_limit,
            collisions: Arc::new(collisions),
        })
    }
}

/// Reads the snapshot of one primary; begins anew with another one when the link breaks, where that does
/// no harm.
async fn read_snapshot(
    snapshot: Snapshot,
    node_id: String,
    mut patience: Patience,
) -> Result<(), GaveUp> {
    let Snapshot { site, ledger, .. } = &snapshot;
    loop {
        let (error, had_begun) = match try_snapshot(&snapshot, &node_id).await {
            Ok(()) => return Ok(()),
            Err(Broken::Link { error, had_begun }) => (error, had_begun),
            Err(Broken::Other(reason)) => {
                ledger.halt(reason);
                return Err(GaveUp);
            }
            Err(Broken::Stopped) => return Err(GaveUp),
        };
        if had_begun && !snapshot.can_repeat {
            ledger.halt(format!(
                "source: the snapshot broke off ({}): the file would be none of one moment; give the command again",
                keyhaul_client::chain(&error)
            ));
            return Err(GaveUp);
        }
        site.recover(&error, &mut patience, ledger).await?;
        if had_begun {
            ledger.remark("source: a snapshot broke off, another one was taken".into());
        }
    }
}

enum Broken {
    Link { error: ClientError, had_begun: bool },
    Other(String),
    Stopped,
}

async fn try_snapshot(snapshot: &Snapshot, node_id: &str) -> Result<(), Broken> {
    let not_begun = |error| Broken::Link {
        error,
        had_begun: false,
    };
    let Snapshot { site, ledger, .. } = snapshot;
    let address = site.address_of_node(node_id).map_err(not_begun)?;
    let connector = site.routing.connector();
    let resync = ReplicaLink::full_resync(connector, &address);
    let (link, position) = tokio::select! {
        resync = resync => resync.map_err(not_begun)?,
        () = ledger.stop.cancelled() => return Err(Broken::Stopped),
    };
    tracing::info!(
        "{address}: snapshot at {}:{}",
        position.replid,
        position.repl_offset
    );
    if let Some(bytes) = link.rdb_bytes() {
        Progress::add(&ledger.progress.bytes_expected, bytes);
    }
    let feed = Feed::Link(Overflow::of_link(Box::new(link)));
    let reader = RecordReader::new(
        feed,
        Checksum::Verify,
        snapshot.outlet.clone(),
        snapshot.rules.clone(),
        ledger.clone(),
        snapshot.functions.clone(),
    );
    match reader.run().await {
        Ok(()) => Ok(()),
        Err(RecordsError::Stopped) => Err(Broken::Stopped),
        Err(RecordsError::Feed(FeedError::Link(error))) => Err(Broken::Link {
            error,
            had_begun: true,
        }),
        Err(e) => Err(Broken::Other(format!(
            "source {address}: what it sends is {}",
            keyhaul_client::chain(&e)
        ))),
    }
}

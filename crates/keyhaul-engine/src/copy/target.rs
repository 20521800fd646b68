//! The way to the target: lanes to its servers, or the thread that writes the file.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::bigkey::ChunkLimits;
use crate::bigkey::stored::StoredRules;
use crate::conversion::{Conversion, Shape};
use crate::copy::Job;
use crate::ledger::Ledger;
use crate::options::OnConflict;
use crate::patience::{GaveUp, Patience};
use crate::prepare::{SourceEnd, TargetEnd};
use crate::route::{Lanes, Outlet, OutletOptions, Transform};
use crate::target::file::{FileError, Finished, KeepWhich, RdbFile};
use crate::target::file_lane::{self, SharedFile};
use crate::target::graves::RunTag;
use crate::target::lane::{Lane, LaneRules};

/// Batches between the readers and a lane.
const LANE_BATCHES: usize = 4;

/// An open way.
pub(crate) struct Way {
    /// For the readers; `None` once it was taken.
    pub outlet: Option<Outlet>,
    /// The file that is being written.
    pub file: Option<SharedFile>,
    tasks: JoinSet<()>,
}

impl Job {
    /// Opens the lanes, or begins the file.
    pub(crate) async fn open_way(&self, ledger: &Arc<Ledger>) -> Result<Way, GaveUp> {
        self.open_tagged_way(ledger, None).await
    }

    /// The same, with connections that have a name at the target.
    pub(crate) async fn open_tagged_way(
        &self,
        ledger: &Arc<Ledger>,
        tag: Option<RunTag>,
    ) -> Result<Way, GaveUp> {
        let prepared = &self.prepared;
        let mut tasks = JoinSet::new();
        let (lanes, shape, file) = match &prepared.target {
            TargetEnd::Servers { site, bulk_len_max } => {
                let rules = Arc::new(LaneRules {
                    target: site.clone(),
                    on_conflict: prepared.options.on_conflict,
                    may_repeat: matches!(prepared.source, SourceEnd::Servers { .. }),
                    bulk_len_max: *bulk_len_max,
                    stored: self.stored_rules(),
                    refusals: Default::default(),
                    tag,
                });
                let threads = prepared.options.threads as usize;
                let lanes = Lanes::new(&site.routing.topology(), threads, || {
                    let (inlet, batches) = mpsc::channel(LANE_BATCHES);
                    let patience = Patience::new(prepared.options.retry_for);
                    tasks.spawn(Lane::new(rules.clone(), ledger.clone(), patience, batches).run());
                    inlet
                });
                (lanes, Shape::Payload, None)
            }
            TargetEnd::File(path) => {
                let keep = match prepared.options.on_conflict {
                    OnConflict::Replace => KeepWhich::Last,
                    OnConflict::Skip | OnConflict::Fail => KeepWhich::First,
                };
                let (path, version) = (path.clone(), prepared.reader.rdb_version);
                let file = blocking(ledger, move || RdbFile::create(&path, version, keep)).await?;
                let file: SharedFile = Arc::new(Mutex::new(Some(file)));
                let (inlet, batches) = mpsc::channel(LANE_BATCHES);
                let (writing, ledger) = (file.clone(), ledger.clone());
                tasks.spawn_blocking(move || file_lane::run(&writing, batches, &ledger));
                (Lanes::single(inlet), Shape::Value, Some(file))
            }
        };
        let transform = Transform {
            filter: self.filter.clone(),
            db_map: prepared.options.db_map.clone(),
            renames: prepared.options.renames.clone(),
        };
        let conversion = Conversion::new(prepared.reader, shape, ledger.clone());
        let options = OutletOptions {
            memory_bytes: prepared.options.memory_bytes,
            rate_limit: prepared.options.rate_limit,
            source_version: prepared.source_version,
            payload_max: match &prepared.target {
                TargetEnd::Servers { bulk_len_max, .. } => *bulk_len_max,
                TargetEnd::File(_) => u64::MAX,
            },
            chunk_threshold: match &prepared.target {
                TargetEnd::Servers { bulk_len_max, .. } => {
                    prepared.options.chunk_threshold.min(*bulk_len_max)
                }
                TargetEnd::File(_) => u64::MAX,
            },
        };
        let outlet = Outlet::new(transform, lanes, conversion, options, ledger.clone());
        Ok(Way {
            outlet: Some(outlet),
            file,
            tasks,
        })
    }

    fn stored_rules(&self) -> StoredRules {
        let options = &self.prepared.options;
        StoredRules {
            job_id: self.identity.id(),
            limits: ChunkLimits::new(options.chunk_elements),
            abilities: self.prepared.abilities,
            retry_for: options.retry_for,
        }
    }
}

impl Way {
    /// Waits for the lanes to settle everything. The outlets must be gone.
    pub(crate) async fn join(&mut self, ledger: &Ledger) {
        while let Some(joined) = self.tasks.join_next().await {
            if let Err(e) = joined {
                ledger.halt(format!("a task failed: {e}"));
            }
        }
    }

    /// Puts the file in its place, if it is one.
    pub(super) async fn finish_file(
        self,
        ledger: &Arc<Ledger>,
    ) -> Result<Option<Finished>, GaveUp> {
        let Some(file) = self.file else {
            return Ok(None);
        };
        let file = file.lock().unwrap_or_else(PoisonError::into_inner).take();
        let file = file.ok_or(GaveUp)?;
        let finished = blocking(ledger, move || file.finish()).await?;
        if finished.doubled > 0 {
            ledger.remark(format!(
                "{} records were of keys that stand in the file once already; one of each stayed",
                finished.doubled
            ));
        }
        Ok(Some(finished))
    }
}

/// Does what waits for the disk on a thread of its own; an error halts the job.
async fn blocking<T: Send + 'static>(
    ledger: &Ledger,
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, GaveUp> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(e)) => {
            ledger.halt(keyhaul_client::chain(&e));
            Err(GaveUp)
        }
        Err(e) => {
            ledger.halt(format!("a task failed: {e}"));
            Err(GaveUp)
        }
    }
}

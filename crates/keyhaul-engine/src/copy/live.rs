//! The part of a job that follows its source by what that tells: what it takes over from an earlier run, and one copy of
//! all keys. The rest is told in [`crate::follow::tracking`].

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use keyhaul_client::{Action, ClientError, Mode};
use tokio_util::sync::CancellationToken;

use crate::checkpoint::Earlier as InJournal;
use crate::copy::resume::Earlier;
use crate::copy::{Copied, Job};
use crate::follow::FollowJob;
use crate::follow::tracking::{self, Follows};
use crate::ledger::Ledger;
use crate::options::CopyOptions;
use crate::patience::{GaveUp, Patience};
use crate::prepare::{self, ReadBy, SizeRules, SourceEnd, TargetEnd};
use crate::site::Site;
use crate::target::functions::FunctionCounts;
use crate::transform::Origins;

impl Job {
    /// Whether the source is followed.
    pub(super) fn is_live(&self) -> bool {
        self.prepared.options.live.is_some()
    }

    /// Whether the source is followed as a replica does it.
    pub(super) fn follows_by_psync(&self) -> bool {
        let reads_by_psync = matches!(
            &self.prepared.source,
            SourceEnd::Servers {
                read_by: ReadBy::Psync,
                ..
            }
        );
        self.is_live() && reads_by_psync
    }

    /// Follows the source as a replica does it, until `end` is cancelled.
    pub(super) async fn follow_by_psync(
        self: &Arc<Self>,
        ledger: &Arc<Ledger>,
        end: &CancellationToken,
    ) -> Result<Copied, GaveUp> {
        let (Some(live), SourceEnd::Servers { site, .. }) =
            (&self.prepared.options.live, &self.prepared.source)
        else {
            return Err(GaveUp);
        };
        let ends = (live.clone(), site.clone());
        let following = FollowJob::open(self.clone(), ends, ledger.clone(), end.clone())?;
        match following.run().await? {
            true => ledger.end_synced(),
            // What is missing is known to the next run.
            false => ledger.stop.cancel(),
        }
        let functions = FunctionCounts {
            not_copied: ledger.functions_refused.load(Ordering::Relaxed),
            ..FunctionCounts::default()
        };
        Ok(Copied {
            functions,
            file: None,
        })
    }

    /// Copies and follows, where that is what the job is and PSYNC is not to be had; `None`: it is not.
    pub(super) async fn follow_by_what_it_tells(
        &self,
        ledger: &Arc<Ledger>,
    ) -> Option<Result<Copied, GaveUp>> {
        let live = self.prepared.options.live.as_ref()?;
        let (source, target) = match (&self.prepared.source, &self.prepared.target) {
            (
                SourceEnd::Servers {
                    site,
                    read_by: ReadBy::Scan(_),
                    ..
                },
                TargetEnd::Servers { site: target, .. },
            ) => (site, target),
            _ => return None,
        };
        let (was_interrupted, began_empty) = self.earlier_of_live();
        let is_empty = self.plan().target.keys == Some(0);
        if is_empty && let Some(checkpoint) = &self.checkpoint {
            checkpoint.target_was_empty();
        }
        let follows = Follows {
            job: self,
            source,
            target,
            live,
            may_delete_extras: is_empty || began_empty,
            was_interrupted,
        };
        let functions = tracking::run(&follows, ledger).await;
        Some(functions.map(|functions| Copied {
            functions,
            file: None,
        }))
    }

    /// Whether an earlier run of the job was stopped, and whether its target was empty when it began.
    fn earlier_of_live(&self) -> (bool, bool) {
        let earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        match &*earlier {
            InJournal::Unfinished(resumed) => (true, resumed.target_was_empty),
            InJournal::Nothing | InJournal::SetAside(_) => (false, false),
        }
    }

    /// Copies functions and all keys, until the target has acknowledged them. Of an earlier run, staging keys are removed and
    /// nothing else is built on.
    pub(crate) async fn copy_for_live(
        &self,
        source: &Arc<Site>,
        ledger: &Arc<Ledger>,
    ) -> Result<FunctionCounts, GaveUp> {
        let mut way = self.open_way(ledger).await?;
        let outlet = way.outlet.take().ok_or(GaveUp)?;
        let functions = self.copy_functions(source, None, ledger).await;
        let earlier = Earlier {
            set_aside: self.left_in_pieces(),
            ..Earlier::default()
        };
        let copied = self.copy_by_scan(source, outlet, earlier, ledger).await;
        way.join(ledger).await;
        if ledger.halted().is_some() || ledger.stop.is_cancelled() {
            return Err(GaveUp);
        }
        copied.map(|()| functions)
    }

    /// The dbs that are gone over: they are others than when the job began.
    ///
    /// # Errors
    /// [`GaveUp`] when the job was halted or is to stop.
    pub(super) async fn dbs_now(
        &self,
        source: &Arc<Site>,
        ledger: &Ledger,
    ) -> Result<Vec<u32>, GaveUp> {
        let found = self.plan().dbs.iter().map(|db| db.source_db).collect();
        if source.routing.mode() == Mode::Cluster || self.chosen_dbs().is_some() {
            return Ok(found);
        }
        let mut patience = Patience::new(self.options().retry_for);
        loop {
            let asked = async {
                let address = source.address_of_node("")?;
                source.open(&address).await?.dbs_with_keys().await
            };
            match asked.await {
                Ok(dbs) => return Ok(dbs),
                Err(ClientError::Server { error, .. }) if error.action() == Action::GiveUp => {
                    return Ok(found);
                }
                Err(e) => source.recover(&e, &mut patience, ledger).await?,
            }
        }
    }

    /// Big keys of which an earlier run may have left a staging key.
    fn left_in_pieces(&self) -> Vec<crate::checkpoint::BigKeyState> {
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = match std::mem::replace(&mut *earlier, InJournal::Nothing) {
            InJournal::Nothing => Vec::new(),
            InJournal::SetAside(big_keys) => big_keys,
            InJournal::Unfinished(resumed) => resumed.big_keys,
        };
        left.retain(|state| !state.is_done);
        left
    }

    pub(crate) fn options(&self) -> &CopyOptions {
        &self.prepared.options
    }

    /// The dbs that the user chose; `None`: all.
    pub(crate) fn chosen_dbs(&self) -> Option<&[u32]> {
        self.prepared.chosen_dbs.as_deref()
    }

    /// The way back from names on the target.
    pub(crate) fn origins(&self) -> Origins {
        Origins {
            filter: self.filter.clone(),
            db_map: self.prepared.options.db_map.clone(),
            renames: self.prepared.options.renames.clone(),
            dbs: self.prepared.chosen_dbs.clone(),
        }
    }

    /// Whether two keys of the source can become one; new dbs may come.
    pub(crate) fn may_clash(&self) -> bool {
        let options = &self.prepared.options;
        let maps = options.db_map.iter().next().is_some();
        match &self.prepared.chosen_dbs {
            Some(chosen) => prepare::collisions_are_possible(options, chosen),
            None => maps || !options.renames.is_empty(),
        }
    }

    /// What becomes of changed keys by size. Unlike in a copy they are always asked for: keys grow.
    pub(crate) fn live_sizes(&self) -> Option<SizeRules> {
        let options = &self.prepared.options;
        let TargetEnd::Servers { bulk_len_max, .. } = &self.prepared.target else {
            return None;
        };
        Some(SizeRules {
            above: None,
            mem_limit: options.mem_limit,
            chunk_threshold: options.chunk_threshold.min(*bulk_len_max),
        })
    }
}

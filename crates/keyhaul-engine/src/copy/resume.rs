//! What a job takes over from an earlier run of the same command, and leaves to a later one.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use keyhaul_client::KeyLook;

use crate::checkpoint::{self, BigKeyState, Checkpoint, JobIdentity, Opened, ScanPosition};
use crate::compare::Lookup;
use crate::copy::Job;
use crate::ledger::Ledger;
use crate::options::CopyOptions;
use crate::patience::GaveUp;
use crate::place::Place;
use crate::plan::{PlanError, Warning};
use crate::prepare::{ReadBy, SourceEnd, TargetEnd};
use crate::site::Site;
use crate::transform::renamed;

/// What an earlier run did, as far as this one builds on it.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    pub positions: Vec<ScanPosition>,
    pub big_keys: Vec<BigKeyState>,
    /// Big keys of which staging keys are to be removed.
    pub set_aside: Vec<BigKeyState>,
}

/// What makes another run the same job: both ends, and which keys go over under which name, as the user said it.
pub(super) fn identity(source: &Place, target: &Place, options: &CopyOptions) -> JobIdentity {
    let patterns = (&options.key_patterns, &options.key_excludes);
    let names = (&options.db_map, &options.renames);
    let keys = (&options.scope, &options.key_types, &options.dbs);
    let rules = (options.mem_limit, options.on_conflict);
    let live = options.live.as_ref();
    let live = live.map_or(String::new(), |live| format!(" live {}", live.copies_first));
    JobIdentity {
        source: source.to_string(),
        target: target.to_string(),
        options: format!("{patterns:?} {names:?} {keys:?} {rules:?}{live}"),
    }
}

impl Job {
    /// Opens the checkpoint of the job, where it can have one: keys that are found by SCAN and go into a server.
    /// Call it once nothing stands in the way of the run.
    ///
    /// # Errors
    /// [`PlanError::Refused`] where the same job is running, or the checkpoint cannot be written.
    pub fn open_checkpoint(&mut self) -> Result<(), PlanError> {
        let Some(state_dir) = &self.prepared.options.state_dir else {
            return Ok(());
        };
        let is_resumable = matches!(
            (&self.prepared.source, &self.prepared.target),
            (
                SourceEnd::Servers {
                    read_by: ReadBy::Scan(_),
                    ..
                },
                TargetEnd::Servers { .. }
            )
        );
        if !is_resumable && !self.follows_by_psync() {
            return Ok(());
        }
        let (checkpoint, earlier) =
            match Checkpoint::open_for(state_dir, &self.identity, &self.prepared.options)? {
                Opened::Kept(checkpoint, earlier) => (checkpoint, *earlier),
                Opened::Without(line) => {
                    let warning = Warning::new("no-checkpoint", line);
                    self.prepared.plan.warnings.push(warning);
                    return Ok(());
                }
            };
        self.checkpoint = Some(checkpoint);
        *self
            .earlier
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner) = earlier;
        Ok(())
    }

    /// Takes over what an earlier run did; only once, as a second pass copies all keys again.
    pub(super) fn take_earlier(&self, ledger: &Ledger) -> Earlier {
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *earlier, checkpoint::Earlier::Nothing) {
            checkpoint::Earlier::Nothing => Earlier::default(),
            checkpoint::Earlier::SetAside(big_keys) => Earlier {
                set_aside: big_keys,
                ..Earlier::default()
            },
            checkpoint::Earlier::Unfinished(resumed) => {
                for key in &resumed.not_moved {
                    ledger.not_moved(key.db, &key.key, key.reason.clone());
                }
                ledger
                    .copied_before
                    .store(resumed.keys_done, Ordering::Relaxed);
                if resumed.keys_done > 0 || !resumed.big_keys.is_empty() {
                    ledger.remark(format!(
                        "goes on where an earlier run of this command stopped: it had copied about {} keys",
                        resumed.keys_done
                    ));
                }
                if resumed.lines_dropped > 0 {
                    ledger.remark(format!(
                        "the checkpoint was damaged: {} lines of it are of no use",
                        resumed.lines_dropped
                    ));
                }
                Earlier {
                    positions: resumed.positions,
                    big_keys: resumed.big_keys,
                    set_aside: Vec::new(),
                }
            }
        }
    }

    /// Looks whether the target still holds what an earlier run left there. If not, all keys are copied again.
    ///
    /// # Errors
    /// [`GaveUp`] when the job was halted or is to stop.
    pub(super) async fn check_earlier(
        &self,
        target: &Arc<Site>,
        processes: &[(String, String)],
        ledger: &Ledger,
    ) -> Result<(), GaveUp> {
        /// Fewer keys than that part of what was copied, in percent, are not explained by keys that expired.
        const KEYS_LEFT_MIN: u64 = 90;
        let mut done = Vec::new();
        let is_doubtful = {
            let earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
            let checkpoint::Earlier::Unfinished(resumed) = &*earlier else {
                return Ok(());
            };
            for state in resumed.big_keys.iter().filter(|state| state.is_done) {
                done.push((state.key.db, state.key.key.clone()));
            }
            let keys = self.plan().target.keys;
            let are_missing =
                keys.is_some_and(|keys| keys < resumed.keys_done / 100 * KEYS_LEFT_MIN);
            let was = resumed.target.as_deref();
            are_missing || was.is_some_and(|was| was != process_text(processes))
        };
        let missing = self.missing(target, done, ledger).await?;
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        let checkpoint::Earlier::Unfinished(resumed) = &mut *earlier else {
            return Ok(());
        };
        for state in &mut resumed.big_keys {
            let is_missing = missing.contains(&(state.key.db, state.key.key.clone()));
            state.is_done &= !is_doubtful && !is_missing;
        }
        if is_doubtful {
            ledger.remark(
                "the target does not hold what an earlier run copied, or its servers were restarted since: all keys are copied again".into(),
            );
            resumed.positions.clear();
            resumed.not_moved.clear();
            resumed.keys_done = 0;
            if let Some(checkpoint) = &self.checkpoint {
                checkpoint.begin_anew();
            }
        }
        Ok(())
    }

    /// Those of these big keys that are not on the target.
    async fn missing(
        &self,
        target: &Arc<Site>,
        keys: Vec<(u32, Bytes)>,
        ledger: &Ledger,
    ) -> Result<HashSet<(u32, Bytes)>, GaveUp> {
        let options = &self.prepared.options;
        let mut lookup = Lookup::new(target.clone(), options.retry_for);
        let mut missing = HashSet::new();
        for (db, key) in keys {
            let name = renamed(&options.renames, &key).unwrap_or_else(|| key.clone());
            let target_db = options.db_map.target_db(db);
            let looks = lookup.look(target_db, &[name], ledger).await?;
            let is_there =
                |look: &Result<KeyLook, _>| !look.as_ref().is_ok_and(KeyLook::is_missing);
            if !looks.first().is_some_and(is_there) {
                missing.insert((db, key));
            }
        }
        Ok(missing)
    }

    /// Notes what the target is.
    pub(super) fn note_target(&self, processes: &[(String, String)]) {
        if let Some(checkpoint) = &self.checkpoint {
            checkpoint.target(&process_text(processes));
        }
    }

    /// At the end: a job that is done leaves no checkpoint. Returns where that of a job is which is not.
    pub(super) fn close_checkpoint(&self, ledger: &Ledger, is_stopped: bool) -> Option<PathBuf> {
        self.checkpoint.as_ref()?.close(ledger, is_stopped)
    }
}

/// The processes of the target's primaries as a text.
pub(crate) fn process_text(processes: &[(String, String)]) -> String {
    let mut runs: Vec<&str> = processes.iter().map(|(_, run)| run.as_str()).collect();
    runs.sort_unstable();
    runs.join(" ")
}

//! What a job takes over from an earlier run of the same command, and leaves to a later one.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use crate::checkpoint::{
    self, BigKeyState, Checkpoint, CheckpointError, JobIdentity, ScanPosition, Start,
};
use crate::copy::Job;
use crate::ledger::Ledger;
use crate::options::CopyOptions;
use crate::place::Place;
use crate::plan::PlanError;
use crate::prepare::{ReadBy, SourceEnd, TargetEnd};

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
    JobIdentity {
        source: source.to_string(),
        target: target.to_string(),
        options: format!("{patterns:?} {names:?} {keys:?} {rules:?}"),
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
        if !is_resumable {
            return Ok(());
        }
        let start = match self.prepared.options.restart {
            true => Start::Restart,
            false => Start::Resume,
        };
        let opened = Checkpoint::open(state_dir, &self.identity, start);
        let (checkpoint, earlier) = match opened {
            Ok(opened) => opened,
            Err(e @ CheckpointError::Io { .. }) if !self.prepared.options.needs_state_dir => {
                let reason = keyhaul_client::chain(&e);
                let line = format!("a run that stops cannot be gone on with: {reason}");
                self.prepared.plan.warnings.push(line);
                return Ok(());
            }
            Err(e) => return Err(PlanError::Refused(keyhaul_client::chain(&e))),
        };
        self.checkpoint = Some(Arc::new(checkpoint));
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
                ledger.remark(format!(
                    "goes on where an earlier run of this command stopped: it had copied {} keys",
                    resumed.keys_copied
                ));
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

    /// At the end: a job that is done leaves no checkpoint. Returns where that of a job is which is not.
    pub(super) fn close_checkpoint(&self, ledger: &Ledger, is_stopped: bool) -> Option<PathBuf> {
        let checkpoint = self.checkpoint.as_ref()?;
        if !is_stopped {
            if let Err(e) = checkpoint.finish() {
                ledger.remark(keyhaul_client::chain(&e));
            }
            return None;
        }
        match checkpoint.failure() {
            None => Some(checkpoint.path().to_owned()),
            Some(reason) => {
                ledger.remark(format!(
                    "how far it came could not be saved all the time ({reason}): the same command may do some of it again"
                ));
                Some(checkpoint.path().to_owned())
            }
        }
    }
}

//! The copy job, told from top to bottom.

use std::sync::Arc;

use keyhaul_client::Endpoint;
use tokio_util::sync::CancellationToken;

use crate::options::CopyOptions;
use crate::plan::{Plan, PlanError};
use crate::progress::Progress;
use crate::receipt::Receipt;

/// A copy job whose plan is made: both ends are known, nothing was written.
#[derive(Debug)]
pub struct Job {
    plan: Plan,
}

impl Job {
    /// Probes both ends and says what would be done.
    ///
    /// # Errors
    /// [`PlanError`]; nothing was written.
    pub async fn prepare(
        _source: Endpoint,
        _target: Endpoint,
        _options: CopyOptions,
    ) -> Result<Self, PlanError> {
        Err(PlanError::Refused("under construction".into()))
    }

    /// What was found and what will be done.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Does it. When `stop` is cancelled, what is in flight is finished and the rest left.
    pub async fn run(self, _progress: Arc<Progress>, _stop: CancellationToken) -> Receipt {
        unreachable!("under construction")
    }
}

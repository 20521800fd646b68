//! Follows a source without PSYNC: it tells the names of keys that change, and those are read again.
//!
//! ```text
//!  primary ──► listener ──► dirty ──► feeder ──► readers ──► lanes ──► target
//!     │           told        ▲                                 │
//!     └─ asker ── untold ─────┘◄──────────── settled ───────────┘
//! ```
//!
//! A pass begins with links that tell, goes over all keys as a copy does while what is told is kept, and then
//! reads again what was told, until the job ends or nobody knows any more what changed: a link broke, more keys
//! changed than there is room for, a db was emptied, slots moved, the target lost its process. Then everything is dirty, and the
//! next pass begins.
//!
//! - [`listener`] listens to one primary, [`untold`] finds out what it does not tell by itself.
//! - [`dirty`] is the set of keys that are to be read again, [`feeder`] has them read.
//! - [`hot`] settles large values that are written again and again.
//! - [`clash`] knows which of several keys is written that become one.
//! - [`extras`] finds what only the target has, [`watch`] what makes everything suspect.
//! - [`pass`] puts them together, and knows what is applied.

mod clash;
mod dbs;
mod dirty;
mod extras;
mod feeder;
mod hot;
mod listener;
mod pass;
mod untold;
mod watch;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use keyhaul_client::Backoff;

use crate::copy::Job;
use crate::ledger::Ledger;
use crate::options::LiveOptions;
use crate::patience::GaveUp;
use crate::progress::{Phase, Progress};
use crate::site::Site;
use crate::target::functions::FunctionCounts;

use pass::{Ended, Pass, Shards};

/// A pass that ends before puts the next one off a little, and a little more each time.
const PASS_MIN: Duration = Duration::from_secs(30);

/// What a job does that follows its source by what that tells.
pub(crate) struct Follows<'a> {
    pub job: &'a Job,
    pub source: &'a Arc<Site>,
    pub target: &'a Arc<Site>,
    pub live: &'a LiveOptions,
    /// Keys that only the target has are of this job: it began with an empty one.
    pub may_delete_extras: bool,
    /// An earlier run of the job was stopped, and nobody knows what changed since.
    pub was_interrupted: bool,
}

/// Copies and follows, until the job is told to stop, or is synced where that is its end.
///
/// # Errors
/// [`GaveUp`] when the job was halted, or stopped before it was synced.
pub(crate) async fn run(
    follows: &Follows<'_>,
    ledger: &Arc<Ledger>,
) -> Result<FunctionCounts, GaveUp> {
    let mut shards = Shards::default();
    let mut backoff = Backoff::default();
    let mut functions = FunctionCounts::default();
    let mut copies = follows.live.copies_first;
    let mut looks_for_extras = follows.was_interrupted;
    if follows.was_interrupted {
        ledger.remark("an earlier run of this command stopped, and what changed since is not known: all keys are copied again".to_owned());
    }
    loop {
        let pass = Pass::begin(follows, &mut shards, ledger).await?;
        let began = Instant::now();
        if copies {
            for shard in shards.all() {
                shard.full_resyncs.fetch_add(1, Ordering::Relaxed);
            }
            ledger.begin_anew();
            ledger.progress.enter(Phase::Copying);
            functions = pass.copy().await?;
        }
        ledger.progress.enter(Phase::Following);
        let ended = pass
            .follow(looks_for_extras && follows.may_delete_extras)
            .await?;
        let reason = match ended {
            Ended::Synced => return Ok(functions),
            Ended::Everything(reason) => reason,
        };
        if ledger.stop.is_cancelled() {
            return Err(GaveUp);
        }
        (copies, looks_for_extras) = (true, true);
        ledger.remark(format!("{reason}: all keys are copied again"));
        if !follows.may_delete_extras {
            ledger.remark("the target held keys before this job began, so keys that the source has no more are not looked for there; keyhaul compare --delete-extra removes them".to_owned());
        }
        Progress::add(&ledger.progress.retries, 1);
        if began.elapsed() > PASS_MIN {
            backoff.reset();
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next_wait()) => {}
            () = ledger.stop.cancelled() => return Err(GaveUp),
        }
    }
}

//! What a shard shows of itself, also while its task is held up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use keyhaul_client::{ClientError, OffsetMoment, ReadConnection};

use crate::follow::applied::Applied;
use crate::follow::clock::SourceClock;
use crate::follow::marks::Marks;
use crate::follow::reread::SourceView;
use crate::follow::status::{ShardStatus, State};
use crate::site::Site;

/// Between two questions for the source's clock and offset.
const INTERVAL: Duration = Duration::from_millis(250);
/// How long the answer is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// A source that has told nothing for longer may have done anything meanwhile.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// A lag below this is no catching up.
const FOLLOWING_LAG_MS: u64 = 1000;

/// Asks the source where it is, and says how far the target is behind.
pub(crate) struct Reporter {
    pub site: Arc<Site>,
    pub view: Arc<SourceView>,
    pub applied: Arc<Applied>,
    pub marks: Arc<Marks>,
    pub status: Arc<ShardStatus>,
    clock: Mutex<SourceClock>,
    /// The snapshot is on the target.
    is_loaded: AtomicBool,
}

impl Reporter {
    pub(crate) fn new(
        site: Arc<Site>,
        view: Arc<SourceView>,
        (applied, marks): (Arc<Applied>, Arc<Marks>),
        status: Arc<ShardStatus>,
        is_loaded: bool,
    ) -> Self {
        Self {
            site,
            view,
            applied,
            marks,
            status,
            clock: Mutex::default(),
            is_loaded: AtomicBool::new(is_loaded),
        }
    }

    /// The snapshot is on the target, or another one begins.
    pub(crate) fn set_loaded(&self, is_loaded: bool) {
        self.is_loaded.store(is_loaded, Ordering::Release);
        if !is_loaded {
            self.status.enter(State::Copying);
        }
    }

    /// Whether the snapshot is on the target.
    pub(crate) fn is_loaded(&self) -> bool {
        self.is_loaded.load(Ordering::Acquire)
    }

    /// What is known of the source's clock.
    pub(crate) fn clock(&self) -> MutexGuard<'_, SourceClock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks and shows, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut open = None;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let answer = tokio::time::timeout(ANSWER_MAX, self.ask(&mut open));
            let mut answer = std::pin::pin!(answer);
            let told = loop {
                // A source that does not answer must not keep from showing that.
                tokio::select! {
                    told = &mut answer => break told,
                    () = tokio::time::sleep(INTERVAL) => self.show(),
                }
            };
            match told {
                Ok(Ok(Some((moment, asked)))) => self.told(&moment, asked),
                Ok(Ok(None)) => {}
                // The link has the same trouble, and tells it.
                Ok(Err(e)) => tracing::info!("source: {}", keyhaul_client::chain(&e)),
                // The connection went with the question.
                Err(_) => {}
            }
            self.show();
        }
    }

    /// `None`: there is no link at present.
    async fn ask(
        &self,
        open: &mut Option<ReadConnection>,
    ) -> Result<Option<(OffsetMoment, Instant)>, ClientError> {
        // Whatever goes wrong, the connection is of no use then.
        let known = open.take();
        let Some(node) = self.view.node() else {
            return Ok(None);
        };
        let mut connection = match known {
            Some(connection) if *connection.address() == node => connection,
            _ => self.site.open(&node).await?,
        };
        let asked = Instant::now();
        let moment = connection.offset_moment().await?;
        *open = Some(connection);
        Ok(Some((moment, asked)))
    }

    fn told(&self, moment: &OffsetMoment, asked: Instant) {
        if self.is_loaded() && self.view.is_same(&moment.at) {
            let offset = moment.at.offset;
            self.status.source_offset.store(offset, Ordering::Relaxed);
            self.clock().told(moment, asked, Instant::now());
        }
    }

    /// Shows how far the target is.
    pub(crate) fn show(&self) {
        let status = &self.status;
        if !self.is_loaded() {
            return;
        }
        let reached = self.applied.reached().offset;
        let (is_behind, is_silent, lag_ms) = {
            let mut clock = self.clock();
            clock.applied(reached);
            let latest = clock.latest().map(|(offset, _)| offset);
            (
                latest.is_none_or(|latest| reached < latest),
                clock.is_silent(SILENCE_MAX) || self.view.node().is_none(),
                clock.lag_ms(),
            )
        };
        let lag_ms = lag_ms.filter(|_| !is_silent);
        let received = status.received_offset.load(Ordering::Relaxed);
        let is_synced =
            !is_behind && !is_silent && received <= reached && self.marks.unwritten_count() == 0;
        status.applied_offset.store(reached, Ordering::Relaxed);
        let shown_ms = lag_ms.unwrap_or(u64::MAX);
        status.lag_ms.store(shown_ms, Ordering::Relaxed);
        let open = self.marks.open_count() as u64;
        status.keys_open.store(open, Ordering::Relaxed);
        status.enter(match lag_ms {
            _ if is_synced => State::Synced,
            Some(lag_ms) if lag_ms <= FOLLOWING_LAG_MS => State::Following,
            _ => State::CatchingUp,
        });
    }

    /// All that was to be applied is, and nothing more will be: what comes later is not of this run.
    pub(crate) fn ended_synced(&self) {
        let reached = self.applied.reached().offset;
        let status = &self.status;
        for offset in [
            &status.source_offset,
            &status.received_offset,
            &status.applied_offset,
        ] {
            offset.store(reached, Ordering::Relaxed);
        }
        status.lag_ms.store(0, Ordering::Relaxed);
    }
}

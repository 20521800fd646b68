//! A running job as others look at it: the counters of the engine, and how fast they grow.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use keyhaul_engine::follow::StatusSnapshot;
use keyhaul_engine::progress::{Phase, Progress, Snapshot};

use crate::live;
use crate::progress::keys_settled;
use crate::rates::Rates;
use crate::receipt::Ends;

/// A job; shared with whoever looks.
#[derive(Debug)]
pub(crate) struct Observed {
    progress: Arc<Progress>,
    ends: Ends,
    /// It follows its source.
    follows: bool,
    began: Instant,
    rates: Mutex<Growth>,
}

/// Of keys and bytes that go over, and of commands that are applied.
#[derive(Debug, Default)]
struct Growth {
    phase: Phase,
    keys: Rates,
    commands: Rates,
}

/// A job at one moment.
#[derive(Debug)]
pub(crate) struct Moment<'a> {
    pub(crate) ends: &'a Ends,
    pub(crate) uptime: Duration,
    pub(crate) counts: Snapshot,
    /// `None`: it does not follow its source.
    pub(crate) live: Option<StatusSnapshot>,
    /// Per second over the last seconds; `None`: not known yet.
    pub(crate) keys_and_bytes: Option<(f64, f64)>,
    pub(crate) commands: Option<f64>,
}

impl Observed {
    pub(crate) fn new(progress: Arc<Progress>, ends: Ends, follows: bool) -> Self {
        Self {
            progress,
            ends,
            follows,
            began: Instant::now(),
            rates: Mutex::default(),
        }
    }

    /// Looks at the counters, for the rates; to be done about once a second.
    pub(crate) fn note(&self) {
        let (counts, live) = (self.progress.snapshot(), self.progress.live.snapshot());
        let now = Instant::now();
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let phase = live::text::phase(counts.phase, self.follows.then_some(&live));
        if rates.phase != phase {
            *rates = Growth {
                phase,
                ..Growth::default()
            };
        }
        let done = keys_settled(&counts);
        let commands = live::sum(&live, |shard| shard.commands);
        rates.keys.add(now, done, counts.bytes_copied);
        rates.commands.add(now, commands, 0);
    }

    /// The job now.
    pub(crate) fn moment(&self) -> Moment<'_> {
        let rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let (keys_and_bytes, commands) = (rates.keys.per_second(), rates.commands.per_second());
        drop(rates);
        Moment {
            ends: &self.ends,
            uptime: self.began.elapsed(),
            counts: self.progress.snapshot(),
            live: self.follows.then(|| self.progress.live.snapshot()),
            keys_and_bytes,
            commands: commands.map(|(commands, _)| commands),
        }
    }
}

impl Moment<'_> {
    /// What the job does, in one word.
    pub(crate) fn state(&self) -> &'static str {
        live::text::state(self.counts.phase, self.live.as_ref())
    }

    /// Why nothing moves at present.
    pub(crate) fn waiting(&self) -> Option<&str> {
        let of_shard = self.live.as_ref().and_then(live::text::waiting);
        self.counts.waiting.as_deref().or(of_shard)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::live::tests::snapshot;

    pub(in crate::status) fn ends() -> Ends {
        Ends {
            source: "redis://a:1".into(),
            target: "redis://\"b\":1".into(),
        }
    }

    /// A job that follows two shards.
    pub(in crate::status) fn moment(ends: &Ends) -> Moment<'_> {
        Moment {
            ends,
            uptime: Duration::from_millis(1500),
            counts: Snapshot {
                phase: Phase::Following,
                keys_expected: 100,
                keys_found: 99,
                keys_copied: 90,
                keys_skipped: 1,
                keys_gone: 2,
                keys_not_moved: 3,
                bytes_copied: 4096,
                retries: 5,
                ..Snapshot::default()
            },
            live: Some(snapshot()),
            keys_and_bytes: Some((10.0, 1024.0)),
            commands: Some(7.5),
        }
    }

    #[test]
    fn a_copy_has_no_live_state() {
        let progress = Arc::new(Progress::default());
        let copy = Observed::new(progress.clone(), ends(), false);
        copy.note();
        let now = copy.moment();
        assert_eq!((now.state(), now.waiting()), ("starting", None));
        assert!(now.live.is_none() && now.keys_and_bytes.is_none());
        assert!(
            Observed::new(progress, ends(), true)
                .moment()
                .live
                .is_some()
        );
    }
}

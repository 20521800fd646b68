//! Which moment of the source's clock is applied: from pairs of time and offset that the source tells in one transaction.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use keyhaul_client::OffsetMoment;

/// Pairs that are kept; of more, every other one goes.
const PAIRS_MAX: usize = 4096;

/// The pairs of one shard.
#[derive(Debug, Default)]
pub(crate) struct SourceClock {
    /// Those beyond what is applied, oldest first.
    pairs: VecDeque<Pair>,
    /// All that the source did up to there is applied, Unix ms.
    applied_ms: Option<i64>,
    latest: Option<Pair>,
}

#[derive(Debug, Clone, Copy)]
struct Pair {
    offset: u64,
    source_ms: i64,
    asked: Instant,
    heard: Instant,
}

impl SourceClock {
    /// The source told this.
    pub(crate) fn told(&mut self, moment: &OffsetMoment, asked: Instant, heard: Instant) {
        let pair = Pair {
            offset: moment.at.offset,
            source_ms: moment.time_ms,
            asked,
            heard,
        };
        if self.pairs.len() >= PAIRS_MAX {
            let mut is_kept = false;
            self.pairs.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
        }
        self.pairs.push_back(pair);
        self.latest = Some(pair);
    }

    /// The stream is applied up to `offset`.
    pub(crate) fn applied(&mut self, offset: u64) {
        while let Some(pair) = self.pairs.front() {
            if pair.offset > offset {
                break;
            }
            self.applied_ms = Some(pair.source_ms);
            self.pairs.pop_front();
        }
    }

    /// All that the source did up to there is applied, its clock, Unix ms.
    pub(crate) fn applied_ms(&self) -> Option<i64> {
        self.applied_ms
    }

    /// Whether the source has told nothing for so long that nobody knows where it is.
    pub(crate) fn is_silent(&self, longest: Duration) -> bool {
        self.latest
            .is_none_or(|latest| latest.heard.elapsed() > longest)
    }

    /// What the source's clock shows, Unix ms.
    pub(crate) fn source_now_ms(&self) -> Option<i64> {
        let latest = self.latest?;
        let since = i64::try_from(latest.heard.elapsed().as_millis()).unwrap_or(i64::MAX);
        Some(latest.source_ms.saturating_add(since))
    }

    /// The offset that was told last, and when that was asked for.
    pub(crate) fn latest(&self) -> Option<(u64, Instant)> {
        self.latest.map(|pair| (pair.offset, pair.asked))
    }

    /// How far the target is behind, ms: 0 where all is applied that the source had done when it was asked last.
    pub(crate) fn lag_ms(&self) -> Option<u64> {
        match self.pairs.front() {
            None => self.applied_ms.map(|_| 0),
            Some(first) => {
                let now = self.source_now_ms()?;
                let since = self.applied_ms.unwrap_or(first.source_ms);
                Some(u64::try_from(now.saturating_sub(since)).unwrap_or(0))
            }
        }
    }

    /// Another history.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

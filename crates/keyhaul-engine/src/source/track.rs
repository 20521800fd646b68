//! How far the scan of one primary has come, counted by what the target has acknowledged.
//!
//! Each page of SCAN gets a ticket, which every batch made of its keys holds until it is settled. A page is
//! done when its last ticket is gone, and the position is behind the last page before which all are done.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::checkpoint::{Checkpoint, ScanPosition};
use crate::ledger::Ledger;

/// A position is written down so often at most.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// The pages of one scan.
#[derive(Debug)]
pub(crate) struct ScanTrack {
    checkpoint: Arc<Checkpoint>,
    ledger: Arc<Ledger>,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    /// The index of the first one that is kept.
    first: u64,
    waiting: VecDeque<Page>,
    /// Where the scan would go on, and whether that is written down.
    reached: Option<(ScanPosition, bool)>,
    saved: Option<Instant>,
}

#[derive(Debug)]
struct Page {
    after: ScanPosition,
    is_done: bool,
}

/// Held while keys of a page are not settled.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    _held: Arc<Held>,
}

#[derive(Debug)]
struct Held {
    track: Arc<ScanTrack>,
    index: u64,
}

impl ScanTrack {
    pub(crate) fn new(checkpoint: Arc<Checkpoint>, ledger: Arc<Ledger>) -> Self {
        Self {
            checkpoint,
            ledger,
            pages: Mutex::default(),
        }
    }

    /// A ticket for the next page, behind which the scan goes on at this position.
    pub(crate) fn page(self: &Arc<Self>, after: ScanPosition) -> Ticket {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.waiting.push_back(Page {
            after,
            is_done: false,
        });
        let index = pages.first + pages.waiting.len() as u64 - 1;
        Ticket {
            _held: Arc::new(Held {
                track: self.clone(),
                index,
            }),
        }
    }

    fn done(&self, index: u64) {
        // Keys were dropped that nobody settled: what comes from here on proves nothing.
        if self.ledger.leaves_keys() {
            return;
        }
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let place = index
            .checked_sub(pages.first)
            .and_then(|at| usize::try_from(at).ok());
        if let Some(page) = place.and_then(|at| pages.waiting.get_mut(at)) {
            page.is_done = true;
        }
        while pages.waiting.front().is_some_and(|page| page.is_done) {
            if let Some(page) = pages.waiting.pop_front() {
                pages.first += 1;
                pages.reached = Some((page.after, false));
            }
        }
        let is_due = pages
            .saved
            .is_none_or(|saved| saved.elapsed() >= SAVE_EVERY);
        if is_due {
            self.save(&mut pages);
        }
    }

    /// Writes the position down.
    pub(crate) fn save_now(&self) {
        self.save(&mut self.pages.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn save(&self, pages: &mut Pages) {
        if let Some((position, is_saved)) = &mut pages.reached
            && !*is_saved
        {
            let copied = &self.ledger.progress.keys_copied;
            let copied = copied.load(std::sync::atomic::Ordering::Relaxed);
            self.checkpoint.position(position, copied);
            *is_saved = true;
            pages.saved = Some(Instant::now());
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.track.done(self.index);
    }
}

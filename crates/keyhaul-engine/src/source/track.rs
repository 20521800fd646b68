//! How far the scan of one primary has come, counted by what the target has acknowledged.
//!
//! Each page of SCAN gets a ticket, which every batch made of its keys holds until it is settled. A page is
//! done when all of its tickets are settled, and the position is behind the last page before which all are
//! done. A ticket that is dropped, with a task that is torn down or a key that nobody cared for, is never
//! settled: then the position stays before its page.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::checkpoint::{Checkpoint, ScanPosition};
use crate::ledger::Ledger;
use crate::source::rounds::Resume;

/// A position is written down so often at most.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// The pages of one scan.
pub(crate) struct ScanTrack {
    checkpoint: Arc<Checkpoint>,
    /// It is the target that is scanned.
    pub of_target: bool,
    keys_done: Arc<dyn Fn() -> u64 + Send + Sync>,
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

impl Drop for ScanTrack {
    /// The last pages are settled after the scan has ended, and nobody is there to write that down.
    fn drop(&mut self) {
        self.save_now();
    }
}

impl fmt::Debug for ScanTrack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScanTrack").finish_non_exhaustive()
    }
}

/// Held while keys of a page are not settled. Each copy of it must be settled.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<Open>);

#[derive(Debug)]
struct Open {
    of: TicketOf,
    /// Copies that are not settled.
    count: AtomicUsize,
}

/// What a ticket is for.
enum TicketOf {
    Page(Arc<ScanTrack>, u64),
    /// A key that the journal knows by name.
    BigKey {
        db: u32,
        key: Bytes,
        checkpoint: Arc<Checkpoint>,
        ledger: Arc<Ledger>,
    },
    /// Whoever is to be told.
    Call(Mutex<Option<Box<dyn FnOnce() + Send>>>),
}

impl fmt::Debug for TicketOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Page(_, index) => f.debug_tuple("Page").field(index).finish(),
            Self::BigKey { db, .. } => f.debug_struct("BigKey").field("db", db).finish(),
            Self::Call(_) => f.write_str("Call"),
        }
    }
}

impl Clone for Ticket {
    fn clone(&self) -> Self {
        self.0.count.fetch_add(1, Ordering::AcqRel);
        Self(self.0.clone())
    }
}

impl Ticket {
    /// A ticket for one big key that goes over whole.
    pub(crate) fn of_big_key(
        db: u32,
        key: Bytes,
        checkpoint: Arc<Checkpoint>,
        ledger: Arc<Ledger>,
    ) -> Self {
        Self::new(TicketOf::BigKey {
            db,
            key,
            checkpoint,
            ledger,
        })
    }

    /// A ticket, and what comes once all copies of it are settled. It fails when one of them is dropped instead.
    pub(crate) fn awaited() -> (Self, oneshot::Receiver<()>) {
        let (sender, settled) = oneshot::channel();
        // Who waited may be gone.
        let call = move || {
            let _ = sender.send(());
        };
        (Self::calling(call), settled)
    }

    /// A ticket that calls this when it is settled.
    pub(crate) fn calling(call: impl FnOnce() + Send + 'static) -> Self {
        Self::new(TicketOf::Call(Mutex::new(Some(Box::new(call)))))
    }

    fn new(of: TicketOf) -> Self {
        let count = AtomicUsize::new(1);
        Self(Arc::new(Open { of, count }))
    }

    /// The keys that this copy stands for are settled.
    pub(crate) fn settle(self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            match &self.0.of {
                TicketOf::Page(track, index) => track.done(*index),
                TicketOf::BigKey {
                    db,
                    key,
                    checkpoint,
                    ledger,
                } if !ledger.leaves_keys() => checkpoint.big_done(*db, key),
                TicketOf::BigKey { .. } => {}
                TicketOf::Call(call) => {
                    let call = call.lock().unwrap_or_else(PoisonError::into_inner).take();
                    if let Some(call) = call {
                        call();
                    }
                }
            }
        }
    }
}

impl ScanTrack {
    pub(crate) fn new(resume: &Resume, ledger: Arc<Ledger>) -> Self {
        Self {
            checkpoint: resume.checkpoint.clone(),
            of_target: resume.of_target,
            keys_done: resume.keys_done.clone(),
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
        Ticket::new(TicketOf::Page(self.clone(), index))
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
                let is_end = page.after.cursor == 0;
                pages.reached = Some((page.after, false));
                // That a db is done is noted whatever comes after it.
                if is_end {
                    self.save(&mut pages);
                }
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
            self.checkpoint.position(position, (self.keys_done)());
            *is_saved = true;
            pages.saved = Some(Instant::now());
        }
    }
}

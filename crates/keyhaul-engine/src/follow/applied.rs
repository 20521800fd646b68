//! How far the stream is applied: counted by what the target has acknowledged.
//!
//! The stream is handed out in portions, in order. A portion is settled when all who hold a share of it have settled theirs;
//! the position is the end of the last portion before which all are settled. A share that is dropped, with a task that is
//! torn down, is never settled: the position then stays before it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A place in the stream between two commands, outside of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    /// The offset of the last byte before it.
    pub offset: u64,
    /// The db that is selected there.
    pub db: u32,
}

/// The position of one shard.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    inner: Mutex<Inner>,
    moved: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    reached: Place,
    /// The index of the first one that is kept.
    first: u64,
    portions: VecDeque<(Place, bool)>,
}

/// Held while something of a portion is not settled. Each copy of it must be settled.
#[derive(Debug)]
pub(crate) struct Share(Arc<Portion>);

#[derive(Debug)]
struct Portion {
    of: Arc<Applied>,
    index: u64,
    /// Copies that are not settled.
    count: AtomicUsize,
}

impl Clone for Share {
    fn clone(&self) -> Self {
        self.0.count.fetch_add(1, Ordering::AcqRel);
        Self(self.0.clone())
    }
}

impl Share {
    /// What it was held for is done.
    pub(crate) fn settle(self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.of.settled(self.0.index);
        }
    }
}

impl Applied {
    /// Nothing is handed out, and all up to `place` is applied.
    pub(crate) fn at(place: Place) -> Arc<Self> {
        let inner = Inner {
            reached: place,
            ..Inner::default()
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            moved: Notify::new(),
        })
    }

    /// Another history: nothing is handed out, and all up to `place` is applied. What was handed out before must be settled.
    pub(crate) fn reset(&self, place: Place) {
        self.lock().reached = place;
        self.moved.notify_waiters();
    }

    /// The next portion, which ends at `end`.
    pub(crate) fn hand_out(self: &Arc<Self>, end: Place) -> Share {
        let mut inner = self.lock();
        inner.portions.push_back((end, false));
        let index = inner.first + inner.portions.len() as u64 - 1;
        drop(inner);
        Share(Arc::new(Portion {
            of: self.clone(),
            index,
            count: AtomicUsize::new(1),
        }))
    }

    /// All up to there is applied.
    pub(crate) fn reached(&self) -> Place {
        self.lock().reached
    }

    /// Waits until all that was handed out is settled.
    pub(crate) async fn wait_until_idle(&self) {
        loop {
            // Listening begins before the look, so that nothing is missed between the two.
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.lock().portions.is_empty() {
                return;
            }
            moved.await;
        }
    }

    fn settled(&self, index: u64) {
        let mut inner = self.lock();
        let at = usize::try_from(index - inner.first).unwrap_or(usize::MAX);
        if let Some((_, is_settled)) = inner.portions.get_mut(at) {
            *is_settled = true;
        }
        let mut has_moved = false;
        while let Some((place, true)) = inner.portions.front().copied() {
            inner.portions.pop_front();
            inner.first += 1;
            inner.reached = place;
            has_moved = true;
        }
        drop(inner);
        if has_moved {
            self.moved.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u64) -> Place {
        Place { offset, db: 0 }
    }

    #[test]
    fn behind_what_is_settled_without_a_gap() {
        let applied = Applied::at(place(10));
        let (first, second, third) = (
            applied.hand_out(place(20)),
            applied.hand_out(place(30)),
            applied.hand_out(place(40)),
        );
        let another = first.clone();
        second.settle();
        first.settle();
        assert_eq!(applied.reached().offset, 10, "a copy is not settled");
        another.settle();
        assert_eq!(applied.reached().offset, 30);
        drop(third);
        assert_eq!(applied.reached().offset, 30, "dropped is not settled");
        assert!(!applied.lock().portions.is_empty());
    }

    #[tokio::test]
    async fn who_waits_is_told() {
        let applied = Applied::at(place(0));
        let share = applied.hand_out(place(5));
        let waiting = tokio::spawn({
            let applied = applied.clone();
            async move { applied.wait_until_idle().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        share.settle();
        waiting.await.unwrap();
        assert_eq!(applied.reached().offset, 5);
    }
}

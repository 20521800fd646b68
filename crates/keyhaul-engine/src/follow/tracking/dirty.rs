//! The keys that changed and are to be read again: each once, in the order in which they were told, in bounded memory.
//!
//! ```text
//!            told                    taken                     settled
//!   (none) ───────► waiting, due at ───────► taken ─────────────────────────► (none)
//!                         ▲                    │ told meanwhile
//!                         └──── settled ── taken, again
//! ```
//!
//! A key that is taken is not taken again before it is settled, so two readings of a key never pass one another. What was
//! told between the two is read again. When more keys wait than there is room for, or the telling broke, everything is
//! dirty: nothing is kept from there on, and only a new pass over all keys with a new set helps.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use keyhaul_client::ToldKey;
use tokio::sync::Notify;

/// What a key costs beside its name, bytes: its places in the table and in a queue.
const KEY_BYTES: usize = 160;

/// The set; shared by those who tell and those who read.
#[derive(Debug)]
pub(super) struct Dirty {
    inner: Mutex<Inner>,
    /// Something may be due, or everything is dirty.
    news: Notify,
    /// There is room again.
    room: Notify,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Inner {
    keys: HashMap<Bytes, State>,
    shards: Vec<Queue>,
    bytes: usize,
    everything: Option<String>,
}

/// The waiting keys of one shard.
#[derive(Debug, Default)]
struct Queue {
    /// Due at once, in the order in which they were told.
    due: VecDeque<(Bytes, Instant)>,
    /// Due later.
    later: BTreeMap<Instant, Vec<(Bytes, Instant)>>,
    /// When those that are taken were told.
    taken: BTreeMap<Instant, usize>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Waiting(OfDbs),
    /// `Some`: it was told again meanwhile, first at this time.
    Taken(Option<(Instant, OfDbs)>),
}

/// In which db a key changed; `None`: in any.
type OfDbs = Option<u32>;

fn merge(one: OfDbs, other: OfDbs) -> OfDbs {
    one.filter(|_| one == other)
}

/// A key that is being read again.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub name: Bytes,
    /// `None`: it may have changed in any db.
    pub db: Option<u32>,
    pub shard: usize,
    /// When it was told.
    pub since: Instant,
}

impl Dirty {
    pub(super) fn new(shards: usize, bytes_max: usize) -> Self {
        let mut inner = Inner::default();
        inner.shards.resize_with(shards, Queue::default);
        Self {
            inner: Mutex::new(inner),
            news: Notify::new(),
            room: Notify::new(),
            bytes_max,
        }
    }

    /// These keys of a shard changed.
    pub(super) fn tell(&self, shard: usize, keys: impl IntoIterator<Item = ToldKey>) {
        let now = Instant::now();
        let mut inner = self.lock();
        for key in keys {
            inner.tell(shard, key, now);
            if inner.bytes > self.bytes_max {
                let waiting = inner.keys.len();
                inner.give_up(format!(
                    "{waiting} changed keys were waiting, and there is no room for more"
                ));
            }
        }
        drop(inner);
        self.news.notify_waiters();
    }

    /// The same of keys that nobody told: waits until half of the room is free.
    pub(super) async fn tell_slowly(&self, shard: usize, keys: Vec<ToldKey>) {
        loop {
            let has_room = self.room.notified();
            tokio::pin!(has_room);
            has_room.as_mut().enable();
            if self.lock().bytes <= self.bytes_max / 2 {
                return self.tell(shard, keys);
            }
            has_room.await;
        }
    }

    /// Any key may have changed, for this reason. The first one counts.
    pub(super) fn everything(&self, reason: String) {
        self.lock().give_up(reason);
        self.news.notify_waiters();
        self.room.notify_waiters();
    }

    /// Why any key may have changed; `None`: only those that were told.
    pub(super) fn is_everything(&self) -> Option<String> {
        self.lock().everything.clone()
    }

    /// The next keys of a shard that are due, `most` at most; waits for them.
    pub(super) async fn take(&self, shard: usize, most: usize) -> Vec<Taken> {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            let next = match self.lock().take(shard, most, Instant::now()) {
                Ok(taken) => return taken,
                Err(next) => next,
            };
            match next {
                Some(at) => tokio::select! {
                    () = news => {}
                    () = tokio::time::sleep_until(at.into()) => {}
                },
                None => news.await,
            }
        }
    }

    /// What was read of these keys is written.
    pub(super) fn settle(&self, keys: Vec<Taken>) {
        let mut inner = self.lock();
        for taken in keys {
            inner.settle(taken, None);
        }
        drop(inner);
        self.news.notify_waiters();
        self.room.notify_waiters();
    }

    /// A key that was taken is to be read again, not before this time.
    pub(super) fn postpone(&self, taken: Taken, until: Instant) {
        self.lock().settle(taken, Some(until));
        self.news.notify_waiters();
    }

    /// What was put off is due now.
    pub(super) fn hurry(&self) {
        let mut inner = self.lock();
        for queue in &mut inner.shards {
            let later = std::mem::take(&mut queue.later);
            queue.due.extend(later.into_values().flatten());
        }
        drop(inner);
        self.news.notify_waiters();
    }

    /// Whether all that was told is written.
    pub(super) fn is_settled(&self) -> bool {
        let inner = self.lock();
        inner.keys.is_empty() && inner.everything.is_none()
    }

    /// How many keys are not written.
    pub(super) fn count(&self) -> usize {
        self.lock().keys.len()
    }

    /// How many keys of a shard are not written, and when the first of them was told.
    pub(super) fn open(&self, shard: usize) -> (u64, Option<Instant>) {
        let inner = self.lock();
        let Some(queue) = inner.shards.get(shard) else {
            return (0, None);
        };
        let later = queue.later.values().flatten();
        let count = queue.due.len() + queue.taken.values().sum::<usize>() + later.clone().count();
        let due = queue.due.front().map(|(_, since)| *since);
        let taken = queue.taken.keys().next().copied();
        let oldest = later.map(|(_, since)| *since).chain(due).chain(taken).min();
        (count as u64, oldest)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn tell(&mut self, shard: usize, key: ToldKey, now: Instant) {
        if self.everything.is_some() {
            return;
        }
        match self.keys.get_mut(&key.name) {
            Some(State::Waiting(db)) => *db = merge(*db, key.db),
            Some(State::Taken(again)) => match again {
                Some((_, db)) => *db = merge(*db, key.db),
                None => *again = Some((now, key.db)),
            },
            None => {
                // The name is a slice of all that came with it.
                let name = Bytes::copy_from_slice(&key.name);
                self.bytes += cost(&name);
                self.keys.insert(name.clone(), State::Waiting(key.db));
                if let Some(queue) = self.shards.get_mut(shard) {
                    queue.due.push_back((name, now));
                }
            }
        }
    }

    /// Keys that are due; else when the next one is, if one waits.
    fn take(
        &mut self,
        shard: usize,
        most: usize,
        now: Instant,
    ) -> Result<Vec<Taken>, Option<Instant>> {
        let Some(queue) = self.shards.get_mut(shard) else {
            return Err(None);
        };
        let mut next = None;
        while let Some(first) = queue.later.first_entry() {
            if *first.key() > now {
                next = Some(*first.key());
                break;
            }
            queue.due.extend(first.remove());
        }
        let count = queue.due.len().min(most);
        if count == 0 {
            return Err(next);
        }
        let mut taken = Vec::with_capacity(count);
        for (name, since) in queue.due.drain(..count) {
            *queue.taken.entry(since).or_default() += 1;
            let db = match self.keys.insert(name.clone(), State::Taken(None)) {
                Some(State::Waiting(db)) => db,
                _ => None,
            };
            taken.push(Taken {
                name,
                db,
                shard,
                since,
            });
        }
        Ok(taken)
    }

    fn settle(&mut self, taken: Taken, until: Option<Instant>) {
        let Taken {
            name,
            db,
            shard,
            since,
        } = taken;
        let Some(queue) = self.shards.get_mut(shard) else {
            return;
        };
        if let Some(count) = queue.taken.get_mut(&since) {
            *count -= 1;
            if *count == 0 {
                queue.taken.remove(&since);
            }
        }
        // Where everything is dirty, nothing is kept.
        let Entry::Occupied(mut state) = self.keys.entry(name.clone()) else {
            return;
        };
        let again = match state.get() {
            State::Taken(again) => *again,
            State::Waiting(_) => return,
        };
        match (until, again) {
            (Some(until), again) => {
                let db = again.map_or(db, |(_, again)| merge(db, again));
                state.insert(State::Waiting(db));
                queue.later.entry(until).or_default().push((name, since));
            }
            (None, Some((told, db))) => {
                state.insert(State::Waiting(db));
                queue.due.push_back((name, told));
            }
            (None, None) => {
                state.remove();
                self.bytes -= cost(&name);
            }
        }
    }

    fn give_up(&mut self, reason: String) {
        if self.everything.is_some() {
            return;
        }
        self.everything = Some(reason);
        self.keys = HashMap::new();
        self.bytes = 0;
        for queue in &mut self.shards {
            queue.due = VecDeque::new();
            queue.later.clear();
        }
    }
}

fn cost(name: &Bytes) -> usize {
    name.len() + KEY_BYTES
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(name: &'static str) -> ToldKey {
        let name = Bytes::from_static(name.as_bytes());
        ToldKey { db: None, name }
    }

    fn names(taken: &[Taken]) -> Vec<&str> {
        let text = |taken| std::str::from_utf8(taken).expect("is text");
        taken.iter().map(|taken| text(&taken.name)).collect()
    }

    fn set(bytes_max: usize) -> Dirty {
        Dirty::new(2, bytes_max)
    }

    #[tokio::test]
    async fn a_key_waits_once_and_is_taken_once_at_a_time() {
        let dirty = set(10_000);
        dirty.tell(0, [key("a"), key("b"), key("a")]);
        dirty.tell(1, [key("c")]);
        assert_eq!(dirty.open(0).0, 2);
        let taken = dirty.take(0, 10).await;
        assert_eq!(names(&taken), ["a", "b"]);
        // Told while it is read: by another shard, too.
        dirty.tell(1, [key("a")]);
        let other = dirty.take(1, 10).await;
        assert_eq!(names(&other), ["c"]);
        dirty.settle(other);
        dirty.settle(taken);
        let again = dirty.take(0, 10).await;
        assert_eq!(names(&again), ["a"]);
        assert_eq!(again.first().map(|taken| taken.db), Some(None));
        assert!(!dirty.is_settled());
        dirty.settle(again);
        assert!(dirty.is_settled());
        assert_eq!(dirty.open(0), (0, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_put_off_keeps_its_age() {
        let dirty = set(10_000);
        dirty.tell(0, [key("a")]);
        let (_, since) = dirty.open(0);
        let taken = dirty.take(0, 1).await.remove(0);
        dirty.postpone(taken, Instant::now() + Duration::from_millis(50));
        dirty.tell(0, [key("b"), key("a")]);
        assert_eq!(dirty.open(0), (2, since));
        assert_eq!(names(&dirty.take(0, 10).await), ["b"]);
        dirty.hurry();
        assert_eq!(names(&dirty.take(0, 10).await), ["a"]);
    }

    #[tokio::test]
    async fn the_db_is_known_as_long_as_it_is_one() {
        let dirty = set(10_000);
        let of = |name, db| ToldKey {
            db: Some(db),
            ..key(name)
        };
        dirty.tell(
            0,
            [of("a", 1), of("b", 1), of("a", 1), of("b", 2), of("c", 3)],
        );
        dirty.tell(0, [key("c")]);
        let taken = dirty.take(0, 10).await;
        let dbs: Vec<_> = taken.iter().map(|taken| taken.db).collect();
        assert_eq!(dbs, [Some(1), None, None]);
        dirty.tell(0, [of("a", 2)]);
        dirty.settle(taken);
        let again = dirty.take(0, 10).await;
        assert_eq!(again.first().map(|taken| taken.db), Some(Some(2)));
    }

    #[tokio::test]
    async fn without_room_everything_is_dirty() {
        let dirty = set(2 * (KEY_BYTES + 1));
        dirty.tell(0, [key("a"), key("b")]);
        let taken = dirty.take(0, 1).await;
        assert_eq!(dirty.is_everything(), None);
        dirty.tell(0, [key("c")]);
        let reason = dirty.is_everything().expect("there is no room");
        assert!(reason.contains("3 changed keys"), "{reason}");
        dirty.everything("later".into());
        assert_eq!(dirty.is_everything(), Some(reason));
        dirty.settle(taken);
        dirty.tell(0, [key("d")]);
        assert_eq!(dirty.open(0), (0, None));
        assert!(!dirty.is_settled());
    }
}

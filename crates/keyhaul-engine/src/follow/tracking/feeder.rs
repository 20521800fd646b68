//! Has the changed keys of one shard read again: takes them from the set, finds out in which dbs and how they are read, and
//! settles them when what was read is written.
//!
//! Small keys go to readers as those of a copy, which here delete on the target what they do not find. A big key is copied
//! by element, beside, and rests after that: the longer, the more often it changed. One that changes again and again is
//! not copied, but what differs is written.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use keyhaul_client::{Action, ClientError};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bigkey::job::{BigCopy, BigEnd, Rules};
use crate::checkpoint::BigKey;
use crate::follow::ShardStatus;
use crate::follow::tracking::clash::Clash;
use crate::follow::tracking::dbs::Dbs;
use crate::follow::tracking::dirty::{Dirty, Taken};
use crate::follow::tracking::hot;
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::prepare::{SizeRules, SizeVerdict};
use crate::progress::Progress;
use crate::route::Outlet;
use crate::site::SourceLink;
use crate::source::KeyBatch;
use crate::source::track::Ticket;

/// Keys that are taken together.
const BATCH_KEYS: usize = 256;
/// Batches and big keys that are not settled.
const OPEN_MAX: usize = 8;
/// Of them, big keys.
const BIG_OPEN_MAX: usize = 4;
/// What takes more memory rests too, also where it goes over in one piece.
const RESTING_BYTES: u64 = 4 * 1024 * 1024;
/// How long a big key rests after it was copied, and how that grows.
const REST_FIRST: Duration = Duration::from_secs(1);
const REST_LONGEST: Duration = Duration::from_secs(60);
/// Big keys whose rest is remembered.
const RESTS_MAX: usize = 10_000;
/// When a big key is looked at again for which no place was free.
const NO_PLACE_WAIT: Duration = Duration::from_millis(50);

/// Feeds the readers of one shard.
pub(super) struct Feeder {
    pub link: SourceLink,
    pub shard: usize,
    pub dirty: Arc<Dirty>,
    pub dbs: Dbs,
    /// `None`: sizes cannot be asked for, and all keys are read whole.
    pub sizes: Option<SizeRules>,
    /// `None`: no two keys can become one.
    pub clash: Option<Clash>,
    pub outlet: Outlet,
    /// To the readers.
    pub queue: mpsc::Sender<KeyBatch>,
    pub big: Arc<Rules>,
    pub status: Arc<ShardStatus>,
    pub ledger: Arc<Ledger>,
    pub rests: Rests,
}

/// When big keys may be copied again.
#[derive(Debug, Clone)]
pub(super) struct Rests {
    places: Arc<Semaphore>,
    keys: Arc<Mutex<HashMap<Bytes, Rest>>>,
}

#[derive(Debug, Clone, Copy)]
struct Rest {
    pause: Duration,
    until: Instant,
}

/// How one key is to be read.
#[derive(Debug, Default)]
struct Ways {
    whole: Vec<u32>,
    big: Vec<(u32, u64)>,
    /// Too large to go over.
    refused: Vec<(u32, u64)>,
}

impl Ways {
    /// The dbs in which it is looked for.
    fn dbs(&self) -> Vec<u32> {
        let sized = self.big.iter().chain(&self.refused);
        let sized = sized.map(|(db, _)| *db);
        self.whole.iter().copied().chain(sized).collect()
    }

    /// It is looked for in these alone.
    fn retain(&mut self, dbs: &[u32]) {
        self.whole.retain(|db| dbs.contains(db));
        self.big.retain(|(db, _)| dbs.contains(db));
        self.refused.retain(|(db, _)| dbs.contains(db));
    }
}

impl Rests {
    pub(super) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(BIG_OPEN_MAX)),
            keys: Arc::default(),
        }
    }

    /// How long the key rests still.
    fn of(&self, name: &Bytes, now: Instant) -> Option<Instant> {
        let rest = self.lock().get(name).copied()?;
        (rest.until > now).then_some(rest.until)
    }

    /// Whether the key changes again and again: it did so not long after it had rested.
    fn is_hot(&self, name: &Bytes, now: Instant) -> bool {
        let rest = self.lock().get(name).copied();
        rest.is_some_and(|rest| rest.until + rest.pause >= now)
    }

    /// The key was settled, and rests from now on; `is_hot`: as it was when that began.
    fn begin(&self, name: &Bytes, is_hot: bool, now: Instant) -> Instant {
        let mut keys = self.lock();
        if keys.len() >= RESTS_MAX {
            keys.retain(|_, rest| rest.until + rest.pause > now);
        }
        if keys.len() >= RESTS_MAX {
            keys.clear();
        }
        let before = keys.get(name).filter(|_| is_hot);
        let pause = before.map_or(REST_FIRST, |rest| (rest.pause * 2).min(REST_LONGEST));
        let until = now + pause;
        keys.insert(name.clone(), Rest { pause, until });
        until
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Bytes, Rest>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feeder {
    /// Feeds until `closing`, and waits for what is on its way then.
    pub(super) async fn run(mut self, closing: CancellationToken) {
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = closing.cancelled() => break,
                Some(joined) = open.join_next(), if !open.is_empty() => self.joined(joined),
                taken = self.dirty.take(self.shard, BATCH_KEYS), if open.len() < OPEN_MAX => {
                    if self.begin(taken, &mut open).await.is_err() {
                        break;
                    }
                }
            }
        }
        while let Some(joined) = open.join_next().await {
            self.joined(joined);
        }
    }

    fn joined(&self, joined: Result<(), tokio::task::JoinError>) {
        if let Err(e) = joined {
            self.ledger.halt(format!("a task failed: {e}"));
        }
    }

    /// Hands these keys on.
    async fn begin(&mut self, taken: Vec<Taken>, open: &mut JoinSet<()>) -> Result<(), GaveUp> {
        let filter = self.outlet.filter();
        let (wanted, others) = taken
            .into_iter()
            .partition(|taken| filter.takes_name(&taken.name));
        self.dirty.settle(others);
        let wanted: Vec<Taken> = wanted;
        let mut ways = loop {
            match self.find_ways(&wanted).await {
                Ok(ways) => {
                    self.link.success(&self.ledger);
                    break ways;
                }
                Err(e) => {
                    self.link.failed(&e, &self.ledger).await?;
                    if !self.link.node_is_primary() {
                        let reason = "a node of the source is no primary any more";
                        self.dirty.everything(reason.to_owned());
                        return Err(GaveUp);
                    }
                }
            }
        };
        if let Some(clash) = &mut self.clash {
            for (taken, ways) in wanted.iter().zip(&mut ways) {
                let mut dbs = ways.dbs();
                clash.sift(&taken.name, &mut dbs).await?;
                ways.retain(&dbs);
            }
        }
        let (mut together, mut alone) = (Vec::new(), Vec::new());
        for (taken, ways) in wanted.into_iter().zip(ways) {
            match ways.big.is_empty() {
                true => together.push((taken, ways)),
                false => alone.push((taken, ways)),
            }
        }
        if !together.is_empty() {
            self.hand_on(together, open).await?;
        }
        for (taken, ways) in alone {
            self.hand_on_big(taken, ways, open).await?;
        }
        Ok(())
    }

    /// In which dbs each key is read, and how.
    async fn find_ways(&mut self, wanted: &[Taken]) -> Result<Vec<Ways>, ClientError> {
        for taken in wanted {
            self.dbs.told(taken.db);
        }
        let connection = self.link.get().await?;
        self.dbs.refresh(connection).await?;
        let mut ways: Vec<Ways> = Vec::new();
        ways.resize_with(wanted.len(), Ways::default);
        for db in self.dbs.get().iter().copied() {
            let is_meant = |(taken, _): &(&Taken, &mut Ways)| taken.db.is_none_or(|of| of == db);
            let meant: Vec<_> = wanted.iter().zip(&mut ways).filter(is_meant).collect();
            if meant.is_empty() {
                continue;
            }
            let mut sizes = Vec::new();
            if self.sizes.is_some() {
                connection.select(db).await?;
                let names: Vec<Bytes> = meant.iter().map(|(taken, _)| taken.name.clone()).collect();
                match connection.memory_usage(&names).await {
                    Ok(found) => sizes = found,
                    Err(ClientError::Server { error, .. }) if error.action() == Action::GiveUp => {
                        self.ledger.remark(format!(
                            "MEMORY USAGE is refused by the source ({error}): large keys are read in one piece"
                        ));
                        self.sizes = None;
                    }
                    Err(e) => return Err(e),
                }
            }
            let mut sizes = sizes.into_iter();
            for (_, ways) in meant {
                let size = sizes.next().unwrap_or(0);
                match self.sizes.map(|rules| rules.judge(size)) {
                    Some(SizeVerdict::Whole) if size > RESTING_BYTES => ways.big.push((db, size)),
                    None | Some(SizeVerdict::Whole | SizeVerdict::Ignore) => ways.whole.push(db),
                    Some(SizeVerdict::Big) => ways.big.push((db, size)),
                    Some(SizeVerdict::Refuse) => ways.refused.push((db, size)),
                }
            }
        }
        Ok(ways)
    }

    /// Has keys read whole.
    async fn hand_on(
        &self,
        keys: Vec<(Taken, Ways)>,
        open: &mut JoinSet<()>,
    ) -> Result<(), GaveUp> {
        let (read, taken) = self.read(keys).await?;
        let finish = self.finish(read);
        let (dirty, status) = (self.dirty.clone(), self.status.clone());
        open.spawn(async move {
            if finish.run().await {
                Progress::add(&status.keys_reread, taken.len() as u64);
                dirty.settle(taken);
            }
        });
        Ok(())
    }

    /// Has a key copied by element, unless it rests.
    async fn hand_on_big(
        &mut self,
        taken: Taken,
        ways: Ways,
        open: &mut JoinSet<()>,
    ) -> Result<(), GaveUp> {
        let now = Instant::now();
        // In the end there is no time to rest, and none for a copy.
        let is_ending = self.ledger.stop.is_cancelled();
        if let Some(until) = self.rests.of(&taken.name, now).filter(|_| !is_ending) {
            self.dirty.postpone(taken, until);
            return Ok(());
        }
        let Ok(place) = self.rests.places.clone().try_acquire_owned() else {
            self.dirty.postpone(taken, now + NO_PLACE_WAIT);
            return Ok(());
        };
        let is_hot = self.rests.is_hot(&taken.name, now);
        let by_difference = is_hot || is_ending;
        let bigs = ways.big.clone();
        let name = taken.name.clone();
        let (mut read, mut taken) = self.read(vec![(taken, ways)]).await?;
        read.keys
            .extend(bigs.iter().map(|(db, _)| (*db, name.clone())));
        let finish = self.finish(read);
        let (dirty, status) = (self.dirty.clone(), self.status.clone());
        let (rules, rests) = (self.big.clone(), self.rests.clone());
        open.spawn(async move {
            let _place = place;
            let mut was_written = false;
            for (db, memory_bytes) in bigs {
                let key = name.clone();
                let big = BigKey {
                    db,
                    key,
                    memory_bytes,
                };
                if let Some(checkpoint) = &rules.checkpoint {
                    checkpoint.big_found(&big);
                }
                rules.ledger.not_moved.try_again(db, &name);
                if by_difference && settled_by_difference(&rules, &big).await {
                    continue;
                }
                let end = BigCopy::new(rules.clone(), big, Vec::new()).run().await;
                was_written |= end == BigEnd::Written;
                if end == BigEnd::LeftOut {
                    let gone = rules.outlet.absent(db, &name).into_iter().collect();
                    rules.outlet.send_and_settle(gone).await;
                }
            }
            if !finish.run().await {
                return;
            }
            Progress::add(&status.keys_reread, 1);
            let until = rests.begin(&name, is_hot, Instant::now());
            match was_written {
                true => (taken.drain(..)).for_each(|taken| dirty.postpone(taken, until)),
                false => dirty.settle(taken),
            }
        });
        Ok(())
    }

    /// Asks the readers for keys. What is too large is listed.
    async fn read(&self, keys: Vec<(Taken, Ways)>) -> Result<(Read, Vec<Taken>), GaveUp> {
        let mut by_db: HashMap<u32, Vec<Bytes>> = HashMap::new();
        let mut of_keys = Vec::new();
        let mut all_taken = Vec::with_capacity(keys.len());
        for (taken, ways) in keys {
            for db in ways.whole {
                self.ledger.not_moved.try_again(db, &taken.name);
                by_db.entry(db).or_default().push(taken.name.clone());
                of_keys.push((db, taken.name.clone()));
            }
            for (db, size) in ways.refused {
                let limit = self.sizes.map_or(0, |rules| rules.limit());
                let reason = format!("{size} bytes of memory are above the limit of {limit}");
                self.ledger.not_moved(db, &taken.name, reason);
                of_keys.push((db, taken.name.clone()));
            }
            all_taken.push(taken);
        }
        let (ticket, settled) = Ticket::awaited();
        for (db, keys) in by_db {
            let batch = KeyBatch {
                db,
                keys,
                tries: 0,
                ticket: Some(ticket.clone()),
            };
            if self.queue.send(batch).await.is_err() {
                // The readers end before us only where the node was lost, or the job was halted.
                self.dirty
                    .everything("a node of the source is no primary any more".to_owned());
                return Err(GaveUp);
            }
        }
        ticket.settle();
        let keys = of_keys;
        Ok((Read { settled, keys }, all_taken))
    }

    fn finish(&self, read: Read) -> Finish {
        Finish {
            read,
            outlet: self.outlet.clone(),
            ledger: self.ledger.clone(),
            dirty: self.dirty.clone(),
        }
    }
}

/// Writes what differs of a key, where that can be done.
async fn settled_by_difference(rules: &Arc<Rules>, big: &BigKey) -> bool {
    let settled = hot::settle(rules, big).await;
    // The copy as a whole finds out what is the matter, and waits where it has to.
    settled.unwrap_or_else(|e| {
        tracing::info!("by difference: {}", keyhaul_client::chain(&e));
        false
    })
}

/// Keys that readers have.
struct Read {
    settled: oneshot::Receiver<()>,
    keys: Vec<(u32, Bytes)>,
}

/// What is left to do when keys were read and written.
struct Finish {
    read: Read,
    outlet: Outlet,
    ledger: Arc<Ledger>,
    dirty: Arc<Dirty>,
}

impl Finish {
    /// Waits for the readers, and takes off the target what could not be written: it holds an old value. `false`: nobody
    /// knows what became of the keys.
    async fn run(self) -> bool {
        if self.read.settled.await.is_err() {
            self.dirty
                .everything("changed keys could not be read to the end".to_owned());
            return false;
        }
        let mut gone = Vec::new();
        for (db, name) in &self.read.keys {
            if self.ledger.tried_again(*db, name) && !self.ledger.has_halted() {
                gone.extend(self.outlet.absent(*db, name));
            }
        }
        if !gone.is_empty() {
            self.outlet.send_and_settle(gone).await;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_written_all_the_time_rests_longer_and_longer() {
        let name = Bytes::from_static(b"k");
        let rests = Rests::new();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            assert_eq!(rests.of(&name, now), None);
            let is_hot = rests.is_hot(&name, now);
            // However long it takes.
            now += Duration::from_secs(8);
            let until = rests.begin(&name, is_hot, now);
            assert_eq!(rests.of(&name, now), Some(until));
            pauses.push((until - now).as_secs());
            now = until;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(rests.is_hot(&name, now));
        assert!(!rests.is_hot(&name, now + Duration::from_secs(61)));
    }
}

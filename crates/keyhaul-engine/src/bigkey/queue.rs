//! Big keys wait here for one of a few workers, while the small ones go on.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::task::JoinSet;

use crate::bigkey::job::{BigCopy, Rules};
use crate::checkpoint::{BigKey, BigKeyState, Checkpoint, Mark};

/// Names that wait; when there are more the search for keys waits with them.
const WAITING_MAX: usize = 10_000;
/// Memory of one worker: a page, chunks in flight, an element that is held.
const WORKER_BYTES: u64 = 16 * 1024 * 1024;
/// Workers for each primary of the source: one server has one thread.
const WORKERS_PER_NODE: u64 = 2;
/// All workers.
const WORKERS_MAX: u64 = 8;

/// The way in: shared by all that find big keys.
#[derive(Debug)]
pub(crate) struct BigQueue {
    sender: mpsc::Sender<BigKey>,
    /// All that were ever put in: SCAN may tell a key twice.
    seen: Mutex<HashSet<(u32, Bytes)>>,
    checkpoint: Option<Arc<Checkpoint>>,
}

/// What is built of keys of an earlier run.
type Marks = Arc<Mutex<HashMap<(u32, Bytes), Vec<Mark>>>>;

/// The workers.
pub(crate) struct BigWorkers(JoinSet<()>);

impl BigQueue {
    /// A way in for one who only wants to know the keys; and the way out.
    pub(crate) fn without_workers() -> (Arc<Self>, mpsc::Receiver<BigKey>) {
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        let queue = Self {
            sender,
            seen: Mutex::default(),
            checkpoint: None,
        };
        (Arc::new(queue), waiting)
    }

    /// All keys that were ever put in.
    pub(crate) fn seen(&self) -> Vec<(u32, Bytes)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().cloned().collect()
    }

    /// Puts a key in, unless it was before; waits while too many are there.
    pub(crate) async fn push(&self, key: BigKey) {
        let name = (key.db, key.key.clone());
        let is_new = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.insert(name)
        };
        if !is_new {
            return;
        }
        if let Some(checkpoint) = &self.checkpoint {
            checkpoint.big_found(&key);
        }
        // The workers end only after all ways in are gone.
        let _ = self.sender.send(key).await;
    }
}

impl BigWorkers {
    /// Starts workers: as many as memory and servers are good for. Keys of an earlier run come first.
    pub(crate) fn start(
        rules: &Arc<Rules>,
        nodes: usize,
        memory_bytes: u64,
        earlier: Vec<BigKeyState>,
    ) -> (Self, Arc<BigQueue>) {
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        let seen = earlier
            .iter()
            .map(|state| (state.key.db, state.key.key.clone()));
        let queue = Arc::new(BigQueue {
            sender: sender.clone(),
            seen: Mutex::new(seen.collect()),
            checkpoint: rules.checkpoint.clone(),
        });
        let named = |state: &BigKeyState| (state.key.db, state.key.key.clone());
        let marks = earlier
            .iter()
            .map(|state| (named(state), state.marks.clone()));
        let marks: HashMap<(u32, Bytes), Vec<Mark>> = marks.collect();
        let marks = Arc::new(Mutex::new(marks));
        let waiting = Arc::new(AsyncMutex::new(waiting));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            for state in earlier.into_iter().filter(|state| !state.is_done) {
                if sender.send(state.key).await.is_err() {
                    return;
                }
            }
        });
        let workers = (memory_bytes / WORKER_BYTES)
            .min(WORKERS_PER_NODE.saturating_mul(nodes as u64))
            .clamp(1, WORKERS_MAX);
        for _ in 0..workers {
            tasks.spawn(work(rules.clone(), waiting.clone(), marks.clone()));
        }
        (Self(tasks), queue)
    }

    /// Waits for all keys to be settled. The ways in must be gone.
    pub(crate) async fn join(mut self, rules: &Rules) {
        while let Some(joined) = self.0.join_next().await {
            if let Err(e) = joined {
                rules.ledger.halt(format!("a task failed: {e}"));
            }
        }
    }
}

async fn work(rules: Arc<Rules>, waiting: Arc<AsyncMutex<mpsc::Receiver<BigKey>>>, marks: Marks) {
    loop {
        let next = waiting.lock().await.recv().await;
        let Some(key) = next else { return };
        if rules.ledger.stop.is_cancelled() {
            let reason = "the run stopped before it was begun".to_owned();
            rules.ledger.not_moved(key.db, &key.key, reason);
            continue;
        }
        let known = {
            let mut marks = marks.lock().unwrap_or_else(PoisonError::into_inner);
            marks.remove(&(key.db, key.key.clone()))
        };
        BigCopy::new(rules.clone(), key, known.unwrap_or_default())
            .run()
            .await;
    }
}

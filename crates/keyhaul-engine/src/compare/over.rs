//! Goes over keys, those of a pass, of files or by name, and hands them to what compares them.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::task::JoinSet;

use crate::compare::comparer::Comparer;
use crate::compare::file_index::FileIndex;
use crate::compare::judge::Finding;
use crate::compare::large;
use crate::compare::options::{Mark, NamedKey};
use crate::compare::pair_reader::PairReader;
use crate::compare::values::Side;
use crate::patience::GaveUp;
use crate::plan::CheckedFile;
use crate::source::KeyBatch;
use crate::source::reader::KeyQueue;
use crate::source::rounds::Pass;
use crate::source::scan::ScanEnd;

/// Tasks for each node that is scanned, so that neither side waits for the other.
const WORKERS: usize = 3;

/// Keys that are looked at together.
pub(super) const BATCH_KEYS: usize = 256;
/// Their names together, bytes, unless a single one is longer.
const BATCH_BYTES: usize = 256 * 1024;

/// Which way keys are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// Keys of the source on the target, with their values.
    Forth,
    /// Keys of the target on the source.
    Back,
}

/// Hands all keys of servers to workers that look at the other side.
///
/// # Errors
/// [`GaveUp`].
pub(super) async fn go_over_servers(
    direction: Direction,
    comparer: &Arc<Comparer>,
    pass: Pass,
) -> Result<(), GaveUp> {
    pass.run(|_node_id, queue, tasks| {
        for _ in 0..WORKERS {
            tasks.spawn(work(direction, comparer.clone(), queue.clone()));
        }
    })
    .await
}

/// The same of files.
///
/// # Errors
/// [`GaveUp`].
pub(super) async fn go_over_files(
    direction: Direction,
    index: &Arc<FileIndex>,
    files: &[CheckedFile],
    dbs: &[u32],
    comparer: &Arc<Comparer>,
) -> Result<(), GaveUp> {
    let (sender, queue) = mpsc::channel(WORKERS);
    let queue: KeyQueue = Arc::new(AsyncMutex::new(queue));
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        workers.spawn(work(direction, comparer.clone(), queue.clone()));
    }
    // With the last worker the way in closes.
    drop(queue);
    let mut names = index.names(files, &comparer.ledger);
    let mut fed = Ok(());
    loop {
        let mut batch = match names.next().await {
            Ok(Some(batch)) => batch,
            Ok(None) => break,
            Err(gave_up) => {
                fed = Err(gave_up);
                break;
            }
        };
        if direction == Direction::Forth {
            batch.keys.retain(|key| comparer.filter.takes_name(key));
        }
        if batch.keys.is_empty() || !dbs.contains(&batch.db) {
            continue;
        }
        let batch = KeyBatch {
            db: batch.db,
            keys: batch.keys,
            ..KeyBatch::default()
        };
        let is_taken = tokio::select! {
            sent = sender.send(batch) => sent.is_ok(),
            () = comparer.ledger.stop.cancelled() => false,
        };
        if !is_taken {
            break;
        }
    }
    drop(sender);
    while let Some(joined) = workers.join_next().await {
        match joined {
            Ok(Ok(_)) => {}
            Ok(Err(gave_up)) => fed = Err(gave_up),
            Err(e) => {
                comparer.ledger.halt(format!("a task failed: {e}"));
                fed = Err(GaveUp);
            }
        }
    }
    fed
}

/// Looks at batches of keys until there are no more.
async fn work(
    direction: Direction,
    comparer: Arc<Comparer>,
    queue: KeyQueue,
) -> Result<ScanEnd, GaveUp> {
    let mut reader = PairReader::new(comparer.clone());
    loop {
        let batch = queue.lock().await.recv().await;
        let Some(batch) = batch else {
            return Ok(ScanEnd::Complete);
        };
        match direction {
            Direction::Forth => forth(&mut reader, batch.db, &batch.keys).await?,
            Direction::Back => back(&mut reader, batch.db, &batch.keys).await?,
        }
        comparer.looked_at(batch.keys.len());
        batch.settle();
    }
}

/// Compares all keys of a pass over the source with the target, and nothing the other way round.
///
/// # Errors
/// [`GaveUp`].
pub(crate) async fn forth_over(comparer: &Arc<Comparer>, pass: Pass) -> Result<(), GaveUp> {
    go_over_servers(Direction::Forth, comparer, pass).await?;
    settle_forth(comparer).await
}

/// The same of keys that are known by name.
///
/// # Errors
/// [`GaveUp`].
pub(crate) async fn forth_over_named(
    comparer: &Arc<Comparer>,
    keys: Vec<(u32, Bytes)>,
) -> Result<(), GaveUp> {
    forth_named(comparer, keys).await?;
    settle_forth(comparer).await
}

/// Compares keys of the source by name; what differs is looked at again later.
///
/// # Errors
/// [`GaveUp`].
pub(super) async fn forth_named(
    comparer: &Arc<Comparer>,
    keys: Vec<(u32, Bytes)>,
) -> Result<(), GaveUp> {
    let mut reader = PairReader::new(comparer.clone());
    for (db, names) in each_once(keys) {
        forth(&mut reader, db, &names).await?;
        comparer.looked_at(names.len());
    }
    Ok(())
}

/// Looks for keys of the target by name that the source does not have; they are looked at again later.
///
/// # Errors
/// [`GaveUp`].
pub(super) async fn back_named(
    comparer: &Arc<Comparer>,
    keys: Vec<(u32, Bytes)>,
) -> Result<(), GaveUp> {
    let mut reader = PairReader::new(comparer.clone());
    for (target_db, names) in each_once(keys) {
        back(&mut reader, target_db, &names).await?;
        comparer.looked_at(names.len());
    }
    Ok(())
}

/// The same of files.
///
/// # Errors
/// [`GaveUp`].
pub(crate) async fn forth_over_files(
    comparer: &Arc<Comparer>,
    files: &[CheckedFile],
    dbs: &[u32],
) -> Result<(), GaveUp> {
    let Side::Files(index) = &comparer.source else {
        return Err(GaveUp);
    };
    go_over_files(Direction::Forth, index, files, dbs, comparer).await?;
    settle_forth(comparer).await
}

/// Compares keys of the source; what differs is looked at again later.
async fn forth(reader: &mut PairReader, db: u32, keys: &[Bytes]) -> Result<(), GaveUp> {
    let comparer = reader.comparer.clone();
    let findings = reader.look(db, keys).await?;
    let mut later = Vec::new();
    for (key, finding) in keys.iter().zip(findings) {
        match finding {
            Finding::Same | Finding::OutOfScope => comparer.settle(db, key, finding, Vec::new()),
            Finding::Large => comparer.hand_over(db, key.clone()),
            // It was not moved, and is the same no sooner for being looked at again.
            _ if comparer.ledger.not_moved.contains(db, key) => {
                comparer.settle(db, key, finding, Vec::new());
            }
            _ => later.push(key.clone()),
        }
    }
    let suspects = comparer.suspect(false, db, later);
    reader.recheck(suspects).await
}

/// Looks for keys that only the target has.
async fn back(reader: &mut PairReader, target_db: u32, keys: &[Bytes]) -> Result<(), GaveUp> {
    let comparer = reader.comparer.clone();
    let without = reader.without_source(target_db, keys).await?;
    let suspects = comparer.suspect(true, target_db, without);
    reader.recheck_extras(suspects).await
}

/// Settles what was left for later: keys that differ, and large ones.
pub(super) async fn settle_forth(comparer: &Arc<Comparer>) -> Result<(), GaveUp> {
    let mut reader = PairReader::new(comparer.clone());
    let suspects = comparer.take_suspects();
    reader.recheck(suspects).await?;
    large::compare(comparer).await
}

/// Settles what was left for later of the other direction.
pub(super) async fn settle_back(comparer: &Arc<Comparer>) -> Result<(), GaveUp> {
    let mut reader = PairReader::new(comparer.clone());
    let suspects = comparer.take_suspects();
    reader.recheck_extras(suspects).await
}

/// Compares only these keys: those of the source on both sides, and those of the target on the source.
pub(super) async fn compare_named(
    comparer: &Arc<Comparer>,
    keys: &[NamedKey],
) -> Result<(), GaveUp> {
    let mut of_source: Vec<(u32, Bytes)> = Vec::new();
    let mut of_target: Vec<(u32, Bytes)> = Vec::new();
    for key in keys {
        let is_chosen = |db: u32| comparer.dbs.as_ref().is_none_or(|dbs| dbs.contains(&db));
        let is_of_target = key.mark == Mark::Extra;
        let is_in_scope = match is_of_target {
            true => !comparer.source_dbs(key.db).is_empty(),
            false => is_chosen(key.db) && comparer.filter.takes_name(&key.key),
        };
        if !is_in_scope {
            continue;
        }
        if is_of_target || (key.mark == Mark::Unknown && !comparer.source_dbs(key.db).is_empty()) {
            of_target.push((key.db, key.key.clone()));
        }
        if !is_of_target {
            of_source.push((key.db, key.key.clone()));
            // What the source does not have (any more) may be on the target.
            let named = std::slice::from_ref(&key.key);
            let target_db = comparer.db_map.target_db(key.db);
            let names = comparer.target_names(named).into_iter();
            of_target.extend(names.map(|name| (target_db, name)));
        }
    }
    forth_over_named(comparer, of_source).await?;
    back_named(comparer, of_target).await?;
    settle_back(comparer).await
}

/// Keys in batches, each key once.
fn each_once(mut keys: Vec<(u32, Bytes)>) -> Vec<(u32, Vec<Bytes>)> {
    keys.sort();
    keys.dedup();
    batches(&keys, BATCH_KEYS)
}

/// Keys in batches of one db, in their order, at most so many together, and so many bytes of names.
pub(super) fn batches(keys: &[(u32, Bytes)], most: usize) -> Vec<(u32, Vec<Bytes>)> {
    let mut batches: Vec<(u32, Vec<Bytes>)> = Vec::new();
    let mut bytes = 0;
    for (db, key) in keys {
        bytes += key.len();
        match batches.last_mut() {
            Some((of, names)) if of == db && names.len() < most && bytes <= BATCH_BYTES => {
                names.push(key.clone());
            }
            _ => {
                batches.push((*db, vec![key.clone()]));
                bytes = key.len();
            }
        }
    }
    batches
}

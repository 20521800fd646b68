//! The verification where an end is a file: the records of source files are looked up on the target; a
//! file that was written is read back.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use keyhaul_client::KeyLook;
use keyhaul_rdb::{Checksum, Decoder, Event, Record};

use crate::compare::Lookup;
use crate::compare::quick::QuickCheck;
use crate::ledger::Ledger;
use crate::patience::GaveUp;
use crate::plan::CheckedFile;
use crate::prepare::check_file;
use crate::progress::Progress;
use crate::receipt::VerifyCounts;
use crate::source::feed::Feed;
use crate::source::records::now_ms;
use crate::target::file::{Finished, NameIndex, SharedNames};
use crate::transform::renamed;

/// Records that are looked up at once.
const BATCH_KEYS: usize = 512;

/// Looks up every record of the files that the filters take.
///
/// # Errors
/// [`GaveUp`] when the job was halted or is to stop.
pub(crate) async fn verify_files(
    check: Arc<QuickCheck>,
    files: &[CheckedFile],
    dbs: Option<&[u32]>,
) -> Result<VerifyCounts, GaveUp> {
    let mut lookup = Lookup::new(check.target.clone(), check.retry_for);
    let now_ms = now_ms();
    let merged = match files {
        [] | [_] => None,
        _ => Some(merged_names(&check, files).await?),
    };
    for file in files {
        let mut feed = Feed::file(file);
        let mut decoder = Decoder::new(Checksum::Trust);
        let mut batch: Vec<Record> = Vec::with_capacity(BATCH_KEYS);
        let damage = file.damage.as_ref().and_then(|damage| damage.upto);
        let upto = damage.unwrap_or(u64::MAX);
        loop {
            match decoder.next_event() {
                Ok(Some(Event::Record(record))) if record.offset >= upto => break,
                Ok(Some(Event::Record(record))) => {
                    let is_expired = record.expire_at_ms.is_some_and(|at| at <= now_ms);
                    let is_chosen = dbs.is_none_or(|dbs| dbs.contains(&record.db));
                    if !is_expired && is_chosen && check.filter.takes_name(&record.key) {
                        batch.push(record);
                    }
                }
                // The end, or damage that is known.
                Ok(Some(Event::End { .. })) | Err(_) => break,
                Ok(Some(_)) => {}
                Ok(None) => match feed.next().await {
                    Ok(Some(portion)) => decoder.input().extend_from_slice(&portion),
                    Ok(None) => break,
                    Err(e) => {
                        check.ledger.halt(e.to_string());
                        return Err(GaveUp);
                    }
                },
            }
            if batch.len() >= BATCH_KEYS {
                look(&check, &mut lookup, &mut batch, merged.as_ref()).await?;
            }
        }
        look(&check, &mut lookup, &mut batch, merged.as_ref()).await?;
    }
    Ok(check.take_counts())
}

/// The names on the target that records of several files have.
async fn merged_names(check: &QuickCheck, files: &[CheckedFile]) -> Result<SharedNames, GaveUp> {
    let halt = |reason: String| {
        check.ledger.halt(reason);
        GaveUp
    };
    let no_room = |e: std::io::Error| halt(format!("cannot note the names of keys: {e}"));
    let mut index = NameIndex::new(std::env::temp_dir());
    for (number, file) in (0..).zip(files) {
        let mut feed = Feed::file(file);
        let mut decoder = Decoder::new(Checksum::Trust);
        loop {
            match decoder.next_event() {
                Ok(Some(Event::Record(record))) => {
                    let target_db = check.db_map.target_db(record.db);
                    let name = renamed(&check.renames, &record.key);
                    let name = name.as_ref().unwrap_or(&record.key);
                    let noted = index.note((target_db, name), (number, name));
                    noted.map_err(no_room)?;
                }
                Ok(Some(Event::End { .. })) | Err(_) => break,
                Ok(Some(_)) => {}
                Ok(None) => match feed.next().await.map_err(|e| halt(e.to_string()))? {
                    Some(portion) => decoder.input().extend_from_slice(&portion),
                    None => break,
                },
            }
        }
    }
    index.finish().map_err(no_room)
}

/// Looks up a batch, db by db.
async fn look(
    check: &QuickCheck,
    lookup: &mut Lookup,
    batch: &mut Vec<Record>,
    merged: Option<&SharedNames>,
) -> Result<(), GaveUp> {
    if check.ledger.stop.is_cancelled() {
        return Err(GaveUp);
    }
    for records in batch.chunk_by(|one, other| one.db == other.db) {
        let Some(first) = records.first() else {
            continue;
        };
        let named = |record: &Record| -> Bytes {
            renamed(&check.renames, &record.key).unwrap_or_else(|| record.key.clone())
        };
        let names: Vec<Bytes> = records.iter().map(named).collect();
        let target_db = check.db_map.target_db(first.db);
        let looks = lookup.look(target_db, &names, &check.ledger).await?;
        for ((record, name), target) in records.iter().zip(&names).zip(looks) {
            // Which of several records is there, the order of the files has decided.
            let is_merged = merged.is_some_and(|merged| merged.contains(target_db, name));
            let expected = match &target {
                Ok(found) if is_merged && !found.is_missing() => found.clone(),
                _ => of_record(record),
            };
            check.judge_record(record.db, &record.key, expected, target);
        }
    }
    Progress::add(&check.ledger.progress.keys_verified, batch.len() as u64);
    batch.clear();
    Ok(())
}

/// What a server would say of this key.
fn of_record(record: &Record) -> KeyLook {
    KeyLook {
        key_type: Bytes::from_static(record.form.key_type().name().as_bytes()),
        expire_at_ms: record.expire_at_ms.map(|at| (at, at)),
    }
}

/// Reads a file that was written from start to end: structure, checksum, the inside of every value, and
/// the number of its keys.
///
/// # Errors
/// [`GaveUp`] when it is not what was written; the job is halted then.
pub(crate) async fn read_back(
    path: &Path,
    finished: Finished,
    ledger: &Ledger,
) -> Result<VerifyCounts, GaveUp> {
    let (path, shown) = (path.to_owned(), path.display().to_string());
    let read = tokio::task::spawn_blocking(move || check_file(&path)).await;
    let halt = |reason: String| {
        ledger.halt(format!("{shown} is not what was written: {reason}"));
        GaveUp
    };
    let file = read.map_err(|e| halt(e.to_string()))?.map_err(halt)?;
    let keys: u64 = file.keys.values().sum();
    if let Some(damage) = file.damage {
        return Err(halt(format!("damaged {}", damage.text)));
    }
    if (keys, file.bytes) != (finished.records, finished.bytes) {
        return Err(halt(format!(
            "{keys} keys in {} bytes instead of {} in {}",
            file.bytes, finished.records, finished.bytes
        )));
    }
    Progress::add(&ledger.progress.keys_verified, keys);
    Ok(VerifyCounts {
        checked: keys,
        same: keys,
        ..VerifyCounts::default()
    })
}

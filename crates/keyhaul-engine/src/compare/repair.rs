//! Removes differences: copies what is missing or differs, by the engine of a copy, and deletes what only the
//! target has where that was asked for.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::compare::comparer::{Comparer, Results};
use crate::compare::delete::{delete_libraries, unlink};
use crate::compare::functions::{self, LibraryDiff, LibraryIs};
use crate::compare::options::{CompareOptions, Mark, Repair, RepairCounts};
use crate::compare::over::{BATCH_KEYS, batches};
use crate::compare::pair_reader::PairReader;
use crate::compare::values::Side;
use crate::copy::Job;
use crate::options::{CopyOptions, OnConflict, Verify};
use crate::patience::{GaveUp, Patience};
use crate::place::Place;
use crate::receipt::{Outcome, Receipt};
use crate::target::functions::load_all;

/// What is to be removed, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub repair: Repair,
    /// Keys that differ for certain; db and name of [`Mark::Extra`] are those of the target.
    pub keys: &'a [(Mark, u32, Bytes)],
    pub functions: &'a [LibraryDiff],
}

/// What a repair would do about this.
pub(super) fn would_do(found: &Results, functions: &[LibraryDiff], repair: Repair) -> RepairCounts {
    let counts = &found.counts;
    let differing = counts.type_differs + counts.value_differs + counts.expiry_differs;
    let (deleted, left) = match repair.deletes_extra {
        true => (counts.extra, 0),
        false => (0, counts.extra),
    };
    let extra = extra_libraries(functions).len() as u64;
    RepairCounts {
        copied: counts.missing + differing,
        deleted,
        left,
        functions_copied: libraries_to_copy(functions).len() as u64,
        functions_deleted: if repair.deletes_extra { extra } else { 0 },
    }
}

/// Removes these differences; what was done is in `counts` also when it does not come to its end.
///
/// # Errors
/// [`GaveUp`] when the job was halted or is to stop.
pub(super) async fn repair(
    places: &(Place, Place),
    options: &CompareOptions,
    wanted: Wanted<'_>,
    comparer: &Arc<Comparer>,
    counts: &mut RepairCounts,
) -> Result<(), GaveUp> {
    repair_libraries(wanted, comparer, counts).await?;
    copy_all(places, options, wanted, comparer, counts).await?;
    let is_extra = |mark: Mark| mark == Mark::Extra;
    let extra = wanted.keys.iter().filter(|(mark, _, _)| is_extra(*mark));
    let mut extra: Vec<(u32, Bytes)> = extra.map(|(_, db, key)| (*db, key.clone())).collect();
    if !wanted.repair.deletes_extra {
        counts.left = extra.len() as u64;
        return Ok(());
    }
    extra.sort();
    let Side::Servers { site, .. } = &comparer.target else {
        return Ok(());
    };
    let mut reader = PairReader::new(comparer.clone());
    for (db, names) in batches(&extra, BATCH_KEYS) {
        // It may have come to the source since.
        let names = reader.without_source(db, &names).await?;
        counts.deleted += unlink(site, db, &names, comparer).await?;
    }
    Ok(())
}

/// Deletes libraries that only the target has, where that was asked for, and then copies the others: they may have taken
/// the names of functions.
async fn repair_libraries(
    wanted: Wanted<'_>,
    comparer: &Arc<Comparer>,
    counts: &mut RepairCounts,
) -> Result<(), GaveUp> {
    let (retry_for, ledger) = (comparer.retry_for, &comparer.ledger);
    let Side::Servers { site, .. } = &comparer.target else {
        return Ok(());
    };
    if wanted.functions.is_empty() {
        return Ok(());
    }
    // As they are now.
    let Some(libraries) = functions::all(&comparer.source, retry_for, ledger).await? else {
        return Ok(());
    };
    if wanted.repair.deletes_extra {
        let mut extra = extra_libraries(wanted.functions);
        extra.retain(|name| !libraries.iter().any(|library| library.name == *name));
        counts.functions_deleted = delete_libraries(site, &extra, comparer).await?;
    }
    let to_copy = libraries_to_copy(wanted.functions);
    let libraries: Vec<_> = (libraries.into_iter())
        .filter(|library| to_copy.contains(&library.name))
        .collect();
    let mut patience = Patience::new(retry_for);
    loop {
        match load_all(site, &libraries, OnConflict::Replace, ledger).await {
            Ok(loaded) => {
                counts.functions_copied = loaded.copied;
                return Ok(());
            }
            Err(e) => site.recover(&e, &mut patience, ledger).await?,
        }
    }
}

/// Copies keys db by db, as a key of the same name in another db is none of our business.
async fn copy_all(
    (source, target): &(Place, Place),
    options: &CompareOptions,
    wanted: Wanted<'_>,
    comparer: &Arc<Comparer>,
    counts: &mut RepairCounts,
) -> Result<(), GaveUp> {
    let mut by_db: BTreeMap<u32, HashSet<Bytes>> = BTreeMap::new();
    for (mark, db, key) in wanted.keys {
        if *mark != Mark::Extra {
            by_db.entry(*db).or_default().insert(key.clone());
        }
    }
    for (db, names) in by_db {
        let copy_options = CopyOptions {
            only: Some(Arc::new(names)),
            dbs: Some(vec![db]),
            on_conflict: OnConflict::Replace,
            verify: Verify::None,
            state_dir: None,
            functions: false,
            ..options.copy.clone()
        };
        let receipt = copy(source.clone(), target.clone(), copy_options, comparer).await?;
        take_receipt(receipt, counts, comparer)?;
    }
    Ok(())
}

fn take_receipt(
    receipt: Receipt,
    counts: &mut RepairCounts,
    comparer: &Comparer,
) -> Result<(), GaveUp> {
    // The copies share one progress, which goes on counting.
    counts.copied = receipt.keys_copied;
    for remark in receipt.remarks {
        comparer.ledger.remark(remark);
    }
    for key in &receipt.not_moved.first {
        let line = format!(
            "db {} \"{}\" was not copied: {}",
            key.db, key.key, key.reason
        );
        comparer.ledger.remark(line);
    }
    match receipt.outcome {
        Outcome::Stopped(reason) => {
            comparer.ledger.halt(reason);
            Err(GaveUp)
        }
        _ => Ok(()),
    }
}

async fn copy(
    source: Place,
    target: Place,
    options: CopyOptions,
    comparer: &Arc<Comparer>,
) -> Result<Receipt, GaveUp> {
    // A job that halts itself must not look like a stop that the user wants.
    let stop: CancellationToken = comparer.ledger.stop.child_token();
    match Box::pin(Job::prepare(source, target, options)).await {
        Ok(job) => Ok(job.run(comparer.ledger.progress.clone(), stop).await),
        Err(e) => {
            let reason = format!(
                "the differences cannot be removed: {}",
                keyhaul_client::chain(&e)
            );
            comparer.ledger.halt(reason);
            Err(GaveUp)
        }
    }
}

fn libraries_to_copy(functions: &[LibraryDiff]) -> HashSet<Bytes> {
    let differs = |diff: &&LibraryDiff| diff.is != LibraryIs::Extra;
    functions
        .iter()
        .filter(differs)
        .map(|diff| diff.name.clone())
        .collect()
}

fn extra_libraries(functions: &[LibraryDiff]) -> Vec<Bytes> {
    let is_extra = |diff: &&LibraryDiff| diff.is == LibraryIs::Extra;
    functions
        .iter()
        .filter(is_extra)
        .map(|diff| diff.name.clone())
        .collect()
}

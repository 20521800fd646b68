//! Removes differences: copies what is missing or differs, by the engine of a copy, and deletes what only the
//! target has where that was asked for.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use keyhaul_client::{ClientError, TargetConnection};
use tokio_util::sync::CancellationToken;

use crate::compare::comparer::{Comparer, PairReader, Results};
use crate::compare::options::{CompareOptions, Mark, Repair, RepairCounts};
use crate::compare::over::{BATCH_KEYS, batches};
use crate::compare::values::Side;
use crate::copy::Job;
use crate::options::{CopyOptions, OnConflict, Verify};
use crate::patience::{GaveUp, Patience};
use crate::place::Place;
use crate::receipt::{Outcome, Receipt};
use crate::site::Site;

/// What a repair would do about this.
pub(crate) fn would_do(found: &Results, repair: Repair) -> RepairCounts {
    let counts = &found.counts;
    let differing = counts.type_differs + counts.value_differs + counts.expiry_differs;
    let (deleted, left) = match repair.deletes_extra {
        true => (counts.extra, 0),
        false => (0, counts.extra),
    };
    RepairCounts {
        copied: counts.missing + differing,
        deleted,
        left,
    }
}

/// Removes these differences.
///
/// # Errors
/// [`GaveUp`] when the job was halted or is to stop.
pub(crate) async fn repair(
    (source, target): &(Place, Place),
    options: &CompareOptions,
    repair: Repair,
    differing: &[(Mark, u32, Bytes)],
    comparer: &Arc<Comparer>,
) -> Result<RepairCounts, GaveUp> {
    let mut counts = RepairCounts::default();
    let is_extra = |mark: Mark| mark == Mark::Extra;
    let to_copy = differing.iter().filter(|(mark, _, _)| !is_extra(*mark));
    let names: HashSet<Bytes> = to_copy.map(|(_, _, key)| key.clone()).collect();
    let copy_options = CopyOptions {
        only: Some(Arc::new(names)),
        on_conflict: OnConflict::Replace,
        verify: Verify::None,
        state_dir: None,
        ..options.copy.clone()
    };
    let receipt = copy(source.clone(), target.clone(), copy_options, comparer).await?;
    counts.copied = receipt.keys_copied;
    for remark in receipt.remarks {
        comparer.ledger.remark(remark);
    }
    let mut not_moved = receipt.not_moved;
    for key in not_moved.first.drain(..) {
        let line = format!(
            "db {} \"{}\" was not copied: {}",
            key.db, key.key, key.reason
        );
        comparer.ledger.remark(line);
    }
    if let Outcome::Stopped(reason) = receipt.outcome {
        comparer.ledger.halt(reason);
        return Err(GaveUp);
    }
    let mut extra: Vec<(u32, Bytes)> = (differing.iter())
        .filter(|(mark, _, _)| is_extra(*mark))
        .map(|(_, db, key)| (*db, key.clone()))
        .collect();
    if !repair.deletes_extra {
        counts.left = extra.len() as u64;
        return Ok(counts);
    }
    extra.sort();
    let Side::Servers { site, .. } = &comparer.target else {
        return Ok(counts);
    };
    let mut reader = PairReader::new(comparer.clone());
    for (db, names) in batches(&extra, BATCH_KEYS) {
        // It may have come to the source since.
        for key in reader.without_source(db, &names).await? {
            counts.deleted += delete(site, db, &key, comparer).await?;
        }
    }
    Ok(counts)
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

/// Deletes a key; returns how many that were.
async fn delete(
    site: &Arc<Site>,
    db: u32,
    key: &Bytes,
    comparer: &Arc<Comparer>,
) -> Result<u64, GaveUp> {
    let mut patience = Patience::new(comparer.retry_for);
    loop {
        let deleted: Result<_, ClientError> = async {
            let address = site.address_of_key(key)?;
            let connector = site.routing.connector();
            let mut connection = TargetConnection::open(connector, &address, site.expiry).await?;
            connection.reads().select(db).await?;
            connection.raw().call(&[b"UNLINK", key]).await
        }
        .await;
        match deleted {
            Ok(reply) => return Ok(reply.as_int().map_or(0, |n| u64::from(n > 0))),
            Err(e) => site.recover(&e, &mut patience, &comparer.ledger).await?,
        }
    }
}

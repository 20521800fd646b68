//! Deletes on the target what only it has: keys, and function libraries.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use keyhaul_client::{Address, ClientError, TargetConnection};
use keyhaul_resp::encode;

use crate::compare::comparer::Comparer;
use crate::patience::{GaveUp, Patience};
use crate::site::Site;

/// Deletes keys of a db, a pipeline for each node; returns how many were there.
///
/// # Errors
/// [`GaveUp`] when the job was halted or is to stop.
pub(super) async fn unlink(
    site: &Arc<Site>,
    db: u32,
    keys: &[Bytes],
    comparer: &Arc<Comparer>,
) -> Result<u64, GaveUp> {
    let mut patience = Patience::new(comparer.retry_for);
    let mut deleted = 0;
    let mut open: Vec<Bytes> = keys.to_vec();
    while !open.is_empty() {
        match unlink_once(site, db, &mut open, &mut deleted).await {
            Ok(()) => {}
            Err(e) => site.recover(&e, &mut patience, &comparer.ledger).await?,
        }
    }
    Ok(deleted)
}

/// Takes away from `open` what is deleted.
async fn unlink_once(
    site: &Arc<Site>,
    db: u32,
    open: &mut Vec<Bytes>,
    deleted: &mut u64,
) -> Result<(), ClientError> {
    let mut by_node: HashMap<Address, Vec<Bytes>> = HashMap::new();
    for key in open.iter() {
        let keys = by_node.entry(site.address_of_key(key)?).or_default();
        keys.push(key.clone());
    }
    for (address, keys) in by_node {
        let connector = site.routing.connector();
        let mut connection = TargetConnection::open(connector, &address, site.expiry).await?;
        connection.reads().select(db).await?;
        let connection = connection.raw();
        for key in &keys {
            encode::command(connection.output(), &[b"UNLINK", key]);
        }
        connection.flush().await?;
        let mut done = HashSet::new();
        let mut failed = None;
        for key in keys {
            match connection.reply().await {
                Ok(reply) => {
                    *deleted += reply.as_int().map_or(0, |n| u64::from(n > 0));
                    done.insert(key);
                }
                Err(e) => {
                    let is_reply = matches!(e, ClientError::Server { .. });
                    failed = failed.or(Some(e));
                    if !is_reply {
                        break;
                    }
                }
            }
        }
        open.retain(|key| !done.contains(key));
        if let Some(e) = failed {
            return Err(e);
        }
    }
    Ok(())
}

/// Deletes function libraries from all primaries of the target; returns how many were there.
///
/// # Errors
/// [`GaveUp`] when the job was halted or is to stop.
pub(super) async fn delete_libraries(
    site: &Arc<Site>,
    names: &[Bytes],
    comparer: &Arc<Comparer>,
) -> Result<u64, GaveUp> {
    let mut patience = Patience::new(comparer.retry_for);
    let mut deleted: HashSet<Bytes> = HashSet::new();
    while !names.is_empty() {
        let done: Result<(), ClientError> = async {
            for (_, address) in site.primaries() {
                let connector = site.routing.connector();
                let mut connection =
                    TargetConnection::open(connector, &address, site.expiry).await?;
                for name in names {
                    let command: [&[u8]; 3] = [b"FUNCTION", b"DELETE", name];
                    match connection.raw().call(&command).await {
                        Ok(_) => drop(deleted.insert(name.clone())),
                        // This primary never had it, or it was deleted by a call whose reply was lost.
                        Err(ClientError::Server { error, .. }) if error.mentions("not found") => {}
                        Err(e) => return Err(e),
                    }
                }
            }
            Ok(())
        }
        .await;
        match done {
            Ok(()) => break,
            Err(e) => site.recover(&e, &mut patience, &comparer.ledger).await?,
        }
    }
    Ok(deleted.len() as u64)
}

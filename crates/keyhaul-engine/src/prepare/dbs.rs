//! Which dbs go over, and where to.

use std::collections::BTreeMap;

use keyhaul_client::ClientError;

use crate::options::CopyOptions;
use crate::plan::{DbPlan, PlanError};
use crate::prepare::{CheckedFile, Probed};

/// Dbs that are tried where a server tells neither their number nor which hold keys.
const DBS_TRIED_MAX: u32 = 16_384;

/// Dbs of the source and how many keys each holds, as far as that is known.
pub(super) type Found = Vec<(u32, Option<u64>)>;

/// The dbs of the source that are to be read: those that were chosen, or all that hold keys.
/// `source_db` comes from the URI: the only db that is read.
pub(super) async fn found(
    source: &mut Probed,
    source_db: Option<u32>,
    options: &CopyOptions,
) -> Result<Found, PlanError> {
    let chosen = match (options.dbs.clone(), source_db) {
        (Some(dbs), Some(db)) if dbs != [db] => {
            return refuse(format!(
                "the source URI names db {db} and --db names others: give the db in one place"
            ));
        }
        (Some(dbs), _) => Some(dbs),
        (None, db) => db.map(|db| vec![db]),
    };
    let with_keys = match (&chosen, dbs_with_keys(source).await) {
        // What was chosen need not be looked for.
        (Some(_), Err(PlanError::Refused(_))) => Vec::new(),
        (_, found) => found?,
    };
    let Some(chosen) = chosen else {
        return Ok(with_keys);
    };
    for db in &chosen {
        select(source, *db).await?;
    }
    let keys = |db| {
        with_keys
            .iter()
            .find(|(d, _)| *d == db)
            .map_or(Some(0), |(_, keys)| *keys)
    };
    Ok(chosen.into_iter().map(|db| (db, keys(db))).collect())
}

/// The same of files, which were read already.
pub(super) fn found_in_files(files: &[CheckedFile], options: &CopyOptions) -> Found {
    let mut keys: BTreeMap<u32, u64> = BTreeMap::new();
    for (db, count) in files.iter().flat_map(|file| &file.keys) {
        *keys.entry(*db).or_default() += count;
    }
    let is_chosen = |db: &u32| options.dbs.as_ref().is_none_or(|dbs| dbs.contains(db));
    let keys = keys.into_iter().filter(|(db, _)| is_chosen(db));
    keys.map(|(db, count)| (db, Some(count))).collect()
}

/// The dbs of the job, held against the target. `target_db` comes from its URI: where a single db
/// goes.
pub(super) async fn choose(
    found: Found,
    target: &mut Probed,
    target_db: Option<u32>,
    options: &mut CopyOptions,
) -> Result<Vec<DbPlan>, PlanError> {
    if let Some(target_db) = target_db {
        map_to_uri_db(&found, target_db, options)?;
    }
    let plan = as_they_are(found, options);
    if target.plan.is_cluster() {
        refuse_cluster(&plan)?;
    } else {
        for one in &plan {
            select(target, one.target_db).await?;
        }
    }
    Ok(plan)
}

/// The dbs of the job, where the target takes any.
pub(super) fn as_they_are(mut found: Found, options: &mut CopyOptions) -> Vec<DbPlan> {
    found.sort_unstable();
    found.dedup();
    options.dbs = Some(found.iter().map(|(db, _)| *db).collect());
    let plan = found.into_iter().map(|(db, keys)| DbPlan {
        source_db: db,
        target_db: options.db_map.target_db(db),
        keys,
    });
    plan.collect()
}

fn refuse<T>(reason: String) -> Result<T, PlanError> {
    Err(PlanError::Refused(reason))
}

/// A db in the target URI: where the one db that is read goes.
fn map_to_uri_db(
    dbs: &[(u32, Option<u64>)],
    target_db: u32,
    options: &mut CopyOptions,
) -> Result<(), PlanError> {
    match dbs {
        [] => Ok(()),
        [(db, _)] => match options.db_map.insert(*db, target_db) {
            Some(other) if other != target_db => refuse(format!(
                "--db-map sends db {db} to {other} and the target URI to {target_db}: give the db in one place"
            )),
            _ => Ok(()),
        },
        several => refuse(format!(
            "the target URI names db {target_db}, but the source has keys in {} dbs ({}): choose one with --db N, or name each with --db-map A:B",
            several.len(),
            list(several.iter().map(|(db, _)| *db)),
        )),
    }
}

/// A cluster has db 0 only.
fn refuse_cluster(plan: &[DbPlan]) -> Result<(), PlanError> {
    let outside: Vec<u32> = plan
        .iter()
        .filter(|one| one.target_db != 0)
        .map(|one| one.source_db)
        .collect();
    if outside.is_empty() {
        return Ok(());
    }
    let map = outside
        .iter()
        .map(|db| format!("{db}:0"))
        .collect::<Vec<_>>()
        .join(",");
    refuse(format!(
        "the target is a cluster, which has only db 0, and the source has keys in db {}: choose with --db 0, or send them there with --db-map {map}",
        list(outside.iter().copied()),
    ))
}

fn list(dbs: impl Iterator<Item = u32>) -> String {
    dbs.map(|db| db.to_string()).collect::<Vec<_>>().join(", ")
}

/// The dbs that hold keys, and how many where that can be told.
pub(super) async fn dbs_with_keys(
    source: &mut Probed,
) -> Result<Vec<(u32, Option<u64>)>, PlanError> {
    if source.plan.is_cluster() {
        // Valkey 9 has clusters with several.
        let of_node =
            |node: &crate::plan::NodePlan| node.facts.keyspace.clone().unwrap_or_default();
        let mut others = source.plan.primaries.iter().flat_map(of_node);
        if let Some((db, _)) = others.find(|(db, keys)| *db > 0 && *keys > 0) {
            return refuse(format!(
                "the {} is a cluster with keys in db {db}, and of a cluster only db 0 can be read: choose it with --db 0",
                source.site.side
            ));
        }
        return Ok(vec![(0, source.plan.keys)]);
    }
    let facts = source
        .plan
        .primaries
        .first()
        .map(|node| node.facts.clone())
        .unwrap_or_default();
    if let Some(keyspace) = facts.keyspace {
        return Ok(keyspace
            .into_iter()
            .map(|(db, keys)| (db, Some(keys)))
            .collect());
    }
    let mut found = Vec::new();
    for db in 0..facts.db_count.unwrap_or(DBS_TRIED_MAX) {
        match source.connection.select(db).await {
            Ok(()) => {}
            Err(ClientError::Server { error, .. }) if error.is_forbidden() => {
                return refuse(format!(
                    "which dbs of the source hold keys cannot be told, it answers: {error}; grant +select or +info, or choose --db 0"
                ));
            }
            Err(ClientError::Server { .. }) => break, // out of range, or only db 0 is allowed
            Err(e) => return Err(source.error(e)),
        }
        match source.connection.db_size().await {
            Ok(0) => {}
            Ok(keys) => found.push((db, Some(keys))),
            Err(ClientError::Server { .. }) => found.push((db, None)), // forbidden: look and see
            Err(e) => return Err(source.error(e)),
        }
    }
    Ok(found)
}

/// Makes sure that a db exists there.
async fn select(probed: &mut Probed, db: u32) -> Result<(), PlanError> {
    match probed.connection.select(db).await {
        Ok(()) => Ok(()),
        Err(ClientError::Server { error, .. }) => {
            let (side, endpoint) = (probed.site.side, &probed.plan.endpoint);
            let remedy = match side {
                crate::plan::SideName::Source => "choose another with --db",
                crate::plan::SideName::Target => "send it to another with --db-map A:B",
            };
            refuse(format!(
                "the {side} {endpoint} has no db {db} ({error}): {remedy}"
            ))
        }
        Err(e) => Err(probed.error(e)),
    }
}

//! What a job is refused for before either end is asked for more.

use std::path::{Path, PathBuf};

use keyhaul_client::{Role, Version};

use crate::options::{CopyOptions, Method, OnConflict, Scope};
use crate::place::Place;
use crate::plan::PlanError;
use crate::prepare::Probed;

fn refuse<T>(reason: impl Into<String>) -> Result<T, PlanError> {
    Err(PlanError::Refused(reason.into()))
}

/// Options that do not go together with these ends.
pub(super) fn combinations(
    source: &Place,
    target: &Place,
    options: &CopyOptions,
) -> Result<(), PlanError> {
    let to_file = matches!(target, Place::Files(_));
    let from_file = matches!(source, Place::Files(_));
    if from_file && options.method == Method::Psync {
        return refuse("--method psync needs a server as the source: a file is read as it is");
    }
    if to_file && options.on_conflict == OnConflict::Fail {
        return refuse(
            "--on-conflict fail needs a server as the target: a file is written anew; of keys that stand twice, replace keeps the last and skip the first",
        );
    }
    if options.rdb_version.is_some() && !to_file {
        return refuse(
            "--rdb-version needs a file as the target: what a server reads is asked of it",
        );
    }
    if options.live.is_some() {
        live(options, from_file, to_file)?;
    }
    if options.allow_partial && !from_file {
        return refuse("--allow-partial needs a file as the source");
    }
    Ok(())
}

/// Options that do not go together with following the source.
fn live(options: &CopyOptions, from_file: bool, to_file: bool) -> Result<(), PlanError> {
    if from_file || to_file {
        return refuse(
            "--mode live needs servers on both ends: a file neither changes nor follows",
        );
    }
    if options.on_conflict != OnConflict::Replace {
        return refuse(
            "--mode live needs --on-conflict replace: each change replaces what the target holds",
        );
    }
    if options.scope != Scope::Every {
        return refuse("keys by name or by size are copied once: leave out --mode live");
    }
    Ok(())
}

/// A target is one file.
pub(super) fn one_target(paths: &[PathBuf]) -> Result<&PathBuf, PlanError> {
    match paths {
        [path] => Ok(path),
        paths => refuse(format!(
            "the target names {} files: name one, and all keys go there",
            paths.len()
        )),
    }
}

/// A file that is read is not written.
pub(super) fn same_files(sources: &[PathBuf], target: &Path) -> Result<(), PlanError> {
    let Ok(target) = target.canonicalize() else {
        return Ok(()); // it is not there yet
    };
    let is_same = |source: &PathBuf| source.canonicalize().is_ok_and(|source| source == target);
    match sources.iter().any(is_same) {
        true => refuse(format!(
            "source and target are the same file ({}): name two different ones",
            target.display()
        )),
        false => Ok(()),
    }
}

pub(super) fn same_servers(source: &Probed, target: &Probed) -> Result<(), PlanError> {
    let ids = |probed: &Probed| -> Vec<String> {
        let topology = probed.site.routing.topology();
        let nodes = topology.primaries.iter().map(|node| node.id.clone());
        let runs = probed
            .plan
            .primaries
            .iter()
            .filter_map(|node| node.facts.run_id.clone());
        nodes.chain(runs).filter(|id| !id.is_empty()).collect()
    };
    let addresses = |probed: &Probed| -> Vec<String> {
        probed
            .plan
            .primaries
            .iter()
            .map(|node| node.address.clone())
            .collect()
    };
    let (source_ids, target_ids) = (ids(source), ids(target));
    let same = |one: &[String], other: &[String]| one.iter().any(|id| other.contains(id));
    if same(&source_ids, &target_ids) || same(&addresses(source), &addresses(target)) {
        return refuse(format!(
            "source and target are the same server ({}): name two different ones",
            target.plan.endpoint
        ));
    }
    Ok(())
}

pub(super) fn unfit_target(target: &Probed) -> Result<(), PlanError> {
    /// RESTORE has ABSTTL, and so exact expiries, since Redis 5.0.
    const OLDEST: Version = Version {
        major: 5,
        minor: 0,
        patch: 0,
    };
    for node in &target.plan.primaries {
        if node.facts.role == Some(Role::Replica) {
            return refuse(format!(
                "the target {} is a replica and takes no writes: name its primary",
                node.address
            ));
        }
        if node.facts.version.is_some_and(|version| version < OLDEST) {
            return refuse(format!(
                "the target {} is {}: a target must be Redis 5.0 or newer",
                node.address,
                node.facts.product()
            ));
        }
    }
    Ok(())
}

pub(super) fn uncovered(probed: &Probed) -> Result<(), PlanError> {
    let uncovered = probed.site.routing.topology().uncovered();
    if uncovered.is_empty() {
        return Ok(());
    }
    refuse(format!(
        "{} slots of the {} cluster are served by no node: repair it first (redis-cli --cluster fix)",
        uncovered.len(),
        probed.site.side
    ))
}

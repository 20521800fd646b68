//! Finds out everything that a job depends on, and refuses one that would fail or lose data, before
//! anything is written.

mod comparison;
mod dbs;
mod files;
mod kinds;
mod method;
mod probe;
mod reader;
mod refuse;
mod rights;
mod room;
mod sizes;
mod statistics;
mod warnings;

use std::path::PathBuf;
use std::sync::Arc;

use keyhaul_client::ServerFacts;
use keyhaul_rdb::Reader;

use crate::bigkey::Abilities;
use crate::options::{CopyOptions, Verify};
use crate::place::Place;
use crate::plan::{DbPlan, Plan, PlanError, SideKind, SideName, SidePlan};
use crate::site::Site;
use crate::target::file::check_writable;

pub(crate) use comparison::{ComparedEnd, PreparedComparison, prepare as prepare_comparison};
pub(crate) use comparison::{RELATIVE_TOLERANCE_MS, stream_detail};
pub(crate) use files::check_file;
pub use files::{CheckedFile, Damage};
pub(crate) use method::ReadBy;
pub(crate) use probe::Probed;
pub(crate) use reader::{server_version, source_version};
pub(crate) use room::{data_bytes, takes_all};
pub(crate) use sizes::{SizeRules, SizeVerdict};
pub(crate) use statistics::{PreparedStatistics, StatisticsEnd, prepare as prepare_statistics};

use sizes::Chunks;

/// What a target takes as one argument where it does not tell (`proto-max-bulk-len`, Redis >= 3).
const BULK_LEN_DEFAULT: u64 = 512 * 1024 * 1024;
/// How long a command may be where it does not tell (`client-query-buffer-limit`, Redis >= 4).
const QUERY_BUFFER_DEFAULT: u64 = 1024 * 1024 * 1024;

/// A job that may begin.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub source: SourceEnd,
    pub target: TargetEnd,
    pub plan: Plan,
    pub options: CopyOptions,
    /// The dbs that the user chose; `None`: all.
    pub chosen_dbs: Option<Vec<u32>>,
    /// What the target reads.
    pub reader: Reader,
    /// The RDB version that the source writes.
    pub source_version: u16,
    /// What both ends know of values that go over by element.
    pub abilities: Abilities,
}

/// Where the keys come from.
#[derive(Debug)]
pub(crate) enum SourceEnd {
    Servers {
        site: Arc<Site>,
        read_by: ReadBy,
        /// What becomes of keys by size; `None`: it makes no difference for any.
        sizes: Option<SizeRules>,
    },
    Files(Vec<CheckedFile>),
}

/// Where they go.
#[derive(Debug)]
pub(crate) enum TargetEnd {
    Servers {
        site: Arc<Site>,
        /// Longest payload that the target takes, bytes.
        bulk_len_max: u64,
    },
    File(PathBuf),
}

/// An end before it is known what will be done.
#[derive(Debug)]
pub(crate) enum Opened {
    /// Servers, and the db that their endpoint names.
    Servers(Box<Probed>, Option<u32>),
    /// Files, not looked into yet. One as a target, which can be written.
    Files(Vec<PathBuf>),
}

/// Probes both ends and makes the plan.
///
/// # Errors
/// [`PlanError`]; nothing was written.
pub(crate) async fn prepare(
    source: Place,
    target: Place,
    options: CopyOptions,
) -> Result<Prepared, PlanError> {
    let (source, target) = open(source, target, &options).await?;
    decide(source, target, options).await
}

/// Probes both ends.
///
/// # Errors
/// [`PlanError`] where one cannot be reached, or where the options do not go with them.
pub(crate) async fn open(
    source: Place,
    target: Place,
    options: &CopyOptions,
) -> Result<(Opened, Opened), PlanError> {
    refuse::combinations(&source, &target, options)?;
    if let Place::Files(paths) = &target {
        let path = refuse::one_target(paths)?;
        if let Place::Files(sources) = &source {
            refuse::same_files(sources, path)?;
        }
        check_writable(path).map_err(|e| PlanError::Refused(e.to_string()))?;
    }
    tokio::try_join!(
        open_side(SideName::Source, source, options),
        open_side(SideName::Target, target, options),
    )
}

async fn open_side(
    side: SideName,
    place: Place,
    options: &CopyOptions,
) -> Result<Opened, PlanError> {
    match place {
        Place::Servers(endpoint) => {
            let db = endpoint.db;
            let probed = probe::side(side, endpoint, options).await?;
            Ok(Opened::Servers(Box::new(probed), db))
        }
        Place::Files(paths) => Ok(Opened::Files(paths)),
    }
}

/// Makes the plan of two ends.
///
/// # Errors
/// [`PlanError`]; nothing was written.
pub(crate) async fn decide(
    source: Opened,
    target: Opened,
    options: CopyOptions,
) -> Result<Prepared, PlanError> {
    let prepared = match (source, target) {
        (Opened::Servers(source, source_db), Opened::Servers(target, target_db)) => {
            between_servers((*source, source_db), (*target, target_db), options).await?
        }
        (Opened::Servers(source, source_db), Opened::Files(paths)) => {
            let path = refuse::one_target(&paths)?.clone();
            to_file((*source, source_db), path, options).await?
        }
        (Opened::Files(paths), Opened::Servers(target, target_db)) => {
            from_files(paths, (*target, target_db), options).await?
        }
        (Opened::Files(sources), Opened::Files(paths)) => {
            let path = refuse::one_target(&paths)?.clone();
            between_files(sources, path, options).await?
        }
    };
    room::refuse_loss(&prepared)?;
    Ok(prepared)
}

async fn between_servers(
    (mut source, source_db): (Probed, Option<u32>),
    (mut target, target_db): (Probed, Option<u32>),
    mut options: CopyOptions,
) -> Result<Prepared, PlanError> {
    refuse::same_servers(&source, &target)?;
    refuse::unfit_target(&target)?;
    refuse::uncovered(&source)?;
    refuse::uncovered(&target)?;
    let read_by = method::choose(&mut source, &options, false).await?;
    let chosen = options.dbs.clone().or(source_db.map(|db| vec![db]));
    let found = dbs::found(&mut source, source_db, &options).await?;
    // A db in the target's URI is where one db goes, also when others get keys later.
    let found = match options.live.is_some() && target_db.is_some() && found.is_empty() {
        true => vec![(0, Some(0))],
        false => found,
    };
    let one = || found.iter().map(|(db, _)| *db).collect();
    let chosen = chosen.or_else(|| target_db.filter(|_| options.live.is_some()).map(|_| one()));
    let dbs = dbs::choose(found, &mut target, target_db, &mut options).await?;
    if read_by != ReadBy::Psync || verifies(&options) {
        check_source(&mut source, &options, &dbs).await?;
    }
    rights::check_target(&mut target, &options).await?;
    let bulk_len_max = bulk_len_max(&target);
    let sizes = sizes::rules(
        &mut source,
        &options,
        bulk_len_max,
        Chunks::Possible,
        &read_by,
    );
    let sizes = sizes.await?;
    let reader = reader::of_server(&mut target, &options).await?;
    let plan = plan(source.plan, target.plan, dbs);
    let source = SourceEnd::Servers {
        site: Arc::new(source.site),
        read_by,
        sizes,
    };
    let target = TargetEnd::Servers {
        site: Arc::new(target.site),
        bulk_len_max,
    };
    Ok(finish(source, target, plan, (options, chosen), reader))
}

async fn from_files(
    paths: Vec<PathBuf>,
    (mut target, target_db): (Probed, Option<u32>),
    mut options: CopyOptions,
) -> Result<Prepared, PlanError> {
    refuse::unfit_target(&target)?;
    refuse::uncovered(&target)?;
    let files = files::check(&paths, options.allow_partial).await?;
    let chosen = options.dbs.clone();
    let found = dbs::found_in_files(&files, &options);
    let dbs = dbs::choose(found, &mut target, target_db, &mut options).await?;
    rights::check_target(&mut target, &options).await?;
    let bulk_len_max = bulk_len_max(&target);
    let reader = reader::of_server(&mut target, &options).await?;
    let plan = plan(files_side(&paths, &files), target.plan, dbs);
    let target = TargetEnd::Servers {
        site: Arc::new(target.site),
        bulk_len_max,
    };
    Ok(finish(
        SourceEnd::Files(files),
        target,
        plan,
        (options, chosen),
        reader,
    ))
}

async fn to_file(
    (mut source, source_db): (Probed, Option<u32>),
    path: PathBuf,
    mut options: CopyOptions,
) -> Result<Prepared, PlanError> {
    refuse::uncovered(&source)?;
    let read_by = method::choose(&mut source, &options, true).await?;
    let chosen = options.dbs.clone().or(source_db.map(|db| vec![db]));
    let found = match dbs::found(&mut source, source_db, &options).await {
        // A snapshot tells by itself which dbs there are.
        Err(PlanError::Refused(_)) if read_by == ReadBy::Psync => Vec::new(),
        found => found?,
    };
    let dbs = dbs::as_they_are(found, &mut options);
    if read_by != ReadBy::Psync {
        check_source(&mut source, &options, &dbs).await?;
    }
    let sizes = sizes::rules(
        &mut source,
        &options,
        BULK_LEN_DEFAULT,
        Chunks::Impossible,
        &read_by,
    );
    let sizes = sizes.await?;
    let reader = reader::of_file(&source.plan, &options)?;
    let target = new_file_side(&path, reader.rdb_version);
    let plan = plan(source.plan, target, dbs);
    let source = SourceEnd::Servers {
        site: Arc::new(source.site),
        read_by,
        sizes,
    };
    Ok(finish(
        source,
        TargetEnd::File(path),
        plan,
        (options, chosen),
        reader,
    ))
}

async fn between_files(
    paths: Vec<PathBuf>,
    path: PathBuf,
    mut options: CopyOptions,
) -> Result<Prepared, PlanError> {
    let files = files::check(&paths, options.allow_partial).await?;
    let chosen = options.dbs.clone();
    let found = dbs::found_in_files(&files, &options);
    let dbs = dbs::as_they_are(found, &mut options);
    let side = files_side(&paths, &files);
    let reader = reader::of_file(&side, &options)?;
    let target = new_file_side(&path, reader.rdb_version);
    let plan = plan(side, target, dbs);
    let source = SourceEnd::Files(files);
    Ok(finish(
        source,
        TargetEnd::File(path),
        plan,
        (options, chosen),
        reader,
    ))
}

async fn check_source(
    source: &mut Probed,
    options: &CopyOptions,
    dbs: &[DbPlan],
) -> Result<(), PlanError> {
    rights::check_source(source, options).await?;
    let chosen: Vec<u32> = dbs.iter().map(|db| db.source_db).collect();
    if collisions_are_possible(options, &chosen) {
        rights::check_collisions(source).await?;
    }
    Ok(())
}

fn plan(source: SidePlan, target: SidePlan, dbs: Vec<DbPlan>) -> Plan {
    Plan {
        clock_difference_ms: clock_difference(&source, &target),
        dbs,
        steps: Vec::new(),
        warnings: Vec::new(),
        source,
        target,
    }
}

fn finish(
    source: SourceEnd,
    target: TargetEnd,
    plan: Plan,
    (options, chosen_dbs): (CopyOptions, Option<Vec<u32>>),
    reader: Reader,
) -> Prepared {
    let mut prepared = Prepared {
        source_version: reader::source_version(&plan.source),
        abilities: reader::abilities(&plan, &reader, &options),
        source,
        target,
        plan,
        options,
        chosen_dbs,
        reader,
    };
    prepared.plan.steps = warnings::steps(&prepared);
    prepared.plan.warnings = warnings::warnings(&prepared);
    prepared
}

fn files_side(paths: &[PathBuf], files: &[CheckedFile]) -> SidePlan {
    let keys = files.iter().flat_map(|file| file.keys.values()).sum();
    SidePlan {
        endpoint: Place::Files(paths.to_vec()).to_string(),
        kind: SideKind::Files(files.to_vec()),
        primaries: Vec::new(),
        keys: Some(keys),
    }
}

fn new_file_side(path: &std::path::Path, rdb_version: u16) -> SidePlan {
    SidePlan {
        endpoint: Place::Files(vec![path.to_owned()]).to_string(),
        kind: SideKind::NewFile {
            path: path.to_owned(),
            rdb_version,
        },
        primaries: Vec::new(),
        keys: None,
    }
}

/// The longest argument that every server of the target takes. A command as a whole must fit its query
/// buffer too.
fn bulk_len_max(target: &Probed) -> u64 {
    const OTHER_ARGS: u64 = 1024 * 1024;
    let of = |facts: &ServerFacts| {
        let argument = facts.bulk_len_max.unwrap_or(BULK_LEN_DEFAULT);
        let command = facts.query_buffer_max.unwrap_or(QUERY_BUFFER_DEFAULT);
        argument.min(command.saturating_sub(OTHER_ARGS))
    };
    let lowest = target
        .plan
        .primaries
        .iter()
        .map(|node| of(&node.facts))
        .min();
    lowest.unwrap_or(BULK_LEN_DEFAULT)
}

/// The facts of the first primary.
pub(crate) fn first_facts(side: &SidePlan) -> ServerFacts {
    side.primaries
        .first()
        .map(|node| node.facts.clone())
        .unwrap_or_default()
}

fn clock_difference(source: &SidePlan, target: &SidePlan) -> Option<(f64, f64)> {
    let (source, target) = (first_facts(source), first_facts(target));
    let difference = target.clock_ahead_ms? - source.clock_ahead_ms?;
    Some((
        difference,
        (source.round_trip_ms? + target.round_trip_ms?) / 2.0,
    ))
}

/// Whether two keys of the source can become one on the target at all.
pub(crate) fn collisions_are_possible(options: &CopyOptions, dbs: &[u32]) -> bool {
    let shares = |db: &u32| options.db_map.sharing(*db, dbs).next().is_some();
    !options.renames.is_empty() || dbs.iter().any(shares)
}

/// Whether the verification will look at the target.
pub(crate) fn verifies(options: &CopyOptions) -> bool {
    options.verify != Verify::None
}

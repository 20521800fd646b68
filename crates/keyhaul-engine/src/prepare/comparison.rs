//! Finds out everything that a comparison depends on. Both ends are only read.

use std::sync::Arc;

use keyhaul_client::{Endpoint, ExpiryCommand};
use keyhaul_rdb::{Form, StreamDetail};

use crate::compare::options::{CompareOptions, Depth};
use crate::options::{CopyOptions, Verify};
use crate::place::Place;
use crate::plan::{Plan, PlanError, SideName, SidePlan};
use crate::prepare::{
    CheckedFile, Probed, dbs, files, files_side, plan, probe, reader, refuse, rights,
};
use crate::site::Site;

/// The first RDB version in which streams have offsets.
const OFFSETS_SINCE: u16 = 10;
/// Expiries that are worked out from relative ones are exact to so many ms.
pub(crate) const RELATIVE_TOLERANCE_MS: i64 = 10;

/// A comparison that may begin.
#[derive(Debug)]
pub(crate) struct PreparedComparison {
    pub source: ComparedEnd,
    pub target: ComparedEnd,
    pub plan: Plan,
    /// The dbs of the source that are compared; `None`: all.
    pub chosen_dbs: Option<Vec<u32>>,
    /// The dbs of the target that hold keys.
    pub target_dbs: Vec<u32>,
    pub options: CompareOptions,
    /// How much of a stream both ends know.
    pub detail: StreamDetail,
    pub tolerance_ms: i64,
}

/// One end.
#[derive(Debug)]
pub(crate) enum ComparedEnd {
    Servers {
        site: Arc<Site>,
        /// The version of its payloads.
        rdb_version: u16,
        /// Keys above are compared element by element; `None`: there are none, or their sizes cannot be had.
        chunk_threshold: Option<u64>,
    },
    Files(Vec<CheckedFile>),
}

/// An end before it is known what the other one is.
enum Opened {
    Servers(Box<Probed>, Option<u32>),
    Files(Vec<CheckedFile>, SidePlan),
}

/// Probes both ends.
///
/// # Errors
/// [`PlanError`].
pub(crate) async fn prepare(
    source: Place,
    target: Place,
    mut options: CompareOptions,
) -> Result<PreparedComparison, PlanError> {
    if options.depth == Depth::Quick {
        options.copy.verify = Verify::Quick;
    }
    if options.repair.is_some_and(|repair| !repair.is_dry_run) && matches!(target, Place::Files(_))
    {
        return Err(PlanError::Refused(
            "--repair needs a server as the target: a file is not changed, write it anew with keyhaul replicate".into(),
        ));
    }
    let (mut source, mut target) = tokio::try_join!(
        open(SideName::Source, source, &options.copy),
        open(SideName::Target, target, &options.copy),
    )?;
    if let (Opened::Servers(source, _), Opened::Servers(target, _)) = (&source, &target) {
        refuse::same_servers(source, target)?;
    }
    if options.repair.is_some_and(|repair| !repair.is_dry_run)
        && let Opened::Servers(target, _) = &mut target
    {
        refuse::unfit_target(target)?;
        rights::check_target(target, &options.copy).await?;
    }
    let source_db = source.db();
    let chosen_dbs = options.copy.dbs.clone().or(source_db.map(|db| vec![db]));
    let found = match &mut source {
        Opened::Servers(probed, db) => dbs::found(probed, *db, &options.copy).await?,
        Opened::Files(files, _) => dbs::found_in_files(files, &options.copy),
    };
    let dbs = match &mut target {
        Opened::Servers(probed, db) => dbs::choose(found, probed, *db, &mut options.copy).await?,
        Opened::Files(..) => dbs::as_they_are(found, &mut options.copy),
    };
    let target_dbs = match &mut target {
        Opened::Servers(probed, Some(db)) if !probed.plan.is_cluster() => vec![*db],
        Opened::Servers(probed, _) => {
            let found = dbs::dbs_with_keys(probed).await?;
            found.into_iter().map(|(db, _)| db).collect()
        }
        Opened::Files(files, _) => {
            let dbs = dbs::found_in_files(files, &CopyOptions::default());
            dbs.into_iter().map(|(db, _)| db).collect()
        }
    };
    let by_element = matches!(
        (&source, &target),
        (Opened::Servers(..), Opened::Servers(..))
    );
    let (source, source_plan, source_facts) = source.ready(&options, by_element).await?;
    let (target, target_plan, target_facts) = target.ready(&options, by_element).await?;
    let mut plan = plan(source_plan, target_plan, dbs);
    plan.steps = steps(&options);
    let is_relative = source_facts.is_relative || target_facts.is_relative;
    let tolerance_ms = match options.ttl_tolerance_ms {
        Some(chosen) => i64::try_from(chosen).unwrap_or(i64::MAX),
        None if is_relative => RELATIVE_TOLERANCE_MS,
        None => 0,
    };
    Ok(PreparedComparison {
        detail: source_facts.detail.min(target_facts.detail),
        source,
        target,
        plan,
        chosen_dbs,
        target_dbs,
        tolerance_ms,
        options,
    })
}

/// What decides how values are held against one another.
struct EndFacts {
    detail: StreamDetail,
    is_relative: bool,
}

async fn open(side: SideName, place: Place, options: &CopyOptions) -> Result<Opened, PlanError> {
    match place {
        Place::Servers(endpoint) => open_servers(side, endpoint, options).await,
        Place::Files(paths) => {
            let files = files::check(&paths, options.allow_partial).await?;
            let plan = files_side(&paths, &files);
            Ok(Opened::Files(files, plan))
        }
    }
}

async fn open_servers(
    side: SideName,
    endpoint: Endpoint,
    options: &CopyOptions,
) -> Result<Opened, PlanError> {
    let db = endpoint.db;
    let probed = probe::side(side, endpoint, options).await?;
    refuse::uncovered(&probed)?;
    Ok(Opened::Servers(Box::new(probed), db))
}

impl Opened {
    fn db(&self) -> Option<u32> {
        match self {
            Self::Servers(_, db) => *db,
            Self::Files(..) => None,
        }
    }

    /// Tries the rights and finds out how large keys are.
    async fn ready(
        self,
        options: &CompareOptions,
        by_element: bool,
    ) -> Result<(ComparedEnd, SidePlan, EndFacts), PlanError> {
        let mut probed = match self {
            Self::Servers(probed, _) => probed,
            Self::Files(files, plan) => {
                // Streams of the older form are in files of newer versions too.
                let is_older = |file: &CheckedFile| {
                    (file.forms.values()).any(|(form, keys)| *form == Form::Stream && *keys > 0)
                };
                let facts = EndFacts {
                    detail: match files.iter().any(is_older) {
                        true => StreamDetail::Basic,
                        false => StreamDetail::Offsets,
                    },
                    is_relative: false,
                };
                return Ok((ComparedEnd::Files(files), plan, facts));
            }
        };
        match options.depth {
            Depth::Full => rights::check_source(&mut probed, &options.copy).await?,
            Depth::Quick => rights::check_scan_and_look(&mut probed, &options.copy).await?,
        }
        let most = options.copy.chunk_threshold;
        let is_small = |used: Option<u64>| used.is_some_and(|used| used <= most);
        let are_small = (probed.plan.primaries.iter()).all(|node| is_small(node.facts.used_memory));
        let mut chunk_threshold = None;
        if by_element && options.depth == Depth::Full && !are_small {
            match rights::memory_usage(&mut probed).await? {
                Ok(()) => chunk_threshold = Some(most),
                Err(error) => {
                    for node in &mut probed.plan.primaries {
                        node.facts.lacks(
                            "MEMORY USAGE",
                            &error,
                            "large keys are read in one piece, for which the server stands still",
                        );
                    }
                }
            }
        }
        let rdb_version = reader::source_version(&probed.plan);
        let facts = EndFacts {
            detail: stream_detail(rdb_version),
            is_relative: probed.site.expiry == ExpiryCommand::Relative,
        };
        let end = ComparedEnd::Servers {
            site: Arc::new(probed.site),
            rdb_version,
            chunk_threshold,
        };
        Ok((end, probed.plan, facts))
    }
}

/// How much of its streams a server tells that writes this RDB version. The times of consumers are not compared:
/// they begin anew with every copy, and with every look.
pub(crate) fn stream_detail(rdb_version: u16) -> StreamDetail {
    match rdb_version >= OFFSETS_SINCE {
        true => StreamDetail::Offsets,
        false => StreamDetail::Basic,
    }
}

fn steps(options: &CompareOptions) -> Vec<String> {
    let what = match options.depth {
        Depth::Quick => "existence, type and expiry",
        Depth::Full => "existence, type, expiry and every byte of the values",
    };
    let mut steps = vec![format!(
        "compare {what}, in both directions; nothing is written"
    )];
    if let Some(repair) = options.repair {
        let extra = match repair.deletes_extra {
            true => "delete what only the target has",
            false => "leave what only the target has",
        };
        steps.push(match repair.is_dry_run {
            true => format!("a repair would copy what is missing or differs, and {extra}"),
            false => format!(
                "then copy what is missing or differs, {extra}, and compare those keys again"
            ),
        });
    }
    steps
}

//! A plan in full: what both ends are, which rights are there, what becomes of the kinds of keys, how long
//! it takes, what is in the way. Probes and writes nothing.
//!
//! What decides whether a job may begin is `prepare/` alone, for a survey as for the job itself:
//! a survey that says go is that of a job that begins.

mod estimate;
mod findings;
mod key_report;
mod kinds;
mod rights;
mod sample;
mod wanted;
mod writes;

use keyhaul_client::{ClientError, ReadConnection, ServerDetails, ServerFacts, Tried};

pub use estimate::Estimate;
pub use key_report::KeyReport;
pub use kinds::{Fate, Kinds, KindsBasis, Read};
pub use rights::Right;
pub use wanted::Need;
pub use writes::{WriteBasis, WriteRate};

use crate::options::{CopyOptions, Method};
use crate::place::Place;
use crate::plan::{Plan, PlanError, SideName, SidePlan, Warning};
use crate::prepare::{
    self, Opened, Prepared, Probed, ReadBy, SourceEnd, TargetEnd, collisions_are_possible,
    server_version,
};
use crate::survey::wanted::Wanted;
use crate::transform::KeyFilter;

/// All that was found.
#[derive(Debug)]
pub struct Survey {
    /// Where the keys come from.
    pub source: SurveyedSide,
    /// Where they go.
    pub target: SurveyedSide,
    /// What would be done, or why nothing would.
    pub outcome: Result<Plan, PlanError>,
    /// How the source would be read.
    pub method: ReadMethod,
    /// Why so, and what else there would be.
    pub why_method: String,
    /// The rights of the users on both sides; none of files.
    pub rights: Vec<Right>,
    /// What becomes of the kinds of keys; `None`: not looked at.
    pub kinds: Option<Kinds>,
    /// What is written on the source; `None`: it is a file, or does not tell.
    pub writes: Option<WriteRate>,
    /// How long it would take.
    pub estimate: Option<Estimate>,
    /// What the user should know first: the warnings of the plan, and what was found beside it.
    pub findings: Vec<Warning>,
}

/// One end.
#[derive(Debug)]
pub struct SurveyedSide {
    /// The endpoint without credentials.
    pub endpoint: String,
    /// What it is; `None`: files, and the job was refused before they were looked into.
    pub found: Option<SidePlan>,
    /// Its primaries; none of files.
    pub nodes: Vec<SurveyedNode>,
}

/// One primary.
#[derive(Debug)]
pub struct SurveyedNode {
    /// Its address.
    pub address: String,
    /// What every job knows of it.
    pub facts: ServerFacts,
    /// What only a survey asks.
    pub details: ServerDetails,
    /// The RDB version that it writes, if its version is known.
    pub rdb_version: Option<u16>,
}

/// How a source is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMethod {
    /// Key by key, by SCAN and DUMP.
    Scan,
    /// A snapshot of each node, by PSYNC.
    Psync,
    /// RDB files.
    Files,
    /// The job would not begin.
    Undecided,
}

impl Survey {
    /// Whether there is a warning of this name.
    pub fn warns_of(&self, name: &str) -> bool {
        self.findings.iter().any(|warning| warning.name == name)
    }
}

impl SurveyedNode {
    /// Whether its data outlives a restart; `None`: it does not tell.
    pub fn saves(&self) -> Option<bool> {
        let by_rdb = self
            .details
            .save_points
            .as_ref()
            .map(|text| !text.is_empty());
        match (by_rdb, self.details.append_only) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        }
    }

    /// Bytes that it can take until it is full; `None`: it has no limit, or does not tell.
    pub fn headroom(&self) -> Option<u64> {
        let limit = self.facts.max_memory.filter(|limit| *limit > 0)?;
        Some(limit.saturating_sub(self.facts.used_memory?))
    }
}

/// Probes both ends and finds out all that can be told beforehand. With a report on all keys of the source, no keys are
/// sampled.
///
/// # Errors
/// [`PlanError`] where an end cannot be reached or the options do not go with it. A job that would be refused
/// for what was found is no error: [`Survey::outcome`] says so.
pub async fn survey(
    source: Place,
    target: Place,
    options: CopyOptions,
    report: Option<&KeyReport>,
) -> Result<Survey, PlanError> {
    let into_file = matches!(target, Place::Files(_));
    let (source_name, target_name) = (source.to_string(), target.to_string());
    let (source, target) = prepare::open(source, target, &options).await?;
    let (of_source, of_target) = tokio::try_join!(
        ask(&source, source_name, &options, into_file),
        ask(&target, target_name, &options, into_file),
    )?;
    let (mut source_side, mut target_side) = (of_source.side, of_target.side);
    let rights = [of_source.rights, of_target.rights].concat();
    let prepared = match prepare::decide(source, target, options.clone()).await {
        Err(e @ PlanError::Client { .. }) => return Err(e),
        prepared => prepared,
    };
    let (method, why_method) = {
        let prepared = prepared.as_ref().ok();
        (method(prepared), why_method(prepared, &rights, &options))
    };
    let (mut looked_at, mut estimated, mut warnings) = (None, None, Vec::new());
    let outcome = match prepared {
        Ok(prepared) => {
            looked_at = Some(kinds(&prepared, &rights, report).await?);
            estimated = estimate::estimate(&prepared, looked_at.as_ref());
            warnings.clone_from(&prepared.plan.warnings);
            source_side.found = Some(prepared.plan.source.clone());
            target_side.found = Some(prepared.plan.target.clone());
            Ok(prepared.plan)
        }
        Err(refusal) => Err(refusal),
    };
    let mut survey = Survey {
        source: source_side,
        target: target_side,
        outcome,
        method,
        why_method,
        rights,
        kinds: looked_at,
        writes: of_source.writes,
        estimate: estimated,
        findings: warnings,
    };
    if let Some(report) = report {
        let keys = survey.source.found.as_ref().and_then(|found| found.keys);
        let doubts = report.doubts(&survey.source.endpoint, keys);
        survey.findings.extend(doubts);
    }
    let found = findings::findings(&survey, &options);
    survey.findings.extend(found);
    Ok(survey)
}

/// What one end answered.
struct Asked {
    side: SurveyedSide,
    rights: Vec<Right>,
    /// Of a source.
    writes: Option<WriteRate>,
}

/// Asks the servers of one end; files are looked into later.
async fn ask(
    opened: &Opened,
    endpoint: String,
    options: &CopyOptions,
    into_file: bool,
) -> Result<Asked, PlanError> {
    let mut asked = Asked {
        side: SurveyedSide {
            endpoint,
            found: None,
            nodes: Vec::new(),
        },
        rights: Vec::new(),
        writes: None,
    };
    if let Opened::Servers(probed, _) = opened {
        asked.side.found = Some(probed.plan.clone());
        let asking = ask_servers(probed, wanted(options, &probed.plan, into_file), &mut asked);
        asking.await.map_err(|e| probed.error(e))?;
    }
    Ok(asked)
}

async fn ask_servers(
    probed: &Probed,
    wanted: Wanted<'_>,
    asked: &mut Asked,
) -> Result<(), ClientError> {
    let mut connections = open_all(probed).await?;
    asked.side.nodes = nodes(&probed.plan, &mut connections).await?;
    match probed.site.side {
        SideName::Source => {
            asked.writes = writes::measure(&mut connections).await?;
            asked.rights = rights::of_source(probed, wanted).await?;
        }
        SideName::Target => asked.rights = rights::of_target(probed, wanted).await?,
    }
    Ok(())
}

/// A connection to each primary.
async fn open_all(probed: &Probed) -> Result<Vec<ReadConnection>, ClientError> {
    let mut connections = Vec::new();
    for (_, address) in probed.site.primaries() {
        connections.push(probed.site.open(&address).await?);
    }
    Ok(connections)
}

async fn nodes(
    plan: &SidePlan,
    connections: &mut [ReadConnection],
) -> Result<Vec<SurveyedNode>, ClientError> {
    let mut nodes = Vec::with_capacity(connections.len());
    for (node, connection) in plan.primaries.iter().zip(connections) {
        nodes.push(SurveyedNode {
            address: node.address.clone(),
            facts: node.facts.clone(),
            details: ServerDetails::gather(connection).await?,
            rdb_version: server_version(&node.facts),
        });
    }
    Ok(nodes)
}

fn wanted<'a>(options: &'a CopyOptions, side: &SidePlan, into_file: bool) -> Wanted<'a> {
    let keyspaces = side
        .primaries
        .iter()
        .filter_map(|node| node.facts.keyspace.as_ref());
    let dbs: Vec<u32> = keyspaces.flatten().map(|(db, _)| *db).collect();
    Wanted {
        options,
        may_collide: collisions_are_possible(options, options.dbs.as_deref().unwrap_or(&dbs)),
        into_file,
    }
}

fn method(prepared: Option<&Prepared>) -> ReadMethod {
    match prepared.map(|prepared| &prepared.source) {
        None => ReadMethod::Undecided,
        Some(SourceEnd::Files(_)) => ReadMethod::Files,
        Some(SourceEnd::Servers { read_by, .. }) => match read_by {
            ReadBy::Psync => ReadMethod::Psync,
            ReadBy::Scan(_) => ReadMethod::Scan,
        },
    }
}

fn why_method(prepared: Option<&Prepared>, rights: &[Right], options: &CopyOptions) -> String {
    let snapshot = rights
        .iter()
        .find(|right| right.side == SideName::Source && right.command == "psync")
        .map(|right| match &right.tried {
            Tried::Permitted | Tried::KeyOutOfReach => {
                "a snapshot by PSYNC is permitted".to_owned()
            }
            Tried::Forbidden(error) => format!("a snapshot by PSYNC is not permitted ({error})"),
            Tried::Absent => "the server has no PSYNC".to_owned(),
            Tried::Unknown => {
                "whether a snapshot by PSYNC is permitted cannot be told without one".to_owned()
            }
        });
    let snapshot = snapshot.unwrap_or_default();
    match (method(prepared), options.method) {
        (ReadMethod::Undecided, _) => String::new(),
        (ReadMethod::Files, _) => "RDB files are read as they are".into(),
        (ReadMethod::Psync, Method::Psync) => "--method psync asks for it".into(),
        (ReadMethod::Psync, _) => {
            "a file is a backup: of one moment, where that is permitted".into()
        }
        (ReadMethod::Scan, Method::Scan) => format!("--method scan asks for it; {snapshot}"),
        (ReadMethod::Scan, _) => {
            format!("it needs the right to read alone, and no fork of the source; {snapshot}")
        }
    }
}

/// What becomes of the keys: of files all, of servers a sample, or what a report tells.
async fn kinds(
    prepared: &Prepared,
    rights: &[Right],
    report: Option<&KeyReport>,
) -> Result<Kinds, PlanError> {
    let chunk_threshold = match &prepared.target {
        TargetEnd::Servers { bulk_len_max, .. } => {
            Some(prepared.options.chunk_threshold.min(*bulk_len_max))
        }
        TargetEnd::File(_) => None,
    };
    if let Some(report) = report {
        let source_version = prepared.source_version;
        return Ok(report.kinds(&prepared.reader, source_version, chunk_threshold));
    }
    let site = match &prepared.source {
        SourceEnd::Files(files) => return Ok(kinds::of_files(files, &prepared.reader)),
        SourceEnd::Servers { site, .. } => site,
    };
    let tells_sizes = rights
        .iter()
        .any(|right| right.command == "memory|usage" && !right.is_missing());
    let rules = sample::Rules {
        filter: &KeyFilter::new(&prepared.options),
        reader: &prepared.reader,
        mem_limit: prepared.options.mem_limit,
        chunk_threshold,
        tells_sizes,
    };
    let primaries = prepared.plan.source.primaries.iter();
    let keyspaces: Vec<_> = primaries.map(|node| node.facts.keyspace.clone()).collect();
    let sampled = sample::take(site, &keyspaces, &prepared.plan.dbs, &rules).await;
    sampled.map_err(|error| PlanError::Client {
        side: SideName::Source,
        error: Box::new(error),
    })
}

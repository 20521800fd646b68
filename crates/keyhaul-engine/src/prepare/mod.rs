//! Finds out everything that a job depends on, and refuses one that would fail or lose data, before
//! anything is written.

mod dbs;
mod probe;
mod rights;
mod warnings;

use std::sync::Arc;

use keyhaul_client::{Endpoint, Mode, Role, ServerFacts, Version};

use crate::options::{CopyOptions, Verify};
use crate::plan::{Plan, PlanError, SideName, SidePlan};
use crate::site::Site;

pub(crate) use probe::Probed;

/// What a target takes as one argument where it does not tell (`proto-max-bulk-len`, Redis >= 3).
const BULK_LEN_DEFAULT: u64 = 512 * 1024 * 1024;
/// A key of this many times the longest argument cannot come as one payload; its DUMP would stop
/// the source for seconds for nothing. Memory is a few times the payload for small elements.
const MEMORY_PER_PAYLOAD_MAX: u64 = 4;

/// A job that may begin.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub source: Arc<Site>,
    pub target: Arc<Site>,
    pub plan: Plan,
    pub options: CopyOptions,
    /// Longest payload that the target takes, bytes.
    pub bulk_len_max: u64,
    /// MEMORY USAGE above which a key is left out; `None`: no key can be above it.
    pub mem_limit: Option<u64>,
}

/// Probes both ends and makes the plan.
///
/// # Errors
/// [`PlanError`]; nothing was written.
pub(crate) async fn prepare(
    source: Endpoint,
    target: Endpoint,
    mut options: CopyOptions,
) -> Result<Prepared, PlanError> {
    let (source_db, target_db) = (source.db, target.db);
    let (mut source, mut target) = tokio::try_join!(
        probe::side(SideName::Source, source, &options),
        probe::side(SideName::Target, target, &options),
    )?;
    refuse_same(&source, &target)?;
    refuse_unfit_target(&target)?;
    refuse_uncovered(&source)?;
    refuse_uncovered(&target)?;
    let dbs = dbs::choose(&mut source, &mut target, source_db, target_db, &mut options).await?;
    rights::check_source(&mut source, &options).await?;
    let chosen: Vec<u32> = dbs.iter().map(|db| db.source_db).collect();
    if collisions_are_possible(&options, &chosen) {
        rights::check_collisions(&mut source).await?;
    }
    rights::check_target(&mut target, &options).await?;

    let bulk_len_max = first_facts(&target.plan)
        .bulk_len_max
        .unwrap_or(BULK_LEN_DEFAULT);
    let mem_limit = mem_guard(&mut source, &options, bulk_len_max).await?;
    let mut plan = Plan {
        clock_difference_ms: clock_difference(&source.plan, &target.plan),
        dbs,
        steps: Vec::new(),
        warnings: Vec::new(),
        source: source.plan,
        target: target.plan,
    };
    plan.steps = warnings::steps(&plan, &options, mem_limit, bulk_len_max);
    plan.warnings = warnings::warnings(&plan, &options);
    let (source, target) = (Arc::new(source.site), Arc::new(target.site));
    Ok(Prepared {
        source,
        target,
        plan,
        options,
        bulk_len_max,
        mem_limit,
    })
}

/// The facts of the first primary.
pub(crate) fn first_facts(side: &SidePlan) -> ServerFacts {
    side.primaries
        .first()
        .map(|node| node.facts.clone())
        .unwrap_or_default()
}

fn refuse_same(source: &Probed, target: &Probed) -> Result<(), PlanError> {
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
        return Err(PlanError::Refused(format!(
            "source and target are the same server ({}): name two different ones",
            target.plan.endpoint
        )));
    }
    Ok(())
}

fn refuse_unfit_target(target: &Probed) -> Result<(), PlanError> {
    /// RESTORE has ABSTTL, and so exact expiries, since Redis 5.0.
    const OLDEST: Version = Version {
        major: 5,
        minor: 0,
        patch: 0,
    };
    for node in &target.plan.primaries {
        if node.facts.role == Some(Role::Replica) {
            return Err(PlanError::Refused(format!(
                "the target {} is a replica and takes no writes: name its primary",
                node.address
            )));
        }
        if node.facts.version.is_some_and(|version| version < OLDEST) {
            return Err(PlanError::Refused(format!(
                "the target {} is {}: a target must be Redis 5.0 or newer",
                node.address,
                node.facts.product()
            )));
        }
    }
    Ok(())
}

fn refuse_uncovered(probed: &Probed) -> Result<(), PlanError> {
    let uncovered = probed.site.routing.topology().uncovered();
    if uncovered.is_empty() {
        return Ok(());
    }
    Err(PlanError::Refused(format!(
        "{} slots of the {} cluster are served by no node: repair it first (redis-cli --cluster fix)",
        uncovered.len(),
        probed.site.side
    )))
}

/// The limit that SCAN's keys are held against, or `None` where every node's whole memory is below
/// it.
async fn mem_guard(
    source: &mut Probed,
    options: &CopyOptions,
    bulk_len_max: u64,
) -> Result<Option<u64>, PlanError> {
    let natural = bulk_len_max.saturating_mul(MEMORY_PER_PAYLOAD_MAX);
    let limit = options.mem_limit.unwrap_or(natural).min(natural);
    let fits = |facts: &ServerFacts| facts.used_memory.is_some_and(|used| used <= limit);
    if source.plan.primaries.iter().all(|node| fits(&node.facts)) {
        return Ok(None);
    }
    let Err(error) = rights::memory_usage(source).await? else {
        return Ok(Some(limit));
    };
    if options.mem_limit.is_some() {
        return Err(PlanError::Refused(format!(
            "--mem-limit needs MEMORY USAGE on the source, which answers: {error}; grant +memory|usage"
        )));
    }
    for node in &mut source.plan.primaries {
        node.facts.lacks(
            "MEMORY USAGE",
            &error,
            "keys too large to pass are found only when read",
        );
    }
    Ok(None)
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

/// Whether a side is a cluster.
pub(crate) fn is_cluster(side: &SidePlan) -> bool {
    side.mode == Mode::Cluster
}

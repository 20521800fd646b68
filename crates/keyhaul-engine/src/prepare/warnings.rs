//! The plain lines of a plan: what will be done, and what the user should know first.

use keyhaul_client::{Family, Role, ServerFacts};
use keyhaul_rdb::rdb_version;

use crate::options::{CopyOptions, OnConflict, Verify};
use crate::plan::{Plan, SidePlan};
use crate::prepare::first_facts;

/// Clocks further apart than this are worth a warning, ms.
const CLOCK_DIFFERENCE_MAX_MS: f64 = 1000.0;

/// What will be done, in order.
pub(crate) fn steps(
    plan: &Plan,
    options: &CopyOptions,
    mem_limit: Option<u64>,
    bulk_len_max: u64,
) -> Vec<String> {
    let mut steps = Vec::new();
    steps.push(format!(
        "read {} source node(s) by SCAN with {} connection(s) each, write {} target node(s) with {} each",
        plan.source.primaries.len(),
        options.read_threads,
        plan.target.primaries.len(),
        options.threads
    ));
    steps.push("expiries are copied as absolute times, to the millisecond".into());
    steps.push(match options.on_conflict {
        OnConflict::Replace => "keys that the target already holds are replaced".into(),
        OnConflict::Skip => "keys that the target already holds are left as they are".into(),
        OnConflict::Fail => {
            "keys that the target holds with another value are left and listed".into()
        }
    });
    match (options.mem_limit, mem_limit) {
        (Some(limit), Some(_)) => {
            steps.push(format!(
                "keys above {limit} bytes of memory are left out and listed"
            ));
        }
        (Some(limit), None) => {
            steps.push(format!(
                "no key can be above {limit} bytes: sizes are not asked for"
            ));
        }
        (None, _) => {}
    }
    steps.push(format!(
        "payloads above {bulk_len_max} bytes are left out and listed"
    ));
    if options.functions {
        steps.push("function libraries are loaded into every target primary".into());
    }
    steps.push(match options.verify {
        Verify::Quick => "verify every key afterwards: existence, type, expiry".into(),
        Verify::None => "no verification afterwards".into(),
    });
    steps
}

/// What the user should know first.
pub(crate) fn warnings(plan: &Plan, options: &CopyOptions) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(keys) = plan.target.keys.filter(|keys| *keys > 0) {
        lines.push(format!("the target is not empty: it holds {keys} keys"));
    }
    evictions(&plan.target, &mut lines);
    headroom(plan, &mut lines);
    versions(&plan.source, &plan.target, &mut lines);
    if plan
        .source
        .primaries
        .iter()
        .any(|node| node.facts.role == Some(Role::Replica))
    {
        lines.push("the source is a replica: it may lag behind its primary".into());
    }
    if let Some((difference, _)) = plan.clock_difference_ms
        && difference.abs() > CLOCK_DIFFERENCE_MAX_MS
    {
        let (seconds, side) = (
            difference.abs() / 1000.0,
            if difference > 0.0 {
                "ahead of"
            } else {
                "behind"
            },
        );
        let effect = if difference > 0.0 { "earlier" } else { "later" };
        lines.push(format!(
            "the target's clock is {seconds:.1} s {side} the source's: expiring keys vanish there that much {effect}; set the clocks first"
        ));
    }
    if options.key_types.is_empty() && plan.dbs.is_empty() {
        lines.push("the source holds no keys".into());
    }
    lines
}

fn evictions(target: &SidePlan, lines: &mut Vec<String>) {
    for node in &target.primaries {
        let policy = node
            .facts
            .eviction_policy
            .as_deref()
            .unwrap_or("noeviction");
        let limit = node.facts.max_memory.unwrap_or(0);
        if limit > 0 && policy != "noeviction" {
            lines.push(format!(
                "target {} evicts keys when it is full (maxmemory {limit}, {policy}): what was copied may vanish; set maxmemory-policy noeviction for the move",
                node.address
            ));
        }
    }
}

fn headroom(plan: &Plan, lines: &mut Vec<String>) {
    let sum = |side: &SidePlan, of: fn(&ServerFacts) -> Option<u64>| -> Option<u64> {
        side.primaries.iter().map(|node| of(&node.facts)).sum()
    };
    let limited = plan
        .target
        .primaries
        .iter()
        .all(|node| node.facts.max_memory.unwrap_or(0) > 0);
    let (Some(source_used), Some(used), Some(limit), true) = (
        sum(&plan.source, |facts| facts.used_memory),
        sum(&plan.target, |facts| facts.used_memory),
        sum(&plan.target, |facts| facts.max_memory),
        limited,
    ) else {
        return;
    };
    let free = limit.saturating_sub(used);
    if source_used > free {
        lines.push(format!(
            "the source uses {source_used} bytes of memory and the target has {free} left: it may fill up"
        ));
    }
}

fn versions(source: &SidePlan, target: &SidePlan, lines: &mut Vec<String>) {
    let (source, target) = (first_facts(source), first_facts(target));
    let rdb = |facts: &ServerFacts| {
        let version = facts.version?;
        Some(rdb_version(
            facts.family == Some(Family::Valkey),
            version.major,
            version.minor,
        ))
    };
    if let (Some(source_rdb), Some(target_rdb)) = (rdb(&source), rdb(&target))
        && source_rdb > target_rdb
    {
        lines.push(format!(
            "{} writes RDB version {source_rdb} and {} reads up to {target_rdb}: it will refuse the payloads; they are listed",
            source.product(),
            target.product()
        ));
    }
    if source.family != target.family && source.family.is_some() && target.family.is_some() {
        lines.push(format!("from {} to {}", source.product(), target.product()));
    }
}

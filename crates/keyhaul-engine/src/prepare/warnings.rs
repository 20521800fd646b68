//! The plain lines of a plan: what will be done, and what the user should know first.

use keyhaul_client::{Role, ServerFacts};

use crate::options::{OnConflict, Scope, Verify};
use crate::plan::{Plan, SideKind, SidePlan};
use crate::prepare::{CheckedFile, Prepared, ReadBy, SourceEnd, TargetEnd, kinds};

/// Clocks further apart than this are worth a warning, ms.
const CLOCK_DIFFERENCE_MAX_MS: f64 = 1000.0;

/// What will be done, in order.
pub(crate) fn steps(prepared: &Prepared) -> Vec<String> {
    let (plan, options) = (&prepared.plan, &prepared.options);
    let mut steps = vec![reading(prepared), writing(prepared)];
    if let Some(kinds) = kinds::step(prepared) {
        steps.push(kinds);
    }
    steps.push("expiries are copied as absolute times, to the millisecond".into());
    if let SideKind::Servers(_) = plan.target.kind {
        steps.push(match options.on_conflict {
            OnConflict::Replace => "keys that the target already holds are replaced".into(),
            OnConflict::Skip => "keys that the target already holds are left as they are".into(),
            OnConflict::Fail => {
                "keys that the target holds with another value are left and listed".into()
            }
        });
    }
    limits(prepared, &mut steps);
    if options.functions {
        steps.push(match plan.target.kind {
            SideKind::Servers(_) => {
                "function libraries are loaded into every target primary".into()
            }
            _ => "function libraries are written too".into(),
        });
    }
    steps.push(match (options.verify, &plan.target.kind) {
        (Verify::Quick, SideKind::Servers(_)) => {
            "verify every key afterwards: existence, type, expiry".into()
        }
        (Verify::Full, SideKind::Servers(_)) => {
            "verify every key afterwards: existence, type, expiry, each byte of its value".into()
        }
        (Verify::Quick | Verify::Full, _) => {
            "read the file back afterwards: checksum, every value".into()
        }
        (Verify::None, _) => "no verification afterwards".into(),
    });
    steps
}

fn reading(prepared: &Prepared) -> String {
    let nodes = prepared.plan.source.primaries.len();
    match &prepared.source {
        SourceEnd::Files(files) => {
            let bytes: u64 = files.iter().map(|file| file.bytes).sum();
            format!(
                "read {} RDB file(s) of {bytes} bytes, checked already from start to end",
                files.len()
            )
        }
        SourceEnd::Servers {
            read_by: ReadBy::Psync,
            ..
        } => format!(
            "take a snapshot of each of {nodes} source node(s) by PSYNC, for which it forks: each is of one moment"
        ),
        SourceEnd::Servers {
            read_by: ReadBy::Scan(why),
            ..
        } => {
            let threads = prepared.options.read_threads;
            let why = why.as_ref().map(|why| format!(" ({why})"));
            format!(
                "read {nodes} source node(s) by SCAN with {threads} connection(s) each{}",
                why.unwrap_or_default()
            )
        }
    }
}

fn writing(prepared: &Prepared) -> String {
    match &prepared.target {
        TargetEnd::Servers { .. } => format!(
            "write {} target node(s) with {} connection(s) each",
            prepared.plan.target.primaries.len(),
            prepared.options.threads
        ),
        TargetEnd::File(path) => format!(
            "write {} in RDB version {}, under another name until it is whole",
            path.display(),
            prepared.reader.rdb_version
        ),
    }
}

fn limits(prepared: &Prepared, steps: &mut Vec<String>) {
    match &prepared.options.scope {
        Scope::Every => {}
        Scope::Above(bytes) => {
            steps.push(format!("only keys above {bytes} bytes of memory go over"));
        }
        Scope::Named(keys) => steps.push(format!("only {} key(s) by name go over", keys.len())),
    }
    let by_scan = match &prepared.source {
        SourceEnd::Servers {
            read_by: ReadBy::Scan(_),
            sizes,
            ..
        } => Some(sizes),
        _ => None,
    };
    match (by_scan, prepared.options.mem_limit) {
        (_, None) => {}
        (Some(Some(_)), Some(limit)) => {
            steps.push(format!(
                "keys above {limit} bytes of memory are left out and listed"
            ));
        }
        (Some(None), Some(limit)) => {
            steps.push(format!(
                "no key can be above {limit} bytes: sizes are not asked for"
            ));
        }
        (None, Some(limit)) => steps.push(format!(
            "keys whose values are above {limit} bytes in the RDB are left out and listed"
        )),
    }
    let TargetEnd::Servers { bulk_len_max, .. } = &prepared.target else {
        return;
    };
    let threshold = prepared.options.chunk_threshold.min(*bulk_len_max);
    steps.push(match by_scan {
        Some(None) => format!("no key can be above {threshold} bytes: each goes over as one payload"),
        Some(Some(_)) => format!(
            "keys above {threshold} bytes of memory go over element by element, and appear when they are whole"
        ),
        None => format!(
            "values above {threshold} bytes in the RDB go over element by element, and appear when they are whole"
        ),
    });
}

/// What the user should know first.
pub(crate) fn warnings(prepared: &Prepared) -> Vec<String> {
    let (plan, options) = (&prepared.plan, &prepared.options);
    let mut lines = Vec::new();
    if let SourceEnd::Files(files) = &prepared.source {
        files.iter().for_each(|file| of_file(file, &mut lines));
    }
    if let Some(keys) = plan.target.keys.filter(|keys| *keys > 0) {
        lines.push(format!("the target is not empty: it holds {keys} keys"));
    }
    evictions(&plan.target, &mut lines);
    headroom(plan, &mut lines);
    lines.extend(kinds::warnings(prepared));
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
    let limited = !plan.target.primaries.is_empty()
        && plan
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

fn of_file(file: &CheckedFile, lines: &mut Vec<String>) {
    let path = file.path.display();
    if let Some(damage) = &file.damage {
        lines.push(format!(
            "{path} is damaged {}: what is before it goes over",
            damage.text
        ));
    } else if !file.has_checksum {
        lines.push(format!(
            "{path} has no checksum: only its structure could be checked"
        ));
    }
    for module in &file.module_data {
        lines.push(format!(
            "{path} holds data that module '{module}' keeps outside of keys: it cannot be moved by commands"
        ));
    }
}

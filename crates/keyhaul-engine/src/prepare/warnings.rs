//! The plain lines of a plan: what will be done, and what the user should know first.

use keyhaul_client::Role;

use crate::amount::{bytes_text, count_text};
use crate::options::{LiveOptions, OnConflict, Scope, Verify};
use crate::plan::{NodePlan, SideKind, SidePlan, Warning};
use crate::prepare::{CheckedFile, Prepared, ReadBy, SourceEnd, TargetEnd, kinds, room};

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
    if let Some(live) = &options.live {
        following(prepared, live, &mut steps);
        return steps;
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
                "read {} RDB file(s) of {}, checked already from start to end",
                files.len(),
                bytes_text(bytes)
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

/// What comes after the copy, and until when.
fn following(prepared: &Prepared, live: &LiveOptions, steps: &mut Vec<String>) {
    if !live.copies_first {
        steps.push(
            "keys that are there already stay behind: only what changes from now on goes over"
                .into(),
        );
    }
    let is_by_psync = matches!(
        &prepared.source,
        SourceEnd::Servers {
            read_by: ReadBy::Psync,
            ..
        }
    );
    steps.push(match is_by_psync {
        true => format!(
            "follow the source: every command after the snapshot is applied in its order; what the target cannot take yet lies on the disk, {} at most",
            bytes_text(live.spool_bytes_max)
        ),
        false => "follow the source: it tells the names of keys that change (CLIENT TRACKING), and they are read again".into(),
    });
    if is_by_psync && live.forwards_messages {
        steps.push("messages that are published on the source are published on the target".into());
    }
    steps.push(match live.until_synced {
        true => "end as soon as all that the source has done is applied".into(),
        false => {
            "go on until told to stop (Ctrl-C); keyhaul compare proves equality meanwhile".into()
        }
    });
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
            let bytes = bytes_text(*bytes);
            steps.push(format!("only keys above {bytes} of memory go over"));
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
                "keys above {} of memory are left out and listed",
                bytes_text(limit)
            ));
        }
        (Some(None), Some(limit)) => {
            steps.push(format!(
                "no key can be above {}: sizes are not asked for",
                bytes_text(limit)
            ));
        }
        (None, Some(limit)) => steps.push(format!(
            "keys whose values are above {} in the RDB are left out and listed",
            bytes_text(limit)
        )),
    }
    let TargetEnd::Servers { bulk_len_max, .. } = &prepared.target else {
        return;
    };
    let threshold = bytes_text(prepared.options.chunk_threshold.min(*bulk_len_max));
    steps.push(match by_scan {
        Some(None) => format!("no key can be above {threshold}: each goes over as one payload"),
        Some(Some(_)) => format!(
            "keys above {threshold} of memory go over element by element, and appear when they are whole"
        ),
        None => format!(
            "values above {threshold} in the RDB go over element by element, and appear when they are whole"
        ),
    });
}

/// What the user should know first.
pub(crate) fn warnings(prepared: &Prepared) -> Vec<Warning> {
    let plan = &prepared.plan;
    let mut found = Vec::new();
    if let SourceEnd::Files(files) = &prepared.source {
        files.iter().for_each(|file| of_file(file, &mut found));
    }
    if let Some(keys) = plan.target.keys.filter(|keys| *keys > 0) {
        found.push(Warning::new(
            "target-not-empty",
            format!(
                "the target is not empty: it holds {} keys",
                count_text(keys)
            ),
        ));
    }
    for node in &plan.target.primaries {
        if let Some(answer) = &node.facts.refuses_writes {
            let text = format!(
                "target {} takes no writes ({answer}): the copy would wait for it, and stop there",
                node.address
            );
            found.push(Warning::new("target-takes-no-writes", text));
        }
    }
    evictions(&plan.target, &mut found);
    found.extend(room::warning(prepared));
    found.extend(kinds::warnings(prepared));
    let is_replica = |node: &NodePlan| node.facts.role == Some(Role::Replica);
    if plan.source.primaries.iter().any(is_replica) {
        found.push(Warning::new(
            "source-is-replica",
            "the source is a replica: it may lag behind its primary",
        ));
    }
    if let Some((difference_ms, _)) = plan.clock_difference_ms
        && difference_ms.abs() > CLOCK_DIFFERENCE_MAX_MS
    {
        found.push(clocks(difference_ms));
    }
    if prepared.options.key_types.is_empty() && plan.dbs.is_empty() {
        found.push(Warning::new("source-empty", "the source holds no keys"));
    }
    found
}

fn clocks(difference_ms: f64) -> Warning {
    let seconds = difference_ms.abs() / 1000.0;
    let (side, effect) = match difference_ms > 0.0 {
        true => ("ahead of", "earlier"),
        false => ("behind", "later"),
    };
    Warning::new(
        "clocks-differ",
        format!(
            "the target's clock is {seconds:.1} s {side} the source's: expiring keys vanish there that much {effect}; set the clocks first"
        ),
    )
}

fn evictions(target: &SidePlan, found: &mut Vec<Warning>) {
    for node in &target.primaries {
        let policy = node.facts.evicts_by();
        if let Some((policy, limit)) = policy {
            let limit = bytes_text(limit);
            let text = format!(
                "target {} evicts keys when it is full (maxmemory {limit}, {policy}): what was copied may vanish; set maxmemory-policy noeviction for the move",
                node.address
            );
            found.push(Warning::new("target-evicts", text));
        }
    }
}

fn of_file(file: &CheckedFile, found: &mut Vec<Warning>) {
    let path = file.path.display();
    if let Some(damage) = &file.damage {
        let text = format!(
            "{path} is damaged {}: what is before it goes over",
            damage.text
        );
        found.push(Warning::new("file-damaged", text));
    } else if !file.has_checksum {
        let text = format!("{path} has no checksum: only its structure could be checked");
        found.push(Warning::new("file-without-checksum", text));
    }
    for module in &file.module_data {
        let text = format!(
            "{path} holds data that module '{module}' keeps outside of keys: it cannot be moved by commands"
        );
        found.push(Warning::new("module-data", text));
    }
}

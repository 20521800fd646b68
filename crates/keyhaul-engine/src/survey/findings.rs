//! What a survey found that the user should know first, beyond the warnings of the plan itself.

use std::time::Duration;

use keyhaul_client::{BufferLimit, LoadedModule, Tried, WRITES};

use crate::amount::bytes_text;
use crate::options::CopyOptions;
use crate::plan::Warning;
use crate::survey::estimate::seconds_long;
use crate::survey::kinds::Fate;
use crate::survey::rights::Right;
use crate::survey::wanted::Need;
use crate::survey::writes::WriteBasis;
use crate::survey::{ReadMethod, Survey, SurveyedSide};

/// All that there is to say.
pub(super) fn findings(survey: &Survey, options: &CopyOptions) -> Vec<Warning> {
    let mut found = Vec::new();
    rights(&survey.rights, &mut found);
    modules(&survey.source, &survey.target, &mut found);
    fates(survey, &mut found);
    persistence(survey, &mut found);
    replication(survey, options, &mut found);
    found
}

fn rights(rights: &[Right], found: &mut Vec<Warning>) {
    for right in rights {
        let (side, node) = (right.side, &right.node);
        if right.is_missing() && right.need == Need::Copy {
            let answer = match &right.tried {
                Tried::Forbidden(error) => error.to_string(),
                _ => "it has no such command".to_owned(),
            };
            let text = format!(
                "the {side} {node} lacks +{}: {answer}: {}",
                right.command, right.without
            );
            found.push(Warning::new("right-missing", text));
        }
    }
    for side in [crate::plan::SideName::Source, crate::plan::SideName::Target] {
        let of_side = || rights.iter().filter(move |right| right.side == side);
        if let Some(right) = of_side().find(|right| right.tried == Tried::KeyOutOfReach) {
            let text = format!(
                "the user may not touch every key of the {side} {}: keys out of reach are listed as not moved; grant ~*",
                right.node
            );
            found.push(Warning::new("keys-out-of-reach", text));
        }
        let missing = |right: &&Right| right.is_missing() && right.need == Need::BigKeys;
        let missing: Vec<&str> = of_side()
            .filter(missing)
            .map(|right| right.command)
            .collect();
        if !missing.is_empty() {
            let text = format!(
                "keys above --chunk-threshold cannot go: the {side} lacks +{}",
                missing.join(" +")
            );
            found.push(Warning::new("big-keys-rights", text));
        }
        if let Some(right) = of_side().find(|right| keeps_from_staging(right)) {
            let text = format!(
                "keys above --chunk-threshold cannot go: the user may not touch the keys of the {side} {} under whose names they are built; grant ~keyhaul:staging:*",
                right.node
            );
            found.push(Warning::new("big-keys-rights", text));
        }
    }
}

/// The writes that are tried inside of a transaction are tried on a staging key.
fn keeps_from_staging(right: &Right) -> bool {
    right.tried == Tried::KeyOutOfReach
        && right.need == Need::BigKeys
        && WRITES.iter().any(|(name, _)| *name == right.command)
}

fn modules(source: &SurveyedSide, target: &SurveyedSide, found: &mut Vec<Warning>) {
    let mut names: Vec<&str> = source
        .nodes
        .iter()
        .flat_map(|node| node.details.modules.iter().flatten())
        .filter(|module| module.may_have_types())
        .map(|module| module.name.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let has = |modules: &Vec<LoadedModule>| modules.iter().any(|module| module.name == name);
        let lacking = target
            .nodes
            .iter()
            .find(|node| !node.details.modules.as_ref().is_some_and(has));
        let Some(node) = lacking else { continue };
        let text = match node.details.modules {
            Some(_) => format!(
                "module '{name}' is on the source and not on the target {}: keys of its types, if it has any, are listed as not moved",
                node.address
            ),
            None => format!(
                "module '{name}' is on the source, and whether the target {} has it is not known",
                node.address
            ),
        };
        found.push(Warning::new("module-missing", text));
    }
}

fn fates(survey: &Survey, found: &mut Vec<Warning>) {
    let Some(kinds) = &survey.kinds else { return };
    let of = if kinds.is_all() {
        ""
    } else {
        " that were sampled"
    };
    for (reason, keys) in &kinds.reasons {
        let text = format!("{keys} of {} keys{of} cannot go: {reason}", kinds.looked_at);
        found.push(Warning::new("cannot-go", text));
    }
    let left_out = kinds.of_fate(Fate::IsLeftOut);
    if left_out > 0 {
        let text = format!(
            "{left_out} of {} keys{of} are above --mem-limit and are listed as not moved",
            kinds.looked_at
        );
        found.push(Warning::new("above-mem-limit", text));
    }
}

fn persistence(survey: &Survey, found: &mut Vec<Warning>) {
    let saves = |side: &SurveyedSide| {
        let mut known = side.nodes.iter().map(|node| node.saves());
        match known.clone().all(|saves| saves == Some(false)) {
            true => Some(false),
            false => known.any(|saves| saves == Some(true)).then_some(true),
        }
    };
    let has_servers = |side: &SurveyedSide| !side.nodes.is_empty();
    if has_servers(&survey.source)
        && has_servers(&survey.target)
        && saves(&survey.source) == Some(true)
        && saves(&survey.target) == Some(false)
    {
        found.push(Warning::new(
            "target-saves-nothing",
            "the source saves its data and the target does not (no save points, no append-only file): a restart of the target loses all",
        ));
    }
}

/// What is written meanwhile, against what the source keeps for one who reads its replication stream.
fn replication(survey: &Survey, options: &CopyOptions, found: &mut Vec<Warning>) {
    let Some(writes) = survey.writes.as_ref().filter(|writes| writes.busiest > 0) else {
        return;
    };
    // What is asked of the servers by a few idle clients is no load.
    const IDLE_BYTES_PER_SECOND: u64 = 4096;
    if writes.basis == WriteBasis::ClientInput && writes.busiest < IDLE_BYTES_PER_SECOND {
        return;
    }
    let rate = bytes_text(writes.busiest);
    let by_psync = survey.method == ReadMethod::Psync;
    let upto = match writes.basis {
        WriteBasis::ReplicationStream => "",
        WriteBasis::ClientInput => "up to ",
    };
    let effect = match by_psync {
        true => "what is written after the snapshot was begun does not arrive",
        false => "what is written to a key after it was read does not arrive",
    };
    if options.live.is_none() {
        found.push(Warning::new(
            "source-is-written",
            format!(
                "{upto}{}/s are written on the source: {effect}; stop the writers, or mend it afterwards with keyhaul compare --repair",
                bytes_text(writes.bytes_per_second)
            ),
        ));
    }
    let matters = match by_psync {
        true => "",
        false => " (this copy reads by SCAN and needs none)",
    };
    let details = || survey.source.nodes.iter().map(|node| &node.details);
    if let Some(backlog) = details().filter_map(|details| details.backlog_bytes).min() {
        let holds = seconds(backlog, writes.busiest);
        if holds < options.retry_for {
            let text = format!(
                "the backlog of the source ({}) holds {:.1} s of its writes ({upto}{rate}/s): a replication link that is lost for longer begins anew; set repl-backlog-size to {} for --retry-for{matters}",
                bytes_text(backlog),
                holds.as_secs_f64(),
                bytes_text(
                    writes
                        .busiest
                        .saturating_mul(options.retry_for.as_secs().max(1))
                ),
            );
            found.push(Warning::new("backlog-small", text));
        }
    }
    let Some(estimate) = &survey.estimate else {
        return;
    };
    let limit = details()
        .filter_map(|details| details.replica_buffer)
        .next();
    let piles_up = writes.busiest as f64 * estimate.duration.as_secs_f64();
    if let Some(limit) = limit
        && is_cut_off(limit, writes.busiest, estimate.duration)
    {
        let text = format!(
            "{} of writes pile up while a snapshot is read, and the source cuts a replica off at {} (or {} for {} s): raise client-output-buffer-limit replica{matters}",
            bytes_text(piles_up as u64),
            bytes_text(limit.hard_bytes),
            bytes_text(limit.soft_bytes),
            limit.soft_seconds
        );
        found.push(Warning::new("replica-buffer-small", text));
    }
}

fn seconds(bytes: u64, bytes_per_second: u64) -> Duration {
    seconds_long(bytes as f64 / bytes_per_second.max(1) as f64)
}

/// Whether a replica that reads nothing for so long is cut off meanwhile. 0 is no limit.
fn is_cut_off(limit: BufferLimit, bytes_per_second: u64, for_time: Duration) -> bool {
    let reaches = |bytes: u64| seconds(bytes, bytes_per_second);
    let stays = Duration::from_secs(limit.soft_seconds);
    (limit.hard_bytes > 0 && reaches(limit.hard_bytes) < for_time)
        || (limit.soft_bytes > 0 && reaches(limit.soft_bytes).saturating_add(stays) < for_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_cut_off() {
        let limit = |hard_bytes, soft_bytes| BufferLimit {
            hard_bytes,
            soft_bytes,
            soft_seconds: 60,
        };
        for (limit, rate, seconds, expected) in [
            (limit(1000, 0), 10, 99, false),
            (limit(1000, 0), 10, 101, true),
            (limit(1000, 100), 10, 69, false),
            (limit(1000, 100), 10, 71, true),
            (limit(0, 0), u64::MAX, 1000, false),
            (limit(1, 1), 0, 0, false),
            (limit(u64::MAX, 0), 1, u64::MAX, false),
        ] {
            let found = is_cut_off(limit, rate, Duration::from_secs(seconds));
            assert_eq!(found, expected, "{limit:?} {rate} {seconds}");
        }
    }
}

//! A plan in full as a page for people.

use std::fmt::Write as _;

use keyhaul_client::{ServerFacts, Tried};
use keyhaul_engine::plan::SideName;
use keyhaul_engine::stats::key_text;
use keyhaul_engine::survey::{
    Fate, Kinds, KindsBasis, Need, ReadMethod, Right, Survey, SurveyedNode, SurveyedSide,
    WriteBasis,
};

use crate::plan::{next_steps, verdict};
use crate::show_plan::{self, NODE_LINES_MAX};
use crate::{duration, size};

/// The page.
pub(super) fn text(survey: &Survey) -> String {
    let mut out = Vec::new();
    for (name, side) in [("source", &survey.source), ("target", &survey.target)] {
        of_side(&mut out, name, side);
    }
    if let Ok(plan) = &survey.outcome {
        // Writing to memory does not fail.
        drop(show_plan::write_course(&mut out, plan));
    }
    for (name, side) in [("source", &survey.source), ("target", &survey.target)] {
        if let Some(found) = &side.found {
            drop(show_plan::write_degraded(&mut out, name, &found.primaries));
        }
    }
    let mut page = String::from_utf8_lossy(&out).into_owned();
    rows(&mut page, "method", &method(survey));
    rows(&mut page, "rights", &rights(&survey.rights));
    rows(
        &mut page,
        "keys",
        &survey.kinds.as_ref().map(kinds).unwrap_or_default(),
    );
    rows(&mut page, "writes", &writes(survey));
    rows(&mut page, "estimate", &estimate(survey));
    for warning in &survey.findings {
        rows(&mut page, "warning", &[warning.to_string()]);
    }
    rows(&mut page, "verdict", &[verdict(survey)]);
    let steps = next_steps(survey);
    let numbered = steps.iter().enumerate();
    let numbered: Vec<String> = numbered
        .map(|(at, step)| format!("{}. {step}", at + 1))
        .collect();
    rows(&mut page, "next", &numbered);
    page
}

/// Lines under one title.
fn rows(page: &mut String, title: &str, lines: &[String]) {
    for (index, line) in lines.iter().enumerate() {
        let title = if index == 0 { title } else { "" };
        // A String takes everything.
        let _ = writeln!(page, "{title:8} {line}");
    }
}

fn of_side(out: &mut Vec<u8>, name: &str, side: &SurveyedSide) {
    match &side.found {
        Some(found) => drop(show_plan::write_heading(out, name, found)),
        None => out.extend_from_slice(format!("{name:8} {}\n", side.endpoint).as_bytes()),
    }
    for node in side.nodes.iter().take(NODE_LINES_MAX) {
        let mut text = format!(
            "{:8} {}: {}\n",
            "",
            node.address,
            show_plan::node_text(&node.facts)
        );
        for line in node_lines(node) {
            let _ = writeln!(text, "{:10} {line}", "");
        }
        out.extend_from_slice(text.as_bytes());
    }
    drop(show_plan::write_more(out, side.nodes.len()));
}

/// What is known of a node beyond its first line.
fn node_lines(node: &SurveyedNode) -> Vec<String> {
    let (facts, details) = (&node.facts, &node.details);
    let unknown = || "unknown".to_owned();
    let rdb = node
        .rdb_version
        .map_or_else(unknown, |version| version.to_string());
    let modules = details
        .modules
        .as_ref()
        .map(|modules| match modules.as_slice() {
            [] => "none".to_owned(),
            modules => {
                let one = |module: &keyhaul_client::LoadedModule| match module.version {
                    Some(version) => format!("{} {version}", module.name),
                    None => module.name.clone(),
                };
                modules.iter().map(one).collect::<Vec<_>>().join(", ")
            }
        });
    let modules = modules.unwrap_or_else(unknown);
    let saves = match details.save_points.as_deref() {
        Some("") => "no save points".to_owned(),
        Some(points) => format!("save points {points}"),
        None => "save points unknown".to_owned(),
    };
    let append_only = match details.append_only {
        Some(true) => "an append-only file",
        Some(false) => "no append-only file",
        None => "an append-only file or not: unknown",
    };
    let round_trip = details.round_trip_ms.or(facts.round_trip_ms);
    let round_trip = round_trip.map_or_else(unknown, |ms| format!("{ms:.2} ms"));
    vec![
        format!("RDB version {rdb}; modules: {modules}; round trip {round_trip}"),
        memory(facts, node.headroom()),
        limits(facts),
        format!("persistence: {saves}, {append_only}"),
        replication(node),
    ]
}

fn memory(facts: &ServerFacts, headroom: Option<u64>) -> String {
    let mut parts = Vec::new();
    if let Some(data) = facts.dataset_memory {
        parts.push(format!("{} of keys and values", size::show(data)));
    }
    parts.push(match (headroom, facts.max_memory) {
        (Some(free), _) => format!("{} left until maxmemory", size::show(free)),
        (None, Some(0)) => "no maxmemory".to_owned(),
        (None, _) => "maxmemory unknown".to_owned(),
    });
    if let Some(machine) = facts.machine_memory {
        parts.push(format!("the machine has {}", size::show(machine)));
    }
    format!("memory: {}", parts.join(", "))
}

fn limits(facts: &ServerFacts) -> String {
    let shown = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), size::show);
    let dbs = match facts.db_count {
        Some(count) => format!(", {count} dbs"),
        None => String::new(),
    };
    format!(
        "limits: proto-max-bulk-len {}, client-query-buffer-limit {}{dbs}",
        shown(facts.bulk_len_max),
        shown(facts.query_buffer_max)
    )
}

fn replication(node: &SurveyedNode) -> String {
    let details = &node.details;
    let replicas = match details.replicas {
        Some(1) => "1 replica".to_owned(),
        Some(count) => format!("{count} replicas"),
        None => "replicas unknown".to_owned(),
    };
    let backlog = details
        .backlog_bytes
        .map_or_else(|| "unknown".to_owned(), size::show);
    let buffer = match details.replica_buffer {
        None => "unknown".to_owned(),
        Some(limit) if limit.hard_bytes == 0 && limit.soft_bytes == 0 => "without limit".to_owned(),
        Some(limit) => format!(
            "{}, or {} for {} s",
            size::show(limit.hard_bytes),
            size::show(limit.soft_bytes),
            limit.soft_seconds
        ),
    };
    format!("replication: {replicas}, backlog {backlog}, buffer of a replica {buffer}")
}

fn method(survey: &Survey) -> Vec<String> {
    let name = match survey.method {
        ReadMethod::Scan => "SCAN and DUMP, key by key",
        ReadMethod::Psync => "a snapshot by PSYNC",
        ReadMethod::Files => "RDB files",
        ReadMethod::Undecided => return Vec::new(),
    };
    vec![format!("{name}: {}", survey.why_method)]
}

fn rights(rights: &[Right]) -> Vec<String> {
    let mut lines = Vec::new();
    for side in [SideName::Source, SideName::Target] {
        for (need, title) in [
            (Need::Copy, "needed"),
            (Need::Comfort, "helpful"),
            (Need::BigKeys, "for keys that go by chunks"),
            (Need::Snapshot, "for a snapshot"),
        ] {
            let of_need = |right: &&Right| right.side == side && right.need == need;
            let group: Vec<&Right> = rights.iter().filter(of_need).collect();
            if !group.is_empty() {
                lines.push(format!("{side}, {title}: {}", right_group(&group)));
            }
        }
    }
    lines
}

/// `+scan +dump are there; missing: +info (...)`
fn right_group(rights: &[&Right]) -> String {
    let names = |wanted: fn(&Right) -> bool| -> Vec<String> {
        let found = rights.iter().filter(|right| wanted(right));
        found.map(|right| format!("+{}", right.command)).collect()
    };
    let there = names(|right| matches!(right.tried, Tried::Permitted | Tried::KeyOutOfReach));
    let unknown = names(|right| right.tried == Tried::Unknown);
    let mut missing: Vec<(&str, Vec<String>)> = Vec::new();
    for right in rights.iter().filter(|right| right.is_missing()) {
        let name = format!("+{}", right.command);
        match missing
            .iter_mut()
            .find(|(without, _)| *without == right.without)
        {
            Some((_, names)) => names.push(name),
            None => missing.push((right.without, vec![name])),
        }
    }
    let mut parts = Vec::new();
    if !there.is_empty() {
        parts.push(format!("{} there", there.join(" ")));
    }
    for (without, names) in missing {
        parts.push(format!("MISSING {} ({without})", names.join(" ")));
    }
    if !unknown.is_empty() {
        parts.push(format!("not known {}", unknown.join(" ")));
    }
    parts.join("; ")
}

fn kinds(kinds: &Kinds) -> Vec<String> {
    let looked_at = size::show_count(kinds.looked_at);
    let mut first = match kinds.basis {
        KindsBasis::AllKeys => format!("all {looked_at} looked at"),
        KindsBasis::Files => format!("all {looked_at} of the files, by the form of their values"),
        KindsBasis::Report => format!("all {looked_at} of the report of --stats, by encoding"),
        KindsBasis::Sample => format!("{looked_at} looked at, from random places of the keyspace"),
    };
    if kinds.is_cut {
        first.push_str(", cut short by its bounds");
    }
    if kinds.not_sampled > 0 {
        let dbs = size::show_count(kinds.not_sampled);
        let _ = write!(first, ", dbs of nodes not sampled: {dbs}");
    }
    if kinds.taken != kinds.looked_at {
        let _ = write!(first, ", {} of them to go", size::show_count(kinds.taken));
    }
    if kinds.read.keys > 0 {
        let read = kinds.read;
        let (count, bytes) = (size::show_count(read.keys), size::show(read.payload_bytes));
        let _ = write!(first, ", the values of {count} read ({bytes})");
    }
    if kinds.expiring > 0 {
        let _ = write!(first, ", {} expire", size::show_count(kinds.expiring));
    }
    let mut lines = vec![first];
    if let Some(keys) = kinds.chunked {
        let keys = size::show_count(keys);
        lines.push(format!("{keys} of them {}", Fate::GoesByChunks.text()));
    }
    for (key_type, fates) in &kinds.types {
        let told = Fate::ALL.iter().filter_map(|fate| {
            let keys = fates.get(fate)?;
            Some(format!("{} {}", size::show_count(*keys), fate.text()))
        });
        lines.push(format!(
            "{}: {}",
            key_text(key_type.as_bytes()),
            told.collect::<Vec<_>>().join(", ")
        ));
    }
    lines
}

fn writes(survey: &Survey) -> Vec<String> {
    let Some(writes) = &survey.writes else {
        return match survey.source.nodes.is_empty() {
            true => Vec::new(),
            false => vec!["unknown: the source does not tell".into()],
        };
    };
    let basis = match writes.basis {
        WriteBasis::ReplicationStream => "of its replication stream",
        WriteBasis::ClientInput => {
            "of all that clients send, an upper bound: nobody replicates, so there is no stream to measure"
        }
    };
    vec![format!(
        "{}/s on the source, {basis}; measured for {}",
        size::show(writes.bytes_per_second),
        duration::show(writes.measured)
    )]
}

fn estimate(survey: &Survey) -> Vec<String> {
    let Some(estimate) = &survey.estimate else {
        return Vec::new();
    };
    let keys = estimate
        .keys
        .map(|keys| format!("{} keys", size::show_count(keys)));
    let bytes = estimate
        .bytes
        .map(|bytes| format!("{} of payload", size::show(bytes)));
    let amounts: Vec<String> = keys.into_iter().chain(bytes).collect();
    vec![
        format!(
            "about {} for {}, verification included",
            duration::show(estimate.duration),
            amounts.join(" and ")
        ),
        format!("basis: {}", estimate.basis),
    ]
}

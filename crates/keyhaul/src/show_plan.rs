//! The plan as text: what was found on both ends, what will be done, what to know first.

use std::io::{self, Write};

use keyhaul_client::{Mode, Role, ServerFacts};
use keyhaul_engine::plan::{CheckedFile, DbPlan, NodePlan, Plan, SideKind, SidePlan};

use crate::size;

/// A cluster may have hundreds of nodes; the first ones show what they are like.
pub(crate) const NODE_LINES_MAX: usize = 12;

/// Writes the plan.
pub(crate) fn write(out: &mut impl Write, plan: &Plan) -> io::Result<()> {
    write_side(out, "source", &plan.source)?;
    write_side(out, "target", &plan.target)?;
    write_course(out, plan)?;
    for (name, side) in [("source", &plan.source), ("target", &plan.target)] {
        write_degraded(out, name, &side.primaries)?;
    }
    for warning in &plan.warnings {
        writeln!(out, "warning  {warning}")?;
    }
    Ok(())
}

/// Dbs, clocks and steps.
pub(crate) fn write_course(out: &mut impl Write, plan: &Plan) -> io::Result<()> {
    write_dbs(out, plan)?;
    if let Some((difference_ms, uncertainty_ms)) = plan.clock_difference_ms {
        let side = if difference_ms < 0.0 {
            "behind"
        } else {
            "ahead of"
        };
        let difference_ms = difference_ms.abs();
        writeln!(
            out,
            "clocks   the target is {difference_ms:.1} ms {side} the source (+-{uncertainty_ms:.1} ms)"
        )?;
    }
    for (index, step) in plan.steps.iter().enumerate() {
        let title = if index == 0 { "steps" } else { "" };
        writeln!(out, "{title:8} {}. {step}", index + 1)?;
    }
    Ok(())
}

fn write_side(out: &mut impl Write, name: &str, side: &SidePlan) -> io::Result<()> {
    write_heading(out, name, side)?;
    for node in side.primaries.iter().take(NODE_LINES_MAX) {
        writeln!(out, "{:8} {}: {}", "", node.address, node_text(&node.facts))?;
    }
    write_more(out, side.primaries.len())
}

/// How many of so many nodes are not shown.
pub(crate) fn write_more(out: &mut impl Write, nodes: usize) -> io::Result<()> {
    match nodes.saturating_sub(NODE_LINES_MAX) {
        0 => Ok(()),
        more => writeln!(out, "{:8} and {more} more", ""),
    }
}

/// What an end is, without its nodes.
pub(crate) fn write_heading(out: &mut impl Write, name: &str, side: &SidePlan) -> io::Result<()> {
    let mode = match (&side.kind, side.primaries.len()) {
        (SideKind::Servers(Mode::Standalone), _) => "standalone".to_owned(),
        (SideKind::Servers(Mode::Cluster), 1) => "cluster of 1 primary".to_owned(),
        (SideKind::Servers(Mode::Cluster), count) => format!("cluster of {count} primaries"),
        (SideKind::Files(files), _) => match files.as_slice() {
            [file] => file_text(file),
            files => format!("{} RDB files", files.len()),
        },
        (SideKind::NewFile { rdb_version, .. }, _) => {
            format!("new file, RDB version {rdb_version}")
        }
    };
    writeln!(out, "{name:8} {}: {mode}{}", side.endpoint, keys(side.keys))?;
    if let SideKind::Files(files) = &side.kind
        && files.len() > 1
    {
        for file in files {
            writeln!(out, "{:8} {}: {}", "", file.path.display(), file_text(file))?;
        }
    }
    Ok(())
}

/// `RDB version 12 by 8.2.3, 1.2 MB`
pub(crate) fn file_text(file: &CheckedFile) -> String {
    let version = file.header.map_or(0, |header| header.version);
    let by = file.written_by.as_ref().map(|by| format!(" by {by}"));
    format!(
        "RDB version {version}{}, {}",
        by.unwrap_or_default(),
        size::show(file.bytes)
    )
}

fn keys(count: Option<u64>) -> String {
    match count {
        Some(1) => ", 1 key".into(),
        Some(count) => format!(", {} keys", size::show_count(count)),
        None => String::new(),
    }
}

/// `Redis 7.0.15, primary, 1.2 MB used of 4.0 GB, evicts by allkeys-lru`
pub(crate) fn node_text(facts: &ServerFacts) -> String {
    let mut parts = vec![facts.product()];
    match facts.role {
        Some(Role::Primary) => parts.push("primary".into()),
        Some(Role::Replica) => parts.push("replica".into()),
        None => {}
    }
    let used = facts.used_memory.map(size::show);
    match (used, facts.max_memory) {
        (Some(used), Some(0)) => parts.push(format!("{used} used, no limit")),
        (Some(used), Some(max)) => parts.push(format!("{used} used of {}", size::show(max))),
        (Some(used), None) => parts.push(format!("{used} used, limit unknown")),
        (None, _) => {}
    }
    match facts.eviction_policy.as_deref() {
        Some("noeviction") => parts.push("evicts nothing".into()),
        Some(policy) if facts.max_memory != Some(0) => parts.push(format!("evicts by {policy}")),
        _ => {}
    }
    parts.join(", ")
}

fn write_dbs(out: &mut impl Write, plan: &Plan) -> io::Result<()> {
    if plan.source.is_cluster() && plan.target.is_cluster() {
        return writeln!(out, "dbs      0, the only one of a cluster");
    }
    if plan.dbs.is_empty() {
        return writeln!(out, "dbs      none holds a key");
    }
    for (
        index,
        DbPlan {
            source_db,
            target_db,
            keys: count,
        },
    ) in plan.dbs.iter().enumerate()
    {
        let title = if index == 0 { "dbs" } else { "" };
        writeln!(out, "{title:8} {source_db} -> {target_db}{}", keys(*count))?;
    }
    Ok(())
}

/// One line for each thing that could not be asked; nodes with the same lack share it.
pub(crate) fn write_degraded(
    out: &mut impl Write,
    name: &str,
    nodes: &[NodePlan],
) -> io::Result<()> {
    let mut lacks: Vec<(String, &str, usize)> = Vec::new();
    for node in nodes {
        for degraded in &node.facts.degraded {
            let text = degraded.to_string();
            match lacks.iter_mut().find(|(known, _, _)| *known == text) {
                Some((_, _, count)) => *count += 1,
                None => lacks.push((text, &node.address, 1)),
            }
        }
    }
    for (text, address, count) in lacks {
        let more = if count > 1 {
            format!(" and {} more", count - 1)
        } else {
            String::new()
        };
        writeln!(out, "lacking  {name} {address}{more}: {text}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use keyhaul_client::{Degraded, Family, Version};
    use keyhaul_engine::plan::Warning;

    use super::*;

    fn facts() -> ServerFacts {
        ServerFacts {
            family: Some(Family::Redis),
            version: Some(Version {
                major: 7,
                minor: 0,
                patch: 15,
            }),
            role: Some(Role::Primary),
            used_memory: Some(3 << 20),
            max_memory: Some(1 << 30),
            eviction_policy: Some("allkeys-lru".into()),
            ..ServerFacts::default()
        }
    }

    fn side(endpoint: &str, mode: Mode, nodes: Vec<NodePlan>, keys: Option<u64>) -> SidePlan {
        SidePlan {
            endpoint: endpoint.into(),
            kind: SideKind::Servers(mode),
            primaries: nodes,
            keys,
        }
    }

    #[test]
    fn all_that_a_plan_holds() {
        let node = |address: &str, facts| NodePlan {
            address: address.into(),
            facts,
        };
        let mut poor = ServerFacts {
            family: Some(Family::Valkey),
            ..ServerFacts::default()
        };
        poor.degraded = vec![Degraded {
            command: "CONFIG",
            answer: "NOPERM".into(),
            consequence: "the defaults are assumed",
        }];
        let targets = vec![node("b:1", poor.clone()), node("b:2", poor)];
        let plan = Plan {
            source: side(
                "redis://a:1",
                Mode::Standalone,
                vec![node("a:1", facts())],
                Some(1234),
            ),
            target: side("redis://b:1", Mode::Cluster, targets, None),
            dbs: vec![
                DbPlan {
                    source_db: 0,
                    target_db: 0,
                    keys: Some(1233),
                },
                DbPlan {
                    source_db: 3,
                    target_db: 0,
                    keys: Some(1),
                },
            ],
            clock_difference_ms: Some((-1.25, 0.1)),
            steps: vec!["copy".into(), "verify".into()],
            warnings: vec![Warning {
                name: "w",
                text: "careful".into(),
            }],
        };
        let mut text = Vec::new();
        write(&mut text, &plan).unwrap();
        let expected = "\
source   redis://a:1: standalone, 1,234 keys
         a:1: Redis 7.0.15, primary, 3.0 MB used of 1.0 GB, evicts by allkeys-lru
target   redis://b:1: cluster of 2 primaries
         b:1: Valkey
         b:2: Valkey
dbs      0 -> 0, 1,233 keys
         3 -> 0, 1 key
clocks   the target is 1.2 ms behind the source (+-0.1 ms)
steps    1. copy
         2. verify
lacking  target b:1 and 1 more: CONFIG is not available (NOPERM): the defaults are assumed
warning  careful
";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}

//! A plan in full for programs: the facts of the page. docs/guide/plan.md describes the fields.

use keyhaul_client::{Family, Mode, Role, Tried};
use keyhaul_engine::plan::{PlanError, SideKind};
use keyhaul_engine::survey::{
    Fate, Kinds, KindsBasis, Need, ReadMethod, Right, Survey, SurveyedNode, SurveyedSide,
    WriteBasis,
};
use serde_json::{Map, Value, json};

use crate::exit::Exit;
use crate::hints;
use crate::plan::next_steps;
use crate::report::SCHEMA;

/// The plan.
pub(super) fn of(survey: &Survey) -> Value {
    let plan = survey.outcome.as_ref().ok();
    let dbs = plan.map(|plan| {
        let db = |db: &keyhaul_engine::plan::DbPlan| {
            json!({"source": db.source_db, "target": db.target_db, "keys": db.keys})
        };
        plan.dbs.iter().map(db).collect::<Vec<_>>()
    });
    let warning = |warning: &keyhaul_engine::plan::Warning| json!({"name": warning.name, "text": warning.text});
    json!({
        "schema": SCHEMA,
        "keyhaul": env!("CARGO_PKG_VERSION"),
        "source": side(&survey.source),
        "target": side(&survey.target),
        "dbs": dbs,
        "clocks": plan.and_then(|plan| plan.clock_difference_ms).map(|(ahead, uncertainty)| {
            json!({"target_ahead_ms": ahead, "uncertainty_ms": uncertainty})
        }),
        "method": {"name": method(survey.method), "why": survey.why_method},
        "steps": plan.map(|plan| &plan.steps),
        "rights": survey.rights.iter().map(right).collect::<Vec<_>>(),
        "keys": survey.kinds.as_ref().map(kinds),
        "writes": survey.writes.as_ref().map(|writes| json!({
            "bytes_per_second": writes.bytes_per_second,
            "busiest_node_bytes_per_second": writes.busiest,
            "basis": match writes.basis {
                WriteBasis::ReplicationStream => "replication stream",
                WriteBasis::ClientInput => "client input",
            },
            "seconds_measured": writes.measured.as_secs_f64(),
        })),
        "estimate": survey.estimate.as_ref().map(|estimate| json!({
            "keys": estimate.keys,
            "bytes": estimate.bytes,
            "seconds": estimate.duration.as_secs_f64(),
            "basis": estimate.basis,
        })),
        "warnings": survey.findings.iter().map(warning).collect::<Vec<_>>(),
        "verdict": verdict(survey),
        "next": next_steps(survey),
    })
}

fn verdict(survey: &Survey) -> Value {
    let (exit, refusal) = match &survey.outcome {
        Ok(_) => (Exit::Done, None),
        Err(refusal) => (Exit::Refused, Some(refusal)),
    };
    let risk = refusal.and_then(|refusal| match refusal {
        PlanError::Loses { risk, .. } => Some(risk.name()),
        _ => None,
    });
    json!({
        "can_begin": refusal.is_none(),
        "exit_code": exit.code(),
        "refusal": refusal.map(hints::with_remedy),
        "risk": risk,
    })
}

fn side(side: &SurveyedSide) -> Value {
    let kind = side.found.as_ref().map(|found| match &found.kind {
        SideKind::Servers(Mode::Standalone) => "standalone",
        SideKind::Servers(Mode::Cluster) => "cluster",
        SideKind::Files(_) => "files",
        SideKind::NewFile { .. } => "new file",
    });
    let files = side.found.as_ref().and_then(|found| match &found.kind {
        SideKind::Files(files) => Some(files),
        _ => None,
    });
    let file = |file: &keyhaul_engine::plan::CheckedFile| {
        json!({
            "path": file.path.display().to_string(),
            "bytes": file.bytes,
            "rdb_version": file.header.map(|header| header.version),
            "written_by": file.written_by,
            "keys": file.keys.values().sum::<u64>(),
        })
    };
    json!({
        "endpoint": side.endpoint,
        "kind": kind,
        "keys": side.found.as_ref().and_then(|found| found.keys),
        "nodes": side.nodes.iter().map(node).collect::<Vec<_>>(),
        "files": files.map(|files| files.iter().map(file).collect::<Vec<_>>()),
    })
}

fn node(node: &SurveyedNode) -> Value {
    let (facts, details) = (&node.facts, &node.details);
    let modules = details.modules.as_ref().map(|modules| {
        let one = |module: &keyhaul_client::LoadedModule| {
            json!({"name": module.name, "version": module.version})
        };
        modules.iter().map(one).collect::<Vec<_>>()
    });
    let lack = |lack: &keyhaul_client::Degraded| {
        json!({
            "command": lack.command,
            "answer": lack.answer,
            "consequence": lack.consequence,
        })
    };
    json!({
        "address": node.address,
        "family": facts.family.map(|family| match family {
            Family::Redis => "redis",
            Family::Valkey => "valkey",
        }),
        "version": facts.version.map(|version| version.to_string()),
        "role": facts.role.map(|role| match role {
            Role::Primary => "primary",
            Role::Replica => "replica",
        }),
        "rdb_version": node.rdb_version,
        "modules": modules,
        "dbs": facts.db_count,
        "limits": {
            "bulk_bytes": facts.bulk_len_max,
            "query_buffer_bytes": facts.query_buffer_max,
        },
        "memory": {
            "used_bytes": facts.used_memory,
            "data_bytes": facts.dataset_memory,
            "max_bytes": facts.max_memory,
            "headroom_bytes": node.headroom(),
            "machine_bytes": facts.machine_memory,
            "eviction_policy": facts.eviction_policy,
        },
        "persistence": {
            "save_points": details.save_points,
            "append_only": details.append_only,
        },
        "replication": {
            "replicas": details.replicas,
            "backlog_bytes": details.backlog_bytes,
            "replica_buffer": details.replica_buffer.map(|limit| json!({
                "hard_bytes": limit.hard_bytes,
                "soft_bytes": limit.soft_bytes,
                "soft_seconds": limit.soft_seconds,
            })),
        },
        "round_trip_ms": details.round_trip_ms.or(facts.round_trip_ms),
        "clock_ahead_ms": facts.clock_ahead_ms,
        "lacks": facts.degraded.iter().map(lack).collect::<Vec<_>>(),
    })
}

fn method(method: ReadMethod) -> Option<&'static str> {
    match method {
        ReadMethod::Scan => Some("scan"),
        ReadMethod::Psync => Some("psync"),
        ReadMethod::Files => Some("files"),
        ReadMethod::Undecided => None,
    }
}

fn right(right: &Right) -> Value {
    let (state, answer) = match &right.tried {
        Tried::Permitted => ("there", None),
        Tried::KeyOutOfReach => ("there, not for every key", None),
        Tried::Forbidden(error) => ("missing", Some(error.to_string())),
        Tried::Absent => ("no such command", None),
        Tried::Unknown => ("not known", None),
    };
    json!({
        "side": right.side.to_string(),
        "node": right.node,
        "command": right.command,
        "for": match right.need {
            Need::Copy => "copy",
            Need::Comfort => "comfort",
            Need::BigKeys => "chunks",
            Need::Snapshot => "snapshot",
        },
        "state": state,
        "answer": answer,
        "without": right.without,
    })
}

fn kinds(kinds: &Kinds) -> Value {
    let types: Map<String, Value> = kinds
        .types
        .iter()
        .map(|(key_type, fates)| {
            let fates = fates.iter();
            let fates = fates.map(|(fate, keys)| (fate.text().replace(' ', "_"), json!(keys)));
            (key_type.clone(), Value::Object(fates.collect()))
        })
        .collect();
    // Neither files nor a report tell of expiries; nor, for all thresholds, of chunks.
    let looks_into_keys = matches!(kinds.basis, KindsBasis::Sample | KindsBasis::AllKeys);
    let by_fate = looks_into_keys.then(|| kinds.of_fate(Fate::GoesByChunks));
    json!({
        "looked_at": kinds.looked_at,
        "basis": match kinds.basis {
            KindsBasis::Sample => "sample",
            KindsBasis::AllKeys => "all keys",
            KindsBasis::Files => "files",
            KindsBasis::Report => "report",
        },
        "to_go": kinds.taken,
        "cut_short": kinds.is_cut,
        "dbs_not_sampled": kinds.not_sampled,
        "expiring": looks_into_keys.then_some(kinds.expiring),
        "values_read": kinds.read.keys,
        "payload_bytes_read": kinds.read.payload_bytes,
        "types": types,
        "go_by_chunks": kinds.chunked.or(by_fate),
        "cannot_go": kinds.reasons,
    })
}

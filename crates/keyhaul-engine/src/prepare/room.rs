//! Whether the target has room for what the source holds. Told from what both ends say of their memory,
//! so that it costs nothing: it is held against every job.

use std::collections::BTreeMap;
use std::path::PathBuf;

use keyhaul_client::ServerFacts;

use crate::amount::bytes_text;
use crate::options::Scope;
use crate::plan::{Plan, PlanError, Risk, SidePlan, Warning};
use crate::prepare::{CheckedFile, Prepared, SourceEnd};

/// What does not fit with this share of what the source needs is taken to be certain not to fit, in percent.
/// The same data may well take half: a string that was appended to has as much room again behind it, and a
/// value that the target keeps as one listpack takes a few times less than a table of small elements.
const CERTAIN_PERCENT: u64 = 25;

/// What is needed and what there is, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    /// What the data takes where it is.
    needed: u64,
    /// What the target has left.
    free: u64,
    /// What it would have if it held no key: those that are there may be the same keys.
    whole: u64,
}

/// Refuses a job whose data is certain not to fit, unless that was accepted. Of a file nothing is certain:
/// keys in it may have expired.
///
/// # Errors
/// [`PlanError::Loses`].
pub(super) fn refuse_loss(prepared: &Prepared) -> Result<(), PlanError> {
    if matches!(prepared.source, SourceEnd::Files(_)) {
        return Ok(());
    }
    let (plan, accepted) = (&prepared.plan, prepared.options.accepted_losses);
    let Some(room) = room(prepared).filter(|room| takes_all(prepared) && room.is_lacking()) else {
        return Ok(());
    };
    let needs = format!(
        "the data of the source takes {} and the target has room for {}",
        bytes_text(room.needed),
        bytes_text(room.whole)
    );
    let evicts = plan.target.primaries.iter().find_map(|node| {
        let (policy, _) = node.facts.evicts_by()?;
        Some((node, policy))
    });
    match evicts {
        Some((node, policy)) if !accepted.eviction => Err(PlanError::Loses {
            risk: Risk::Eviction,
            text: format!(
                "{needs}, where {} evicts keys when it is full ({policy}): keys would be lost; raise its maxmemory",
                node.address
            ),
        }),
        None if !accepted.no_room => Err(PlanError::Loses {
            risk: Risk::NoRoom,
            text: format!(
                "{needs}: it would be full before all keys are there; raise its maxmemory"
            ),
        }),
        _ => Ok(()),
    }
}

/// What may be too little, or is and was accepted.
pub(super) fn warning(prepared: &Prepared) -> Option<Warning> {
    let plan = &prepared.plan;
    if let Some(room) = room(prepared) {
        let (needed, free) = (bytes_text(room.needed), bytes_text(room.free));
        let evicts = plan
            .target
            .primaries
            .iter()
            .find(|node| node.facts.evicts_by().is_some());
        return (room.needed > room.free).then(|| {
            let then = evicts.map(|node| format!(", and then {} evicts keys", node.address));
            let text = format!(
                "the data of the source takes {needed} and the target has {free} left: it may fill up{}",
                then.unwrap_or_default()
            );
            Warning::new("target-full", text)
        });
    }
    // Without a limit of its own, the machine is the limit.
    let needed = needed(prepared)?;
    let machine = sum(&plan.target, |facts| facts.machine_memory)?;
    let used = sum(&plan.target, |facts| facts.used_memory)?;
    (needed > machine.saturating_sub(used)).then(|| {
        let text = format!(
            "the data of the source takes {} and the machine of the target has {} of memory: it may run out",
            bytes_text(needed),
            bytes_text(machine)
        );
        Warning::new("target-machine-small", text)
    })
}

impl Room {
    fn is_lacking(&self) -> bool {
        self.needed / 100 * CERTAIN_PERCENT > self.whole
    }
}

/// `None` where the target has no limit, or an end does not tell.
fn room(prepared: &Prepared) -> Option<Room> {
    let target = &prepared.plan.target;
    let has_limit = |facts: &ServerFacts| facts.max_memory.is_some_and(|limit| limit > 0);
    if target.primaries.is_empty() || !target.primaries.iter().all(|node| has_limit(&node.facts)) {
        return None;
    }
    let limit = sum(target, |facts| facts.max_memory)?;
    let used = sum(target, |facts| facts.used_memory)?;
    let held = sum(target, |facts| facts.dataset_memory).unwrap_or(used);
    Some(Room {
        needed: needed(prepared)?,
        free: limit.saturating_sub(used),
        whole: limit.saturating_sub(used.saturating_sub(held)),
    })
}

/// What the data takes on the source: in a file its length, for want of more, however often it is named.
fn needed(prepared: &Prepared) -> Option<u64> {
    match &prepared.source {
        SourceEnd::Files(files) => {
            let path = |file: &CheckedFile| file.path.canonicalize().unwrap_or(file.path.clone());
            let files: BTreeMap<PathBuf, u64> =
                files.iter().map(|file| (path(file), file.bytes)).collect();
            let lengths = files.into_values();
            Some(lengths.fold(0, u64::saturating_add))
        }
        SourceEnd::Servers { .. } => data_bytes(&prepared.plan),
    }
}

/// The bytes of memory in which the source holds its keys and values.
pub(crate) fn data_bytes(plan: &Plan) -> Option<u64> {
    sum(&plan.source, |facts| {
        facts.dataset_memory.or(facts.used_memory)
    })
}

/// Of all primaries; `None` of files, which have none.
fn sum(side: &SidePlan, of: impl Fn(&ServerFacts) -> Option<u64>) -> Option<u64> {
    let nodes = (side.primaries.iter()).map(|node| of(&node.facts));
    let add = |sum: Option<u64>, node: Option<u64>| Some(sum?.saturating_add(node?));
    nodes.reduce(add).flatten()
}

/// Whether all that the source holds goes over: a filter may leave out most of it.
pub(crate) fn takes_all(prepared: &Prepared) -> bool {
    let options = &prepared.options;
    options.scope == Scope::Every
        && options.key_patterns.is_empty()
        && options.key_excludes.is_empty()
        && options.key_types.is_empty()
        && options.only.is_none()
        && options.mem_limit.is_none()
        && prepared.chosen_dbs.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_certain_not_to_fit() {
        let room = |needed, whole| Room {
            needed,
            free: 0,
            whole,
        };
        for (room, expected) in [
            (room(0, 0), false),
            (room(1000, 1000), false),
            (room(1000, 250), false),
            (room(1000, 249), true),
            (room(1000, 0), true),
            (room(u64::MAX, u64::MAX), false),
        ] {
            assert_eq!(room.is_lacking(), expected, "{room:?}");
        }
    }
}

//! Which rights of the user are there, command by command. All are tried, so that one plan names all that are
//! missing; what a copy cannot do without refuses it elsewhere (`prepare/rights.rs`).

use keyhaul_client::{ClientError, ReplicationRight, TargetConnection, Tried, replication_right};

use crate::options::Method;
use crate::plan::SideName;
use crate::prepare::Probed;
use crate::survey::wanted::{Need, REFUSED, Row, Wanted};

/// One command on one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// Where.
    pub side: SideName,
    /// The right as `ACL SETUSER` names it, without the `+`.
    pub command: &'static str,
    /// What it is for.
    pub need: Need,
    /// The answer of the node that permits least.
    pub tried: Tried,
    /// That node.
    pub node: String,
    /// What its lack costs.
    pub without: &'static str,
}

impl Right {
    /// Whether it is missing, which is not the same as not known.
    pub fn is_missing(&self) -> bool {
        matches!(self.tried, Tried::Forbidden(_) | Tried::Absent)
    }
}

/// Commands that only newer servers have: where they are absent, so is what they are for.
const NEWER: &[&str] = &[
    "pexpiretime",
    "hpexpiretime",
    "hpexpireat",
    "function|list",
    "function|load",
];

/// Tries the rights that a source must or may give.
///
/// # Errors
/// Those of the connections.
pub(super) async fn of_source(
    source: &Probed,
    wanted: Wanted<'_>,
) -> Result<Vec<Right>, ClientError> {
    let psync = snapshot(source).await?;
    let by_snapshot = wanted.reads_snapshot(&psync.0);
    let rows = wanted.of_source(source.plan.is_cluster(), by_snapshot);
    let mut rights = tried(source, SideName::Source, &rows).await?;
    rights.push(Right {
        side: SideName::Source,
        command: "psync",
        need: match wanted.options.method {
            Method::Psync => Need::Copy,
            _ => Need::Snapshot,
        },
        tried: psync.0,
        node: psync.1,
        without: "keys are read by SCAN",
    });
    Ok(rights)
}

/// Tries the rights that a target must or may give.
///
/// # Errors
/// Those of the connections.
pub(super) async fn of_target(
    target: &Probed,
    wanted: Wanted<'_>,
) -> Result<Vec<Right>, ClientError> {
    let rows = wanted.of_target(target.plan.is_cluster());
    tried(target, SideName::Target, &rows).await
}

async fn snapshot(source: &Probed) -> Result<(Tried, String), ClientError> {
    let mut worst = (Tried::Permitted, String::new());
    for (_, address) in source.site.primaries() {
        let right = replication_right(source.site.routing.connector(), &address).await?;
        let tried = match right {
            ReplicationRight::Permitted => Tried::Permitted,
            ReplicationRight::Refused(error) => Tried::Forbidden(error),
            ReplicationRight::Unknown => Tried::Unknown,
        };
        if worst.1.is_empty() || severity(&tried) > severity(&worst.0) {
            worst = (tried, address.to_string());
        }
    }
    Ok(worst)
}

/// Tries the commands of these rows on every primary; the answer that permits least counts.
async fn tried(probed: &Probed, side: SideName, rows: &[Row]) -> Result<Vec<Right>, ClientError> {
    let names: Vec<&str> = rows.iter().map(|(name, ..)| *name).collect();
    let mut rights: Vec<Right> = Vec::new();
    for (_, address) in probed.site.primaries() {
        let mut answers = probed.site.open(&address).await?.try_reads(&names).await?;
        if side == SideName::Target {
            let connector = probed.site.routing.connector();
            let opened = TargetConnection::open(connector, &address, probed.site.expiry).await?;
            answers.extend(opened.try_writes(&names).await?);
        }
        // Out of reach is the key of the try alone: the command is permitted, as the job finds too.
        let tells_expiry = answers.iter().any(|(name, tried)| {
            *name == "pexpiretime" && matches!(tried, Tried::Permitted | Tried::KeyOutOfReach)
        });
        for (command, mut need, mut without) in rows.iter().copied() {
            let Some((_, tried)) = answers.iter().find(|(name, _)| *name == command) else {
                continue;
            };
            let is_needless = match command {
                "pttl" => tells_expiry,
                _ => *tried == Tried::Absent && NEWER.contains(&command),
            };
            if command == "time" && names.contains(&"pttl") && !tells_expiry {
                (need, without) = (Need::Copy, REFUSED);
            }
            if !is_needless {
                let node = address.to_string();
                let tried = tried.clone();
                add(
                    &mut rights,
                    Right {
                        side,
                        command,
                        need,
                        tried,
                        node,
                        without,
                    },
                );
            }
        }
    }
    Ok(rights)
}

/// One line for each command: what it is needed for most, the node that permits least.
fn add(rights: &mut Vec<Right>, new: Right) {
    let known = rights.iter_mut().find(|right| right.command == new.command);
    let Some(known) = known else {
        rights.push(new);
        return;
    };
    if new.need < known.need {
        (known.need, known.without) = (new.need, new.without);
    }
    if severity(&new.tried) > severity(&known.tried) {
        (known.tried, known.node) = (new.tried, new.node);
    }
}

fn severity(tried: &Tried) -> u8 {
    match tried {
        Tried::Permitted => 0,
        Tried::KeyOutOfReach => 1,
        Tried::Unknown => 2,
        Tried::Absent => 3,
        Tried::Forbidden(_) => 4,
    }
}

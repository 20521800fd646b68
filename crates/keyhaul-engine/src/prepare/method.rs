//! How the source is read: by SCAN, or as a replica by PSYNC.

use keyhaul_client::{ChangeLink, ReplicationRight, replication_right};

use crate::options::{CopyOptions, Method};
use crate::plan::PlanError;
use crate::prepare::Probed;

/// How the source is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReadBy {
    /// By SCAN and DUMP; why not by PSYNC where that would be better.
    Scan(Option<String>),
    /// By PSYNC. The user asked for it, or all nodes permit it.
    Psync,
}

/// A file is a backup: there a snapshot of one moment is worth a fork of the source, and following is exact only
/// behind one. A copy into a server takes it only when asked for by name.
pub(super) async fn choose(
    source: &mut Probed,
    options: &CopyOptions,
    to_file: bool,
) -> Result<ReadBy, PlanError> {
    if options.live.is_some() {
        return choose_live(source, options).await;
    }
    if options.method == Method::Scan || (options.method == Method::Auto && !to_file) {
        return Ok(ReadBy::Scan(None));
    }
    by_right(source, options).await
}

/// By PSYNC where that is permitted: it is exact. Else by what the source tells of its changes.
async fn choose_live(source: &mut Probed, options: &CopyOptions) -> Result<ReadBy, PlanError> {
    let read_by = match options.method {
        Method::Scan => ReadBy::Scan(None),
        Method::Auto | Method::Psync => by_right(source, options).await?,
    };
    if read_by != ReadBy::Psync {
        check_telling(source).await?;
    }
    Ok(read_by)
}

/// Whether every primary tells what changes. The first that does not is named, and what would help.
async fn check_telling(source: &Probed) -> Result<(), PlanError> {
    for node in source.site.routing.topology().primaries.clone() {
        let link = ChangeLink::open(source.site.routing.connector(), &node.address).await;
        if let Err(refusal) = link.map_err(|e| source.error(e))? {
            return Err(PlanError::Refused(format!(
                "the source {} does not tell what changes, so it cannot be followed: {refusal}; grant +client|tracking (Redis 6.0 and later), or set notify-keyspace-events to KEA and grant +config|get +psubscribe, or +psync +replconf, or copy once with --mode scan",
                node.address
            )));
        }
    }
    Ok(())
}

async fn by_right(source: &mut Probed, options: &CopyOptions) -> Result<ReadBy, PlanError> {
    for node in source.site.routing.topology().primaries.clone() {
        let connector = source.site.routing.connector();
        let right = replication_right(connector, &node.address).await;
        let right = right.map_err(|e| source.error(e))?;
        let ReplicationRight::Refused(error) = right else {
            continue;
        };
        if options.method == Method::Psync {
            return Err(PlanError::Refused(format!(
                "--method psync needs the right to replicate, but {} answers: {error}; grant +psync +replconf, or use --method scan",
                node.address
            )));
        }
        return Ok(ReadBy::Scan(Some(format!("PSYNC is refused: {error}"))));
    }
    Ok(ReadBy::Psync)
}

//! How the source is read: by SCAN, or as a replica by PSYNC.

use keyhaul_client::{ReplicationRight, replication_right};

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
    let is_worth_it = to_file || options.live.is_some();
    if options.method == Method::Scan || (options.method == Method::Auto && !is_worth_it) {
        return Ok(ReadBy::Scan(None));
    }
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

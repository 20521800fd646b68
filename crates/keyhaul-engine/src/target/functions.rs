//! Function libraries (Redis >= 7.0): they belong to no key and go to every primary of the target.

use std::sync::Arc;

use keyhaul_client::{ClientError, FunctionLibrary, Node, TargetConnection};

use crate::ledger::Ledger;
use crate::options::OnConflict;
use crate::site::Site;

/// Reads the libraries of all source primaries and loads them into all target primaries. What
/// cannot be read or loaded is remarked on. Returns how many libraries went over, and how many
/// did not.
///
/// # Errors
/// Those of the connections.
pub(crate) async fn copy_functions(
    source: &Site,
    target: &Site,
    on_conflict: OnConflict,
    ledger: &Arc<Ledger>,
) -> Result<FunctionCounts, ClientError> {
    let libraries = read_all(source, ledger).await?;
    let mut counts = FunctionCounts::default();
    if libraries.is_empty() {
        return Ok(counts);
    }
    let primaries = target.routing.topology().primaries.clone();
    let mut failed = vec![false; libraries.len()];
    for node in &primaries {
        let connector = target.routing.connector();
        let mut connection =
            TargetConnection::open(connector, &node.address, target.expiry).await?;
        for (library, failed) in libraries.iter().zip(failed.iter_mut()) {
            *failed |= !load(&mut connection, node, library, on_conflict, ledger).await?;
        }
    }
    counts.not_copied = failed.iter().filter(|failed| **failed).count() as u64;
    counts.copied = libraries.len() as u64 - counts.not_copied;
    Ok(counts)
}

/// How the libraries fared.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FunctionCounts {
    pub copied: u64,
    pub not_copied: u64,
}

async fn read_all(source: &Site, ledger: &Ledger) -> Result<Vec<FunctionLibrary>, ClientError> {
    let mut all: Vec<FunctionLibrary> = Vec::new();
    for node in &source.routing.topology().primaries {
        let found = match source.open(&node.address).await?.functions().await {
            Ok(found) => found,
            Err(ClientError::Server { error, .. }) => {
                // Before 7.0 there are none, so there is nothing to say.
                if !error.is_unknown_command() {
                    ledger.remark(format!(
                        "functions are not copied, FUNCTION LIST is refused by the source: {error}"
                    ));
                }
                return Ok(Vec::new());
            }
            Err(e) => return Err(e),
        };
        for library in found {
            match all.iter().find(|known| known.name == library.name) {
                None => all.push(library),
                Some(known) if *known == library => {}
                Some(_) => ledger.remark(format!(
                    "function library '{}' differs between source nodes; the first one found is taken",
                    library.name.escape_ascii()
                )),
            }
        }
    }
    Ok(all)
}

/// Loads one library into one node; `false` with a remark when the node does not take it.
async fn load(
    connection: &mut TargetConnection,
    node: &Node,
    library: &FunctionLibrary,
    on_conflict: OnConflict,
    ledger: &Ledger,
) -> Result<bool, ClientError> {
    let mut args: Vec<&[u8]> = vec![b"FUNCTION", b"LOAD"];
    if on_conflict == OnConflict::Replace {
        args.push(b"REPLACE");
    }
    args.push(&library.code);
    let error = match connection.raw().call(&args).await {
        Ok(_) => return Ok(true),
        Err(ClientError::Server { error, .. }) => error,
        Err(e) => return Err(e),
    };
    let name = library.name.escape_ascii();
    if error.mentions("already exists") {
        let same = connection.reads().functions().await?.contains(library);
        if !same {
            ledger.remark(format!(
                "function library '{name}' is another one on {} and was kept",
                node.address
            ));
        }
        return Ok(same || on_conflict == OnConflict::Skip);
    }
    ledger.remark(format!(
        "function library '{name}' was not taken by {}: {error}",
        node.address
    ));
    Ok(false)
}

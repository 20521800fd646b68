//! Function libraries (Redis >= 7.0): they belong to no key and go to every primary of the target, or into
//! the file.

use std::sync::PoisonError;

use keyhaul_client::{ClientError, FunctionLibrary, Node, TargetConnection};
use keyhaul_rdb::holds_functions;

use crate::ledger::Ledger;
use crate::options::OnConflict;
use crate::site::Site;
use crate::target::file_lane::SharedFile;

/// Loads libraries into all target primaries. What cannot be loaded is remarked on.
///
/// # Errors
/// Those of the connections.
pub(crate) async fn load_all(
    target: &Site,
    libraries: &[FunctionLibrary],
    on_conflict: OnConflict,
    ledger: &Ledger,
) -> Result<FunctionCounts, ClientError> {
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

/// Writes libraries into a file. What has no place there is remarked on.
pub(crate) fn write_all(
    file: &SharedFile,
    rdb_version: u16,
    libraries: &[FunctionLibrary],
    ledger: &Ledger,
) -> FunctionCounts {
    let mut counts = FunctionCounts::default();
    if !libraries.is_empty() && !holds_functions(rdb_version) {
        counts.not_copied = libraries.len() as u64;
        ledger.remark(format!(
            "function libraries are not copied: RDB version {rdb_version} has no place for them"
        ));
        return counts;
    }
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(file) = file.as_mut() else {
        return counts;
    };
    for library in libraries {
        match file.function(&library.code) {
            Ok(true) => counts.copied += 1,
            Ok(false) => {
                counts.not_copied += 1;
                ledger.remark(format!(
                    "function library '{}' differs between source nodes; the first one found is taken",
                    library.name.escape_ascii()
                ));
            }
            Err(e) => ledger.halt(keyhaul_client::chain(&e)),
        }
    }
    counts
}

/// How the libraries fared.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FunctionCounts {
    pub copied: u64,
    pub not_copied: u64,
}

/// Reads the libraries of all source primaries. What cannot be read is remarked on.
///
/// # Errors
/// Those of the connections.
pub(crate) async fn read_all(
    source: &Site,
    ledger: &Ledger,
) -> Result<Vec<FunctionLibrary>, ClientError> {
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
    // With REPLACE that is about a function of another library.
    if on_conflict != OnConflict::Replace && error.mentions("already exists") {
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

//! Compares the function libraries of two ends. They belong to no key, and to each primary alike.

use std::sync::Arc;
use std::time::Duration;

use keyhaul_client::{Action, ClientError, FunctionLibrary};

use crate::ledger::Ledger;
use crate::patience::{GaveUp, Patience};
use crate::site::Site;

/// What differs, a line each.
///
/// # Errors
/// [`GaveUp`].
pub(crate) async fn compare(
    source: &Arc<Site>,
    target: &Arc<Site>,
    retry_for: Duration,
    ledger: &Ledger,
) -> Result<Vec<String>, GaveUp> {
    let (Some(source), Some(target)) = (
        libraries(source, retry_for, ledger).await?,
        libraries(target, retry_for, ledger).await?,
    ) else {
        return Ok(Vec::new());
    };
    let mut lines = Vec::new();
    for library in &source {
        let name = library.name.escape_ascii();
        match target.iter().find(|other| other.name == library.name) {
            Some(other) if other == library => {}
            Some(_) => lines.push(format!("function library '{name}' differs")),
            None => lines.push(format!(
                "function library '{name}' is missing on the target"
            )),
        }
    }
    for library in &target {
        if !source.iter().any(|other| other.name == library.name) {
            let name = library.name.escape_ascii();
            lines.push(format!("function library '{name}' is only on the target"));
        }
    }
    Ok(lines)
}

/// The libraries of all primaries; `None`: they cannot be had.
async fn libraries(
    site: &Arc<Site>,
    retry_for: Duration,
    ledger: &Ledger,
) -> Result<Option<Vec<FunctionLibrary>>, GaveUp> {
    let mut patience = Patience::new(retry_for);
    loop {
        match read(site).await {
            Ok(libraries) => return Ok(Some(libraries)),
            // Before 7.0 there are none.
            Err(ClientError::Server { error, .. }) if error.is_unknown_command() => {
                return Ok(Some(Vec::new()));
            }
            Err(ClientError::Server { error, .. }) if error.action() == Action::GiveUp => {
                ledger.remark(format!(
                    "function libraries are not compared: FUNCTION LIST is refused by the {}: {error}",
                    site.side
                ));
                return Ok(None);
            }
            Err(e) => site.recover(&e, &mut patience, ledger).await?,
        }
    }
}

async fn read(site: &Arc<Site>) -> Result<Vec<FunctionLibrary>, ClientError> {
    let mut all: Vec<FunctionLibrary> = Vec::new();
    for (_, address) in site.primaries() {
        for library in site.open(&address).await?.functions().await? {
            if !all.contains(&library) {
                all.push(library);
            }
        }
    }
    Ok(all)
}

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
    let mut told = |line: String| {
        if !lines.contains(&line) {
            lines.push(line);
        }
    };
    // Each primary of the target must have what each of the source has.
    for libraries in &source {
        for others in &target {
            for library in libraries {
                let name = library.name.escape_ascii();
                match others.iter().find(|other| other.name == library.name) {
                    Some(other) if other == library => {}
                    Some(_) => told(format!("function library '{name}' differs")),
                    None => told(format!(
                        "function library '{name}' is missing on the target"
                    )),
                }
            }
            for library in others {
                if !libraries.iter().any(|other| other.name == library.name) {
                    let name = library.name.escape_ascii();
                    told(format!("function library '{name}' is only on the target"));
                }
            }
        }
    }
    Ok(lines)
}

/// The libraries of each primary; `None`: they cannot be had.
async fn libraries(
    site: &Arc<Site>,
    retry_for: Duration,
    ledger: &Ledger,
) -> Result<Option<Vec<Vec<FunctionLibrary>>>, GaveUp> {
    let mut patience = Patience::new(retry_for);
    loop {
        match read(site).await {
            Ok(libraries) => return Ok(Some(libraries)),
            // Before 7.0 there are none.
            Err(ClientError::Server { error, .. }) if error.is_unknown_command() => {
                return Ok(Some(vec![Vec::new()]));
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

async fn read(site: &Arc<Site>) -> Result<Vec<Vec<FunctionLibrary>>, ClientError> {
    let mut all = Vec::new();
    for (_, address) in site.primaries() {
        all.push(site.open(&address).await?.functions().await?);
    }
    Ok(all)
}

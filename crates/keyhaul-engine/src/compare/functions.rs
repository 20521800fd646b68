//! Compares the function libraries of two ends. They belong to no key, and to each primary alike.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keyhaul_client::{Action, ClientError, FunctionLibrary};

use crate::compare::values::Side;
use crate::ledger::Ledger;
use crate::patience::{GaveUp, Patience};
use crate::site::Site;

/// A library that is not the same on both ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LibraryDiff {
    pub name: Bytes,
    pub is: LibraryIs,
}

/// What a library is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LibraryIs {
    Different,
    Missing,
    Extra,
}

impl fmt::Display for LibraryDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.is {
            LibraryIs::Different => "differs",
            LibraryIs::Missing => "is missing on the target",
            LibraryIs::Extra => "is only on the target",
        };
        write!(f, "function library '{}' {what}", self.name.escape_ascii())
    }
}

/// What differs. `None`: that cannot be known, and a remark says why.
///
/// # Errors
/// [`GaveUp`].
pub(crate) async fn compare(
    source: &Side,
    target: &Side,
    retry_for: Duration,
    ledger: &Ledger,
) -> Result<Option<Vec<LibraryDiff>>, GaveUp> {
    let (Some(source), Some(target)) = (
        libraries(source, retry_for, ledger).await?,
        libraries(target, retry_for, ledger).await?,
    ) else {
        return Ok(None);
    };
    let mut found = Vec::new();
    let mut add = |library: &FunctionLibrary, is: LibraryIs| {
        let name = library.name.clone();
        let diff = LibraryDiff { name, is };
        if !found.contains(&diff) {
            found.push(diff);
        }
    };
    let has = |libraries: &[FunctionLibrary], library: &FunctionLibrary| {
        libraries.iter().any(|other| other.name == library.name)
    };
    // Each primary of the target must have what each of the source has.
    for libraries in &source {
        for others in &target {
            for library in libraries {
                match others.iter().find(|other| other.name == library.name) {
                    Some(other) if other == library => {}
                    Some(_) => add(library, LibraryIs::Different),
                    None => add(library, LibraryIs::Missing),
                }
            }
        }
    }
    for library in target.iter().flatten() {
        match source.iter().filter(|of| has(of, library)).count() {
            0 => add(library, LibraryIs::Extra),
            // The primaries of the source do not agree.
            some if some < source.len() => add(library, LibraryIs::Different),
            _ => {}
        }
    }
    Ok(Some(found))
}

/// The libraries of a side, each once: the one that was found first.
///
/// # Errors
/// [`GaveUp`].
pub(crate) async fn all(
    side: &Side,
    retry_for: Duration,
    ledger: &Ledger,
) -> Result<Option<Vec<FunctionLibrary>>, GaveUp> {
    let mut all: Vec<FunctionLibrary> = Vec::new();
    let Some(found) = libraries(side, retry_for, ledger).await? else {
        return Ok(None);
    };
    for library in found.into_iter().flatten() {
        match all.iter().find(|known| known.name == library.name) {
            None => all.push(library),
            Some(known) if *known == library => {}
            Some(_) => ledger.remark(format!(
                "function library '{}' differs between source nodes; the first one found is taken",
                library.name.escape_ascii()
            )),
        }
    }
    Ok(Some(all))
}

/// The libraries of each primary, or of the files; `None`: they cannot be had.
async fn libraries(
    side: &Side,
    retry_for: Duration,
    ledger: &Ledger,
) -> Result<Option<Vec<Vec<FunctionLibrary>>>, GaveUp> {
    let site = match side {
        Side::Servers { site, .. } => site,
        Side::Files(index) => return Ok(Some(vec![index.libraries().to_vec()])),
    };
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
                    "function libraries are not compared: FUNCTION LIST is refused by the {}: {error}; --no-functions leaves them out",
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

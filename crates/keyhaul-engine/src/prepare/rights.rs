//! Tries the commands that a job cannot do without, on a key that nobody has, before it begins.

use bytes::Bytes;
use keyhaul_client::{Asking, ClientError, KeyRead, ScanOptions, ServerError, TargetConnection};

use crate::options::CopyOptions;
use crate::plan::PlanError;
use crate::prepare::{Probed, verifies};
use crate::target::restore_probe;

/// A key that exists nowhere; only the answer to the command matters.
pub(super) const NO_KEY: &[u8] = b"keyhaul:no-such-key";

/// SCAN, and TYPE for the verification.
pub(crate) async fn check_scan_and_look(
    source: &mut Probed,
    options: &CopyOptions,
) -> Result<(), PlanError> {
    check_scan(source).await?;
    check_look(source, options).await
}

/// SCAN.
pub(super) async fn check_scan(source: &mut Probed) -> Result<(), PlanError> {
    let scan = ScanOptions {
        count: 1,
        ..ScanOptions::default()
    };
    let scanned = source.connection.scan(0, &scan).await.map(|_| ());
    demand(source, "SCAN", "+scan", scanned)
}

/// SCAN and DUMP; TYPE for the verification.
pub(crate) async fn check_source(
    source: &mut Probed,
    options: &CopyOptions,
) -> Result<(), PlanError> {
    check_scan(source).await?;
    let key = Bytes::from_static(NO_KEY);
    let keys = std::slice::from_ref(&key);
    let read = async {
        source.connection.ask_keys(keys, Asking::No).await?;
        source.connection.next_key(Asking::No).await
    }
    .await;
    let read = match read {
        Ok(KeyRead::Refused(error)) if forbids_command(&error) => {
            let address = source.connection.address().clone();
            Err(ClientError::Server { address, error })
        }
        Ok(_) => Ok(()),
        Err(e) => Err(e),
    };
    demand(
        source,
        "DUMP and PEXPIRETIME (or PTTL and TIME)",
        "+dump +pexpiretime",
        read,
    )?;
    check_look(source, options).await
}

/// EXISTS, where two keys may become one.
pub(crate) async fn check_collisions(source: &mut Probed) -> Result<(), PlanError> {
    let key = Bytes::from_static(NO_KEY);
    let found = match source.connection.exist(std::slice::from_ref(&key)).await {
        Err(ClientError::Server { error, .. }) if !forbids_command(&error) => Ok(()),
        found => found.map(|_| ()),
    };
    demand(
        source,
        "EXISTS for --db-map and --rename-prefix",
        "+exists",
        found,
    )
}

/// RESTORE; TYPE for the verification.
pub(crate) async fn check_target(
    target: &mut Probed,
    options: &CopyOptions,
) -> Result<(), PlanError> {
    let address = target.connection.address().clone();
    let connector = target.site.routing.connector();
    let tried = async {
        let mut connection =
            TargetConnection::open(connector, &address, target.site.expiry).await?;
        restore_probe(&mut connection, NO_KEY).await
    }
    .await;
    match tried {
        Ok(error) if forbids_command(&error) => {
            let refused = Err(ClientError::Server { address, error });
            demand(target, "RESTORE", "+restore", refused)?;
        }
        Ok(_) => {}
        Err(e) => return Err(target.error(e)),
    }
    check_look(target, options).await
}

/// Whether MEMORY USAGE can be had; the answer if not.
pub(crate) async fn memory_usage(
    source: &mut Probed,
) -> Result<Result<(), ServerError>, PlanError> {
    match source
        .connection
        .memory_usage(&[Bytes::from_static(NO_KEY)])
        .await
    {
        Ok(_) => Ok(Ok(())),
        Err(ClientError::Server { error, .. }) if error.forbids_key() => Ok(Ok(())),
        Err(ClientError::Server { error, .. }) => Ok(Err(error)),
        Err(e) => Err(source.error(e)),
    }
}

async fn check_look(probed: &mut Probed, options: &CopyOptions) -> Result<(), PlanError> {
    if !verifies(options) {
        return Ok(());
    }
    let looks = probed.connection.look(&[Bytes::from_static(NO_KEY)]).await;
    let looks = looks.map_err(|e| probed.error(e))?;
    match looks.into_iter().next() {
        Some(Err(error)) if forbids_command(&error) => Err(PlanError::Refused(format!(
            "the verification needs TYPE and PEXPIRETIME (or PTTL and TIME) on the {}, which answers: {error}; grant +type +pexpiretime, or leave it out with --verify none",
            probed.site.side
        ))),
        _ => Ok(()),
    }
}

fn demand(
    probed: &Probed,
    what: &str,
    grant: &str,
    tried: Result<(), ClientError>,
) -> Result<(), PlanError> {
    match tried {
        Ok(()) => Ok(()),
        Err(ClientError::Server { error, .. })
            if error.is_forbidden() || error.is_unknown_command() =>
        {
            Err(PlanError::Refused(format!(
                "the {} needs {what}, but {} answers: {error}; grant {grant} to the user",
                probed.site.side, probed.plan.endpoint
            )))
        }
        Err(e) => Err(probed.error(e)),
    }
}

/// NOPERM for the command itself, or no such command; not for the one key.
pub(super) fn forbids_command(error: &ServerError) -> bool {
    (error.is_forbidden() && !error.forbids_key()) || error.is_unknown_command()
}

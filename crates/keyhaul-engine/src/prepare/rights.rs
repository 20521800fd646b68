//! Tries the commands that a job cannot do without, on a key that nobody has, before it begins.

use bytes::Bytes;
use keyhaul_client::{
    Action, Address, Asking, ClientError, ExpiryCommand, KeyRead, ScanOptions, ServerError,
    TargetConnection, Tried,
};

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

/// SCAN and DUMP on every primary; TYPE for the verification.
pub(crate) async fn check_source(
    source: &mut Probed,
    options: &CopyOptions,
) -> Result<(), PlanError> {
    check_reads(source, options).await?;
    let mut names = vec!["scan", "dump"];
    if source.site.expiry == ExpiryCommand::Relative {
        names.extend(["pttl", "time"]);
    }
    if verifies(options) {
        names.push("type");
    }
    for address in all_of_several(source) {
        check_names(source, &address, &names).await?;
    }
    Ok(())
}

/// Users are set up node by node, and a node that does not hold the key of a try answers with a redirection first.
fn all_of_several(probed: &Probed) -> Vec<Address> {
    let primaries = probed.site.primaries();
    match primaries.len() {
        0 | 1 => Vec::new(),
        _ => primaries.into_iter().map(|(_, address)| address).collect(),
    }
}

/// Tries these commands on one primary, each by itself.
async fn check_names(probed: &Probed, address: &Address, names: &[&str]) -> Result<(), PlanError> {
    let tried = async { probed.site.open(address).await?.try_reads(names).await };
    for (name, tried) in tried.await.map_err(|e| probed.error(e))? {
        let answer = match tried {
            Tried::Forbidden(error) => error.to_string(),
            Tried::Absent => "it has no such command".to_owned(),
            Tried::Permitted | Tried::KeyOutOfReach | Tried::Unknown => continue,
        };
        return Err(PlanError::Refused(format!(
            "the {} needs {}, but {address} answers: {answer}; grant +{name} to the user",
            probed.site.side,
            name.to_uppercase()
        )));
    }
    Ok(())
}

async fn check_reads(source: &mut Probed, options: &CopyOptions) -> Result<(), PlanError> {
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

/// RESTORE on every primary; TYPE for the verification.
pub(crate) async fn check_target(
    target: &mut Probed,
    options: &CopyOptions,
) -> Result<(), PlanError> {
    for (_, address) in target.site.primaries() {
        check_restore(target, address).await?;
    }
    if options.live.is_some() {
        for (_, address) in target.site.primaries() {
            check_unlink(target, address).await?;
        }
    }
    if verifies(options) {
        for address in all_of_several(target) {
            check_names(target, &address, &["type"]).await?;
        }
    }
    check_look(target, options).await
}

/// UNLINK of a key that nobody has: keys are deleted on the target as they are on the source.
async fn check_unlink(target: &Probed, address: Address) -> Result<(), PlanError> {
    let connector = target.site.routing.connector();
    let tried = async {
        let mut connection =
            TargetConnection::open(connector, &address, target.site.expiry).await?;
        connection.raw().call(&[b"UNLINK", NO_KEY]).await
    };
    match tried.await {
        Err(ClientError::Server { error, .. }) if !forbids_command(&error) => Ok(()),
        tried => demand(target, "UNLINK", "+unlink", tried.map(|_| ())),
    }
}

async fn check_restore(target: &mut Probed, address: Address) -> Result<(), PlanError> {
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
        Ok(error)
            if matches!(
                error.action(),
                Action::Wait | Action::Refresh | Action::Full
            ) =>
        {
            let address = address.to_string();
            let mut nodes = target.plan.primaries.iter_mut();
            if let Some(node) = nodes.find(|node| node.address == address) {
                node.facts.refuses_writes = Some(error);
            }
        }
        Ok(_) => {}
        Err(e) => return Err(target.error(e)),
    }
    Ok(())
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

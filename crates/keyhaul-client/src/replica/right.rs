//! Whether a user may replicate, found out without making the source fork. For the plan.

use super::handshake::{announce, major};
use crate::connection::Connection;
use crate::connector::Connector;
use crate::endpoint::Address;
use crate::error::{ClientError, ServerError};
use crate::retry::Action;

/// Whether a user may ask a server for a full resync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicationRight {
    /// Yes. It may still fail for a reason of the moment.
    Permitted,
    /// No: `NOPERM`, or the server does not know the command, as many managed ones do not.
    Refused(ServerError),
    /// It cannot be found out without beginning a resync.
    Unknown,
}

/// Finds out whether the user of this connector may replicate. Changes nothing and makes the server
/// save nothing; a refusal is noted in its ACL LOG. A node of a cluster answers as any other.
///
/// # Errors
/// Any error of dialling and login, and of a connection that breaks.
pub async fn replication_right(
    connector: &Connector,
    address: &Address,
) -> Result<ReplicationRight, ClientError> {
    let mut connection = connector.connect(address).await?;
    // What is announced belongs to this connection alone, which is closed when we are done.
    match announce(&mut connection).await {
        Err(ClientError::Server { error, .. }) => return Ok(judge(error)),
        announced => announced?,
    }
    if major(&connection.greeting).is_some_and(|major| major >= 7) {
        ask_with_bad_offset(&mut connection).await
    } else {
        ask_in_transaction(&mut connection).await
    }
}

/// From 7.0 on, an offset that is no number is refused, after the rights were looked at. Older ones
/// take it for the wish for a full resync.
async fn ask_with_bad_offset(connection: &mut Connection) -> Result<ReplicationRight, ClientError> {
    match connection.call(&[b"PSYNC", b"?", b"none"]).await {
        Err(ClientError::Server { error, .. }) => Ok(judge(error)),
        Err(e) => Err(e),
        Ok(_) => Ok(ReplicationRight::Unknown),
    }
}

/// Before 7.0 a transaction takes PSYNC, after the rights were looked at. It is never executed: it ends
/// with the connection. Needs `+multi`.
async fn ask_in_transaction(connection: &mut Connection) -> Result<ReplicationRight, ClientError> {
    match connection.call(&[b"MULTI"]).await {
        Ok(_) => {}
        Err(ClientError::Server { .. }) => return Ok(ReplicationRight::Unknown),
        Err(e) => return Err(e),
    }
    match connection.call(&[b"PSYNC", b"?", b"-1"]).await {
        Ok(reply) if reply.as_bytes().is_some_and(|b| b.as_ref() == b"QUEUED") => {
            Ok(ReplicationRight::Permitted)
        }
        Ok(_) => Ok(ReplicationRight::Unknown),
        Err(ClientError::Server { error, .. }) => Ok(judge(error)),
        Err(e) => Err(e),
    }
}

/// What the answer to a question that cannot succeed says.
fn judge(error: ServerError) -> ReplicationRight {
    // A replica without its source refuses for the moment, and only those who have the right.
    if error.code() == b"NOMASTERLINK" || error.mentions("not an integer") {
        return ReplicationRight::Permitted;
    }
    // From 7.0 on, when the server did not say its version.
    if error.mentions("inside a transaction") || error.action() != Action::GiveUp {
        return ReplicationRight::Unknown;
    }
    ReplicationRight::Refused(error)
}

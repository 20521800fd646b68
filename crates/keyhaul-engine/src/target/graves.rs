//! Makes sure that a server reads no more of a connection that we have given up.
//!
//! What was sent over a broken link may still lie in the buffers of the system, and the server may execute it when another
//! link has long written something newer. So a connection knows its number at the server, and is ended there before the
//! next one is used.

use std::collections::HashMap;
use std::time::Duration;

use keyhaul_client::{Address, ClientError, TargetConnection};

/// How long is waited where a user may neither end a connection nor see which there are: what lies in the buffers of a
/// server that works is read by then.
const BLIND_WAIT: Duration = Duration::from_secs(2);
/// Between two looks at the list of connections.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The connections to each node that may still be read there.
#[derive(Debug, Default)]
pub(crate) struct Graves(HashMap<Address, Vec<Option<i64>>>);

/// The number of a connection at its server; `None` where the user may not ask (CLIENT ID, Redis >= 5.0).
///
/// # Errors
/// Any but that refusal.
pub(crate) async fn number_of(
    connection: &mut TargetConnection,
) -> Result<Option<i64>, ClientError> {
    match connection.raw().call(&[b"CLIENT", b"ID"]).await {
        Ok(reply) => Ok(reply.as_int()),
        Err(ClientError::Server { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

impl Graves {
    /// A connection was given up.
    pub(crate) fn put(&mut self, address: &Address, number: Option<i64>) {
        self.0.entry(address.clone()).or_default().push(number);
    }

    /// Returns when the server reads none of those that were given up any more. `connection` is a new one to the same
    /// process.
    ///
    /// # Errors
    /// Those of the connection: to be called again.
    pub(crate) async fn close(
        &mut self,
        address: &Address,
        connection: &mut TargetConnection,
    ) -> Result<(), ClientError> {
        let Some(numbers) = self.0.get_mut(address) else {
            return Ok(());
        };
        while let Some(number) = numbers.last() {
            match number {
                Some(number) => end(*number, connection).await?,
                None => tokio::time::sleep(BLIND_WAIT).await,
            }
            numbers.pop();
        }
        self.0.remove(address);
        Ok(())
    }
}

/// CLIENT KILL ID (Redis >= 2.8.12): what it does not find is gone, and what it finds executes nothing more.
async fn end(number: i64, connection: &mut TargetConnection) -> Result<(), ClientError> {
    let number = number.to_string();
    let kill: [&[u8]; 4] = [b"CLIENT", b"KILL", b"ID", number.as_bytes()];
    match connection.raw().call(&kill).await {
        Ok(_) => return Ok(()),
        Err(ClientError::Server { .. }) => {}
        Err(e) => return Err(e),
    }
    // It goes by itself once the server has read it to its end.
    let is_listed = format!("id={number} ");
    let mut waited = Duration::ZERO;
    while waited < BLIND_WAIT * 15 {
        let list = match connection.raw().call(&[b"CLIENT", b"LIST"]).await {
            Ok(list) => list,
            Err(ClientError::Server { .. }) => {
                tokio::time::sleep(BLIND_WAIT).await;
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        let text =
            String::from_utf8_lossy(list.as_bytes().map_or(&[][..], |text| text)).into_owned();
        if !text.lines().any(|line| line.starts_with(&is_listed)) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
        waited += LOOK_INTERVAL;
    }
    Err(connection.raw().unexpected("CLIENT LIST"))
}

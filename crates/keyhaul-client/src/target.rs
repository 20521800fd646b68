//! A connection that may write: the target's.

use crate::connection::Connection;
use crate::connector::Connector;
use crate::endpoint::Address;
use crate::error::ClientError;
use crate::reads::{ExpiryCommand, ReadConnection};

/// A connection to a target. Everything can be sent on it.
#[derive(Debug)]
pub struct TargetConnection(ReadConnection);

impl TargetConnection {
    /// Opens a connection to write to.
    ///
    /// # Errors
    /// Any error of dialling and login.
    pub async fn open(
        connector: &Connector,
        address: &Address,
        expiry: ExpiryCommand,
    ) -> Result<Self, ClientError> {
        Ok(Self(
            ReadConnection::open(connector, address, expiry).await?,
        ))
    }

    /// See [`Connection::write_beside`].
    #[must_use]
    pub fn write_beside(mut self) -> Self {
        self.0.connection = self.0.connection.write_beside();
        self
    }

    /// The typed reads.
    pub fn reads(&mut self) -> &mut ReadConnection {
        &mut self.0
    }

    /// The connection itself.
    pub fn raw(&mut self) -> &mut Connection {
        &mut self.0.connection
    }
}

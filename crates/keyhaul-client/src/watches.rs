//! Watches several keys at once, to know whether any of them was written while they were looked at.

use bytes::Bytes;
use keyhaul_resp::{Value, encode};

use crate::error::ClientError;
use crate::reads::ReadConnection;

impl ReadConnection {
    /// Watches these keys (WATCH), beside those that are watched already. In a cluster they may lie in different
    /// slots of the node.
    ///
    /// # Errors
    /// Any; the first refusal of a key counts.
    pub async fn watch_all(&mut self, keys: &[Bytes]) -> Result<(), ClientError> {
        for key in keys {
            encode::command(self.connection.output(), &[b"WATCH", key]);
        }
        self.connection.flush().await?;
        let mut refused = None;
        for _ in keys {
            if let Value::Error(text) = self.connection.value().await? {
                refused = refused.or(Some(text));
            }
        }
        match refused {
            Some(text) => Err(self.connection.server_error(text)),
            None => Ok(()),
        }
    }

    /// Whether none of the watched keys was written since, and watches them no more. An empty transaction
    /// tells it (MULTI, EXEC). A key that expired and was found to be counts as written.
    ///
    /// # Errors
    /// Any.
    pub async fn are_untouched(&mut self) -> Result<bool, ClientError> {
        for command in [&b"MULTI"[..], b"EXEC"] {
            encode::command(self.connection.output(), &[command]);
        }
        self.connection.flush().await?;
        let (begun, ended) = (
            self.connection.value().await?,
            self.connection.value().await?,
        );
        for reply in [begun, ended.clone()] {
            if let Value::Error(text) = reply {
                return Err(self.connection.server_error(text));
            }
        }
        Ok(ended != Value::Null)
    }
}

//! Looking single elements of a large value up by name, for a comparison that found two values to differ.

use keyhaul_resp::{Value, encode};

use crate::error::ClientError;
use crate::reads::ReadConnection;
use crate::value_kind::ValueKind;

impl ReadConnection {
    /// Whether a set or sorted set has these members, or a hash these fields: SISMEMBER, ZSCORE or HEXISTS, in one
    /// pipeline.
    ///
    /// # Errors
    /// Any; the first refusal as [`ClientError::Server`].
    pub async fn contains(
        &mut self,
        kind: ValueKind,
        key: &[u8],
        names: &[&[u8]],
    ) -> Result<Vec<bool>, ClientError> {
        let command: &[u8] = match kind {
            ValueKind::Hash => b"HEXISTS",
            ValueKind::SortedSet => b"ZSCORE",
            _ => b"SISMEMBER",
        };
        let output = self.connection.output();
        for name in names {
            encode::command(output, &[command, key, name]);
        }
        self.connection.flush().await?;
        let (mut found, mut refused) = (Vec::with_capacity(names.len()), None);
        for _ in names {
            match self.connection.value().await? {
                Value::Error(text) => refused = refused.or(Some(text)),
                Value::Int(n) => found.push(n == 1),
                value => found.push(!value.is_null()),
            }
        }
        match refused {
            Some(text) => Err(self.connection.server_error(text)),
            None => Ok(found),
        }
    }

    /// Asks for the values of these fields of a hash (HMGET); the reply is read by
    /// [`ReadConnection::next_token`].
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn ask_values(&mut self, key: &[u8], fields: &[&[u8]]) -> Result<(), ClientError> {
        let output = self.connection.output();
        encode::array_header(output, fields.len().saturating_add(2));
        encode::bulk(output, b"HMGET");
        encode::bulk(output, key);
        for field in fields {
            encode::bulk(output, field);
        }
        self.connection.flush().await
    }

    /// The score of a member of a sorted set; `None`: there is no such member.
    ///
    /// # Errors
    /// Any.
    pub async fn score(&mut self, key: &[u8], member: &[u8]) -> Result<Option<f64>, ClientError> {
        let score = match self.connection.call(&[b"ZSCORE", key, member]).await? {
            Value::Null => return Ok(None),
            Value::Double(score) => Some(score),
            // RESP2: as text.
            value => value
                .as_bytes()
                .and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()),
        };
        match score {
            Some(score) => Ok(Some(score)),
            None => Err(self.connection.unexpected("ZSCORE")),
        }
    }
}

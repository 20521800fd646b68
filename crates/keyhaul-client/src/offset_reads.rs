//! Reads of which it is known what of the command stream they reflect: one transaction that ends in
//! `INFO replication` (seen exact on Redis 6.0 to 8.2 and Valkey 8.0 to 9.1, under writes).
//!
//! ```text
//! MULTI, PEXPIRETIME k, DUMP k, INFO replication, EXEC            server >= 7.0
//! MULTI, TIME, PTTL k, TIME, DUMP k, INFO replication, EXEC       older
//! ```

use std::collections::HashSet;

use bytes::Bytes;
use keyhaul_resp::{Token, Value, encode};

use crate::error::{ClientError, ServerError};
use crate::key_reads::Expiry;
use crate::reads::{ExpiryCommand, ReadConnection};

/// A place in the history of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplOffset {
    /// The history: 40 hexadecimal digits.
    pub replid: String,
    /// Where in it the server is, bytes of the command stream.
    pub offset: u64,
}

/// What a server's clock showed at a place in its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetMoment {
    /// The place.
    pub at: ReplOffset,
    /// Unix ms.
    pub time_ms: i64,
}

/// What reading one key gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyAtOffset {
    /// There was no such key.
    Gone {
        /// What it reflects.
        at: ReplOffset,
    },
    /// Payload and expiry.
    Whole {
        /// The DUMP payload with footer.
        payload: Bytes,
        /// Absolute Unix ms; `None`: does not expire.
        expire_at_ms: Option<i64>,
        /// What it reflects.
        at: ReplOffset,
    },
    /// A payload that comes in parts: call [`ReadConnection::next_part`] to the end, then
    /// [`ReadConnection::finish_large`]; [`ReadConnection::finished_at`] says what it reflects.
    Large {
        /// Length of the payload, bytes.
        payload_bytes: u64,
        /// Absolute Unix ms; `None`: does not expire.
        expire_at_ms: Option<i64>,
    },
    /// The millisecond of its expiry is not certain: read it again.
    Unsettled,
    /// The server refused; a redirection comes as this.
    Refused(ServerError),
}

impl ReplOffset {
    /// From the text of INFO replication; `None`: it does not tell.
    fn of_info(info: &[u8]) -> Option<Self> {
        let info = std::str::from_utf8(info).ok()?;
        let field = |name: &str| {
            let mut lines = info.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
        };
        Some(Self {
            replid: field("master_replid")?.to_owned(),
            offset: field("master_repl_offset")?.parse().ok()?,
        })
    }
}

impl ReadConnection {
    /// What the server's clock shows, and where in its history it is then.
    ///
    /// # Errors
    /// Any; the first refusal of one of the commands as [`ClientError::Server`].
    pub async fn offset_moment(&mut self) -> Result<OffsetMoment, ClientError> {
        let output = self.connection.output();
        encode::command(output, &[b"MULTI"]);
        encode::command(output, &[b"TIME"]);
        encode::command(output, &[b"INFO", b"replication"]);
        encode::command(output, &[b"EXEC"]);
        self.connection.flush().await?;
        let (mut refused, mut last) = (None, Value::Null);
        for _ in 0..4 {
            match self.connection.value().await? {
                Value::Error(text) => refused = refused.or(Some(text)),
                value => last = value,
            }
        }
        if let Some(text) = refused {
            return Err(self.connection.server_error(text));
        }
        let moment = last.as_list().and_then(|list| {
            let [time, info] = list else { return None };
            Some(OffsetMoment {
                at: ReplOffset::of_info(info.as_bytes()?)?,
                time_ms: time_ms(time)?,
            })
        });
        moment.ok_or_else(|| self.connection.unexpected("INFO replication"))
    }

    /// The names of all commands of the server, in capitals: COMMAND LIST (>= 7.0), or COMMAND.
    ///
    /// # Errors
    /// Any.
    pub async fn command_names(&mut self) -> Result<HashSet<Vec<u8>>, ClientError> {
        let reply = match self.connection.call(&[b"COMMAND", b"LIST"]).await {
            Err(ClientError::Server { .. }) => self.connection.call(&[b"COMMAND"]).await?,
            reply => reply?,
        };
        let name = |row: &Value| match row {
            Value::Array(row) => row
                .first()?
                .as_bytes()
                .map(|name| name.to_ascii_uppercase()),
            name => name.as_bytes().map(|name| name.to_ascii_uppercase()),
        };
        let names = reply.as_list().map(|rows| rows.iter().filter_map(name));
        match names {
            Some(names) => Ok(names.collect()),
            None => Err(self.connection.unexpected("COMMAND")),
        }
    }

    /// The keys among the arguments of a command (COMMAND GETKEYS, Redis >= 2.8.13).
    ///
    /// # Errors
    /// Any; [`ClientError::Server`] for a command that has none, or that the server does not know.
    pub async fn command_keys(&mut self, command: &[&[u8]]) -> Result<Vec<Bytes>, ClientError> {
        let args = [&[&b"COMMAND"[..], b"GETKEYS"], command].concat();
        let reply = self.connection.call(&args).await?;
        let keys = reply.as_list().map(|list| list.iter().map(Value::as_bytes));
        let keys = keys.and_then(|keys| keys.map(|key| key.cloned()).collect());
        keys.ok_or_else(|| self.connection.unexpected("COMMAND GETKEYS"))
    }

    /// Asks for these keys of the current db, a transaction each; the replies are read by
    /// [`ReadConnection::next_key_at_offset`], once per key and in order.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn ask_keys_at_offset(&mut self, keys: &[Bytes]) -> Result<(), ClientError> {
        let is_relative = self.expiry == ExpiryCommand::Relative;
        let output = self.connection.output();
        for key in keys {
            encode::command(output, &[b"MULTI"]);
            if is_relative {
                encode::command(output, &[b"TIME"]);
                encode::command(output, &[b"PTTL", key]);
                encode::command(output, &[b"TIME"]);
            } else {
                encode::command(output, &[b"PEXPIRETIME", key]);
            }
            encode::command(output, &[b"DUMP", key]);
            encode::command(output, &[b"INFO", b"replication"]);
            encode::command(output, &[b"EXEC"]);
        }
        self.connection.flush().await
    }

    /// The result for the next of the keys that were asked for.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn next_key_at_offset(&mut self) -> Result<KeyAtOffset, ClientError> {
        let in_transaction = match self.expiry {
            ExpiryCommand::Relative => 5,
            ExpiryCommand::Absolute => 3,
        };
        let mut refusal = None;
        // MULTI, and QUEUED for each.
        for _ in 0..=in_transaction {
            match self.connection.token().await? {
                Token::Simple(_) => {}
                Token::Error(text) => {
                    refusal.get_or_insert(ServerError::new(text));
                }
                _ => return Err(self.connection.unexpected("MULTI")),
            }
        }
        match self.connection.token().await? {
            Token::Array(n) if n == in_transaction => {}
            Token::Error(text) => {
                let error = refusal.unwrap_or_else(|| ServerError::new(text));
                return Ok(KeyAtOffset::Refused(error));
            }
            _ => return Err(self.connection.unexpected("EXEC")),
        }
        let expiry = self.expiry_in_transaction(&mut refusal).await?;
        let payload = match self.connection.token().await? {
            Token::Bulk(payload) => Some(payload),
            Token::Null => None,
            Token::Error(text) => {
                refusal.get_or_insert(ServerError::new(text));
                None
            }
            Token::BulkStart(payload_bytes) => {
                // Read to the end by the caller, whatever becomes of the expiry.
                self.at_offset = Some(expiry);
                let expire_at_ms = expiry.exact().flatten();
                return Ok(KeyAtOffset::Large {
                    payload_bytes,
                    expire_at_ms,
                });
            }
            _ => return Err(self.connection.unexpected("DUMP")),
        };
        let at = self.offset_in_transaction(&mut refusal).await?;
        if let Some(error) = refusal {
            return Ok(KeyAtOffset::Refused(error));
        }
        Ok(match (payload, expiry.exact()) {
            (None, _) => KeyAtOffset::Gone { at },
            (Some(payload), Some(expire_at_ms)) => KeyAtOffset::Whole {
                payload,
                expire_at_ms,
                at,
            },
            (Some(_), None) => KeyAtOffset::Unsettled,
        })
    }

    /// What the large payload reflects that was read to its end last; `None`: that is not certain, read it again.
    pub fn finished_at(&mut self) -> Option<ReplOffset> {
        self.finished_at.take()
    }

    /// Reads what follows a large payload.
    pub(crate) async fn finish_at_offset(&mut self) -> Result<Option<ReplOffset>, ClientError> {
        let Some(expiry) = self.at_offset.take() else {
            return Err(self.connection.unexpected("DUMP"));
        };
        let mut refusal = None;
        let at = self.offset_in_transaction(&mut refusal).await?;
        Ok((refusal.is_none() && expiry.exact().is_some()).then_some(at))
    }

    async fn expiry_in_transaction(
        &mut self,
        refusal: &mut Option<ServerError>,
    ) -> Result<Expiry, ClientError> {
        let mut time = async |connection: &mut Self| match connection.connection.value().await? {
            Value::Error(text) => {
                refusal.get_or_insert(ServerError::new(text));
                Ok(0)
            }
            value => time_ms(&value).ok_or_else(|| connection.connection.unexpected("TIME")),
        };
        let is_relative = self.expiry == ExpiryCommand::Relative;
        let before = if is_relative { time(self).await? } else { 0 };
        let reply = self.connection.value().await?;
        let after = if is_relative { time(self).await? } else { 0 };
        match reply {
            Value::Int(n) => Ok(Expiry::new(n, before, after)),
            Value::Error(text) => {
                refusal.get_or_insert(ServerError::new(text));
                Ok(Expiry::Gone)
            }
            _ => Err(self.connection.unexpected("PEXPIRETIME")),
        }
    }

    async fn offset_in_transaction(
        &mut self,
        refusal: &mut Option<ServerError>,
    ) -> Result<ReplOffset, ClientError> {
        match self.connection.value().await? {
            Value::Error(text) => {
                refusal.get_or_insert(ServerError::new(text));
                Ok(ReplOffset::default())
            }
            value => {
                let at = value.as_bytes().and_then(|info| ReplOffset::of_info(info));
                at.ok_or_else(|| self.connection.unexpected("INFO replication"))
            }
        }
    }
}

/// A reply to TIME, Unix ms.
fn time_ms(reply: &Value) -> Option<i64> {
    let [seconds, micros] = reply.as_list()? else {
        return None;
    };
    let number = |value: &Value| {
        std::str::from_utf8(value.as_bytes()?)
            .ok()?
            .parse::<i64>()
            .ok()
    };
    number(seconds)?
        .checked_mul(1000)?
        .checked_add(number(micros)? / 1000)
}

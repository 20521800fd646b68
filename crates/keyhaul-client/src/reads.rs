//! The typed reads of a server, the only thing that a source is ever asked.
//!
//! [`ReadConnection`] has no way to send anything else: that the source is not written is a matter
//! of types. Reading keys in bulk is in [`crate::key_reads`].

use bytes::Bytes;
use keyhaul_resp::{Value, encode};

use crate::connection::Connection;
use crate::connector::{Connector, Greeting};
use crate::endpoint::Address;
use crate::error::{ClientError, ServerError};
use crate::facts::keyspace_line;
use crate::key_reads::{Expiry, FirstReading, HalfRead};
use crate::offset_reads::ReplOffset;

/// How a server tells when a key expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiryCommand {
    /// PEXPIRETIME (>= 7.0): the absolute time.
    Absolute,
    /// PTTL between two readings of TIME.
    Relative,
}

/// A connection that can only read.
#[derive(Debug)]
pub struct ReadConnection {
    pub(crate) connection: Connection,
    pub(crate) expiry: ExpiryCommand,
    /// The key whose payload is coming in parts, if there is one.
    pub(crate) large: Option<FirstReading>,
    pub(crate) half: HalfRead,
    /// The same for a key that is read at a known offset: its expiry.
    pub(crate) at_offset: Option<Expiry>,
    pub(crate) finished_at: Option<ReplOffset>,
    /// A write to a key that was read here was told.
    pub(crate) has_noticed: bool,
    db: Option<u32>,
}

/// One page of SCAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanPage {
    /// Where to go on; 0: the end.
    pub cursor: u64,
    /// Keys; one may come twice in a whole scan.
    pub keys: Vec<Bytes>,
}

/// What the server is asked to leave out of a SCAN.
#[derive(Debug, Clone, Default)]
pub struct ScanOptions {
    /// MATCH, a glob.
    pub pattern: Option<Bytes>,
    /// TYPE (>= 6.0).
    pub key_type: Option<&'static str>,
    /// COUNT: how many keys the server looks at in one step.
    pub count: u32,
}

impl ScanOptions {
    /// The whole command.
    pub(crate) fn args<'a>(&'a self, cursor: &'a [u8], count: &'a [u8]) -> Vec<&'a [u8]> {
        let mut args: Vec<&[u8]> = vec![b"SCAN", cursor];
        if let Some(pattern) = &self.pattern {
            args.extend([&b"MATCH"[..], pattern]);
        }
        args.extend([&b"COUNT"[..], count]);
        if let Some(key_type) = self.key_type {
            args.extend([&b"TYPE"[..], key_type.as_bytes()]);
        }
        args
    }
}

impl ScanPage {
    /// `None`: SCAN does not answer so.
    pub(crate) fn of_reply(reply: &Value) -> Option<Self> {
        let [cursor, keys] = reply.as_list()? else {
            return None;
        };
        let cursor = std::str::from_utf8(cursor.as_bytes()?).ok()?;
        let keys = keys.as_list()?.iter().map(|key| key.as_bytes().cloned());
        Some(Self {
            cursor: cursor.parse().ok()?,
            keys: keys.collect::<Option<_>>()?,
        })
    }
}

/// A function library (>= 7.0).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionLibrary {
    /// Its name.
    pub name: Bytes,
    /// Its whole source, shebang line included.
    pub code: Bytes,
}

/// What the verification looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLook {
    /// The answer to TYPE: `none` when there is no such key.
    pub key_type: Bytes,
    /// Lowest and highest possible expiry, absolute Unix ms; `None`: does not expire. Equal where
    /// the server tells the absolute time.
    pub expire_at_ms: Option<(i64, i64)>,
}

impl KeyLook {
    /// Whether there is no such key.
    pub fn is_missing(&self) -> bool {
        self.key_type.as_ref() == b"none"
    }
}

impl ReadConnection {
    /// Opens a connection to read from.
    ///
    /// # Errors
    /// Any error of dialling and login.
    pub async fn open(
        connector: &Connector,
        address: &Address,
        expiry: ExpiryCommand,
    ) -> Result<Self, ClientError> {
        Ok(Self::new(connector.connect(address).await?, expiry))
    }

    /// Restricts a connection to reading.
    pub fn new(connection: Connection, expiry: ExpiryCommand) -> Self {
        Self {
            connection,
            expiry,
            large: None,
            half: HalfRead::default(),
            at_offset: None,
            finished_at: None,
            has_noticed: false,
            db: None,
        }
    }

    /// What the server said of itself.
    pub fn greeting(&self) -> &Greeting {
        &self.connection.greeting
    }

    /// The server at the other end.
    pub fn address(&self) -> &Address {
        self.connection.address()
    }

    /// Makes `db` the current one; costs nothing when it is already. A cluster has only db 0, and
    /// a new connection begins there.
    ///
    /// # Errors
    /// Any; `ERR DB index is out of range` as [`ClientError::Server`].
    pub async fn select(&mut self, db: u32) -> Result<(), ClientError> {
        if self.db.unwrap_or(0) == db {
            return Ok(());
        }
        self.connection
            .call(&[b"SELECT", db.to_string().as_bytes()])
            .await?;
        self.db = Some(db);
        Ok(())
    }

    /// The current db.
    pub fn db(&self) -> u32 {
        self.db.unwrap_or(0)
    }

    /// Notes that `db` is about to become the current one by a SELECT that the caller sends;
    /// `false`: it is already, and no SELECT is needed.
    pub fn set_db(&mut self, db: u32) -> bool {
        let changes = self.db() != db;
        self.db = Some(db);
        changes
    }

    /// One step of a SCAN over the current db.
    ///
    /// # Errors
    /// Any.
    pub async fn scan(
        &mut self,
        cursor: u64,
        options: &ScanOptions,
    ) -> Result<ScanPage, ClientError> {
        let (cursor, count) = (cursor.to_string(), options.count.to_string());
        let args = options.args(cursor.as_bytes(), count.as_bytes());
        let reply = self.connection.call(&args).await?;
        ScanPage::of_reply(&reply).ok_or_else(|| self.connection.unexpected("SCAN"))
    }

    /// How many bytes of memory each key takes there; 0 where a key is gone or elsewhere.
    ///
    /// # Errors
    /// Any; NOPERM or an unknown command where MEMORY USAGE cannot be had.
    pub async fn memory_usage(&mut self, keys: &[Bytes]) -> Result<Vec<u64>, ClientError> {
        for key in keys {
            encode::command(self.connection.output(), &[b"MEMORY", b"USAGE", key]);
        }
        self.connection.flush().await?;
        let mut sizes = Vec::with_capacity(keys.len());
        let mut refused = None;
        for _ in keys {
            match self.connection.value().await? {
                Value::Error(text) => {
                    // A key that moved away is not too large; whatever else is wrong with the
                    // command is wrong for every key. All replies must be read in any case.
                    if !is_redirection(&ServerError::new(text.clone())) {
                        refused = Some(text);
                    }
                    sizes.push(0);
                }
                value => sizes.push(
                    value
                        .as_int()
                        .and_then(|n| u64::try_from(n).ok())
                        .unwrap_or(0),
                ),
            }
        }
        match refused {
            Some(text) => Err(self.connection.server_error(text)),
            None => Ok(sizes),
        }
    }

    /// The current time of the server, Unix microseconds.
    ///
    /// # Errors
    /// Any.
    pub async fn time_us(&mut self) -> Result<i64, ClientError> {
        let reply = self.connection.call(&[b"TIME"]).await?;
        time_us(&reply).ok_or_else(|| self.connection.unexpected("TIME"))
    }

    /// INFO as text; `sections` empty: the default ones.
    ///
    /// # Errors
    /// Any.
    pub async fn info(&mut self, section: Option<&str>) -> Result<String, ClientError> {
        let mut args: Vec<&[u8]> = vec![b"INFO"];
        args.extend(section.map(str::as_bytes));
        self.text(&args, "INFO").await
    }

    /// The dbs that hold keys, as INFO tells.
    ///
    /// # Errors
    /// Any.
    pub async fn dbs_with_keys(&mut self) -> Result<Vec<u32>, ClientError> {
        let info = self.info(Some("keyspace")).await?;
        let lines = info.lines().filter_map(|line| line.split_once(':'));
        let dbs = lines.filter_map(|(name, value)| keyspace_line(name, value));
        Ok(dbs.map(|(db, _)| db).collect())
    }

    /// The value of one configuration option; `None` where the server has no such option.
    ///
    /// # Errors
    /// Any.
    pub async fn config(&mut self, option: &str) -> Result<Option<String>, ClientError> {
        let reply = self
            .connection
            .call(&[b"CONFIG", b"GET", option.as_bytes()])
            .await?;
        let value = reply
            .pairs()
            .and_then(|mut pairs| pairs.next())
            .and_then(|(_, value)| value.as_bytes().cloned());
        Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
    }

    /// How many keys the current db holds.
    ///
    /// # Errors
    /// Any.
    pub async fn db_size(&mut self) -> Result<u64, ClientError> {
        let reply = self.connection.call(&[b"DBSIZE"]).await?;
        let count = reply.as_int().and_then(|n| u64::try_from(n).ok());
        count.ok_or_else(|| self.connection.unexpected("DBSIZE"))
    }

    /// `master` or `slave`, as ROLE says.
    ///
    /// # Errors
    /// Any.
    pub async fn role(&mut self) -> Result<String, ClientError> {
        let reply = self.connection.call(&[b"ROLE"]).await?;
        let role = reply
            .as_list()
            .and_then(|list| list.first()?.as_bytes().cloned());
        let role = role.ok_or_else(|| self.connection.unexpected("ROLE"))?;
        Ok(String::from_utf8_lossy(&role).into_owned())
    }

    /// All function libraries.
    ///
    /// # Errors
    /// Any; an unknown command before 7.0.
    pub async fn functions(&mut self) -> Result<Vec<FunctionLibrary>, ClientError> {
        let reply = self
            .connection
            .call(&[b"FUNCTION", b"LIST", b"WITHCODE"])
            .await?;
        let bad = || self.connection.unexpected("FUNCTION LIST");
        let mut libraries = Vec::new();
        for library in reply.as_list().ok_or_else(bad)? {
            let field = |name: &[u8]| {
                let mut pairs = library.pairs().into_iter().flatten();
                let found = pairs.find(|(n, _)| n.as_bytes().is_some_and(|n| n == name));
                found.and_then(|(_, value)| value.as_bytes().cloned())
            };
            match (field(b"library_name"), field(b"library_code")) {
                (Some(name), Some(code)) => libraries.push(FunctionLibrary { name, code }),
                _ => return Err(bad()),
            }
        }
        Ok(libraries)
    }

    /// Whether the server tells absolute expiry times to this user; asked once per job. The answer
    /// comes with it where the command exists and is forbidden.
    ///
    /// # Errors
    /// Only those of the connection.
    pub async fn find_expiry_command(
        &mut self,
    ) -> Result<(ExpiryCommand, Option<ServerError>), ClientError> {
        let mut forbidden = None;
        let found = match self.connection.call(&[b"PEXPIRETIME", b""]).await {
            Ok(_) => ExpiryCommand::Absolute,
            Err(ClientError::Server { error, .. })
                if error.is_unknown_command() || (error.is_forbidden() && !error.forbids_key()) =>
            {
                forbidden = Some(error).filter(ServerError::is_forbidden);
                ExpiryCommand::Relative
            }
            // Redirections, and keys out of this user's reach: the command itself is there.
            Err(ClientError::Server { .. }) => ExpiryCommand::Absolute,
            Err(e) => return Err(e),
        };
        self.expiry = found;
        Ok((found, forbidden))
    }

    /// Type and expiry of each key, in one pipeline. A per-key error reply is that key's result.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn look(
        &mut self,
        keys: &[Bytes],
    ) -> Result<Vec<Result<KeyLook, ServerError>>, ClientError> {
        let relative = self.expiry == ExpiryCommand::Relative;
        let output = self.connection.output();
        for key in keys {
            encode::command(output, &[b"TYPE", key]);
            if relative {
                encode::command(output, &[b"TIME"]);
                encode::command(output, &[b"PTTL", key]);
                encode::command(output, &[b"TIME"]);
            } else {
                encode::command(output, &[b"PEXPIRETIME", key]);
            }
        }
        self.connection.flush().await?;
        let mut looks = Vec::with_capacity(keys.len());
        for _ in keys {
            looks.push(self.one_look(relative).await?);
        }
        Ok(looks)
    }

    /// As [`ReadConnection::look`] for one key that is about to move here, after an ASK reply.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn look_asking(
        &mut self,
        key: &Bytes,
    ) -> Result<Result<KeyLook, ServerError>, ClientError> {
        let is_relative = self.expiry == ExpiryCommand::Relative;
        let expiry_command: &[u8] = if is_relative { b"PTTL" } else { b"PEXPIRETIME" };
        let key_type = match self.call_asking(&[b"TYPE", key]).await? {
            Ok(key_type) => key_type,
            Err(error) => return Ok(Err(error)),
        };
        let before = if is_relative {
            self.time_us().await? / 1000
        } else {
            0
        };
        let expiry = match self.call_asking(&[expiry_command, key]).await? {
            Ok(expiry) => expiry,
            Err(error) => return Ok(Err(error)),
        };
        let after = if is_relative {
            self.time_us().await? / 1000
        } else {
            0
        };
        let bad = || self.connection.unexpected("TYPE");
        let key_type = key_type.as_bytes().cloned().ok_or_else(bad)?;
        let expiry = expiry.as_int().ok_or_else(bad)?;
        let expire_at_ms = (expiry >= 0).then_some((before + expiry, after + expiry));
        Ok(Ok(KeyLook {
            key_type,
            expire_at_ms,
        }))
    }

    async fn one_look(
        &mut self,
        relative: bool,
    ) -> Result<Result<KeyLook, ServerError>, ClientError> {
        let key_type = self.connection.value().await?;
        let before = if relative {
            Some(self.connection.value().await?)
        } else {
            None
        };
        let expiry = self.connection.value().await?;
        let after = if relative {
            Some(self.connection.value().await?)
        } else {
            None
        };
        for value in [
            Some(&key_type),
            before.as_ref(),
            Some(&expiry),
            after.as_ref(),
        ] {
            if let Some(Value::Error(text)) = value {
                return Ok(Err(ServerError::new(text.clone())));
            }
        }
        let bad = || self.connection.unexpected("TYPE");
        let key_type = key_type.as_bytes().cloned().ok_or_else(bad)?;
        let expiry = expiry.as_int().ok_or_else(bad)?;
        let base = |time: &Option<Value>| match time {
            Some(time) => time_us(time).map(|us| us / 1000).ok_or_else(bad),
            None => Ok(0),
        };
        let expire_at_ms = match expiry {
            -2 => {
                return Ok(Ok(KeyLook {
                    key_type: "none".into(),
                    expire_at_ms: None,
                }));
            }
            n if n < 0 => None,
            n => Some((
                base(&before)?.saturating_add(n),
                base(&after)?.saturating_add(n),
            )),
        };
        Ok(Ok(KeyLook {
            key_type,
            expire_at_ms,
        }))
    }

    /// One command after ASKING; a refusal of either is a result.
    async fn call_asking(
        &mut self,
        args: &[&[u8]],
    ) -> Result<Result<Value, ServerError>, ClientError> {
        for args in [&[&b"ASKING"[..]][..], args] {
            match self.connection.call(args).await {
                Ok(reply) if args.len() > 1 => return Ok(Ok(reply)),
                Ok(_) => {}
                Err(ClientError::Server { error, .. }) => return Ok(Err(error)),
                Err(e) => return Err(e),
            }
        }
        Err(self.connection.unexpected("ASKING"))
    }

    /// Whether each key exists.
    ///
    /// # Errors
    /// Any; a refusal of one key is the refusal of all.
    pub async fn exist(&mut self, keys: &[Bytes]) -> Result<Vec<bool>, ClientError> {
        for key in keys {
            encode::command(self.connection.output(), &[b"EXISTS", key]);
        }
        self.connection.flush().await?;
        let mut found = Vec::with_capacity(keys.len());
        let mut refused = None;
        for _ in keys {
            match self.connection.value().await? {
                Value::Error(text) => refused = Some(text),
                value => found.push(value.as_int() == Some(1)),
            }
        }
        match refused {
            Some(text) => Err(self.connection.server_error(text)),
            None => Ok(found),
        }
    }

    async fn text(&mut self, args: &[&[u8]], command: &'static str) -> Result<String, ClientError> {
        let reply = self.connection.call(args).await?;
        let text = reply
            .as_bytes()
            .ok_or_else(|| self.connection.unexpected(command))?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }
}

fn is_redirection(error: &ServerError) -> bool {
    matches!(error.code(), b"MOVED" | b"ASK" | b"TRYAGAIN")
}

/// The reply to TIME as Unix microseconds.
pub(crate) fn time_us(reply: &Value) -> Option<i64> {
    let [seconds, micros] = reply.as_list()? else {
        return None;
    };
    seconds
        .as_int()?
        .checked_mul(1_000_000)?
        .checked_add(micros.as_int()?)
}

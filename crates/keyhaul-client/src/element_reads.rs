//! Reading one large value by element.
//!
//! Pages are asked for by typed commands, so that the next one can be under way while the last one is taken
//! in; their replies come token by token, and an element of any length in parts. That all pages are of one
//! state of the value is known by WATCH: a transaction on the same connection fails if the key was written
//! since, also by expiry, FLUSHALL, or a primary that this server follows (Redis >= 2.2).

use bytes::{Bytes, BytesMut};
use keyhaul_resp::{Token, Value, encode};

use crate::error::{ClientError, ServerError};
use crate::reads::{ExpiryCommand, ReadConnection, time_us};
use crate::value_kind::ValueKind;

/// When a key expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyExpiry {
    /// There is no such key.
    Gone,
    /// It does not expire.
    Never,
    /// Absolute Unix ms.
    At(i64),
}

/// The part of a value that is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Page<'a> {
    /// HSCAN, SSCAN: a cursor (0: from the start), and about how many elements.
    Scan {
        /// Hash or set.
        kind: ValueKind,
        /// Where to go on.
        cursor: u64,
        /// COUNT.
        count: u64,
    },
    /// ZRANGE with scores: from the rank `first` on, in the order of scores.
    Ranks {
        /// The first rank.
        first: u64,
        /// How many.
        count: u64,
    },
    /// LRANGE: from the index `first` on.
    Items {
        /// The first index.
        first: u64,
        /// How many.
        count: u64,
    },
    /// GETRANGE: from the byte `first` on.
    Bytes {
        /// The first byte.
        first: u64,
        /// How many.
        count: u64,
    },
    /// XRANGE: from this id on, itself included.
    Entries {
        /// The lowest id.
        first: &'a [u8],
        /// The highest id.
        last: &'a [u8],
        /// How many.
        count: u64,
    },
    /// XPENDING of a group, from the id `first` on, itself included.
    Pending {
        /// The group.
        group: &'a [u8],
        /// The lowest id.
        first: &'a [u8],
        /// The highest id.
        last: &'a [u8],
        /// How many.
        count: u64,
    },
}

/// What is known of a stream beside its entries.
#[derive(Debug, Clone, Copy)]
pub enum StreamInfo<'a> {
    /// XINFO STREAM.
    Stream,
    /// XINFO STREAM FULL COUNT 1 (Redis >= 6.0): tells the absolute time of each group's first delivery.
    Full,
    /// XINFO GROUPS.
    Groups,
    /// XINFO CONSUMERS.
    Consumers(&'a [u8]),
    /// XPENDING of this group without a range: how many are pending, and of whom.
    Pending(&'a [u8]),
}

/// What is asked for of a stream at one moment.
#[derive(Debug, Clone, Copy)]
pub struct MomentAsk<'a> {
    /// The id from which on entries are wanted.
    pub first: &'a [u8],
    /// How many entries at most.
    pub entries_max: u64,
    /// Its groups.
    pub groups: &'a [Bytes],
    /// How many rows of what is pending at most, of each group.
    pub rows_max: u64,
}

/// A stream at one moment; replies as they came.
#[derive(Debug)]
pub struct StreamMoment {
    /// XINFO STREAM.
    pub info: Value,
    /// XRANGE from the id on.
    pub entries: Value,
    /// XRANGE of the first entry.
    pub first: Value,
    /// XLEN.
    pub length: u64,
    /// `None`: not known to the millisecond.
    pub expiry: Option<KeyExpiry>,
    /// XINFO GROUPS.
    pub groups: Value,
    /// XINFO STREAM FULL COUNT 1; null where no groups were asked for.
    pub full: Value,
    /// XINFO CONSUMERS and XPENDING of each group.
    pub of_groups: Vec<(Value, Value)>,
}

/// What holds other values.
#[derive(Debug, Clone, Copy)]
enum Aggregate {
    List,
    Map,
}

impl Aggregate {
    fn of(self, values: Vec<Value>) -> Value {
        match self {
            Self::List => Value::Array(values),
            Self::Map => {
                let mut values = values.into_iter();
                let mut pairs = Vec::new();
                while let (Some(name), Some(value)) = (values.next(), values.next()) {
                    pairs.push((name, value));
                }
                Value::Map(pairs)
            }
        }
    }
}

/// Puts a value where it belongs, and all that are complete with it; the outermost one when it is complete.
fn close(open: &mut Vec<(Aggregate, u64, Vec<Value>)>, value: Value) -> Option<Value> {
    let mut value = value;
    while let Some((aggregate, missing, values)) = open.last_mut() {
        values.push(value);
        *missing -= 1;
        if *missing > 0 {
            return None;
        }
        value = aggregate.of(std::mem::take(values));
        open.pop();
    }
    Some(value)
}

impl ReadConnection {
    /// Begins to watch the key, forgetting what was watched before, and tells its type: `none` when there
    /// is no such key.
    ///
    /// # Errors
    /// Any.
    pub async fn watch(&mut self, key: &[u8]) -> Result<Bytes, ClientError> {
        let output = self.connection.output();
        encode::command(output, &[b"UNWATCH"]);
        encode::command(output, &[b"WATCH", key]);
        encode::command(output, &[b"TYPE", key]);
        self.connection.flush().await?;
        let mut refused = None;
        let mut last = Value::Null;
        for _ in 0..3 {
            match self.connection.value().await? {
                Value::Error(text) => refused = refused.or(Some(text)),
                value => last = value,
            }
        }
        if let Some(text) = refused {
            return Err(self.connection.server_error(text));
        }
        let name = last.as_bytes().cloned();
        name.ok_or_else(|| self.connection.unexpected("TYPE"))
    }

    /// Asks the server to tell when what is read over this connection is written (CLIENT TRACKING, Redis >= 6.0,
    /// with RESP3). A server that does not is no error: WATCH tells it too, at the end.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn notice_writes(&mut self) -> Result<(), ClientError> {
        if !self.greeting().resp3 {
            return Ok(());
        }
        match self.connection.call(&[b"CLIENT", b"TRACKING", b"ON"]).await {
            Ok(_) | Err(ClientError::Server { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Whether the server told of a write since the last time, as far as [`ReadConnection::next_token`] came by
    /// it: to a key of a name that was read here, in any db. It may also have forgotten what it tracks.
    pub fn take_notice(&mut self) -> bool {
        std::mem::take(&mut self.has_noticed)
    }

    /// Passes over a message that is no reply and has so many elements.
    async fn pass_push(&mut self, elements: u64) -> Result<(), ClientError> {
        let mut left = elements;
        while left > 0 {
            left -= 1;
            match self.connection.token().await? {
                Token::Array(more) | Token::Set(more) => left = left.saturating_add(more),
                Token::Map(pairs) => left = left.saturating_add(pairs.saturating_mul(2)),
                Token::BulkStart(_) => while self.connection.token().await? != Token::BulkEnd {},
                _ => {}
            }
        }
        self.has_noticed = true;
        Ok(())
    }

    /// Stops watching.
    ///
    /// # Errors
    /// Any.
    pub async fn unwatch(&mut self) -> Result<(), ClientError> {
        self.connection.call(&[b"UNWATCH"]).await.map(|_| ())
    }

    /// Ends watching: the length of the value if it was not written since [`ReadConnection::watch`].
    ///
    /// # Errors
    /// Any.
    pub async fn unchanged_length(
        &mut self,
        kind: ValueKind,
        key: &[u8],
    ) -> Result<Option<u64>, ClientError> {
        let output = self.connection.output();
        encode::command(output, &[b"MULTI"]);
        encode::command(output, &[kind.length_command(), key]);
        encode::command(output, &[b"EXEC"]);
        self.connection.flush().await?;
        let mut refused = None;
        let mut last = Value::Null;
        for _ in 0..3 {
            match self.connection.value().await? {
                Value::Error(text) => refused = refused.or(Some(text)),
                value => last = value,
            }
        }
        if let Some(text) = refused {
            return Err(self.connection.server_error(text));
        }
        match last {
            Value::Null => Ok(None),
            reply => match reply.as_list() {
                // The key may be of another type by now, if it was there at all.
                Some([Value::Error(_)]) => Ok(None),
                Some([length]) => Ok(length.as_int().and_then(|n| u64::try_from(n).ok())),
                _ => Err(self.connection.unexpected("EXEC")),
            },
        }
    }

    /// The length of a value; 0 where there is none.
    ///
    /// # Errors
    /// Any.
    pub async fn length(&mut self, kind: ValueKind, key: &[u8]) -> Result<u64, ClientError> {
        let reply = self.connection.call(&[kind.length_command(), key]).await?;
        let length = reply.as_int().and_then(|n| u64::try_from(n).ok());
        length.ok_or_else(|| self.connection.unexpected("the length of a value"))
    }

    /// When the key expires, exact to the millisecond.
    ///
    /// # Errors
    /// Any.
    pub async fn key_expiry(&mut self, key: &[u8]) -> Result<KeyExpiry, ClientError> {
        let of = |base_ms: i64, reply: i64| match reply {
            -2 => KeyExpiry::Gone,
            n if n < 0 => KeyExpiry::Never,
            n => KeyExpiry::At(base_ms.saturating_add(n)),
        };
        if self.expiry == ExpiryCommand::Absolute {
            let reply = self.connection.call(&[b"PEXPIRETIME", key]).await?;
            let at = reply.as_int();
            return match at {
                Some(at) => Ok(of(0, at)),
                None => Err(self.connection.unexpected("PEXPIRETIME")),
            };
        }
        // A relative time is exact where the server's clock stood still around it.
        loop {
            let output = self.connection.output();
            encode::command(output, &[b"TIME"]);
            encode::command(output, &[b"PTTL", key]);
            encode::command(output, &[b"TIME"]);
            self.connection.flush().await?;
            let before = self.connection.value().await?;
            let ttl = self.connection.value().await?;
            let after = self.connection.value().await?;
            for reply in [&before, &ttl, &after] {
                if let Value::Error(text) = reply {
                    return Err(self.connection.server_error(text.clone()));
                }
            }
            let ms = |reply: &Value| time_us(reply).map(|us| us / 1000);
            let (Some(before), Some(ttl), Some(after)) = (ms(&before), ttl.as_int(), ms(&after))
            else {
                return Err(self.connection.unexpected("TIME and PTTL"));
            };
            if ttl < 0 || before == after {
                return Ok(of(before, ttl));
            }
        }
    }

    /// Asks for a page; its reply is read by [`ReadConnection::next_token`].
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn ask_page(&mut self, key: &[u8], page: Page<'_>) -> Result<(), ClientError> {
        let (mut one, mut two) = (itoa::Buffer::new(), itoa::Buffer::new());
        let output = self.connection.output();
        let last_of = |first: u64, count: u64| first.saturating_add(count).saturating_sub(1);
        match page {
            Page::Scan {
                kind,
                cursor,
                count,
            } => {
                let command: &[u8] = match kind {
                    ValueKind::Hash => b"HSCAN",
                    ValueKind::SortedSet => b"ZSCAN",
                    _ => b"SSCAN",
                };
                let (cursor, count) = (one.format(cursor), two.format(count));
                let args = [command, key, cursor.as_bytes(), b"COUNT", count.as_bytes()];
                encode::command(output, &args);
            }
            Page::Ranks { first, count } => {
                let (from, to) = (one.format(first), two.format(last_of(first, count)));
                let (from, to) = (from.as_bytes(), to.as_bytes());
                encode::command(output, &[b"ZRANGE", key, from, to, b"WITHSCORES"]);
            }
            Page::Items { first, count } => {
                let (from, to) = (one.format(first), two.format(last_of(first, count)));
                encode::command(output, &[b"LRANGE", key, from.as_bytes(), to.as_bytes()]);
            }
            Page::Bytes { first, count } => {
                let (from, to) = (one.format(first), two.format(last_of(first, count)));
                encode::command(output, &[b"GETRANGE", key, from.as_bytes(), to.as_bytes()]);
            }
            Page::Entries { first, last, count } => {
                let count = one.format(count).as_bytes();
                encode::command(output, &[b"XRANGE", key, first, last, b"COUNT", count]);
            }
            Page::Pending {
                group,
                first,
                last,
                count,
            } => {
                let count = one.format(count).as_bytes();
                encode::command(output, &[b"XPENDING", key, group, first, last, count]);
            }
        }
        self.connection.flush().await
    }

    /// Asks when these fields of a hash expire (HPEXPIRETIME, Redis >= 7.4, Valkey >= 9.0). `fields` are so
    /// many bulk strings.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn ask_field_expiries(
        &mut self,
        key: &[u8],
        fields: &BytesMut,
        count: usize,
    ) -> Result<(), ClientError> {
        let output = self.connection.output();
        encode::array_header(output, count.saturating_add(4));
        for arg in [&b"HPEXPIRETIME"[..], key, b"FIELDS"] {
            encode::bulk(output, arg);
        }
        encode::bulk(output, itoa::Buffer::new().format(count).as_bytes());
        output.extend_from_slice(fields);
        self.connection.flush().await
    }

    /// What a stream is beside its entries.
    ///
    /// # Errors
    /// Any.
    pub async fn stream_info(
        &mut self,
        key: &[u8],
        info: StreamInfo<'_>,
    ) -> Result<Value, ClientError> {
        let output = self.connection.output();
        match info {
            StreamInfo::Stream => encode::command(output, &[b"XINFO", b"STREAM", key]),
            StreamInfo::Full => {
                let args: [&[u8]; 6] = [b"XINFO", b"STREAM", key, b"FULL", b"COUNT", b"1"];
                encode::command(output, &args);
            }
            StreamInfo::Groups => encode::command(output, &[b"XINFO", b"GROUPS", key]),
            StreamInfo::Consumers(group) => {
                encode::command(output, &[b"XINFO", b"CONSUMERS", key, group]);
            }
            StreamInfo::Pending(group) => encode::command(output, &[b"XPENDING", key, group]),
        }
        self.connection.flush().await?;
        // It tells the first and the last entry too, however long they are.
        match self.short_value().await? {
            Value::Error(text) => Err(self.connection.server_error(text)),
            value => Ok(value),
        }
    }

    /// What a stream is beside its older entries, all of one moment: one transaction.
    ///
    /// # Errors
    /// Any; the first refusal of one of its commands as [`ClientError::Server`].
    pub async fn stream_moment(
        &mut self,
        key: &[u8],
        ask: MomentAsk<'_>,
    ) -> Result<StreamMoment, ClientError> {
        let is_relative = self.expiry == ExpiryCommand::Relative;
        let entries = ask.entries_max.to_string();
        let rows = ask.rows_max.to_string();
        let output = self.connection.output();
        // What was watched before does not matter here.
        encode::command(output, &[b"UNWATCH"]);
        encode::command(output, &[b"MULTI"]);
        encode::command(output, &[b"XINFO", b"STREAM", key]);
        encode::command(
            output,
            &[
                b"XRANGE",
                key,
                ask.first,
                b"+",
                b"COUNT",
                entries.as_bytes(),
            ],
        );
        encode::command(output, &[b"XRANGE", key, b"-", b"+", b"COUNT", b"1"]);
        encode::command(output, &[b"XLEN", key]);
        let expiry: [&[u8]; 3] = match is_relative {
            true => [b"TIME", b"PTTL", b"TIME"],
            false => [b"TIME", b"PEXPIRETIME", b"TIME"],
        };
        encode::command(output, &[expiry[0]]);
        encode::command(output, &[expiry[1], key]);
        encode::command(output, &[expiry[2]]);
        encode::command(output, &[b"XINFO", b"GROUPS", key]);
        let mut count = 8;
        if !ask.groups.is_empty() {
            let full: [&[u8]; 6] = [b"XINFO", b"STREAM", key, b"FULL", b"COUNT", b"1"];
            encode::command(output, &full);
            count += 1;
        }
        for group in ask.groups {
            encode::command(output, &[b"XINFO", b"CONSUMERS", key, group]);
            encode::command(
                output,
                &[b"XPENDING", key, group, b"-", b"+", rows.as_bytes()],
            );
            count += 2;
        }
        encode::command(output, &[b"EXEC"]);
        self.connection.flush().await?;
        let (mut refused, mut last) = (None, Value::Null);
        for _ in 0..count + 3 {
            match self.short_value().await? {
                Value::Error(text) => refused = refused.or(Some(text)),
                value => last = value,
            }
        }
        let mut replies = last.into_list().unwrap_or_default().into_iter();
        if refused.is_none() {
            refused = replies.as_slice().iter().find_map(|reply| match reply {
                Value::Error(text) => Some(text.clone()),
                _ => None,
            });
        }
        if let Some(text) = refused {
            return Err(self.connection.server_error(text));
        }
        if replies.len() != count {
            return Err(self.connection.unexpected("EXEC"));
        }
        let mut next = || replies.next().unwrap_or(Value::Null);
        let (info, entries, first, length) = (next(), next(), next(), next());
        let (before, expiry, after) = (next(), next(), next());
        let groups = next();
        let full = match ask.groups.is_empty() {
            true => Value::Null,
            false => next(),
        };
        let of_groups = ask.groups.iter().map(|_| (next(), next())).collect();
        let ms = |reply: &Value| time_us(reply).map(|us| us / 1000);
        let (Some(before), Some(expiry), Some(after), Some(length)) =
            (ms(&before), expiry.as_int(), ms(&after), length.as_int())
        else {
            return Err(self.connection.unexpected("TIME, PTTL and XLEN"));
        };
        let expiry = match expiry {
            -2 => Some(KeyExpiry::Gone),
            n if n < 0 => Some(KeyExpiry::Never),
            at if !is_relative => Some(KeyExpiry::At(at)),
            left => (before == after).then(|| KeyExpiry::At(before.saturating_add(left))),
        };
        Ok(StreamMoment {
            info,
            entries,
            first,
            length: u64::try_from(length).unwrap_or(0),
            expiry,
            groups,
            full,
            of_groups,
        })
    }

    /// The next token of the replies; an error reply is an error.
    ///
    /// # Errors
    /// Any.
    pub async fn next_token(&mut self) -> Result<Token, ClientError> {
        loop {
            match self.connection.buffered_token()? {
                Some(Token::Error(text)) => return Err(self.connection.server_error(text)),
                Some(Token::Push(elements)) => self.pass_push(elements).await?,
                Some(token) => return Ok(token),
                None => self.connection.fill().await?,
            }
        }
    }

    /// The next whole reply, in which bulk strings above [`crate::WHOLE_BULK_MAX`] are null: what they hold is not
    /// taken in.
    async fn short_value(&mut self) -> Result<Value, ClientError> {
        /// Deeper replies have no commands.
        const DEPTH_MAX: usize = 16;
        // Aggregates that are not complete: what they are, how many elements are missing, and those there are.
        let mut open: Vec<(Aggregate, u64, Vec<Value>)> = Vec::new();
        loop {
            let (aggregate, count) = match self.connection.token().await? {
                Token::Array(count) | Token::Set(count) => (Aggregate::List, count),
                Token::Map(pairs) => (Aggregate::Map, pairs.saturating_mul(2)),
                Token::Push(elements) => {
                    self.pass_push(elements).await?;
                    continue;
                }
                token => {
                    let value = match token {
                        Token::Simple(text) => Value::Simple(text),
                        Token::Error(text) => Value::Error(text),
                        Token::Int(n) => Value::Int(n),
                        Token::Bulk(bytes) => Value::Bulk(bytes),
                        Token::BulkStart(_) => {
                            while self.connection.token().await? != Token::BulkEnd {}
                            Value::Null
                        }
                        _ => Value::Null,
                    };
                    match close(&mut open, value) {
                        Some(whole) => return Ok(whole),
                        None => continue,
                    }
                }
            };
            if open.len() >= DEPTH_MAX {
                return Err(self.connection.unexpected("a nested reply"));
            }
            if count == 0 {
                if let Some(whole) = close(&mut open, aggregate.of(Vec::new())) {
                    return Ok(whole);
                }
            } else {
                open.push((aggregate, count, Vec::new()));
            }
        }
    }

    /// The next whole reply; an error reply is an error.
    ///
    /// # Errors
    /// Any.
    pub async fn next_reply(&mut self) -> Result<Value, ClientError> {
        self.connection.reply().await
    }

    /// The server answered with something else than what this command answers.
    pub fn unexpected(&self, command: &'static str) -> ClientError {
        self.connection.unexpected(command)
    }

    /// An error of this server, made from its text.
    pub fn refusal(&self, error: ServerError) -> ClientError {
        ClientError::Server {
            address: self.address().clone(),
            error,
        }
    }
}

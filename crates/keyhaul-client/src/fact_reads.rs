//! Reading facts about keys in bulk, for statistics: pages of SCAN, and what the server says of their keys.
//!
//! Questions are appended one after the other and sent together; answers are read in the same order. So a page can be
//! asked for while the server still works on the keys of the one before:
//!
//! ```text
//!   SCAN 17 | facts of the keys of the page before | SCAN 23 | facts of the keys of page 17 | ...
//! ```

use bytes::{Bytes, BytesMut};
use keyhaul_resp::{Token, Value, encode};

use crate::error::{ClientError, ServerError};
use crate::key_reads::Asking;
use crate::reads::{ExpiryCommand, ReadConnection, ScanOptions, ScanPage};
use crate::retry::Action;
use crate::value_kind::ValueKind;

/// What is asked of each key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FactsAsked {
    /// MEMORY USAGE looks at so many elements of a value, 0 at all; `None`: as the server has it (5).
    pub samples: Option<u32>,
    /// TYPE.
    pub key_type: bool,
    /// OBJECT ENCODING.
    pub encoding: bool,
    /// PEXPIRETIME, or TIME once and PTTL.
    pub expiry: bool,
}

/// What a server said of one key. What was not asked for is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyAnswers {
    /// Bytes of memory; `None`: the key is gone.
    pub memory_bytes: Option<u64>,
    /// As TYPE names it; `none` when the key went meanwhile.
    pub key_type: Option<Bytes>,
    /// As OBJECT ENCODING names it.
    pub encoding: Option<Bytes>,
    /// Absolute Unix ms, before Redis 7.0 some ms too early; `None`: it does not expire.
    pub expire_at_ms: Option<i64>,
}

impl ReadConnection {
    /// Makes reading leave the server's records of use (LRU, LFU) as they are, where the server can do that
    /// (CLIENT NO-TOUCH, Redis 7.2 and Valkey). `false`: it cannot, or the right is missing.
    ///
    /// # Errors
    /// Those of the connection, and what the server answers while it cannot serve; a refusal is none.
    pub async fn leave_untouched(&mut self) -> Result<bool, ClientError> {
        match self.connection.call(&[b"CLIENT", b"NO-TOUCH", b"ON"]).await {
            Ok(_) => Ok(true),
            Err(ClientError::Server { error, .. }) if error.action() == Action::GiveUp => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Makes a replica of a cluster answer for the slots of its primary (READONLY).
    ///
    /// # Errors
    /// Any.
    pub async fn read_from_replica(&mut self) -> Result<(), ClientError> {
        self.connection.call(&[b"READONLY"]).await.map(drop)
    }

    /// Asks for a page of SCAN.
    pub fn ask_scan(&mut self, cursor: u64, options: &ScanOptions) {
        let (cursor, count) = (cursor.to_string(), options.count.to_string());
        let args = options.args(cursor.as_bytes(), count.as_bytes());
        encode::command(self.connection.output(), &args);
    }

    /// Asks for facts about these keys.
    pub fn ask_facts(&mut self, keys: &[Bytes], asked: FactsAsked, asking: Asking) {
        const MEMORY_USAGE: &[u8] = b"\r\n$6\r\nMEMORY\r\n$5\r\nUSAGE\r\n";
        let expiry_command: &[u8] = match self.expiry {
            ExpiryCommand::Absolute => b"PEXPIRETIME",
            ExpiryCommand::Relative => b"PTTL",
        };
        let asks_time = asked.expiry && self.expiry == ExpiryCommand::Relative;
        let output = self.connection.output();
        if asks_time {
            encode::command(output, &[b"TIME"]);
        }
        let lead = |output: &mut BytesMut| {
            if asking == Asking::Yes {
                encode::command(output, &[b"ASKING"]);
            }
        };
        for key in keys {
            lead(output);
            match asked.samples {
                None => output.extend_from_slice(b"*3"),
                Some(_) => output.extend_from_slice(b"*5"),
            }
            output.extend_from_slice(MEMORY_USAGE);
            encode::bulk(output, key);
            if let Some(samples) = asked.samples {
                encode::bulk(output, b"SAMPLES");
                encode::bulk_int(output, i64::from(samples));
            }
            if asked.key_type {
                lead(output);
                encode::command(output, &[b"TYPE", key]);
            }
            if asked.encoding {
                lead(output);
                encode::command(output, &[b"OBJECT", b"ENCODING", key]);
            }
            if asked.expiry {
                lead(output);
                encode::command(output, &[expiry_command, key]);
            }
        }
    }

    /// Asks how many elements each of these values has, or bytes a string.
    pub fn ask_lengths<'a>(&mut self, values: impl Iterator<Item = (&'a Bytes, ValueKind)>) {
        let output = self.connection.output();
        for (key, kind) in values {
            encode::command(output, &[kind.length_command(), key]);
        }
    }

    /// Sends what was asked.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn send_asked(&mut self) -> Result<(), ClientError> {
        self.connection.flush().await
    }

    /// The page that was asked for.
    ///
    /// # Errors
    /// Any.
    pub async fn next_scan(&mut self) -> Result<ScanPage, ClientError> {
        let reply = self.connection.reply().await?;
        ScanPage::of_reply(&reply).ok_or_else(|| self.connection.unexpected("SCAN"))
    }

    /// The facts about so many keys; of a key about which the server refused anything, its first refusal.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn next_facts(
        &mut self,
        keys: usize,
        asked: FactsAsked,
        asking: Asking,
    ) -> Result<Vec<Result<KeyAnswers, ServerError>>, ClientError> {
        let mut time = Ok(0);
        if asked.expiry && self.expiry == ExpiryCommand::Relative {
            time = match self.connection.value().await? {
                Value::Error(text) => Err(ServerError::new(text)),
                reply => Ok(crate::reads::time_us(&reply)
                    .ok_or_else(|| self.connection.unexpected("TIME"))?
                    / 1000),
            };
        }
        let mut facts = Vec::with_capacity(keys);
        for _ in 0..keys {
            facts.push(self.facts_of_one(asked, asking, &time).await?);
        }
        Ok(facts)
    }

    async fn facts_of_one(
        &mut self,
        asked: FactsAsked,
        asking: Asking,
        time: &Result<i64, ServerError>,
    ) -> Result<Result<KeyAnswers, ServerError>, ClientError> {
        let mut answers = KeyAnswers::default();
        let mut refusals = Vec::new();
        match self.answer(asking, &mut refusals).await? {
            Token::Int(bytes) => answers.memory_bytes = u64::try_from(bytes).ok(),
            Token::Null => {}
            Token::Error(text) => refusals.push(ServerError::new(text)),
            _ => return Err(self.connection.unexpected("MEMORY USAGE")),
        }
        if asked.key_type {
            match self.answer(asking, &mut refusals).await? {
                Token::Simple(name) | Token::Bulk(name) => answers.key_type = Some(name),
                Token::Error(text) => refusals.push(ServerError::new(text)),
                _ => return Err(self.connection.unexpected("TYPE")),
            }
        }
        if asked.encoding {
            match self.answer(asking, &mut refusals).await? {
                Token::Simple(name) | Token::Bulk(name) => answers.encoding = Some(name),
                Token::Null => {}
                Token::Error(text) => {
                    let error = ServerError::new(text);
                    // Before Redis 7.0, of a key that is gone.
                    if !error.mentions("no such key") {
                        refusals.push(error);
                    }
                }
                _ => return Err(self.connection.unexpected("OBJECT ENCODING")),
            }
        }
        if asked.expiry {
            match (self.answer(asking, &mut refusals).await?, time) {
                (Token::Int(left), _) if left < 0 => {}
                (Token::Int(left), Ok(time_ms)) => {
                    answers.expire_at_ms = Some(time_ms.saturating_add(left));
                }
                (Token::Int(_), Err(error)) => refusals.push(error.clone()),
                (Token::Error(text), _) => refusals.push(ServerError::new(text)),
                _ => return Err(self.connection.unexpected("PEXPIRETIME")),
            }
        }
        Ok(match refusals.into_iter().next() {
            None => Ok(answers),
            Some(error) => Err(error),
        })
    }

    /// The answer to one command, behind that to ASKING where it was sent.
    async fn answer(
        &mut self,
        asking: Asking,
        refusals: &mut Vec<ServerError>,
    ) -> Result<Token, ClientError> {
        if asking == Asking::Yes
            && let Token::Error(text) = self.connection.token().await?
        {
            refusals.push(ServerError::new(text));
        }
        self.connection.token().await
    }

    /// The next of the lengths that were asked for.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn next_length(&mut self) -> Result<Result<u64, ServerError>, ClientError> {
        match self.connection.token().await? {
            Token::Int(length) => Ok(Ok(u64::try_from(length).unwrap_or(0))),
            Token::Error(text) => Ok(Err(ServerError::new(text))),
            _ => Err(self.connection.unexpected("STRLEN")),
        }
    }
}

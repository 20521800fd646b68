//! The replication link: asks a source for a full or partial resync, as a replica does, and takes in the
//! RDB and the stream of commands behind it.
//!
//! What we tell the source, and what we do not:
//!
//! - `capa eof capa psync2`: we take an RDB of unknown length, and know that a replid may change.
//!   Nothing that we do not do: no dual channel, no compression.
//! - No address, and an impossible port. Without a port a source lists us as `host:0`, and a Sentinel
//!   that watches it keeps that as a replica that is down, also after we are gone; of -1 it takes no
//!   note, so that nothing can promote us (seen with Redis 6.0 to 8.2, Valkey 9.1).
//! - The version of the RDB that we read, to a Valkey that would not send all without: see `VERSION` in `handshake.rs`.
//! - What we have applied only once [`ReplicaLink::ack`] was called: until then, a source that sent its RDB
//!   without a file sends nothing behind it.
//!
//! An offset is that of a byte in the history of the source, and `master_repl_offset` that of the last byte
//! written: behind `+FULLRESYNC <replid> <n>` comes byte n + 1, and who has all up to n asks by
//! `PSYNC <replid> <n + 1>`. Newlines are signs of life in front of the RDB and count nothing; between the
//! RDB and the stream there are none, and every byte from there on counts.
//!
//! Once the source has sent all, it takes us for a replica as any other: one more for
//! `min-replicas-to-write`, and one whose ACK a `CLUSTER SETSLOT` of Valkey waits for. So who only
//! wants the RDB drops the link at its end.
//!
//! A source drops a replica (`repl-timeout`, 60 s, on it) that takes nothing of a diskless RDB for that
//! long, however slowly it reads otherwise; a transfer from a file may stall as long as it likes. In
//! both cases writes that come meanwhile fill the source's buffer for us, and
//! `client-output-buffer-limit replica` ends the link. Once the source has handed the last byte to its
//! system, it drops who says nothing for `repl-timeout`: a single newline is enough, and is what a
//! replica sends while it loads (the timeouts were seen with Redis 6.0, 7.0 and Valkey 9.1).
//!
//! Dropping a [`ReplicaLink`] closes the socket; the source then kills the child that saves for us.

mod extent;
mod handshake;
mod right;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use keyhaul_resp::encode;
use tokio::time::{Instant, timeout_at};

use crate::connection::Connection;
use crate::connector::Connector;
use crate::endpoint::Address;
use crate::error::ClientError;
use extent::Extent;
use handshake::{Answer, announce, line};

pub use right::{ReplicationRight, replication_right};

/// How long a source may send nothing at all. It sends newlines each second while it saves; but a
/// diskless one feeds all its replicas at the pace of the slowest, and waits for one that is stuck
/// until `repl-timeout`, 60 s. So this is longer.
pub const SOURCE_SILENCE_MAX: Duration = Duration::from_secs(90);

/// How often a source hears of us while we wait for it.
const SIGN_OF_LIFE_INTERVAL: Duration = Duration::from_secs(1);

/// A replication link: what a replica sees of its source.
///
/// The user needs `+psync +replconf` and no keys and no channels.
#[derive(Debug)]
pub struct ReplicaLink {
    connection: Connection,
    extent: Extent,
    rdb_bytes: Option<u64>,
    /// What is acknowledged; `None`: nothing yet.
    applied: Option<Arc<AtomicU64>>,
    sign_of_life_at: Instant,
    heard_at: Instant,
}

/// Where a full resync stands in the history of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullResync {
    /// The history: 40 hexadecimal digits.
    pub replid: String,
    /// Where in it the RDB stands, bytes of the command stream.
    pub repl_offset: u64,
}

/// What a source made of a request to go on.
#[derive(Debug)]
pub enum Resync {
    /// It cannot: an RDB comes, and the stream behind it.
    Full(ReplicaLink, FullResync),
    /// The stream goes on with the byte that was asked for, and its history is called this from here on: another
    /// name after a failover.
    Continued(ReplicaLink, String),
}

impl ReplicaLink {
    /// Opens a connection and asks for a full resync; returns when the RDB begins. That may take as
    /// long as the source needs to save, and to end a save that is under way. Dropping the future ends
    /// it on both sides.
    ///
    /// The source may be a replica itself.
    ///
    /// # Errors
    /// As [`ReplicaLink::resync`].
    pub async fn full_resync(
        connector: &Connector,
        address: &Address,
    ) -> Result<(Self, FullResync), ClientError> {
        match Self::resync(connector, address, None).await? {
            Resync::Full(link, resync) => Ok((link, resync)),
            Resync::Continued(link, _) => Err(link.connection.unexpected("PSYNC")),
        }
    }

    /// The same, and asks to go on in a history: `from` is its replid and the offset of the first byte that is
    /// wanted, that of the last one received plus one. Without it there is nothing to go on with.
    ///
    /// # Errors
    /// Any error of dialling and login. [`ClientError::Server`] for a refusal (`NOPERM`, an unknown
    /// command, `LOADING`; `NOMASTERLINK`: a replica that has lost its own source, or a failover).
    /// [`ClientError::Closed`] when the source could not save, [`ClientError::Silent`] after
    /// [`SOURCE_SILENCE_MAX`], [`ClientError::Unexpected`] for what is no answer to PSYNC.
    pub async fn resync(
        connector: &Connector,
        address: &Address,
        from: Option<(&str, u64)>,
    ) -> Result<Resync, ClientError> {
        let mut connection = connector.connect(address).await?;
        connection.set_deadline(SOURCE_SILENCE_MAX);
        announce(&mut connection).await?;

        // What comes from here on is not quite RESP, and the same with RESP3 switched on.
        let (replid, offset) = match from {
            Some((replid, offset)) => (replid, offset.to_string()),
            None => ("?", "-1".to_owned()),
        };
        let args: [&[u8]; 3] = [b"PSYNC", replid.as_bytes(), offset.as_bytes()];
        encode::command(connection.output(), &args);
        connection.flush().await?;
        let answer = line(&mut connection).await?;
        match (Answer::from_line(&answer), from) {
            (Some(Answer::Full(resync)), _) => {
                let header = line(&mut connection).await?;
                let extent =
                    Extent::from_header(&header).ok_or_else(|| connection.unexpected("PSYNC"))?;
                Ok(Resync::Full(Self::new(connection, extent), resync))
            }
            (Some(Answer::Continue(named)), Some((asked, _))) => {
                let replid = named.unwrap_or_else(|| asked.to_owned());
                let link = Self::new(connection, Extent::Complete);
                Ok(Resync::Continued(link, replid))
            }
            _ => Err(connection.unexpected("PSYNC")),
        }
    }

    fn new(connection: Connection, extent: Extent) -> Self {
        let now = Instant::now();
        Self {
            connection,
            rdb_bytes: match &extent {
                Extent::Length(bytes) => Some(*bytes),
                _ => None,
            },
            extent,
            applied: None,
            sign_of_life_at: now,
            heard_at: now,
        }
    }

    /// The next bytes of the RDB, as many as a read of the socket brought: some 100 KB. `None` at its
    /// end and never before; what the source sent behind it stays in the buffer. Loses nothing when the
    /// future is dropped.
    ///
    /// To be called again within the source's `repl-timeout`, 60 s unless configured; where that is not possible,
    /// [`ReplicaLink::stay_alive`] helps.
    ///
    /// # Errors
    /// [`ClientError::Io`], [`ClientError::Closed`] and [`ClientError::Silent`]: the RDB is not whole,
    /// and the link is of no further use.
    pub async fn rdb_part(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            if let Some(part) = self.extent.take(self.connection.input()) {
                return Ok(Some(part));
            }
            if self.extent.is_complete() {
                return Ok(None);
            }
            self.fill().await?;
        }
    }

    /// The next bytes of the stream of commands, as many as a read of the socket brought; waits for them. Loses nothing
    /// when the future is dropped. What is left of the RDB before it is thrown away.
    ///
    /// # Errors
    /// As [`ReplicaLink::rdb_part`].
    pub async fn stream_part(&mut self) -> Result<Bytes, ClientError> {
        while self.rdb_part().await?.is_some() {}
        loop {
            let input = self.connection.input();
            if !input.is_empty() {
                return Ok(input.split().freeze());
            }
            self.fill().await?;
        }
    }

    /// From here on this offset is acknowledged once a second while the link is waited for: the last byte that was
    /// applied. With the first acknowledgement a source that sent its RDB without a file begins with the stream; 0 tells
    /// nothing else.
    pub fn acks(&mut self, applied: Arc<AtomicU64>) {
        self.applied = Some(applied);
        // Do not wait for the next second.
        if let Some(due) = Instant::now().checked_sub(SIGN_OF_LIFE_INTERVAL) {
            self.sign_of_life_at = due;
        }
    }

    /// Says what is applied now: [`ReplicaLink::acks`], or nothing at all. Only behind the RDB: before, the
    /// source hears that we are alive. May be given up and called again.
    ///
    /// # Errors
    /// [`ClientError::Io`] and [`ClientError::Silent`].
    pub async fn ack(&mut self) -> Result<(), ClientError> {
        self.say_sign_of_life();
        self.connection.flush().await
    }

    /// Tells the source once a second that we are alive while nothing is read; never returns but with an error. May be
    /// given up at any time.
    ///
    /// # Errors
    /// As [`ReplicaLink::ack`].
    pub async fn stay_alive(&mut self) -> Result<(), ClientError> {
        loop {
            self.give_sign_of_life().await?;
            tokio::time::sleep_until(self.sign_of_life_at + SIGN_OF_LIFE_INTERVAL).await;
        }
    }

    /// Length of the RDB in bytes, where the source knew it in advance: it saved to a file first.
    pub fn rdb_bytes(&self) -> Option<u64> {
        self.rdb_bytes
    }

    /// The source at the other end.
    pub fn address(&self) -> &Address {
        self.connection.address()
    }

    /// Waits for more bytes, and says that we are alive meanwhile.
    async fn fill(&mut self) -> Result<(), ClientError> {
        loop {
            self.give_sign_of_life().await?;
            let silent_at = self.heard_at + SOURCE_SILENCE_MAX;
            let until = silent_at.min(self.sign_of_life_at + SIGN_OF_LIFE_INTERVAL);
            // What came while nobody asked lies in the socket and is there at once, however late it is.
            if let Ok(filled) = timeout_at(until, self.connection.fill()).await {
                filled?;
                self.heard_at = Instant::now();
                return Ok(());
            }
            if Instant::now() >= silent_at {
                return Err(ClientError::Silent {
                    address: self.address().clone(),
                    waited: SOURCE_SILENCE_MAX,
                    hint: "",
                });
            }
        }
    }

    async fn give_sign_of_life(&mut self) -> Result<(), ClientError> {
        if self.sign_of_life_at.elapsed() >= SIGN_OF_LIFE_INTERVAL {
            self.say_sign_of_life();
        }
        // What an earlier call was given up over goes out here.
        match self.connection.output().is_empty() {
            true => Ok(()),
            false => self.connection.flush().await,
        }
    }

    fn say_sign_of_life(&mut self) {
        let output = self.connection.output();
        match &self.applied {
            Some(applied) if self.extent.is_complete() => {
                let offset = applied.load(Ordering::Acquire).to_string();
                encode::command(output, &[b"REPLCONF", b"ACK", offset.as_bytes()]);
            }
            _ => output.extend_from_slice(b"\n"),
        }
        self.sign_of_life_at = Instant::now();
    }
}

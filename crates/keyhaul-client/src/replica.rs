//! The replication link: asks a source for a full resync, as a replica does, and takes in the RDB.
//!
//! What we tell the source, and what we do not:
//!
//! - `capa eof capa psync2`: we take an RDB of unknown length, and know that a replid may change.
//!   Nothing that we do not do: no dual channel, no compression.
//! - No address, and an impossible port. Without a port a source lists us as `host:0`, and a Sentinel
//!   that watches it keeps that as a replica that is down, also after we are gone; of -1 it takes no
//!   note, so that nothing can promote us (seen with Redis 6.0 to 8.2, Valkey 9.1).
//! - The version of the RDB that we read, to a Valkey that would not send all without: see [`VERSION`].
//! - Nothing of what we have applied: until somebody sends `REPLCONF ACK`, a source that sent its RDB
//!   without a file sends nothing behind it.
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
mod right;

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use keyhaul_resp::encode;
use memchr::memchr;
use tokio::time::Instant;

use crate::connection::Connection;
use crate::connector::{Connector, Greeting};
use crate::endpoint::Address;
use crate::error::ClientError;
use extent::Extent;

pub use right::{ReplicationRight, replication_right};

/// How long a source may send nothing at all. It sends newlines each second while it saves; but a
/// diskless one feeds all its replicas at the pace of the slowest, and waits for one that is stuck
/// until `repl-timeout`, 60 s. So this is longer.
pub const SOURCE_SILENCE_MAX: Duration = Duration::from_secs(90);

/// How often a replica that is busy with the RDB says that it is alive.
const SIGN_OF_LIFE_INTERVAL: Duration = Duration::from_secs(1);

/// The longest answer to PSYNC that is taken, bytes: an error of a server and its text.
const LINE_BYTES_MAX: usize = 4096;

/// The version of Valkey whose RDB we read, 80. Valkey 9.1 sends an RDB 11 to who names none, and breaks
/// the resync off when it holds a hash whose fields expire, which an RDB 11 cannot hold; it also does
/// without a file then, whatever it is configured to.
const VERSION: &[u8] = b"9.0.0";

/// A replication link: what a replica sees of its source.
///
/// The user needs `+psync +replconf` and no keys and no channels.
#[derive(Debug)]
pub struct ReplicaLink {
    connection: Connection,
    extent: Extent,
    rdb_bytes: Option<u64>,
    sign_of_life_at: Instant,
}

/// Where a full resync stands in the history of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullResync {
    /// The history: 40 hexadecimal digits.
    pub replid: String,
    /// Where in it the RDB stands, bytes of the command stream.
    pub repl_offset: u64,
}

impl ReplicaLink {
    /// Opens a connection and asks for a full resync; returns when the RDB begins. That may take as
    /// long as the source needs to save, and to end a save that is under way. Dropping the future ends
    /// it on both sides.
    ///
    /// The source may be a replica itself.
    ///
    /// # Errors
    /// Any error of dialling and login. [`ClientError::Server`] for a refusal (`NOPERM`, an unknown
    /// command, `LOADING`; `NOMASTERLINK`: a replica that has lost its own source, or a failover).
    /// [`ClientError::Closed`] when the source could not save, [`ClientError::Silent`] after
    /// [`SOURCE_SILENCE_MAX`], [`ClientError::Unexpected`] for what is no answer to PSYNC.
    pub async fn full_resync(
        connector: &Connector,
        address: &Address,
    ) -> Result<(Self, FullResync), ClientError> {
        let mut connection = connector.connect(address).await?;
        connection.set_deadline(SOURCE_SILENCE_MAX);
        announce(&mut connection).await?;

        // No replid: we have no history that could be gone on with. What comes from here on is not
        // quite RESP, and the same with RESP3 switched on.
        encode::command(connection.output(), &[b"PSYNC", b"?", b"-1"]);
        connection.flush().await?;
        let answer = line(&mut connection).await?;
        let resync =
            FullResync::from_line(&answer).ok_or_else(|| connection.unexpected("PSYNC"))?;
        let header = line(&mut connection).await?;
        let extent = Extent::from_header(&header).ok_or_else(|| connection.unexpected("PSYNC"))?;
        let link = Self {
            connection,
            rdb_bytes: match &extent {
                Extent::Length(bytes) => Some(*bytes),
                _ => None,
            },
            extent,
            sign_of_life_at: Instant::now(),
        };
        Ok((link, resync))
    }

    /// The next bytes of the RDB, as many as a read of the socket brought: some 100 KB. `None` at its
    /// end and never before; what the source sent behind it stays in the buffer. Loses nothing when the
    /// future is dropped.
    ///
    /// To be called again within the source's `repl-timeout`, 60 s unless configured.
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
            self.give_sign_of_life().await?;
            self.connection.fill().await?;
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

    async fn give_sign_of_life(&mut self) -> Result<(), ClientError> {
        if self.sign_of_life_at.elapsed() >= SIGN_OF_LIFE_INTERVAL {
            self.connection.output().extend_from_slice(b"\n");
            self.connection.flush().await?;
            self.sign_of_life_at = Instant::now();
        }
        Ok(())
    }
}

impl FullResync {
    /// Reads `+FULLRESYNC <replid> <offset>`, Redis >= 2.8.
    fn from_line(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let mut words = line.strip_prefix("+FULLRESYNC ")?.split(' ');
        let (replid, offset) = (words.next()?, words.next()?);
        let is_replid = replid.len() == 40 && replid.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_replid || words.next().is_some() {
            return None;
        }
        Some(Self {
            replid: replid.to_owned(),
            repl_offset: offset.parse().ok()?,
        })
    }
}

/// Says what kind of replica this is. Each reply is waited for: a source refuses a PSYNC that comes
/// while it still has something to say.
async fn announce(connection: &mut Connection) -> Result<(), ClientError> {
    connection
        .call(&[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"])
        .await?;
    let mut options = vec![(&b"listening-port"[..], &b"-1"[..])];
    if wants_version(&connection.greeting) {
        options.push((b"version", VERSION));
    }
    for (option, value) in options {
        match connection.call(&[b"REPLCONF", option, value]).await {
            // Worth having, not needed.
            Ok(_) | Err(ClientError::Server { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Whether [`VERSION`] makes a difference. A Valkey 8 would only wait for us with its slots; Redis
/// refuses the option, which does no harm.
fn wants_version(greeting: &Greeting) -> bool {
    match (greeting.server.as_deref(), greeting.version.as_deref()) {
        (Some("valkey"), Some(_)) => major(greeting).is_none_or(|major| major >= 9),
        // What a Valkey says that is told to look like a Redis.
        (Some("redis"), Some(version)) => version == "7.2.4",
        _ => true,
    }
}

/// The first number of the version that a server says it has.
fn major(greeting: &Greeting) -> Option<u32> {
    greeting.version.as_deref()?.split('.').next()?.parse().ok()
}

/// The next line, an error reply being an error. Newlines alone are signs of life and passed over.
async fn line(connection: &mut Connection) -> Result<Bytes, ClientError> {
    loop {
        match take_line(connection.input()) {
            Ok(Some(line)) => match line.strip_prefix(b"-") {
                Some(text) => return Err(connection.server_error(line.slice_ref(text))),
                None => return Ok(line),
            },
            Ok(None) => connection.fill().await?,
            Err(NotALine) => return Err(connection.unexpected("PSYNC")),
        }
    }
}

struct NotALine;

/// Takes a line off the input, without its end; `None` when it is not whole yet.
fn take_line(input: &mut BytesMut) -> Result<Option<Bytes>, NotALine> {
    let signs_of_life = input.iter().take_while(|byte| **byte == b'\n').count();
    input.advance(signs_of_life);
    match memchr(b'\n', input) {
        Some(end) if end > LINE_BYTES_MAX => Err(NotALine),
        None if input.len() > LINE_BYTES_MAX => Err(NotALine),
        None => Ok(None),
        Some(end) => {
            let mut line = input.split_to(end + 1).freeze();
            line.truncate(end);
            if line.last() != Some(&b'\r') {
                return Err(NotALine);
            }
            line.truncate(line.len() - 1);
            Ok(Some(line))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the bytes one by one; the lines, and whether the last was refused.
    fn lines(bytes: &[u8]) -> (Vec<Bytes>, bool) {
        let (mut input, mut lines) = (BytesMut::new(), Vec::new());
        for byte in bytes {
            input.extend_from_slice(&[*byte]);
            match take_line(&mut input) {
                Ok(line) => lines.extend(line),
                Err(NotALine) => return (lines, true),
            }
        }
        (lines, false)
    }

    #[test]
    fn lines_between_signs_of_life() {
        let (got, refused) = lines(b"\n\n+FULLRESYNC x 0\r\n\n\n\n$5\r\nREDIS");
        assert_eq!(got, [&b"+FULLRESYNC x 0"[..], b"$5"]);
        assert!(!refused);
    }

    #[test]
    fn lines_that_are_none() {
        let endless = [b'a'; LINE_BYTES_MAX + 1];
        for bytes in [&b"+OK\n"[..], &endless] {
            assert_eq!(lines(bytes), (vec![], true), "{}", bytes.escape_ascii());
        }
        assert!(take_line(&mut BytesMut::from(&[&endless[..], b"\r\n"].concat()[..])).is_err());
    }

    #[test]
    fn the_answer_to_psync() {
        let replid = "0123456789abcdef0123456789abcdef01234567";
        let good = format!("+FULLRESYNC {replid} 9223372036854775807");
        let expected = FullResync {
            replid: replid.to_owned(),
            repl_offset: 9_223_372_036_854_775_807,
        };
        assert_eq!(FullResync::from_line(good.as_bytes()), Some(expected));
        for bad in [
            "+CONTINUE".to_owned(),
            format!("+FULLRESYNC {replid}"),
            format!("+FULLRESYNC {replid} -1"),
            format!("+FULLRESYNC {replid} 1 2"),
            format!("+FULLRESYNC {} 1", &replid[1..]),
            format!("+FULLRESYNC {} 1", replid.replace('f', "g")),
        ] {
            assert_eq!(FullResync::from_line(bad.as_bytes()), None, "{bad}");
        }
    }
}

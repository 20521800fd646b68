//! What can go wrong between us and a server, by cause.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use keyhaul_resp::DecodeError;

use crate::endpoint::Address;
use crate::slot::Slot;

/// A failed conversation with a server. Says which one; never holds a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection could be made.
    #[error("cannot connect to {address}")]
    Connect {
        /// The server that was tried.
        address: Address,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The TLS handshake failed, or a name fits no certificate.
    #[error("TLS with {address} failed: {reason}")]
    Tls {
        /// The server that was tried.
        address: Address,
        /// What the TLS library said.
        reason: String,
    },
    /// A certificate or key file cannot be used.
    #[error("cannot use TLS file {}: {reason}", path.display())]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An established connection broke.
    #[error("lost the connection to {address}")]
    Io {
        /// The server at the other end.
        address: Address,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The server closed the connection.
    #[error("{address} closed the connection")]
    Closed {
        /// The server at the other end.
        address: Address,
    },
    /// The server did not answer in time.
    #[error("{address} did not answer within {} s{}", waited.as_secs(), hint)]
    Silent {
        /// The server at the other end.
        address: Address,
        /// How long we waited.
        waited: Duration,
        /// What might be the reason; empty or begins with a separator.
        hint: &'static str,
    },
    /// What came is no RESP, or breaks a limit.
    #[error("bad reply from {address}: {source}")]
    Protocol {
        /// The server at the other end.
        address: Address,
        /// What is wrong with the bytes. Part of the message, so not given again as the source.
        source: Box<DecodeError>,
    },
    /// The server answered with an error.
    #[error("{address} answered: {error}")]
    Server {
        /// The server at the other end.
        address: Address,
        /// Its answer.
        error: ServerError,
    },
    /// The reply has a shape that the command cannot have.
    #[error("unexpected reply from {address} to {command}")]
    Unexpected {
        /// The server at the other end.
        address: Address,
        /// The command that was asked.
        command: &'static str,
    },
    /// None of the named servers is a primary that answers.
    #[error("no primary found at {endpoint}: {reason}")]
    NoPrimary {
        /// The endpoint without credentials.
        endpoint: String,
        /// What each of the servers said.
        reason: String,
    },
    /// No node of the cluster owns the slot at present.
    #[error("slot {} is served by no node of the cluster", slot.index())]
    UncoveredSlot {
        /// The slot.
        slot: Slot,
    },
}

/// The text of an error reply, `CODE message`, kept as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerError(Bytes);

impl ServerError {
    /// Wraps the text after the `-` of an error reply.
    pub fn new(text: Bytes) -> Self {
        Self(text)
    }

    /// The whole text as it came.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The first word: `ERR`, `MOVED`, `WRONGTYPE`.
    pub fn code(&self) -> &[u8] {
        self.0.split(|b| *b == b' ').next().unwrap_or_default()
    }

    /// Whether the text holds these words, in any case.
    pub fn mentions(&self, words: &str) -> bool {
        let text = self.0.to_ascii_lowercase();
        let words = words.to_ascii_lowercase();
        text.windows(words.len().max(1))
            .any(|window| window == words.as_bytes())
    }

    /// Whether the command does not exist there (or a subcommand, or its options).
    pub fn is_unknown_command(&self) -> bool {
        self.mentions("unknown command")
            || self.mentions("unknown subcommand")
            || self.mentions("wrong number of arguments")
            || self.mentions("syntax error")
    }

    /// Whether this user may not do it, or the service has the command switched off.
    pub fn is_forbidden(&self) -> bool {
        self.code() == b"NOPERM"
    }

    /// Whether this user may run the command, but not on this key. "No permissions to access a key" (later
    /// versions), "this user has no permissions to access one of the keys used as arguments" (Redis 6.0 to 7.0). The name
    /// of a user stands before such words where it is told, and holds no space.
    pub fn forbids_key(&self) -> bool {
        self.is_forbidden() && self.mentions("permissions to access")
    }
}

/// Control characters escaped and cut to one readable line.
impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_MAX: usize = 300;
        for c in String::from_utf8_lossy(&self.0).chars().take(SHOWN_MAX) {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?
            } else {
                write!(f, "{c}")?
            }
        }
        Ok(())
    }
}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerError({self})")
    }
}

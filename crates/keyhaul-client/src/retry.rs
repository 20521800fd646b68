//! What to do about an error: one exhaustive match, and the growing waits between tries.

use std::time::Duration;

use bytes::Bytes;

use crate::endpoint::Address;
use crate::error::{ClientError, ServerError};
use crate::slot::Slot;

/// The next step after an error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// The connection is gone: open it again, then repeat.
    Reconnect,
    /// A passing condition of the server: wait, then repeat on the same connection.
    Wait,
    /// The slot lives elsewhere now: remember it, repeat there.
    Moved {
        /// The slot that moved.
        slot: Slot,
        /// Where to, as the server announces it: `host:port`.
        announced: String,
    },
    /// This one key may be elsewhere already: repeat there once, after ASKING.
    Ask {
        /// Where, as the server announces it: `host:port`.
        announced: String,
    },
    /// The server is not what it was (a primary became a replica): find out anew, then repeat.
    Refresh,
    /// The server is out of memory: wait, say so, and stop when it lasts.
    Full,
    /// Nothing that waiting would mend.
    GiveUp,
}

impl ServerError {
    /// What to do about an error reply. The codes are those of Redis 7.0 and Valkey 8.0.
    pub fn action(&self) -> Action {
        match self.code() {
            b"MOVED" => match self.redirection() {
                Some((slot, announced)) => Action::Moved { slot, announced },
                None => Action::GiveUp,
            },
            b"ASK" => match self.redirection() {
                Some((_, announced)) => Action::Ask { announced },
                None => Action::GiveUp,
            },
            b"TRYAGAIN" | b"LOADING" | b"MASTERDOWN" | b"NOMASTERLINK" | b"BUSY"
            | b"NOREPLICAS" | b"MISCONF" | b"NOGOODSLAVE" | b"INPROG" => Action::Wait,
            b"CLUSTERDOWN" | b"READONLY" | b"UNBLOCKED" | b"FAILOVER" => Action::Refresh,
            b"OOM" => Action::Full,
            // A transaction that was discarded when it was to be executed says why behind a colon.
            b"EXECABORT" => {
                const WHY: &[u8] = b"because of: ";
                let text = self.as_bytes();
                let at = text.windows(WHY.len()).position(|part| part == WHY);
                let why = at.and_then(|at| text.get(at + WHY.len()..));
                why.map_or(Action::GiveUp, |why| {
                    Self::new(Bytes::copy_from_slice(why)).action()
                })
            }
            b"ERR" if self.mentions("max number of clients") => Action::Wait,
            _ => Action::GiveUp,
        }
    }

    /// The slot and the address of `MOVED 1234 host:port` or `ASK 1234 host:port`.
    fn redirection(&self) -> Option<(Slot, String)> {
        let text = std::str::from_utf8(self.as_bytes()).ok()?;
        let mut words = text.split(' ').skip(1);
        let slot = Slot::new(words.next()?.parse().ok()?)?;
        Some((slot, words.next()?.to_owned()))
    }
}

impl ClientError {
    /// What to do about a failed conversation.
    pub fn action(&self) -> Action {
        match self {
            // A TLS handshake also fails while a server goes down; a wrong certificate is found out
            // before anything begins, where nothing is repeated.
            Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Io { .. }
            | Self::Closed { .. }
            | Self::Silent { .. } => Action::Reconnect,
            Self::NoPrimary { .. } | Self::UncoveredSlot { .. } => Action::Refresh,
            Self::Server { error, .. } => error.action(),
            Self::TlsFile { .. } | Self::Protocol { .. } | Self::Unexpected { .. } => {
                Action::GiveUp
            }
        }
    }

    /// The server that it is about, if it is about one.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Connect { address, .. }
            | Self::Tls { address, .. }
            | Self::Io { address, .. }
            | Self::Closed { address }
            | Self::Silent { address, .. }
            | Self::Protocol { address, .. }
            | Self::Server { address, .. }
            | Self::Unexpected { address, .. } => Some(address),
            Self::TlsFile { .. } | Self::NoPrimary { .. } | Self::UncoveredSlot { .. } => None,
        }
    }

    /// Whether waiting or looking elsewhere may mend it.
    pub fn is_passing(&self) -> bool {
        self.action() != Action::GiveUp
    }
}

/// Growing waits between tries: 50 ms, doubled each time, at most 5 s.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    /// How long to wait before the next try.
    pub fn next_wait(&mut self) -> Duration {
        const FIRST: Duration = Duration::from_millis(50);
        const LONGEST: Duration = Duration::from_secs(5);
        let wait = FIRST.saturating_mul(1 << self.tries.min(10)).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        wait
    }

    /// Begins again with the shortest wait, after a success.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_action() {
        let moved = Action::Moved {
            slot: Slot::new(3999).unwrap(),
            announced: "h:6381".into(),
        };
        let rows = [
            ("MOVED 3999 h:6381", moved),
            (
                "ASK 3999 ::1:6381",
                Action::Ask {
                    announced: "::1:6381".into(),
                },
            ),
            ("MOVED 99999 h:6381", Action::GiveUp),
            ("MOVED", Action::GiveUp),
            (
                "TRYAGAIN Multiple keys request during rehashing of slot",
                Action::Wait,
            ),
            (
                "LOADING Redis is loading the dataset in memory",
                Action::Wait,
            ),
            ("CLUSTERDOWN The cluster is down", Action::Refresh),
            (
                "READONLY You can't write against a read only replica.",
                Action::Refresh,
            ),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                Action::Full,
            ),
            (
                "EXECABORT Transaction discarded because of: OOM command not allowed when used memory > 'maxmemory'.",
                Action::Full,
            ),
            (
                "EXECABORT Transaction discarded because of previous errors.",
                Action::GiveUp,
            ),
            ("ERR max number of clients reached", Action::Wait),
            (
                "ERR DUMP payload version or checksum are wrong",
                Action::GiveUp,
            ),
            ("NOPERM this user has no permissions", Action::GiveUp),
            ("", Action::GiveUp),
        ];
        for (text, expected) in rows {
            let error = ServerError::new(Bytes::copy_from_slice(text.as_bytes()));
            assert_eq!(error.action(), expected, "{text}");
        }
    }

    #[test]
    fn waits_grow_to_a_bound() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..10).map(|_| backoff.next_wait().as_millis()).collect();
        assert_eq!(
            waits,
            [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]
        );
    }
}

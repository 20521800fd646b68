//! The RESTORE command as bytes.

use bytes::BytesMut;
use keyhaul_client::{ClientError, ServerError, TargetConnection};
use keyhaul_resp::encode;

use crate::entry::Usage;

/// Whether a key that is there is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    Replace,
    Keep,
}

/// `RESTORE key expire-at payload ABSTTL [REPLACE]` up to the payload's header; the payload and
/// [`tail`] follow. ABSTTL is there since Redis 5.0; a time of 0 means that the key does not expire.
pub(crate) fn head(
    output: &mut BytesMut,
    key: &[u8],
    expire_at_ms: Option<i64>,
    payload_bytes: u64,
    tail: Tail,
) {
    output.extend_from_slice(match (tail.existing, tail.has_usage()) {
        (Existing::Keep, false) => b"*5\r\n$7\r\nRESTORE\r\n",
        (Existing::Replace, false) => b"*6\r\n$7\r\nRESTORE\r\n",
        (Existing::Keep, true) => b"*7\r\n$7\r\nRESTORE\r\n",
        (Existing::Replace, true) => b"*8\r\n$7\r\nRESTORE\r\n",
    });
    encode::bulk(output, key);
    // An expiry of 0 or below lies in 1970 and must not read as "never".
    encode::bulk_int(output, expire_at_ms.map_or(0, |at| at.max(1)));
    encode::bulk_header(output, payload_bytes);
}

/// What follows the payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tail {
    pub existing: Existing,
    pub usage: Usage,
}

impl Tail {
    fn has_usage(self) -> bool {
        self.usage != Usage::default()
    }

    /// Appends it. FREQ and IDLETIME are there since Redis 5.0, one of them at a time; a server whose
    /// eviction does not use it takes no notice.
    pub(crate) fn encode(self, output: &mut BytesMut) {
        output.extend_from_slice(match self.existing {
            Existing::Replace => b"\r\n$6\r\nABSTTL\r\n$7\r\nREPLACE\r\n".as_slice(),
            Existing::Keep => b"\r\n$6\r\nABSTTL\r\n",
        });
        match self.usage {
            Usage {
                freq: Some(freq), ..
            } => {
                encode::bulk(output, b"FREQ");
                encode::bulk_int(output, freq.into());
            }
            Usage {
                idle_s: Some(idle_s),
                ..
            } => {
                encode::bulk(output, b"IDLETIME");
                encode::bulk_int(output, i64::try_from(idle_s).unwrap_or(i64::MAX));
            }
            Usage { .. } => {}
        }
    }
}

/// The whole command.
pub(crate) fn command(
    output: &mut BytesMut,
    key: &[u8],
    expire_at_ms: Option<i64>,
    payload: &[u8],
    tail: Tail,
) {
    output.reserve(key.len() + payload.len() + 128);
    head(output, key, expire_at_ms, payload.len() as u64, tail);
    output.extend_from_slice(payload);
    tail.encode(output);
}

/// Deletes a key, its memory being freed beside the server's other work. Redis >= 4.0.
pub(crate) fn unlink(output: &mut BytesMut, key: &[u8]) {
    encode::command(output, &[b"UNLINK", key]);
}

/// Whether this user may RESTORE: sends a payload that no server takes and returns the refusal.
///
/// # Errors
/// Those of the connection.
pub(crate) async fn restore_probe(
    connection: &mut TargetConnection,
    key: &[u8],
) -> Result<ServerError, ClientError> {
    let raw = connection.raw();
    let tail = Tail {
        existing: Existing::Keep,
        usage: Usage::default(),
    };
    command(raw.output(), key, None, b"", tail);
    raw.flush().await?;
    match raw.reply().await {
        Err(ClientError::Server { error, .. }) => Ok(error),
        Err(e) => Err(e),
        Ok(_) => Err(raw.unexpected("RESTORE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_server_reads_it() {
        let mut output = BytesMut::new();
        let tail = |existing, freq| Tail {
            existing,
            usage: Usage { idle_s: None, freq },
        };
        let replace = tail(Existing::Replace, None);
        command(&mut output, b"k", Some(1_700_000_000_001), b"pay", replace);
        command(&mut output, b"", None, b"", tail(Existing::Keep, Some(9)));
        assert_eq!(
            output.escape_ascii().to_string(),
            "*6\\r\\n$7\\r\\nRESTORE\\r\\n$1\\r\\nk\\r\\n$13\\r\\n1700000000001\\r\\n$3\\r\\npay\\r\\n\
             $6\\r\\nABSTTL\\r\\n$7\\r\\nREPLACE\\r\\n\
             *7\\r\\n$7\\r\\nRESTORE\\r\\n$0\\r\\n\\r\\n$1\\r\\n0\\r\\n$0\\r\\n\\r\\n$6\\r\\nABSTTL\\r\\n\
             $4\\r\\nFREQ\\r\\n$1\\r\\n9\\r\\n"
        );
    }
}

//! The RESTORE command as bytes.

use bytes::BytesMut;
use keyhaul_client::{ClientError, ServerError, TargetConnection};
use keyhaul_resp::encode;

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
    existing: Existing,
) {
    output.extend_from_slice(match existing {
        Existing::Replace => b"*6\r\n$7\r\nRESTORE\r\n",
        Existing::Keep => b"*5\r\n$7\r\nRESTORE\r\n",
    });
    encode::bulk(output, key);
    // An expiry of 0 or below lies in 1970 and must not read as "never".
    encode::bulk_int(output, expire_at_ms.map_or(0, |at| at.max(1)));
    encode::bulk_header(output, payload_bytes);
}

/// What follows the payload.
pub(crate) fn tail(existing: Existing) -> &'static [u8] {
    match existing {
        Existing::Replace => b"\r\n$6\r\nABSTTL\r\n$7\r\nREPLACE\r\n",
        Existing::Keep => b"\r\n$6\r\nABSTTL\r\n",
    }
}

/// The whole command.
pub(crate) fn command(
    output: &mut BytesMut,
    key: &[u8],
    expire_at_ms: Option<i64>,
    payload: &[u8],
    existing: Existing,
) {
    output.reserve(key.len() + payload.len() + 96);
    head(output, key, expire_at_ms, payload.len() as u64, existing);
    output.extend_from_slice(payload);
    output.extend_from_slice(tail(existing));
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
    command(raw.output(), key, None, b"", Existing::Keep);
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
        command(
            &mut output,
            b"k",
            Some(1_700_000_000_001),
            b"pay",
            Existing::Replace,
        );
        command(&mut output, b"", None, b"", Existing::Keep);
        assert_eq!(
            output.escape_ascii().to_string(),
            "*6\\r\\n$7\\r\\nRESTORE\\r\\n$1\\r\\nk\\r\\n$13\\r\\n1700000000001\\r\\n$3\\r\\npay\\r\\n\
             $6\\r\\nABSTTL\\r\\n$7\\r\\nREPLACE\\r\\n\
             *5\\r\\n$7\\r\\nRESTORE\\r\\n$0\\r\\n\\r\\n$1\\r\\n0\\r\\n$0\\r\\n\\r\\n$6\\r\\nABSTTL\\r\\n"
        );
    }
}

//! What is said before an RDB or a stream comes: who we are, what we want, and the answer, by line.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use super::FullResync;
use crate::connection::Connection;
use crate::connector::Greeting;
use crate::error::ClientError;

/// The longest answer to PSYNC that is taken, bytes: an error of a server and its text.
const LINE_BYTES_MAX: usize = 4096;

/// The version of Valkey whose RDB we read, 80. Valkey 9.1 sends an RDB 11 to who names none, and breaks
/// the resync off when it holds a hash whose fields expire, which an RDB 11 cannot hold; it also does
/// without a file then, whatever it is configured to.
const VERSION: &[u8] = b"9.0.0";

/// The answer to PSYNC.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Full(FullResync),
    /// With the replid from here on, which servers name since Redis 4.
    Continue(Option<String>),
}

impl Answer {
    /// Reads `+FULLRESYNC <replid> <offset>` or `+CONTINUE [<replid>]`, Redis >= 2.8.
    pub(super) fn from_line(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let mut words = line.trim_end_matches(' ').split(' ');
        let kind = words.next()?;
        let replid = words.next();
        if !replid.is_none_or(is_replid) {
            return None;
        }
        let replid = replid.map(str::to_owned);
        let offset = words.next();
        if words.next().is_some() {
            return None;
        }
        match (kind, replid, offset) {
            ("+FULLRESYNC", Some(replid), Some(offset)) => {
                let repl_offset = offset.parse().ok()?;
                Some(Self::Full(FullResync {
                    replid,
                    repl_offset,
                }))
            }
            ("+CONTINUE", replid, None) => Some(Self::Continue(replid)),
            _ => None,
        }
    }
}

fn is_replid(word: &str) -> bool {
    word.len() == 40 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Says what kind of replica this is. Each reply is waited for: a source refuses a PSYNC that comes
/// while it still has something to say.
pub(super) async fn announce(connection: &mut Connection) -> Result<(), ClientError> {
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
pub(super) fn major(greeting: &Greeting) -> Option<u32> {
    greeting.version.as_deref()?.split('.').next()?.parse().ok()
}

/// The next line, an error reply being an error. Newlines alone are signs of life and passed over.
pub(super) async fn line(connection: &mut Connection) -> Result<Bytes, ClientError> {
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
        let got = Answer::from_line(good.as_bytes());
        assert_eq!(got, Some(Answer::Full(expected)));
        for (line, named) in [
            ("+CONTINUE".to_owned(), None),
            ("+CONTINUE ".to_owned(), None),
            (format!("+CONTINUE {replid}"), Some(replid.to_owned())),
        ] {
            let expected = Some(Answer::Continue(named));
            assert_eq!(Answer::from_line(line.as_bytes()), expected, "{line}");
        }
        for bad in [
            "+CONTINUE x".to_owned(),
            format!("+CONTINUE {replid} 1"),
            format!("+CONTINUED {replid}"),
            format!("+FULLRESYNC {replid}"),
            format!("+FULLRESYNC {replid} -1"),
            format!("+FULLRESYNC {replid} 1 2"),
            format!("+FULLRESYNC {} 1", &replid[1..]),
            format!("+FULLRESYNC {} 1", replid.replace('f', "g")),
        ] {
            assert_eq!(Answer::from_line(bad.as_bytes()), None, "{bad}");
        }
    }
}

//! A connection over which a server tells the names of all keys that change.
//!
//! By CLIENT TRACKING in broadcast mode (RESP3, Redis >= 6.0), which needs no setting of the server and names keys of
//! any db; or where that is refused, by keyspace notifications, which an administrator has to have switched on.
//!
//! What neither of them tells (seen on Redis 6.2 to 8.2 and Valkey 8.0): SWAPDB, functions, and what becomes of the
//! groups of a stream. Notifications do not tell FLUSHALL and FLUSHDB either.

use std::time::Duration;

use bytes::Bytes;
use keyhaul_resp::{Value, encode};

use crate::connection::Connection;
use crate::connector::Connector;
use crate::endpoint::Address;
use crate::error::ClientError;
use crate::facts::allow_refusal;

/// A server that says nothing for so long, not even to a PING, is away.
pub const CHANGES_SILENCE_MAX: Duration = Duration::from_secs(30);

/// The option that switches notifications on.
const OPTION: &str = "notify-keyspace-events";
/// The classes of events without which changes would go untold (Redis >= 6.0, as CONFIG GET spells them): of every
/// type, of all types, expiry and eviction.
const CLASSES: &str = "g$lshztxe";

/// How a server tells what changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToldBy {
    /// CLIENT TRACKING ON BCAST.
    Tracking,
    /// Keyspace notifications.
    Notifications,
}

/// A key that changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ToldKey {
    /// Its db; `None`: any may be meant.
    pub db: Option<u32>,
    /// Its name.
    pub name: Bytes,
}

/// What came over the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// These keys changed.
    Keys(Vec<ToldKey>),
    /// All keys of a db, or of all dbs, are gone: FLUSHALL, FLUSHDB.
    Everything,
    /// The reply to a PING. What was changed before the PING before this one was sent is told: a server sends
    /// what it has to tell behind the replies of the same round of its loop.
    Pong,
}

/// The link.
#[derive(Debug)]
pub struct ChangeLink {
    connection: Connection,
    by: ToldBy,
}

impl ChangeLink {
    /// Opens a link to a server. From the return on every change is told. `Err` inside: the server tells no changes;
    /// why, in words.
    ///
    /// # Errors
    /// Any of dialling and login, and what passes by itself.
    pub async fn open(
        connector: &Connector,
        address: &Address,
    ) -> Result<Result<Self, String>, ClientError> {
        let mut connection = connector.connect(address).await?;
        connection.set_deadline(CHANGES_SILENCE_MAX);
        let tracking = match connection.greeting.resp3 {
            false => "HELLO 3 is unknown there, or refused to this user".to_owned(),
            true => match allow_refusal(
                connection
                    .call(&[b"CLIENT", b"TRACKING", b"ON", b"BCAST"])
                    .await,
            )? {
                Ok(_) => {
                    let by = ToldBy::Tracking;
                    return Ok(Ok(Self { connection, by }));
                }
                Err(answer) => format!("it answers: {answer}"),
            },
        };
        Ok(match subscribe(&mut connection).await? {
            Ok(()) => Ok(Self {
                connection,
                by: ToldBy::Notifications,
            }),
            Err(notifications) => Err(format!(
                "CLIENT TRACKING is not to be had ({tracking}), nor are keyspace notifications ({notifications})"
            )),
        })
    }

    /// How changes are told.
    pub fn by(&self) -> ToldBy {
        self.by
    }

    /// Sends a PING; its reply comes as [`Told::Pong`].
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn ping(&mut self) -> Result<(), ClientError> {
        encode::command(self.connection.output(), &[b"PING"]);
        self.connection.flush().await
    }

    /// What comes next. Nothing is lost where it is not waited for to the end.
    ///
    /// # Errors
    /// Those of the connection: changes may go untold from here on. [`ClientError::Silent`] after
    /// [`CHANGES_SILENCE_MAX`].
    pub async fn next(&mut self) -> Result<Told, ClientError> {
        loop {
            let message = self.connection.message().await?;
            if let Value::Error(text) = message {
                return Err(self.connection.server_error(text));
            }
            if let Some(told) = told(&message) {
                return Ok(told);
            }
            if message.as_list().is_none() {
                return Err(self.connection.unexpected("PING"));
            }
        }
    }
}

/// Subscribes to notifications, where they are switched on.
async fn subscribe(connection: &mut Connection) -> Result<Result<(), String>, ClientError> {
    let args: [&[u8]; 3] = [b"CONFIG", b"GET", OPTION.as_bytes()];
    let flags = match allow_refusal(connection.call(&args).await)? {
        Err(answer) => {
            return Ok(Err(format!(
                "whether they are on cannot be asked: {answer}"
            )));
        }
        Ok(reply) => {
            let value = reply.pairs().and_then(|mut pairs| pairs.next());
            let value = value.and_then(|(_, value)| value.as_bytes().cloned());
            String::from_utf8_lossy(&value.unwrap_or_default()).into_owned()
        }
    };
    let Some(pattern) = pattern(&flags) else {
        return Ok(Err(format!("{OPTION} is \"{flags}\", and KEA is needed")));
    };
    encode::command(connection.output(), &[b"PSUBSCRIBE", pattern.as_bytes()]);
    connection.flush().await?;
    // With RESP3 the confirmation is a push, else it is an array.
    match connection.message().await? {
        Value::Error(text) => {
            let refused = allow_refusal::<()>(Err(connection.server_error(text)))?;
            Ok(refused.map_err(|answer| format!("PSUBSCRIBE is refused: {answer}")))
        }
        _ => Ok(Ok(())),
    }
}

/// What to subscribe to with these flags; `None`: not every change would be told.
fn pattern(flags: &str) -> Option<&'static str> {
    let is_all = flags.contains('A') || CLASSES.chars().all(|class| flags.contains(class));
    match (is_all, flags.contains('E'), flags.contains('K')) {
        (true, true, _) => Some("__keyevent@*__:*"),
        (true, false, true) => Some("__keyspace@*__:*"),
        _ => None,
    }
}

/// What a message says; `None`: nothing of interest.
fn told(message: &Value) -> Option<Told> {
    let Some(parts) = message.as_list() else {
        let is_pong = message
            .as_bytes()
            .is_some_and(|text| text.as_ref() == b"PONG");
        return is_pong.then_some(Told::Pong);
    };
    let name = parts.first()?.as_bytes()?.as_ref();
    match (name, parts.get(1..)?) {
        (b"invalidate", [Value::Null]) => Some(Told::Everything),
        (b"invalidate", [keys]) => {
            let keys = keys.as_list()?.iter().filter_map(Value::as_bytes);
            let key = |name: &Bytes| ToldKey {
                db: None,
                name: name.clone(),
            };
            Some(Told::Keys(keys.map(key).collect()))
        }
        (b"pmessage", [_, channel, message]) => {
            let key = notified(channel.as_bytes()?, message.as_bytes()?)?;
            Some(Told::Keys(vec![key]))
        }
        // RESP2, while something is subscribed to.
        (b"pong", _) => Some(Told::Pong),
        _ => None,
    }
}

/// The key of `__keyevent@0__:set` with its name as the message, or of `__keyspace@0__:name`.
fn notified(channel: &Bytes, message: &Bytes) -> Option<ToldKey> {
    let (is_event, rest) = match channel.strip_prefix(b"__keyevent@") {
        Some(rest) => (true, rest),
        None => (false, channel.strip_prefix(b"__keyspace@")?),
    };
    let end = rest.windows(3).position(|part| part == b"__:")?;
    let db = std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()?;
    let name = match is_event {
        true => message.clone(),
        false => channel.slice_ref(rest.get(end + 3..)?),
    };
    Some(ToldKey { db: Some(db), name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Value {
        Value::Bulk(Bytes::from_static(text.as_bytes()))
    }

    fn key(db: Option<u32>, name: &'static str) -> ToldKey {
        let name = Bytes::from_static(name.as_bytes());
        ToldKey { db, name }
    }

    #[test]
    fn what_messages_say() {
        let message = |channel| vec![text("pmessage"), text("*"), text(channel), text("m:x")];
        let rows = [
            (
                Value::Push(vec![
                    text("invalidate"),
                    Value::Array(vec![text("a"), text("b")]),
                ]),
                Some(Told::Keys(vec![key(None, "a"), key(None, "b")])),
            ),
            (
                Value::Push(vec![text("invalidate"), Value::Null]),
                Some(Told::Everything),
            ),
            (Value::Simple("PONG".into()), Some(Told::Pong)),
            (Value::Array(vec![text("pong"), text("")]), Some(Told::Pong)),
            (
                Value::Push(message("__keyevent@12__:set")),
                Some(Told::Keys(vec![key(Some(12), "m:x")])),
            ),
            (
                Value::Array(message("__keyspace@0__:a__:b")),
                Some(Told::Keys(vec![key(Some(0), "a__:b")])),
            ),
            (Value::Array(message("news")), None),
            (Value::Array(message("__keyevent@x__:set")), None),
            (Value::Push(vec![text("psubscribe"), text("*")]), None),
            (Value::Array(Vec::new()), None),
            (Value::Simple("OK".into()), None),
        ];
        for (message, expected) in rows {
            assert_eq!(told(&message), expected, "{message:?}");
        }
    }

    #[test]
    fn settings_that_tell_every_change() {
        let rows = [
            ("AKE", Some("__keyevent@*__:*")),
            ("AE", Some("__keyevent@*__:*")),
            ("AK", Some("__keyspace@*__:*")),
            ("g$lshztxeE", Some("__keyevent@*__:*")),
            ("g$lshztxE", None),
            ("A", None),
            ("KEx", None),
            ("", None),
        ];
        for (flags, expected) in rows {
            assert_eq!(pattern(flags), expected, "{flags}");
        }
    }
}

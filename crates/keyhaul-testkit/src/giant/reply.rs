//! Asking two servers the same at the same time, and taking replies apart.

use std::collections::BTreeMap;

use redis::{Cmd, Connection, FromRedisValue, Value};

use crate::Server;

/// A connection to each of two servers.
pub(super) struct Both {
    pub(super) a: Connection,
    pub(super) b: Connection,
}

impl Both {
    pub(super) fn new(a: &Server, b: &Server) -> Both {
        Both {
            a: a.client(),
            b: b.client(),
        }
    }

    /// The replies to one command; both servers work on it at once.
    ///
    /// # Panics
    /// At an error reply.
    pub(super) fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> (T, T) {
        let packed = command.get_packed_command();
        for connection in [&mut self.a, &mut self.b] {
            connection
                .send_packed_command(&packed)
                .expect("the server takes commands");
        }
        (receive(&mut self.a), receive(&mut self.b))
    }
}

fn receive<T: FromRedisValue>(connection: &mut Connection) -> T {
    let reply = connection.recv_response().and_then(Value::extract_error);
    let reply = reply.unwrap_or_else(|error| panic!("a giant cannot be read: {error}"));
    parse(reply)
}

pub(super) fn parse<T: FromRedisValue>(reply: Value) -> T {
    T::from_redis_value(reply).unwrap_or_else(|error| panic!("an unexpected reply: {error}"))
}

/// Names and values in turn.
pub(super) fn fields(reply: Value) -> BTreeMap<String, Value> {
    let mut words = parse::<Vec<Value>>(reply).into_iter();
    let mut fields = BTreeMap::new();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        fields.insert(parse(name), value);
    }
    fields
}

/// The start of it, as it can be printed.
pub(super) fn show(bytes: &[u8]) -> String {
    const SHOWN_BYTES: usize = 40;
    let start = bytes.get(..SHOWN_BYTES).unwrap_or(bytes);
    format!("{} ({} bytes)", start.escape_ascii(), bytes.len())
}

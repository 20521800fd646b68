//! Reading types, expiry times and values, many keys in one round trip.

use std::fmt;

use redis::{Cmd, Pipeline, cmd};

use super::keyspace::{Keyspace, Name, Node};
use super::value::{self, Value};

/// What a server that computes a relative time may be off by, besides the time between two replies.
const CLOCK_SLACK_MS: i64 = 3;
/// PEXPIRETIME and PTTL of a key that does not expire.
const NO_EXPIRY: i64 = -1;

/// What is known of a key before its value is read.
pub(super) struct Head {
    pub(super) kind: String,
    pub(super) expiry: Expiry,
    /// As MEMORY USAGE estimates it; bounds how many values are read together.
    pub(super) memory_bytes: u64,
}

/// When a key expires: never, or within this range of Unix milliseconds; a range of one is exact.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Expiry(Option<(i64, i64)>);

impl Expiry {
    pub(super) fn agrees(&self, other: &Expiry, tolerance_ms: u64) -> bool {
        let tolerance_ms = i64::try_from(tolerance_ms).unwrap_or(i64::MAX / 4);
        match (self.0, other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => a.0 <= b.1 + tolerance_ms && b.0 <= a.1 + tolerance_ms,
            _ => false,
        }
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => write!(f, "no expiry"),
            Some((first, last)) if first == last => write!(f, "expires at {first}"),
            Some((first, last)) => write!(f, "expires between {first} and {last}"),
        }
    }
}

/// Type and expiry of each key; None where there is no such key.
pub(super) fn heads(keyspace: &mut Keyspace, names: &[Name]) -> Vec<Option<Head>> {
    let mut heads: Vec<Option<Head>> = names.iter().map(|_| None).collect();
    for ((node, db), indexes) in keyspace.group(names.iter().cloned()) {
        let node = keyspace.node(node);
        let expiry_command = if node.can.pexpiretime {
            "PEXPIRETIME"
        } else {
            "PTTL"
        };
        let mut pipe = redis::pipe();
        pipe.cmd("TIME");
        for &index in &indexes {
            let key = &names[index].key;
            pipe.cmd("TYPE").arg(key).cmd(expiry_command).arg(key);
            pipe.cmd("MEMORY").arg("USAGE").arg(key);
        }
        pipe.cmd("TIME");
        let mut replies = query(node, db, &pipe).into_iter();
        let mut next = || replies.next().expect("a reply for each command");
        let started_ms = unix_ms(next());
        let rows: Vec<(String, i64, u64)> = indexes
            .iter()
            .map(|_| {
                (
                    text(next()),
                    parse(next()),
                    parse::<Option<u64>>(next()).unwrap_or(0),
                )
            })
            .collect();
        let ended_ms = unix_ms(next());
        let exact = node.can.pexpiretime;
        for (index, (kind, number, memory_bytes)) in indexes.into_iter().zip(rows) {
            let expiry = Expiry(match number {
                _ if number <= NO_EXPIRY => None,
                at_ms if exact => Some((at_ms, at_ms)),
                ttl_ms => Some((
                    started_ms + ttl_ms - CLOCK_SLACK_MS,
                    ended_ms + ttl_ms + CLOCK_SLACK_MS,
                )),
            });
            heads[index] = (kind != "none").then_some(Head {
                kind,
                expiry,
                memory_bytes,
            });
        }
    }
    heads
}

/// The value of each key, whose type is given. Of the wrong type, or gone since: a panic.
pub(super) fn values(keyspace: &mut Keyspace, keys: &[(Name, &str)]) -> Vec<Value> {
    let mut values: Vec<Value> = keys.iter().map(|_| Value::Unreadable).collect();
    for ((node, db), indexes) in keyspace.group(keys.iter().map(|(name, _)| name.clone())) {
        let node = keyspace.node(node);
        let readable: Vec<(usize, Cmd)> = indexes
            .into_iter()
            .filter_map(|index| Some((index, read_command(&keys[index].0.key, keys[index].1)?)))
            .collect();
        let mut pipe = redis::pipe();
        for (_, command) in &readable {
            pipe.add_command(command.clone());
        }
        let replies = query(node, db, &pipe);
        for ((index, _), reply) in readable.iter().zip(replies) {
            values[*index] = Value::decode(keys[*index].1, reply);
        }
        if node.can.hpexpiretime {
            let indexes: Vec<usize> = readable.iter().map(|(index, _)| *index).collect();
            read_field_expiry(node, db, keys, &indexes, &mut values);
        }
        for (index, _) in &readable {
            if let Value::Vectors(members) = &mut values[*index] {
                read_vectors(node, db, &keys[*index].0.key, members);
            }
        }
    }
    values
}

/// How a value of this type is read whole; None for types that have no such command.
fn read_command(key: &[u8], kind: &str) -> Option<Cmd> {
    let (name, args): (&str, &[&str]) = match kind {
        "string" => ("GET", &[]),
        "list" => ("LRANGE", &["0", "-1"]),
        "set" => ("SMEMBERS", &[]),
        "hash" => ("HGETALL", &[]),
        "zset" => ("ZRANGE", &["0", "-1", "WITHSCORES"]),
        // All members, each once; their vectors and attributes follow by read_vectors.
        "vectorset" => ("VRANDMEMBER", &["1000000"]),
        // COUNT 0 means all entries and all pending ones.
        "stream" => {
            let mut command = cmd("XINFO");
            command
                .arg("STREAM")
                .arg(key)
                .arg("FULL")
                .arg("COUNT")
                .arg(0);
            return Some(command);
        }
        _ => return None,
    };
    let mut command = cmd(name);
    command.arg(key).arg(args);
    Some(command)
}

fn read_field_expiry(
    node: &mut Node,
    db: u32,
    keys: &[(Name, &str)],
    indexes: &[usize],
    values: &mut [Value],
) {
    let mut pipe = redis::pipe();
    let mut asked = Vec::new();
    for &index in indexes {
        if let Value::Hash(fields) = &values[index]
            && !fields.is_empty()
        {
            let names: Vec<&Vec<u8>> = fields.iter().map(|field| &field.name).collect();
            pipe.cmd("HPEXPIRETIME")
                .arg(&keys[index].0.key)
                .arg("FIELDS")
                .arg(names.len());
            pipe.arg(names);
            asked.push(index);
        }
    }
    for (index, reply) in asked.into_iter().zip(query(node, db, &pipe)) {
        if let Value::Hash(fields) = &mut values[index] {
            let times: Vec<i64> = parse(reply);
            for (field, at_ms) in fields.iter_mut().zip(times) {
                field.expire_at_ms = Some(at_ms).filter(|&at_ms| at_ms > NO_EXPIRY);
            }
        }
    }
}

/// Puts the vector as text, as the server shows it, and the attributes beside each member.
fn read_vectors(node: &mut Node, db: u32, key: &[u8], members: &mut [(Vec<u8>, String)]) {
    let mut pipe = redis::pipe();
    for (member, _) in members.iter() {
        pipe.cmd("VEMB").arg(key).arg(member);
        pipe.cmd("VGETATTR").arg(key).arg(member);
    }
    let mut replies = query(node, db, &pipe).into_iter();
    for (_, shown) in members {
        let vector: Vec<String> = parse(replies.next().expect("a reply for each command"));
        let attributes: Option<String> = parse(replies.next().expect("a reply for each command"));
        *shown = format!("{} {}", vector.join(" "), attributes.unwrap_or_default());
    }
}

fn query(node: &mut Node, db: u32, pipe: &Pipeline) -> Vec<redis::Value> {
    // The client refuses to send nothing.
    if pipe.cmd_iter().next().is_none() {
        return Vec::new();
    }
    pipe.query(node.connection(db))
        .unwrap_or_else(|error| panic!("reading db {db}: {error}"))
}

fn unix_ms(time: redis::Value) -> i64 {
    let (seconds, micros): (i64, i64) = parse(time);
    seconds * 1000 + micros / 1000
}

fn text(reply: redis::Value) -> String {
    String::from_utf8(value::bytes(reply)).expect("the server writes text here")
}

fn parse<T: redis::FromRedisValue>(reply: redis::Value) -> T {
    T::from_redis_value(reply).unwrap_or_else(|error| panic!("an unexpected reply: {error}"))
}

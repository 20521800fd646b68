//! Whether two servers hold the same giant: every element of it, read window by window.
//!
//! Where elements have an order both sides are read in it. Fields of a hash and members of a set are
//! found on one side and looked up on the other; with the same number on both sides nothing is
//! missed, and what SCAN shows twice does no harm.

use redis::{Cmd, Value, cmd};

use super::compare_stream;
use super::reply::{Both, parse, show};
use crate::Server;

/// Elements per window.
const WINDOW: u64 = 5000;
/// Bytes per window of a string.
const WINDOW_BYTES: u64 = 4 << 20;

/// The first difference, if there is one.
pub(super) type Compared = Result<(), String>;

/// Fails, and says what the first difference is, unless both hold this key of db 0 alike.
///
/// # Panics
/// If they do not.
#[track_caller]
pub fn assert_same(a: &Server, b: &Server, key: &str) {
    if let Some(difference) = difference(a, b, key) {
        panic!("{key} at {} and {}: {difference}", a.uri(), b.uri());
    }
}

/// The first difference between what two servers hold of this key of db 0: type, expiry time,
/// elements, and what else belongs to a stream. The expiry of hash fields is not looked at. None
/// also where neither has such a key.
///
/// # Panics
/// If a server does not answer.
pub fn difference(a: &Server, b: &Server, key: &str) -> Option<String> {
    let mut both = Both::new(a, b);
    compare(&mut both, key).err()
}

fn compare(both: &mut Both, key: &str) -> Compared {
    let kinds: (String, String) = both.ask(cmd("TYPE").arg(key));
    equal("type", &kinds)?;
    let expiry: (i64, i64) = both.ask(cmd("PEXPIRETIME").arg(key));
    equal("expiry time", &expiry)?;
    match kinds.0.as_str() {
        "none" => Ok(()),
        "hash" => looked_up(both, key, &HASH),
        "set" => looked_up(both, key, &SET),
        "zset" => {
            let count = length(both, "ZCARD", key)?;
            windows(both, count, |first, last| {
                let mut command = cmd("ZRANGE");
                command.arg(key).arg(first).arg(last).arg("WITHSCORES");
                command
            })
        }
        "list" => {
            let count = length(both, "LLEN", key)?;
            windows(both, count, |first, last| {
                let mut command = cmd("LRANGE");
                command.arg(key).arg(first).arg(last);
                command
            })
        }
        "string" => string(both, key),
        "stream" => compare_stream::compare(both, key),
        other => panic!("no giant is a {other}"),
    }
}

/// Fails unless both sides say the same.
pub(super) fn equal<T: PartialEq + std::fmt::Debug>(what: &str, values: &(T, T)) -> Compared {
    if values.0 == values.1 {
        return Ok(());
    }
    Err(format!("{what}: {:?} and {:?}", values.0, values.1))
}

/// The number of elements, which must be the same.
fn length(both: &mut Both, command: &str, key: &str) -> Result<u64, String> {
    let lengths: (u64, u64) = both.ask(cmd(command).arg(key));
    equal(command, &lengths)?;
    Ok(lengths.0)
}

/// Reads `count` elements by rank, first and last included. Scores are compared as the same bits:
/// servers write the same score in more than one way.
fn windows(both: &mut Both, count: u64, command: impl Fn(u64, u64) -> Cmd) -> Compared {
    for first in (0..count).step_by(WINDOW as usize) {
        let command = command(first, first + WINDOW - 1);
        let scored = command.args_iter().count() > 4;
        let (ours, theirs): (Vec<Vec<u8>>, Vec<Vec<u8>>) = both.ask(&command);
        equal("elements in a window", &(ours.len(), theirs.len()))?;
        for (index, (one, other)) in ours.iter().zip(&theirs).enumerate() {
            let same = match scored && index % 2 == 1 {
                true => score(one) == score(other),
                false => one == other,
            };
            if !same {
                let rank = first + index as u64 / if scored { 2 } else { 1 };
                return Err(format!("at {rank}: {} and {}", show(one), show(other)));
            }
        }
    }
    Ok(())
}

fn score(text: &[u8]) -> u64 {
    let score: Option<f64> = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok());
    score.expect("a score is a number").to_bits()
}

fn string(both: &mut Both, key: &str) -> Compared {
    let bytes = length(both, "STRLEN", key)?;
    for first in (0..bytes).step_by(WINDOW_BYTES as usize) {
        let last = first + WINDOW_BYTES - 1;
        let (ours, theirs): (Vec<u8>, Vec<u8>) =
            both.ask(cmd("GETRANGE").arg(key).arg(first).arg(last));
        if ours != theirs {
            let at = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
            return Err(format!("from byte {}", first + at as u64));
        }
    }
    Ok(())
}

/// A type without order: how it is counted, read, and looked up.
struct Unordered {
    length: &'static str,
    scan: &'static str,
    lookup: &'static str,
    /// A scan shows a value after each name.
    has_values: bool,
}

const HASH: Unordered = Unordered {
    length: "HLEN",
    scan: "HSCAN",
    lookup: "HMGET",
    has_values: true,
};
const SET: Unordered = Unordered {
    length: "SCARD",
    scan: "SSCAN",
    lookup: "SMISMEMBER",
    has_values: false,
};

fn looked_up(both: &mut Both, key: &str, kind: &Unordered) -> Compared {
    length(both, kind.length, key)?;
    let mut cursor = 0_u64;
    loop {
        let mut scan = cmd(kind.scan);
        scan.arg(key).arg(cursor).arg("COUNT").arg(WINDOW);
        let (next, words): (u64, Vec<Vec<u8>>) =
            scan.query(&mut both.a).expect("the key has this type");
        let step = if kind.has_values { 2 } else { 1 };
        let names: Vec<&Vec<u8>> = words.iter().step_by(step).collect();
        if !names.is_empty() {
            let found: Vec<Value> = cmd(kind.lookup)
                .arg(key)
                .arg(&names)
                .query(&mut both.b)
                .expect("the key has this type");
            assert_eq!(found.len(), names.len(), "{}", kind.lookup);
            for (element, found) in words.chunks(step).zip(found) {
                let same = match element {
                    [_, value] => matches!(&found, Value::BulkString(there) if there == value),
                    _ => parse::<u64>(found) == 1,
                };
                if !same {
                    let name = element.first().map(|name| show(name));
                    return Err(format!(
                        "{} is not there, or another",
                        name.unwrap_or_default()
                    ));
                }
            }
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

//! Hashes, sorted sets, lists and sets: filled until MEMORY USAGE shows the size asked for.

use redis::cmd;

use super::elements::Elements;
use super::pipe::Pipe;
use super::{Giant, GiantKind, memory_usage};
use crate::Server;

/// Payload of one command.
const COMMAND_BYTES: usize = 64 * 1024;
/// The size is looked at so many times on the way to it, which is how exact it becomes.
const LOOKS: u64 = 100;

pub(super) fn fill(giant: &Giant, server: &Server) {
    let mut elements = Elements::new(giant.seed);
    let mut pipe = Pipe::new(server);
    let look_bytes = giant.bytes / LOOKS;
    let command_bytes =
        usize::try_from(look_bytes).map_or(COMMAND_BYTES, |bytes| bytes.min(COMMAND_BYTES));
    let mut sent_bytes = 0;
    loop {
        sent_bytes += push(giant, &mut elements, &mut pipe, command_bytes);
        if sent_bytes < look_bytes {
            continue;
        }
        sent_bytes = 0;
        if memory_usage(pipe.settle(), &giant.key) >= Some(giant.bytes) {
            return;
        }
    }
}

/// Sends one command of at least so many bytes; says how many.
fn push(giant: &Giant, elements: &mut Elements, pipe: &mut Pipe, command_bytes: usize) -> u64 {
    let mut command = cmd(match giant.kind {
        GiantKind::Hash => "HSET",
        GiantKind::Zset => "ZADD",
        GiantKind::List => "RPUSH",
        GiantKind::Set => "SADD",
        GiantKind::Text | GiantKind::Stream => unreachable!("no collection"),
    });
    command.arg(&giant.key);
    let mut bytes = 0;
    while bytes <= command_bytes {
        bytes += match giant.kind {
            GiantKind::Hash => {
                let field = format!("field:{:016x}", elements.distinct());
                let value = elements.noise(100..=500);
                command.arg(&field).arg(&value);
                field.len() + value.len()
            }
            GiantKind::Zset => {
                let member = elements.distinct_noise(60..=100);
                command.arg(elements.score()).arg(&member);
                member.len()
            }
            _ => {
                let element = elements.distinct_noise(100..=500);
                command.arg(&element);
                element.len()
            }
        };
    }
    pipe.push(&command);
    bytes as u64
}

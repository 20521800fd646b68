//! Strings, and what lives in strings: bitmaps and HyperLogLogs. The raw material of other types
//! too.

use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use redis::{Cmd, ToSingleRedisArg, cmd};

const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789 ";
/// Arguments of one command.
const ARGS_MAX: usize = 500;

pub(super) fn set(key: &[u8], value: impl ToSingleRedisArg) -> Vec<Cmd> {
    let mut command = cmd("SET");
    command.arg(key).arg(value);
    vec![command]
}

/// Short, but not in the encoding of short strings, since it has been changed.
pub(super) fn appended(key: &[u8]) -> Vec<Cmd> {
    let mut command = cmd("APPEND");
    command.arg(key).arg("more");
    let mut commands = set(key, "and ");
    commands.push(command);
    commands
}

/// A few bits far apart, so that most bytes are zero.
pub(super) fn bitmap(key: &[u8], rng: &mut StdRng) -> Vec<Cmd> {
    let bits = (0..20).map(|_| rng.random_range(0..80_000_u32));
    bits.map(|bit| {
        let mut command = cmd("SETBIT");
        command.arg(key).arg(bit).arg(1);
        command
    })
    .collect()
}

pub(super) fn hyperloglog(key: &[u8], elements: usize, rng: &mut StdRng) -> Vec<Cmd> {
    let elements: Vec<Vec<u8>> = (0..elements).map(|_| noise(rng, 8)).collect();
    chunked("PFADD", key, &elements)
}

/// The command with at most 500 of the arguments, then again with the next.
pub(super) fn chunked(name: &str, key: &[u8], args: &[Vec<u8>]) -> Vec<Cmd> {
    args.chunks(ARGS_MAX)
        .map(|args| {
            let mut command = cmd(name);
            command.arg(key).arg(args);
            command
        })
        .collect()
}

/// Text of 1 to `bytes_max` bytes.
pub(super) fn text(rng: &mut StdRng, bytes_max: usize) -> Vec<u8> {
    let length = rng.random_range(1..=bytes_max);
    (0..length)
        .map(|_| LETTERS[rng.random_range(0..LETTERS.len())])
        .collect()
}

/// Bytes that do not compress.
pub(super) fn noise(rng: &mut StdRng, bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    rng.fill_bytes(&mut noise);
    noise
}

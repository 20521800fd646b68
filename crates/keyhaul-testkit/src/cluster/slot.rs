//! Slots: which one a key belongs to, and which ones a node says it owns.

use redis::{Connection, cmd};

/// The slot of a key: CRC16 (XMODEM) of its hash tag, or of all of it, modulo 16384.
pub fn key_slot(key: &[u8]) -> u16 {
    crc16(hash_tag(key)) % 16384
}

/// What stands between the first `{` and the next `}`, if anything does; else the whole key.
fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else {
        return key;
    };
    let rest = &key[open + 1..];
    match rest.iter().position(|&byte| byte == b'}') {
        Some(length) if length > 0 => &rest[..length],
        _ => key,
    }
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            }
        })
    })
}

/// The slots that the node owns in its own view; none if it is a replica.
pub(crate) fn owned_slots(connection: &mut Connection) -> Vec<u16> {
    let nodes: String = cmd("CLUSTER")
        .arg("NODES")
        .query(connection)
        .expect("CLUSTER NODES is answered");
    let myself = nodes
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields[2].contains("myself"))
        .expect("a node knows itself");
    // Eight fields, then ranges; slots on the move stand in brackets after them.
    myself[8..]
        .iter()
        .filter(|range| !range.starts_with('['))
        .flat_map(|range| parse(range))
        .collect()
}

fn parse(range: &str) -> std::ops::RangeInclusive<u16> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| {
        text.parse::<u16>()
            .unwrap_or_else(|_| panic!("not a slot: {text}"))
    };
    number(first)..=number(last)
}

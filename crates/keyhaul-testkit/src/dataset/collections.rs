//! Lists, sets and hashes.

use rand::RngExt;
use rand::rngs::StdRng;
use redis::{Cmd, cmd};

use super::strings::{chunked, noise, text};
use super::{EXPIRY_FIRST_MS, EXPIRY_SPREAD_MS};

/// Elements above 8 KB have a node of their own in a quicklist.
const LARGE_ELEMENT_BYTES: usize = 20_000;

pub(super) fn list_small(key: &[u8], rng: &mut StdRng) -> Vec<Cmd> {
    let mut elements: Vec<Vec<u8>> = (0..5).map(|_| text(rng, 30)).collect();
    elements.extend([
        Vec::new(),
        b"twice".to_vec(),
        b"twice".to_vec(),
        b"\0\xff\r\n".to_vec(),
    ]);
    chunked("RPUSH", key, &elements)
}

/// Integers of every width that compact encodings know.
pub(super) fn list_ints(key: &[u8], rng: &mut StdRng) -> Vec<Cmd> {
    let edges = [
        0, 12, 13, -1, 127, 128, -128, 4095, -4096, 32767, -32768, 8_388_607, -8_388_608,
    ];
    let wide = [
        i64::from(i32::MAX),
        i64::from(i32::MIN),
        i64::MAX,
        i64::MIN,
        rng.random(),
    ];
    let texts: Vec<Vec<u8>> = edges
        .into_iter()
        .chain(wide)
        .map(|number| number.to_string().into_bytes())
        .collect();
    chunked("RPUSH", key, &texts)
}

pub(super) fn list_large_element(key: &[u8], rng: &mut StdRng) -> Vec<Cmd> {
    let elements = [
        text(rng, 30),
        noise(rng, LARGE_ELEMENT_BYTES),
        text(rng, 30),
    ];
    chunked("RPUSH", key, &elements)
}

/// Many nodes.
pub(super) fn list_large(key: &[u8], rng: &mut StdRng) -> Vec<Cmd> {
    let elements: Vec<Vec<u8>> = (0..5000).map(|_| text(rng, 60)).collect();
    chunked("RPUSH", key, &elements)
}

/// Integers in `-limit..limit`, one of them large enough to need that many bits.
pub(super) fn set_ints(key: &[u8], count: usize, limit: i64, rng: &mut StdRng) -> Vec<Cmd> {
    let mut members: Vec<Vec<u8>> = (0..count)
        .map(|_| rng.random_range(-limit..limit).to_string().into_bytes())
        .collect();
    members.push((limit - 1).to_string().into_bytes());
    chunked("SADD", key, &members)
}

pub(super) fn set_texts(key: &[u8], count: usize, rng: &mut StdRng) -> Vec<Cmd> {
    let mut members: Vec<Vec<u8>> = (0..count).map(|_| text(rng, 30)).collect();
    members.extend([Vec::new(), b"\0\xff\r\n".to_vec(), b"17".to_vec()]);
    chunked("SADD", key, &members)
}

pub(super) fn hash(key: &[u8], count: usize, value_bytes: usize, rng: &mut StdRng) -> Vec<Cmd> {
    let mut args: Vec<Vec<u8>> = (0..count)
        .flat_map(|index| [format!("field{index}").into_bytes(), text(rng, value_bytes)])
        .collect();
    args.extend([Vec::new(), b"of the empty field".to_vec()]);
    args.extend([
        b"\0\xff\r\n".to_vec(),
        Vec::new(),
        b"42".to_vec(),
        b"-42".to_vec(),
    ]);
    chunked("HSET", key, &args)
}

/// Lets two fields of [`hash`] expire at different times.
pub(super) fn expire_fields(key: &[u8], rng: &mut StdRng) -> Vec<Cmd> {
    let fields: [&[u8]; 2] = [b"field0", b"\0\xff\r\n"];
    fields
        .into_iter()
        .map(|field| {
            let mut command = cmd("HPEXPIREAT");
            command
                .arg(key)
                .arg(EXPIRY_FIRST_MS + rng.random_range(1..EXPIRY_SPREAD_MS));
            command.arg("FIELDS").arg(1).arg(field);
            command
        })
        .collect()
}

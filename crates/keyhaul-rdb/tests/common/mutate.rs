//! Seeded damage, and the clock that says how long to go on with it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keyhaul_rdb::{FOOTER_BYTES, crc64};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Set to 1 for minutes instead of seconds.
const LONG: &str = "KEYHAUL_TEST_LONG";
/// How long a test goes on then.
const LONG_RUN: Duration = Duration::from_secs(300);
/// Set to the seed of one round to run that alone.
const SEED: &str = "KEYHAUL_TEST_SEED";
/// The first seed of a normal run.
const FIRST_SEED: u64 = 0x6b65_7968_6175_6c02;

/// Calls `body` with one seed after the other until the time is over. A round that takes longer than a
/// minute ends the process: it hangs.
pub(crate) fn rounds(name: &str, normal: Duration, mut body: impl FnMut(&mut StdRng)) {
    let is_long = std::env::var(LONG).is_ok_and(|value| value == "1");
    let only = std::env::var(SEED)
        .ok()
        .map(|seed| seed.parse::<u64>().unwrap());
    let clock = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos() as u64
    };
    let first = only.unwrap_or(if is_long { clock() } else { FIRST_SEED });
    let length = if is_long { LONG_RUN } else { normal };
    eprintln!("{name}: seeds from {first}");
    let current = Arc::new(AtomicU64::new(first));
    watch(name, &current);
    let begin = Instant::now();
    let mut seed = first;
    while begin.elapsed() < length {
        current.store(seed, Ordering::Relaxed);
        let mut random = StdRng::seed_from_u64(seed);
        let round = catch_unwind(AssertUnwindSafe(|| body(&mut random)));
        if let Err(panic) = round {
            eprintln!("{name}: it was {SEED}={seed}");
            resume_unwind(panic);
        }
        if only.is_some() {
            return;
        }
        seed = seed.wrapping_add(1);
    }
    eprintln!("{name}: {} rounds", seed.wrapping_sub(first));
}

fn watch(name: &str, current: &Arc<AtomicU64>) {
    let (name, current) = (name.to_owned(), Arc::downgrade(current));
    std::thread::spawn(move || {
        let mut last = None;
        while let Some(current) = current.upgrade() {
            let seed = current.load(Ordering::Relaxed);
            drop(current);
            if last == Some(seed) {
                eprintln!("{name}: it hangs in {SEED}={seed}");
                std::process::abort();
            }
            last = Some(seed);
            std::thread::sleep(Duration::from_secs(60));
        }
    });
}

/// Numbers at which lengths change their form, and such as overflow when something is added.
const NUMBERS: [u64; 20] = [
    0,
    1,
    0x3f,
    0x40,
    0x7f,
    0x80,
    0xfd,
    0xfe,
    0xff,
    0x3fff,
    0x4000,
    0xffff,
    0x0020_0000,
    0x2000_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    i64::MAX as u64,
    u64::MAX,
];

/// Damages `bytes` in one to four places; what is put in may come from `other`.
pub(crate) fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut StdRng) {
    for _ in 0..random.random_range(1..=4) {
        let at = random.random_range(0..=bytes.len());
        let len = match random.random_range(0..4) {
            0 => random.random_range(0..=bytes.len()),
            _ => random.random_range(1..=16),
        };
        let end = at.saturating_add(len).min(bytes.len());
        match random.random_range(0..11) {
            0 | 1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.random_range(0..8);
                }
            }
            2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.random();
                }
            }
            3 => {
                let new: Vec<u8> = (0..len.min(64)).map(|_| random.random()).collect();
                bytes.splice(at..at, new);
            }
            4 => {
                bytes.drain(at..end);
            }
            5 => {
                let copy = bytes[at..end].to_vec();
                let to = random.random_range(0..=bytes.len());
                bytes.splice(to..to, copy);
            }
            6 => bytes[at..end].fill(0xff),
            7 => bytes[at..end].fill(0),
            8 => {
                let number = number(random);
                let end = at.saturating_add(number.len()).min(bytes.len());
                bytes.splice(at..end, number);
            }
            9 => {
                let number = number(random);
                bytes.splice(at..at, number);
            }
            _ => {
                let from = random.random_range(0..=other.len());
                let upto = from.saturating_add(len).min(other.len());
                bytes.splice(at..end, other[from..upto].iter().copied());
            }
        }
    }
}

/// A number as it lies in one place or another.
fn number(random: &mut StdRng) -> Vec<u8> {
    let number = NUMBERS[random.random_range(0..NUMBERS.len())];
    let be = number.to_be_bytes();
    match random.random_range(0..7) {
        0 => [&[0x80], &be[4..]].concat(),
        1 => [&[0x81], &be[..]].concat(),
        2 => [&[0xc3, 0x80], &be[4..]].concat(),
        3 => number.to_le_bytes()[..4].to_vec(),
        4 => number.to_le_bytes().to_vec(),
        5 => be[6..].to_vec(),
        _ => vec![be[7]],
    }
}

/// Makes the checksum at the end of a file right, if it has one.
pub(crate) fn fix_file_checksum(bytes: &mut [u8]) {
    if let Some((covered, checksum)) = bytes.split_last_chunk_mut::<8>() {
        *checksum = crc64(covered).to_le_bytes();
    }
}

/// Makes the checksum of a payload right.
pub(crate) fn fix_payload_checksum(payload: &mut [u8]) {
    if payload.len() >= FOOTER_BYTES {
        fix_file_checksum(payload);
    }
}

/// A payload as a server makes it.
pub(crate) fn payload_of(type_byte: u8, value: &[u8], version: u16) -> Vec<u8> {
    let mut payload = [&[type_byte], value, &version.to_le_bytes()].concat();
    let checksum = crc64(&payload);
    payload.extend(checksum.to_le_bytes());
    payload
}

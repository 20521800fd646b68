//! Memory that a report on keys with random prefixes takes, as the kernel counts it. The only test of its file: others
//! at its side would be counted too. `KEYHAUL_TEST_LONG=1` takes ten million keys instead of 400,000.

#![allow(clippy::print_stderr, reason = "a test")]

use std::fs;

use keyhaul_engine::stats::KeyFacts;
use keyhaul_engine::stats::report::{PrefixRow, ReportBuilder, ReportOptions, SizeKind};
use keyhaul_rdb::KeyType;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const LONG: &str = "KEYHAUL_TEST_LONG";
const SEED: u64 = 0x6b65_7968_6175_6c06;
/// What the whole process may hold.
const MEMORY_MAX: usize = 100 << 20;
/// What a builder may take when it is written down, bytes.
const TEXT_MAX: usize = 10 << 20;
/// One key of so many has a prefix that comes again.
const PLANTED_OF: u64 = 500;
/// How many prefixes these share.
const PLANTED: u64 = 4;

#[test]
fn ten_million_random_prefixes_stay_in_bounds() {
    let keys: u64 = match std::env::var_os(LONG) {
        Some(_) => 10_000_000,
        None => 400_000,
    };
    let mut random = StdRng::seed_from_u64(SEED);
    let mut builder = ReportBuilder::new(ReportOptions::new(SizeKind::Memory, 0));
    let (mut bytes, mut planted) = (0, [(0, 0); PLANTED as usize]);
    for n in 0..keys {
        let size_bytes = random.random_range(60..200);
        bytes += size_bytes;
        // They come when much was folded already.
        let name = if n % PLANTED_OF == 0 && n > keys / 2 {
            let number = n / PLANTED_OF % PLANTED;
            planted[number as usize].0 += 1;
            planted[number as usize].1 += size_bytes;
            format!("planted-{number}:{n}")
        } else {
            format!(
                "{:x}:{:x}:{n}",
                random.random::<u64>(),
                random.random::<u32>()
            )
        };
        builder.take(&KeyFacts {
            db: 0,
            key: name.as_bytes(),
            key_type: Some(KeyType::Hash),
            encoding: Some("listpack"),
            size_bytes,
            elements: Some(n % 100),
            expire_at_ms: None,
        });
    }
    let text = builder.to_text();
    eprintln!("written down: {} bytes", text.len());
    assert!(text.len() < TEXT_MAX);
    drop(text);
    let report = builder.finish();
    let peak = peak_memory();
    eprintln!("{keys} keys: {peak:?} bytes of memory at most");
    assert!(peak.is_none_or(|peak| peak < MEMORY_MAX));
    assert_eq!(
        (report.totals.sum.keys, report.totals.sum.bytes),
        (keys, bytes)
    );
    check_sums(&report.prefixes);
    for (number, sum) in planted.into_iter().enumerate() {
        let name = format!("planted-{number}");
        let row = report.prefixes.children.iter().find(|row| row.name == name);
        let row = row.unwrap_or_else(|| panic!("{name} is not shown"));
        // Once it is larger than one key of another prefix it stays: at most a few are in `other`.
        let missed = sum.0 - row.sum.keys;
        eprintln!(
            "{name}: {missed} of {} keys in `other`, said to be {:?} at most",
            sum.0, row.missed_max
        );
        assert!(missed <= 5 && missed <= row.missed_max.keys);
        assert!(sum.1 - row.sum.bytes <= row.missed_max.bytes);
    }
}

fn check_sums(row: &PrefixRow) {
    let parts = || {
        [row.here, row.other]
            .into_iter()
            .chain(row.children.iter().map(|child| child.sum))
    };
    assert_eq!(row.sum.keys, parts().map(|sum| sum.keys).sum::<u64>());
    assert_eq!(row.sum.bytes, parts().map(|sum| sum.bytes).sum::<u64>());
    row.children.iter().for_each(check_sums);
}

/// The most resident memory so far, bytes; `None` where the kernel does not tell.
fn peak_memory() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: usize = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes << 10)
}

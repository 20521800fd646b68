//! How fast one core goes through an RDB: `cargo bench -p keyhaul-rdb`. Part of `make bench`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that prints a table"
)]

use std::time::Instant;

use keyhaul_rdb::{
    Checksum, Crc64, Decoder, END_MARK, Event, Form, RawValue, RecordHead, check_value, crc64,
    encode_db, encode_header, encode_record_head,
};

/// Keys of the file: strings of 100 bytes, and listpacks of 20 fields.
const STRINGS: u32 = 1_000_000;
const HASHES: u32 = 200_000;
/// Bytes that are fed at a time, as from a file.
const PORTION_BYTES: usize = 512 * 1024;
const RUNS: usize = 5;

fn main() {
    let file = file();
    let gigabytes = file.len() as f64 / 1e9;
    println!(
        "an RDB of {:.0} MB with {} keys, best of {RUNS} runs on one core",
        gigabytes * 1e3,
        STRINGS + HASHES
    );
    let show = |name: &str, work: &dyn Fn()| {
        let seconds = (0..RUNS).map(|_| {
            let began = Instant::now();
            work();
            began.elapsed().as_secs_f64()
        });
        let best = seconds.fold(f64::INFINITY, f64::min);
        println!("{name:<44} {:>6.2} GB/s", gigabytes / best);
    };
    show("CRC64", &|| {
        // Over the checksum itself, too, it comes to nothing.
        assert_eq!(std::hint::black_box(crc64(&file)), 0);
    });
    show("CRC64 in portions of 100 bytes", &|| {
        let mut crc = Crc64::default();
        file.chunks(100).for_each(|part| crc.update(part));
        assert_eq!(std::hint::black_box(crc.value()), 0);
    });
    show("skip-through, checksum trusted", &|| {
        decode(&file, Checksum::Trust, Take::Nothing);
    });
    show("skip-through, checksum verified", &|| {
        decode(&file, Checksum::Verify, Take::Nothing);
    });
    show("small records, checksum verified", &|| small(&file));
    show("every value raw", &|| {
        decode(&file, Checksum::Trust, Take::Raw)
    });
    show("every value checked, checksum verified", &|| {
        decode(&file, Checksum::Verify, Take::Checked);
    });
}

/// The way of most records: borrowed from the input.
fn small(file: &[u8]) {
    let mut decoder = Decoder::new(Checksum::Verify);
    let mut portions = file.chunks(PORTION_BYTES);
    let (mut records, mut others) = (0, 0);
    loop {
        while let Some(record) = decoder.small_record(PORTION_BYTES).unwrap() {
            std::hint::black_box(record.value);
            records += 1;
        }
        match decoder.next_event().unwrap() {
            None => match portions.next() {
                Some(portion) => decoder.input().extend_from_slice(portion),
                None => break,
            },
            Some(Event::Record(_)) => others += 1,
            Some(_) => {}
        }
    }
    assert_eq!(records + others, STRINGS + HASHES);
    assert!(
        others < records / 100,
        "{others} records went the other way"
    );
}

#[derive(Clone, Copy)]
enum Take {
    Nothing,
    Raw,
    Checked,
}

fn decode(file: &[u8], checksum: Checksum, take: Take) {
    let mut decoder = Decoder::new(checksum);
    let mut portions = file.chunks(PORTION_BYTES);
    let mut records = 0;
    loop {
        match decoder.next_event().unwrap() {
            None => match portions.next() {
                Some(portion) => decoder.input().extend_from_slice(portion),
                None => break,
            },
            Some(Event::Record(record)) => {
                records += 1;
                if matches!(take, Take::Nothing) {
                    continue;
                }
                let value = loop {
                    match decoder.raw_value(usize::MAX).unwrap() {
                        Some(RawValue::Whole(value)) => break value,
                        Some(_) => unreachable!("values are small"),
                        None => decoder.input().extend_from_slice(portions.next().unwrap()),
                    }
                };
                if matches!(take, Take::Checked) {
                    check_value(record.form, &value).unwrap();
                }
            }
            Some(_) => {}
        }
    }
    assert_eq!(records, STRINGS + HASHES);
}

/// As a server of version 7.2 would write it.
fn file() -> Vec<u8> {
    let mut out = Vec::new();
    encode_header(&mut out, 11);
    encode_db(&mut out, 0);
    for n in 0..STRINGS {
        head(&mut out, format!("string:{n}").as_bytes(), Form::String);
        out.extend_from_slice(&[0x40, 100]);
        out.extend_from_slice(format!("{n:0>100}").as_bytes());
    }
    for n in 0..HASHES {
        head(&mut out, format!("hash:{n}").as_bytes(), Form::HashListpack);
        let listpack = listpack(n);
        let [high, low] = u16::try_from(listpack.len()).unwrap().to_be_bytes();
        out.extend_from_slice(&[0x40 | high, low]);
        out.extend_from_slice(&listpack);
    }
    out.extend_from_slice(&END_MARK);
    let checksum = crc64(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

fn head(out: &mut Vec<u8>, key: &[u8], form: Form) {
    let head = RecordHead {
        key,
        form,
        expire_at_ms: None,
        idle_s: None,
        freq: None,
    };
    encode_record_head(out, head);
}

fn listpack(n: u32) -> Vec<u8> {
    let mut entries = Vec::new();
    for field in 0..20 {
        for text in [format!("field:{field}"), format!("value:{n}")] {
            let bytes = u8::try_from(text.len()).unwrap();
            entries.push(0x80 | bytes);
            entries.extend_from_slice(text.as_bytes());
            entries.push(bytes + 1);
        }
    }
    let mut out = u32::try_from(entries.len() + 7)
        .unwrap()
        .to_le_bytes()
        .to_vec();
    out.extend_from_slice(&40u16.to_le_bytes());
    out.extend(entries);
    out.push(0xff);
    out
}

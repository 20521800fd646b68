//! Memory that values of at most 64 KB take, as the kernel counts it. The only test of its file: others
//! at its side would be counted too.
//!
//! What bounds it: one compressed byte becomes at most 88 (264 bytes by an instruction of three), and a
//! packed value lies in memory unpacked, once. Then, for each byte of that:
//!
//! - elements are told one by one and take nothing, but those of a stream's entry are held together: its
//!   smallest field takes four bytes there, and in memory two items, in a vector that may have grown to
//!   twice its need;
//! - re-encoded, two bytes (an item of a listpack) become at most six (half of a member and its score),
//!   and the node of a list lies there twice more.
//!
//! Names that may stand once are remembered by 16 bytes each, 2^18 of them at most.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests"
)]

mod common;

use common::{fixtures, mutate, payload_of, records};
use keyhaul_rdb::{
    Checksum, Decoder, FieldExpiry, Form, Modules, Reader, Reencoder, StreamDetail,
    WRITABLE_VERSION_FIRST, canonical, check_value,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const INPUT_BYTES_MAX: usize = 64 * 1024;
/// Bytes that one compressed byte becomes at most.
const EXPANSION: usize = 88;
/// For each byte unpacked: itself, and what is written anew.
const VALUE_FACTOR: usize = 6;
/// For each byte unpacked: itself, and the fields of an entry.
const STREAM_FACTOR: usize = 26;
/// What the names that were remembered take, and what the allocator keeps.
const SLACK_BYTES: usize = 8 << 20;
/// Passed over: a buffer that grew to its input, and what AUX fields become.
const FILE_BYTES_MAX: usize = (EXPANSION + 4) * INPUT_BYTES_MAX + (1 << 20);

/// How many files and values are damaged.
const ROUNDS: u64 = 1000;
const SEED: u64 = 0x6b65_7968_6175_6c03;

#[test]
fn memory_is_bounded_by_the_input() {
    let mut files: Vec<Vec<u8>> = fixtures().into_iter().map(|one| one.bytes).collect();
    files.retain(|file| file.len() <= INPUT_BYTES_MAX / 2);
    let values: Vec<(Form, Vec<u8>)> = records()
        .into_iter()
        .map(|(_, _, record, value)| (record.form, value))
        .collect();
    let Some(begin) = status("VmRSS") else {
        eprintln!("SKIPPED: there is no /proc/self/status here");
        return;
    };
    let spread_before = status("VmPeak").unwrap();
    let peak = |what: &str, bytes_max: usize, run: &dyn Fn()| {
        // Sets the highest mark to what is resident now.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        run();
        let used = status("VmHWM").unwrap().saturating_sub(begin);
        eprintln!("{what}: {} KB, at most {} KB", used >> 10, bytes_max >> 10);
        assert!(used <= bytes_max, "{what} took {used} bytes");
    };
    let aux = huge_aux();
    peak("aux", FILE_BYTES_MAX, &|| {
        assert_eq!(pass_over(&aux), 3, "header, aux, end");
    });
    for promise in promises() {
        pass_over(&promise);
    }
    for form in Form::all() {
        every_way(form, PROMISE);
    }
    let spread = || status("VmPeak").unwrap() - spread_before;
    assert!(
        spread() < PROMISED_BYTES / 2,
        "{} bytes of address space",
        spread()
    );
    eprintln!("seed {SEED}");
    peak("damaged files", FILE_BYTES_MAX, &|| damaged_files(&files));
    let value_max = |factor: usize, bytes: usize| factor * EXPANSION * bytes + SLACK_BYTES;
    let bytes_max = value_max(VALUE_FACTOR, INPUT_BYTES_MAX);
    peak("damaged values", bytes_max, &|| damaged_values(&values));
    for form in [
        Form::ListQuicklist2,
        Form::ZsetListpack,
        Form::HashListpackExpiring,
    ] {
        let value = many_items(form);
        canonical(form, &value, 1, StreamDetail::Basic).unwrap();
        let bytes_max = value_max(VALUE_FACTOR, value.len());
        peak(&format!("{form:?}"), bytes_max, &|| every_way(form, &value));
    }
    for (name, node) in [("one entry", one_entry()), ("one master", one_master())] {
        let value = [b"\x01\x10", &[0; 16][..], &node, &[1], &[0; 8]].concat();
        let bytes_max = value_max(STREAM_FACTOR, value.len());
        peak(name, bytes_max, &|| {
            check_value(Form::Stream2, &value).unwrap()
        });
    }
}

/// A field of `/proc/self/status`, bytes.
fn status(field: &str) -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mut lines = status.lines();
    let text = lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kilobytes: usize = text.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes << 10)
}

/// Number of events of a file that is skipped.
fn pass_over(file: &[u8]) -> usize {
    let mut decoder = Decoder::new(Checksum::Trust);
    decoder.input().extend_from_slice(file);
    let mut events = 0;
    while let Ok(Some(_)) = decoder.next_event() {
        events += 1;
    }
    events
}

fn damaged_files(files: &[Vec<u8>]) {
    let mut random = StdRng::seed_from_u64(SEED);
    for _ in 0..ROUNDS {
        let mut file = files[random.random_range(0..files.len())].clone();
        let other = &files[random.random_range(0..files.len())];
        mutate(&mut file, other, &mut random);
        file.truncate(INPUT_BYTES_MAX);
        pass_over(&file);
    }
}

fn damaged_values(values: &[(Form, Vec<u8>)]) {
    let mut random = StdRng::seed_from_u64(SEED);
    for _ in 0..ROUNDS {
        let (form, value) = &values[random.random_range(0..values.len())];
        let other = &values[random.random_range(0..values.len())].1;
        let mut value = value.clone();
        mutate(&mut value, other, &mut random);
        value.truncate(INPUT_BYTES_MAX);
        every_way(*form, &value);
    }
}

/// All that is done with values, one after the other.
fn every_way(form: Form, value: &[u8]) {
    let _ = check_value(form, value);
    let _ = canonical(form, value, 1, StreamDetail::ActiveTimes);
    for to in Form::all() {
        if let Ok(mut reencoder) = Reencoder::new(form, to, FieldExpiry::Drop) {
            let _ = reencoder.push(value, &mut Vec::new());
        }
    }
    let reader = Reader {
        rdb_version: WRITABLE_VERSION_FIRST,
        modules: Modules::Any,
        field_expiry: FieldExpiry::Drop,
    };
    let payload = payload_of(form.type_byte(), value, 12);
    let _ = reader.convert(&payload, &mut Vec::new());
}

/// What so few bytes cannot become, though it is no longer than what may be held.
const PROMISED_BYTES: usize = 0x1f00_0000;
/// A string of so many bytes, compressed into four.
const PROMISE: &[u8] = b"\xc3\x04\x80\x1f\x00\x00\x00\x01ab\xe0";

/// Files with that string wherever one may stand.
fn promises() -> Vec<Vec<u8>> {
    let heads: [&[u8]; 5] = [b"\xfa", b"\xfa\x01a", b"\xf5", b"\x00", b"\x00\x01k"];
    let file = |head: &&[u8]| [b"REDIS0011", *head, PROMISE].concat();
    heads.iter().map(file).collect()
}

/// A file of one AUX field, whose name and value become as much as they can.
fn huge_aux() -> Vec<u8> {
    let text = || Compressed::default().literal(b"ab").repeat(10_400, 1);
    let (name, value) = (text().finish(), text().finish());
    [b"REDIS0011\xfa", &name[..], &value, b"\xff", &[0; 8]].concat()
}

/// Of a value of 32 KB, for the sake of time: memory grows in step with the input.
const INSTRUCTIONS: usize = 10_800;
/// Bytes that one becomes.
const REPEATED_BYTES: usize = 264;

/// A packed value of as many items as can be: the integer 127 in two bytes.
fn many_items(form: Form) -> Vec<u8> {
    // A number that is divided by two and by three, as that of each instruction.
    let items = b"\x7f\x01".repeat(6);
    let bytes = 6 + items.len() + INSTRUCTIONS * REPEATED_BYTES + 1;
    let packed = Compressed::default()
        .literal(&header(bytes))
        .literal(&items)
        .repeat(INSTRUCTIONS, 2)
        .literal(b"\xff")
        .finish();
    let head: &[u8] = match form {
        Form::ListQuicklist2 => b"\x01\x02",
        Form::HashListpackExpiring => &[1, 0, 0, 0, 0, 0, 0, 0],
        _ => b"",
    };
    [head, &packed].concat()
}

/// A node of a stream whose only entry has as many fields as can be.
fn one_entry() -> Vec<u8> {
    let items = 2 + INSTRUCTIONS * REPEATED_BYTES / 2;
    // Count, deleted, fields, end | flags, ms, seq.
    let head = b"\x01\x01\x00\x01\x00\x01\x00\x01\x00\x01\x00\x01\x00\x01";
    let (count, behind) = (number(items / 2), number(items + 4));
    let bytes = 6 + head.len() + count.len() + 2 * items + behind.len() + 1;
    Compressed::default()
        .literal(&header(bytes))
        .literal(head)
        .literal(&count)
        .literal(b"\x00\x01\x00\x01")
        .repeat(INSTRUCTIONS, 2)
        .literal(&behind)
        .literal(b"\xff")
        .finish()
}

/// The same, its fields named by the master entry.
fn one_master() -> Vec<u8> {
    let fields = 1 + INSTRUCTIONS / 2 * REPEATED_BYTES / 2;
    let (count, behind) = (number(fields), number(fields + 3));
    let end_and_entry = b"\x00\x01\x02\x01\x00\x01\x00\x01";
    let bytes = 6 + 4 + count.len() + 4 * fields + end_and_entry.len() + behind.len() + 1;
    Compressed::default()
        .literal(&header(bytes))
        .literal(b"\x01\x01\x00\x01")
        .literal(&count)
        .literal(b"\x00\x01")
        .repeat(INSTRUCTIONS / 2, 2)
        .literal(end_and_entry)
        .literal(b"\x00\x01")
        .repeat(INSTRUCTIONS / 2, 2)
        .literal(&behind)
        .literal(b"\xff")
        .finish()
}

/// Of a listpack that does not count its items.
fn header(bytes: usize) -> Vec<u8> {
    let bytes = u32::try_from(bytes).unwrap().to_le_bytes();
    [&bytes[..], &[0xff; 2]].concat()
}

/// An item of a listpack, 32 bits.
fn number(number: usize) -> Vec<u8> {
    let bytes = u32::try_from(number).unwrap().to_le_bytes();
    [&[0xf3], &bytes[..], &[5]].concat()
}

/// A string, compressed by hand.
#[derive(Default)]
struct Compressed {
    instructions: Vec<u8>,
    bytes: usize,
}

impl Compressed {
    fn literal(mut self, bytes: &[u8]) -> Self {
        self.instructions
            .push(u8::try_from(bytes.len() - 1).unwrap());
        self.instructions.extend_from_slice(bytes);
        self.bytes += bytes.len();
        self
    }

    /// So many times 264 bytes from `distance` before.
    fn repeat(mut self, times: usize, distance: u8) -> Self {
        self.instructions
            .extend([0xe0, 0xff, distance - 1].repeat(times));
        self.bytes += times * REPEATED_BYTES;
        self
    }

    /// With lengths in front.
    fn finish(self) -> Vec<u8> {
        let length = |length: usize| {
            let bytes = u32::try_from(length).unwrap().to_be_bytes();
            [&[0x80], &bytes[..]].concat()
        };
        let lengths = [length(self.instructions.len()), length(self.bytes)].concat();
        [&[0xc3], &lengths[..], &self.instructions].concat()
    }
}

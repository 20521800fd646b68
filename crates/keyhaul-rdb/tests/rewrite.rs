//! Writing: files anew, payloads for every version, and values in other forms.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests"
)]

mod common;

use common::{decode, fixtures, lines, payload_of, payloads, records, reduced};
use keyhaul_rdb::{
    Converted, END_MARK, FieldExpiry, Form, KeyType, Modules, Reader, RecordHead, Reencoder,
    Refusal, Route, StreamDetail, WRITABLE_VERSIONS, check_value, crc64, encode_aux, encode_db,
    encode_function, encode_header, encode_record_head, holds_functions, open, payload_rdb_version,
    reads_form, reads_version, route, verify_checksum,
};

/// A file of the same version that holds the same, written without Redis.
#[test]
fn files_written_anew_hold_the_same() {
    for fixture in fixtures() {
        let Ok(file) = decode(&fixture.bytes, 4096, usize::MAX) else {
            continue;
        };
        let mut out = Vec::new();
        encode_header(&mut out, file.version);
        assert_eq!(out, fixture.bytes[..9], "{}", fixture.name);
        for (name, value) in &file.aux {
            encode_aux(&mut out, name, value);
        }
        for code in &file.functions {
            assert!(holds_functions(file.version));
            encode_function(&mut out, code);
        }
        let mut db = None;
        for (record, value) in &file.records {
            if db.replace(record.db) != Some(record.db) {
                encode_db(&mut out, record.db);
            }
            let head = RecordHead {
                key: &record.key,
                form: record.form,
                expire_at_ms: record.expire_at_ms,
                idle_s: record.idle_s,
                freq: record.freq,
            };
            encode_record_head(&mut out, head);
            out.extend_from_slice(value);
        }
        out.extend(END_MARK);
        if file.version >= 5 {
            out.extend(crc64(&out).to_le_bytes());
        }
        let again = decode(&out, 100, 64).unwrap_or_else(|e| panic!("{}: {e}", fixture.name));
        assert_eq!(
            again.has_checksum,
            Some(file.version >= 5),
            "{}",
            fixture.name
        );
        assert_eq!(again.version, file.version);
        assert_eq!((&again.aux, &again.functions), (&file.aux, &file.functions));
        assert_eq!(again.records.len(), file.records.len());
        for ((mut one, value), (other, expected)) in again.records.into_iter().zip(&file.records) {
            // Lengths may be encoded otherwise in front of it.
            one.offset = other.offset;
            assert_eq!((&one, &value), (other, expected), "{}", fixture.name);
        }
    }
}

fn reader(rdb_version: u16, modules: Modules, field_expiry: FieldExpiry) -> Reader {
    Reader {
        rdb_version,
        modules,
        field_expiry,
    }
}

fn fields_expire(lines: &[String]) -> bool {
    lines
        .iter()
        .any(|line| line.starts_with("field\t") && !line.ends_with("\t-"))
}

/// What is left of a value in a form that knows less.
fn kept(lines: &[String], to: Form) -> Vec<String> {
    let is_hash = [Form::Hash, Form::HashListpack, Form::HashZiplist].contains(&to);
    let drop_expiry = |line: String| match line.rsplit_once('\t') {
        Some((field, _)) if is_hash => format!("{field}\t-"),
        _ => line,
    };
    let reduced = reduced(lines, StreamDetail::of(to)).into_iter();
    reduced.map(drop_expiry).collect()
}

/// Every record of every file, for every version that can be written, by both policies.
#[test]
fn every_value_for_every_version() {
    let (mut written, mut refused, mut reencoded) = (0, 0, 0);
    for (name, version, record, value) in records() {
        let before = lines(record.form, &value).unwrap();
        for target in WRITABLE_VERSIONS {
            for field_expiry in [FieldExpiry::Refuse, FieldExpiry::Drop] {
                let case = format!("{name}: {:?} to {target}, {field_expiry:?}", record.form);
                let reader = reader(target, Modules::Any, field_expiry);
                let mut out = b"kept".to_vec();
                let result = reader.encode(record.form, version, &value, &mut out);
                let knows_expiry = target == 12 || target == 80;
                let is_lost = fields_expire(&before) && !knows_expiry;
                if is_lost && field_expiry == FieldExpiry::Refuse {
                    assert_eq!(result, Err(Refusal::FieldExpiry), "{case}");
                    assert_eq!(out, b"kept", "{case}");
                    refused += 1;
                    continue;
                }
                result.unwrap_or_else(|e| panic!("{case}: {e}"));
                let payload = out.strip_prefix(b"kept").unwrap();
                verify_checksum(payload).unwrap();
                assert_eq!(payload_rdb_version(payload), Some(target), "{case}");
                let (to, _, again) = open(payload).unwrap();
                assert!(reads_form(target, to), "{case}: {to:?} is not known there");
                check_value(to, again).unwrap_or_else(|e| panic!("{case}: {to:?}: {e}"));
                let after = lines(to, again).unwrap();
                assert_eq!(kept(&after, to), kept(&before, to), "{case}: {to:?}");
                let loses_expiry = fields_expire(&before) && !fields_expire(&after);
                assert_eq!(loses_expiry, is_lost, "{case}: {to:?}");
                if to == record.form {
                    assert_eq!(again, value, "{case}");
                }
                written += 1;
                reencoded += usize::from(to != record.form);
            }
        }
    }
    let counts = (written > 8000, refused >= 36, reencoded > 600);
    assert_eq!(
        counts,
        (true, true, true),
        "{written} {refused} {reencoded}"
    );
}

/// `convert` does the same to payloads, and leaves alone what can be read as it is.
#[test]
fn every_payload_for_every_version() {
    for payload in payloads() {
        let (form, version, value) = open(&payload.bytes).unwrap();
        for target in WRITABLE_VERSIONS {
            let case = format!("{} of {} to {target}", payload.key, payload.file);
            let reader = reader(target, Modules::Any, FieldExpiry::Refuse);
            let (mut out, mut expected) = (Vec::new(), Vec::new());
            let result = reader.convert(&payload.bytes, &mut out);
            if route(form, version, target) == Route::Pass {
                assert_eq!((result, out.len()), (Ok(Converted::Unchanged), 0), "{case}");
                assert!(
                    reads_form(target, form) && reads_version(target, version),
                    "{case}"
                );
                continue;
            }
            let encoded = reader.encode(form, version, value, &mut expected);
            assert_eq!(result, encoded.map(|()| Converted::Written), "{case}");
            assert_eq!(out, expected, "{case}");
            // What it vouches for by a checksum, it has verified before.
            let mut damaged = payload.bytes.clone();
            damaged[payload.bytes.len() / 2] ^= 0x10;
            let result = reader.convert(&damaged, &mut out);
            assert!(
                matches!(result, Err(Refusal::Damaged(_))),
                "{case}: {result:?}"
            );
            assert_eq!(out, expected, "{case}");
        }
    }
}

#[test]
fn modules_go_where_they_are_known() {
    let mut seen = Vec::new();
    for (name, version, record, value) in records() {
        if record.form.key_type() != KeyType::Module {
            continue;
        }
        let payload = payload_of(record.form.type_byte(), &value, version);
        let is_vectors = name.contains("vectorset");
        seen.push(is_vectors);
        for target in WRITABLE_VERSIONS {
            for modules in [Modules::None, Modules::VectorSets, Modules::Any] {
                let reader = reader(target, modules, FieldExpiry::Refuse);
                let is_admitted = match modules {
                    Modules::None => false,
                    Modules::VectorSets => is_vectors,
                    Modules::Any => true,
                };
                let result = reader.convert(&payload, &mut Vec::new());
                let encoded = reader.encode(record.form, version, &value, &mut Vec::new());
                if is_admitted {
                    assert!(
                        result.is_ok() && encoded.is_ok(),
                        "{name} {target} {modules:?}"
                    );
                    continue;
                }
                let type_name = if is_vectors { "vectorset" } else { "graphdata" };
                let refusal = Refusal::Module(type_name.to_owned());
                assert_eq!(result, Err(refusal.clone()), "{name} {target} {modules:?}");
                assert_eq!(encoded, Err(refusal), "{name} {target} {modules:?}");
            }
        }
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [false, true], "vector sets and another module");
}

/// A value that comes in portions becomes the same bytes.
#[test]
fn reencoding_in_portions() {
    let mut forms = Vec::new();
    for (name, _, record, value) in records()
        .iter()
        .filter(|(_, _, _, value)| value.len() < 3000)
    {
        for to in Form::all() {
            let Ok(whole) = reencoded(record.form, to, value, value.len()) else {
                continue;
            };
            for portion in (1..=value.len()).filter(|portion| *portion < 40 || portion % 37 == 0) {
                let parts = reencoded(record.form, to, value, portion);
                assert_eq!(
                    parts.as_ref(),
                    Ok(&whole),
                    "{name} to {to:?}, {portion} at a time"
                );
            }
            forms.push((record.form.type_byte(), to.type_byte()));
        }
    }
    forms.sort_unstable();
    forms.dedup();
    let expected = [
        (16, 4),
        (17, 5),
        (18, 14),
        (19, 15),
        (20, 2),
        (21, 15),
        (21, 19),
        (22, 4),
        (22, 24),
        (24, 4),
        (24, 22),
        (25, 4),
        (25, 22),
    ];
    assert_eq!(forms, expected, "type bytes, from and to");
}

/// The value anew, fed in portions; `Err`: there is no such way.
fn reencoded(from: Form, to: Form, value: &[u8], portion: usize) -> Result<Vec<u8>, ()> {
    let mut reencoder = Reencoder::new(from, to, FieldExpiry::Drop).map_err(|_| ())?;
    let (mut out, mut used, mut known) = (Vec::new(), 0, 0);
    while known < value.len() {
        known = (known + portion).min(value.len());
        used += reencoder.push(&value[used..known], &mut out).unwrap();
    }
    assert!(
        reencoder.is_done() && used == value.len(),
        "{from:?} to {to:?}"
    );
    Ok(out)
}

/// Long strings and plain items pass in parts (above 256 KB), raw and compressed.
#[test]
fn long_strings_pass_in_parts() {
    let long = |len: usize| -> Vec<u8> {
        let head = u32::try_from(len).unwrap().to_be_bytes();
        let mut text = [&[0x80], &head[..]].concat();
        text.extend((0..len).map(|at| (at * 31 / 7) as u8));
        text
    };
    // 9,000,000 bytes: "ab", then again and again 264 bytes from two before; 102,272 instructions.
    let count = 34_091;
    let bytes = u32::try_from(2 + count * 264).unwrap();
    let compressed_bytes = u32::try_from(3 + count * 3).unwrap();
    let mut compressed = [&[0xc3, 0x80], &compressed_bytes.to_be_bytes()[..]].concat();
    compressed.extend([&[0x80], &bytes.to_be_bytes()[..]].concat());
    compressed.extend(b"\x01ab");
    compressed.extend(b"\xe0\xff\x01".repeat(count));
    let plain = [b"\x02\x01", &long(300_000)[..], b"\x01", &compressed].concat();
    let field = [b"\x01\x05", &long(400_000)[..], &compressed].concat();
    let expiring = [&[1, 0, 0, 0, 0, 0, 0, 0][..], &field].concat();
    let rows = [
        (Form::ListQuicklist2, Form::ListQuicklist, plain),
        (Form::HashExpiring, Form::Hash, expiring.clone()),
        (Form::HashExpiring, Form::HashExpiringValkey, expiring),
    ];
    for (from, to, value) in rows {
        let before = lines(from, &value).unwrap();
        let whole = reencoded(from, to, &value, value.len()).unwrap();
        assert!(
            kept(&lines(to, &whole).unwrap(), to) == kept(&before, to),
            "{from:?} to {to:?}"
        );
        for portion in [1000, 65_536] {
            let parts = reencoded(from, to, &value, portion).unwrap();
            assert!(
                parts == whole,
                "{from:?} to {to:?} in portions of {portion}"
            );
        }
    }
}

//! Files and payloads of real servers are what the servers say they are.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Truth, decode, fixtures, lines_in_portions, payloads, records};
use keyhaul_rdb::{Flaw, Form, check_value, open, verify_checksum};

/// Sizes of portions, odd ones and one that holds every file.
const PORTIONS: [usize; 7] = [1, 3, 7, 61, 1021, 4096, 1 << 20];

#[test]
fn files_hold_what_the_server_tells() {
    let mut files = 0;
    for fixture in fixtures() {
        let Some(text) = &fixture.truth else {
            continue;
        };
        let expected = Truth::parse(text);
        for portion in PORTIONS {
            let case = format!("{} in portions of {portion}", fixture.name);
            let file = decode(&fixture.bytes, portion, usize::MAX);
            let file = file.unwrap_or_else(|e| panic!("{case}: {e}"));
            let got = Truth::of(&file);
            let names = |truth: &Truth| -> Vec<(u32, String)> {
                truth
                    .keys
                    .iter()
                    .map(|key| (key.db, key.key.clone()))
                    .collect()
            };
            assert_eq!(got.head, expected.head, "{case}");
            assert_eq!(names(&got), names(&expected), "{case}");
            for (got, expected) in got.keys.iter().zip(&expected.keys) {
                assert_eq!(got, expected, "{case}");
            }
            let has_checksum = file.version >= 5 && !fixture.name.contains("nochecksum");
            assert_eq!(file.has_checksum, Some(has_checksum), "{case}");
        }
        files += 1;
    }
    assert!(files >= 44, "only {files} files have a truth");
}

/// What the files tell apart from their keys.
#[test]
fn what_else_stands_in_files() {
    let (mut modules, mut versions) = (BTreeMap::new(), BTreeSet::new());
    for fixture in fixtures() {
        let Ok(file) = decode(&fixture.bytes, 4096, usize::MAX) else {
            continue;
        };
        versions.insert(file.version);
        let aux = |name: &[u8]| file.aux.iter().any(|(other, _)| &other[..] == name);
        let is_told = aux(b"redis-ver") || aux(b"valkey-ver");
        assert_eq!(is_told, file.version >= 7, "{}", fixture.name);
        if !file.module_aux.is_empty() {
            modules.insert(fixture.name, file.module_aux);
        }
    }
    let expected: [(&str, &[&str]); 2] = [
        // Before the keys, and behind them.
        ("redis-8.2.3/dump-module.rdb", &["graphdata", "graphdata"]),
        (
            "redis-rdb-tools/redis_60_with_module_aux.rdb",
            &["test__rdb"],
        ),
    ];
    let modules: Vec<(&str, Vec<&str>)> = modules
        .iter()
        .map(|(name, modules)| (name.as_str(), modules.iter().map(String::as_str).collect()))
        .collect();
    assert_eq!(
        modules,
        expected.map(|(name, modules)| (name, modules.to_vec()))
    );
    let known: Vec<u16> = versions.into_iter().collect();
    assert_eq!(known, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 80]);
}

#[test]
fn every_real_value_is_sound() {
    let mut forms = BTreeSet::new();
    for (name, _, record, value) in records() {
        if let Err(e) = check_value(record.form, &value) {
            panic!("{name}: {:?}: {e}", record.form);
        }
        forms.insert(record.form.type_byte());
    }
    // 6, 22 and 23 of Redis are those of release candidates; 22 is Valkey's here.
    let expected = (0..26).filter(|byte| ![6, 8, 23].contains(byte));
    let missing: Vec<u8> = expected.filter(|byte| !forms.contains(byte)).collect();
    assert_eq!(missing, [], "no fixture has these forms");
}

#[test]
fn values_in_portions_have_the_same_elements() {
    let limit = common::Limit(usize::MAX);
    for (name, _, record, value) in records()
        .iter()
        .filter(|(_, _, _, value)| value.len() < 6000)
    {
        let whole = common::lines(record.form, value).unwrap();
        for portion in [1, 2, 5, 31] {
            let parts = lines_in_portions(record.form, value, &mut || portion, limit);
            assert_eq!(
                parts.as_ref(),
                Ok(&whole),
                "{name} in portions of {portion}"
            );
        }
    }
}

/// DUMP gives the bytes that the file has, with a footer.
#[test]
fn payloads_hold_what_the_file_holds() {
    let mut values = BTreeMap::new();
    for (name, version, record, value) in records() {
        values.insert(name, (version, record.form, value));
    }
    let payloads = payloads();
    for payload in &payloads {
        let name = format!("{} db {} {}", payload.file, payload.db, payload.key);
        let (form, version, value) = open(&payload.bytes).unwrap();
        verify_checksum(&payload.bytes).unwrap();
        check_value(form, value).unwrap();
        assert_eq!(
            Some(&(version, form, value.to_vec())),
            values.get(&name),
            "{name}"
        );
        let mut damaged = payload.bytes.clone();
        damaged[1] ^= 1;
        assert!(verify_checksum(&damaged).is_err(), "{name}");
    }
    assert!(payloads.len() > 400, "only {} payloads", payloads.len());
}

/// A file without a truth: it was taken from a link, and the mark that ends it there, 40 bytes, was kept.
#[test]
fn bytes_behind_the_end() {
    let name = "redis-rdb-tools/redis_40_with_module.rdb";
    let mut bytes = fixtures()
        .into_iter()
        .find(|one| one.name == name)
        .unwrap()
        .bytes;
    let error = decode(&bytes, 64, usize::MAX).unwrap_err();
    assert_eq!((error.offset, error.flaw), (248, Flaw::Trailing));
    bytes.truncate(248);
    let file = decode(&bytes, 64, usize::MAX).unwrap();
    let key = |at: usize| -> (&[u8], Form, &[u8]) {
        let (record, value) = &file.records[at];
        (&record.key, record.form, value)
    };
    assert_eq!(file.records.len(), 2);
    assert_eq!(
        key(0),
        (&b"simplekey"[..], Form::String, &b"\x07someval"[..])
    );
    assert_eq!(
        (key(1).0, key(1).1, key(1).2.len()),
        (&b"foo"[..], Form::Module, 44)
    );
}

/// Damage of the kinds that happen to files, at a place that is known.
#[test]
fn damaged_files_say_where() {
    let fixtures = fixtures();
    let fixture = fixtures
        .iter()
        .find(|one| one.name == "redis-7.0.15/dump.rdb")
        .unwrap();
    let file = decode(&fixture.bytes, 4096, usize::MAX).unwrap();
    let len = fixture.bytes.len() as u64;
    let check = |bytes: &[u8], offset: u64, flaw: &Flaw| {
        for portion in PORTIONS {
            let error = decode(bytes, portion, usize::MAX).unwrap_err();
            assert_eq!(
                (error.offset, &error.flaw),
                (offset, flaw),
                "in portions of {portion}"
            );
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("at byte {offset}: "))
            );
        }
    };
    check(&fixture.bytes[..100], 100, &Flaw::Truncated);
    check(b"", 0, &Flaw::Magic);
    check(b"PK\x03\x04", 0, &Flaw::Magic);
    check(&[&fixture.bytes[..], b"x"].concat(), len, &Flaw::Trailing);
    for (record, _) in &file.records {
        let mut bytes = fixture.bytes.clone();
        let at = usize::try_from(record.offset).unwrap();
        bytes[at] = 200;
        check(&bytes, record.offset, &Flaw::Type(200, 10));
        bytes[at] = record.form.type_byte();
        assert_eq!(bytes, fixture.bytes, "the offset is that of the type byte");
        // The key's length.
        bytes[at + 1] = 0xff;
        check(&bytes, record.offset, &Flaw::StringCoding(63));
    }
    let (mut bytes, end) = (fixture.bytes.clone(), fixture.bytes.len() - 9);
    bytes[end + 8] ^= 1;
    let error = decode(&bytes, 4096, usize::MAX).unwrap_err();
    assert_eq!(error.offset, end as u64);
    assert!(matches!(error.flaw, Flaw::Checksum { .. }), "{error}");
}

/// What stands before a key counts for it alone, but the db for all that follow.
#[test]
fn what_stands_before_a_key() {
    // Seconds, 32 bits; milliseconds, 64 bits.
    let seconds = [&b"\xfd"[..], &1_700_000_000u32.to_le_bytes()].concat();
    let long_past = [&b"\xfd"[..], &(-1i32).to_le_bytes()].concat();
    let milliseconds = [&b"\xfc"[..], &1_700_000_000_123u64.to_le_bytes()].concat();
    let never_zero = [&b"\xfc"[..], &[0; 8]].concat();
    /// Bytes before the key; db, expiry, idle time and frequency of it.
    type Row<'a> = (&'a [u8], u32, Option<i64>, Option<u64>, Option<u8>);
    let rows: [Row<'_>; 8] = [
        (b"", 0, None, None, None),
        (&seconds, 0, Some(1_700_000_000_000), None, None),
        (&milliseconds, 0, Some(1_700_000_000_123), None, None),
        (&never_zero, 0, Some(1), None, None),
        (&long_past, 0, Some(1), None, None),
        (b"\xfe\x09\xf8\x41\x00", 9, None, Some(256), None),
        (b"\xf9\xff", 9, None, None, Some(255)),
        (
            b"\xfe\x80\x00\x01\x00\x00\xfb\x01\x00",
            65536,
            None,
            None,
            None,
        ),
    ];
    let mut file = b"REDIS0009".to_vec();
    for (before, ..) in rows {
        // And again without: nothing is left over.
        file.extend([before, b"\x00\x01k\x01v", b"\x00\xc0\x05\x01w"].concat());
    }
    file.extend([0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    for portion in PORTIONS {
        let records = decode(&file, portion, usize::MAX).unwrap().records;
        for (at, (_, db, expire_at_ms, idle_s, freq)) in rows.into_iter().enumerate() {
            let about = |record: &keyhaul_rdb::Record| {
                (record.db, record.expire_at_ms, record.idle_s, record.freq)
            };
            let [(one, _), (next, _)] = &records[2 * at..2 * at + 2] else {
                panic!("two records");
            };
            assert_eq!(about(one), (db, expire_at_ms, idle_s, freq), "row {at}");
            assert_eq!(about(next), (db, None, None, None), "behind row {at}");
            assert_eq!((&one.key[..], &next.key[..]), (&b"k"[..], &b"5"[..]));
        }
    }
}

//! The canonical form of values: the same for what the servers tell the same, in whatever form it lies.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests"
)]

mod common;

use std::collections::HashMap;

use common::{Payload, Truth, fixtures, lines, payloads, records, reduced};
use keyhaul_rdb::{
    Canonical, CanonicalReader, Form, KeyType, StreamDetail, canonical, open, same_value,
};

const SEED: u64 = 17;
const DETAILS: [StreamDetail; 3] = [
    StreamDetail::Basic,
    StreamDetail::Offsets,
    StreamDetail::ActiveTimes,
];

/// Of all pairs of keys in all files: the digests are equal exactly where the truths are.
///
/// Equality carries over from pair to pair, so that two maps say the same as all pairs.
#[test]
fn digests_differ_where_the_truth_does() {
    let mut truths = HashMap::new();
    for fixture in fixtures() {
        for key in Truth::parse(fixture.truth.as_deref().unwrap_or_default()).keys {
            let name = format!("{} db {} {}", fixture.name, key.db, key.key);
            truths.insert(name, (key.type_name, key.lines));
        }
    }
    for detail in DETAILS {
        let mut by_truth: HashMap<(String, Vec<String>), (u128, String)> = HashMap::new();
        let mut by_digest: HashMap<u128, (Vec<String>, String)> = HashMap::new();
        let (mut same, mut count) = (0, 0);
        for (name, _, record, value) in records() {
            // Of a module's value nothing but its bytes is known.
            let is_known = record.form.key_type() != KeyType::Module;
            if !is_known || StreamDetail::of(record.form) < detail {
                continue;
            }
            let Some((type_name, lines)) = truths.get(&name) else {
                continue;
            };
            let lines = reduced(lines, detail);
            let digest = canonical(record.form, &value, SEED, detail).unwrap();
            assert_eq!(digest.key_type.name(), type_name, "{name}");
            count += 1;
            let key = (type_name.clone(), lines.clone());
            if let Some((other, other_name)) = by_truth.get(&key) {
                assert_eq!(digest.digest, *other, "{name} is {other_name}, {detail:?}");
                same += 1;
            }
            by_truth.insert(key, (digest.digest, name.clone()));
            if let Some((other, other_name)) = by_digest.get(&digest.digest) {
                assert_eq!(lines, *other, "{name} is not {other_name}, {detail:?}");
            }
            by_digest.insert(digest.digest, (lines, name));
        }
        assert!(
            same > 300 && count - same > 100,
            "{same} of {count} are equal to another"
        );
    }
}

/// Where servers of two versions tell the same of a key, their payloads are the same value.
#[test]
fn payloads_of_all_versions_compare() {
    let payloads = payloads();
    let by_name = |name: &str| -> Vec<&Payload> {
        payloads
            .iter()
            .filter(|payload| payload.key == name)
            .collect()
    };
    let mut unlike = 0;
    for payload in &payloads {
        let (form, _, value) = open(&payload.bytes).unwrap();
        for other in by_name(&payload.key) {
            let (other_form, _, other_value) = open(&other.bytes).unwrap();
            if KeyType::Module == form.key_type() || other.db != payload.db {
                continue;
            }
            let detail = StreamDetail::of(form).min(StreamDetail::of(other_form));
            let told = |form, value| reduced(&lines(form, value).unwrap(), detail);
            let expected = told(form, value) == told(other_form, other_value);
            let case = format!("{} of {} and {}", payload.key, payload.file, other.file);
            assert_eq!(same_value(&payload.bytes, &other.bytes), expected, "{case}");
            unlike += usize::from(form != other_form && expected);
        }
    }
    assert!(
        unlike > 300,
        "only {unlike} pairs are of the same value in two forms"
    );
}

#[test]
fn portions_and_seeds() {
    for (name, _, record, value) in records() {
        let whole = canonical(record.form, &value, SEED, StreamDetail::ActiveTimes).unwrap();
        for portion in [1, 3, 17].into_iter().filter(|_| value.len() < 6000) {
            let parts = in_portions(record.form, &value, portion);
            assert_eq!(parts, Some(whole), "{name} in portions of {portion}");
        }
        let other = canonical(record.form, &value, SEED + 1, StreamDetail::ActiveTimes).unwrap();
        assert_eq!(other.elements, whole.elements);
        assert!(
            other.digest != whole.digest || whole.elements == 0,
            "{name}"
        );
    }
}

fn in_portions(form: Form, value: &[u8], portion: usize) -> Option<Canonical> {
    let mut reader = CanonicalReader::new(form, SEED, StreamDetail::ActiveTimes).unwrap();
    let (mut used, mut known) = (0, 0);
    while known < value.len() {
        known = (known + portion).min(value.len());
        used += reader.push(&value[used..known]).unwrap();
    }
    assert_eq!(used, value.len());
    reader.finish()
}

/// Lengths stand before texts, so that elements cannot run into each other.
#[test]
fn bounds_of_elements_count() {
    let digest = |form, value: &[u8]| canonical(form, value, SEED, StreamDetail::Basic).unwrap();
    let rows: [(Form, &[u8], &[u8]); 8] = [
        // Each of the first two has the letter in its text that stands before the other's item.
        (Form::List, b"\x02\x02ai\x01b", b"\x02\x01a\x02ib"),
        (Form::List, b"\x02\x02ab\x01c", b"\x02\x01a\x02bc"),
        (Form::List, b"\x02\x01a\x01b", b"\x02\x01b\x01a"),
        (Form::Set, b"\x02\x02ab\x01c", b"\x02\x01a\x02bc"),
        (Form::Hash, b"\x01\x02av\x01c", b"\x01\x01a\x02vc"),
        // Swapped values have the same fields and the same values.
        (
            Form::Hash,
            b"\x02\x01a\x01x\x01b\x01y",
            b"\x02\x01a\x01y\x01b\x01x",
        ),
        (
            Form::HashExpiringOld,
            b"\x01\x05\x01a\x01x",
            b"\x01\x06\x01a\x01x",
        ),
        (
            Form::HashExpiringOld,
            b"\x01\x05\x01a\x01x",
            b"\x01\x00\x01a\x01x",
        ),
    ];
    for (form, one, other) in rows {
        assert_ne!(digest(form, one), digest(form, other), "{form:?}");
    }
    let never = digest(Form::HashExpiringOld, b"\x01\x00\x01a\x01x");
    assert_eq!(never, digest(Form::Hash, b"\x01\x01a\x01x"));
    let sets: [&[u8]; 2] = [b"\x02\x01a\x01b", b"\x02\x01b\x01a"];
    assert_eq!(digest(Form::Set, sets[0]), digest(Form::Set, sets[1]));
    // A set is no list, and the same text no string.
    let kinds = [Form::List, Form::Set].map(|form| digest(form, sets[0]).key_type);
    assert_eq!(kinds, [KeyType::List, KeyType::Set]);
}

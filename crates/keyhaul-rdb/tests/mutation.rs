//! Damaged files and payloads: whatever the bytes are, there is an answer.
//!
//! A normal run takes seconds. `KEYHAUL_TEST_LONG=1` goes on for five minutes a test, with seeds of its own, and
//! `KEYHAUL_TEST_SEED=<n>` runs the one round that a failure has named.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests"
)]

mod common;

use std::time::Duration;

use common::{
    Fixture, check_any_value, check_file, check_payload, fix_file_checksum, fix_payload_checksum,
    fixtures, mutate, payload_of, payloads, records, rounds,
};
use keyhaul_rdb::Form;
use rand::RngExt;

/// Of each of the three tests, which run at the same time.
const NORMAL: Duration = Duration::from_secs(3);
/// Files are cut to so many bytes.
const FILE_BYTES_MAX: usize = 64 * 1024;

#[test]
fn damaged_files() {
    let fixtures = fixtures();
    rounds("damaged_files", NORMAL, |random| {
        let pick = |random: &mut rand::rngs::StdRng| -> &Fixture {
            &fixtures[random.random_range(0..fixtures.len())]
        };
        let (fixture, other) = (pick(random), pick(random));
        let mut bytes = fixture.bytes.clone();
        mutate(&mut bytes, &other.bytes, random);
        bytes.truncate(FILE_BYTES_MAX);
        if random.random_range(0..2) == 0 {
            fix_file_checksum(&mut bytes);
        }
        check_file(&bytes, random);
    });
}

#[test]
fn damaged_payloads() {
    // Those of files are of all forms that ever were.
    let mut originals: Vec<Vec<u8>> = payloads()
        .into_iter()
        .map(|payload| payload.bytes)
        .collect();
    let of_record = records()
        .into_iter()
        .map(|(_, version, record, value)| payload_of(record.form.type_byte(), &value, version));
    originals.extend(of_record.filter(|payload| payload.len() < FILE_BYTES_MAX));
    rounds("damaged_payloads", NORMAL, |random| {
        let original = &originals[random.random_range(0..originals.len())];
        let other = &originals[random.random_range(0..originals.len())];
        let mut payload = original.clone();
        mutate(&mut payload, other, random);
        if random.random_range(0..4) > 0 {
            fix_payload_checksum(&mut payload);
        }
        check_payload(&payload, original, random);
    });
}

/// Values taken for another form, whole ones and damaged ones, and bytes of no meaning.
#[test]
fn values_of_another_form() {
    let records = records();
    let forms: Vec<Form> = Form::all().collect();
    rounds("values_of_another_form", NORMAL, |random| {
        let (_, _, record, value) = &records[random.random_range(0..records.len())];
        let other = &records[random.random_range(0..records.len())].3;
        let form = forms[random.random_range(0..forms.len())];
        match random.random_range(0..4) {
            0 => check_any_value(form, value, random),
            1 => {
                let len = random.random_range(0..64);
                let noise: Vec<u8> = (0..len).map(|_| random.random()).collect();
                check_any_value(form, &noise, random);
            }
            _ => {
                let mut value = value.clone();
                mutate(&mut value, other, random);
                let is_own = random.random_range(0..3) > 0;
                check_any_value(if is_own { record.form } else { form }, &value, random);
            }
        }
    });
}

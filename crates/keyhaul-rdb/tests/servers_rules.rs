//! The table of rules, row by row, on every server at hand: what it says a server reads, the server
//! takes and reads back right; what it says a server does not read, the server refuses or dies of.
//!
//! Seen on Redis 6.0.16, 6.2.14, 7.0.15, 8.0.2, 8.0.6, 8.2.3 and Valkey 8.0.1, 8.1.1, 9.1.2:
//!
//! - All answer "Bad data format" to a type byte that they do not know, and stay.
//! - All answer "DUMP payload version or checksum are wrong" to a version that they do not read;
//!   Valkey 9.1 also to 12 to 79.
//! - Redis 6.0 exits over the value of a module that it lacks, vector sets included. All others answer
//!   "Bad data format"; 8.0.2 to vector sets of 8.0.6 and 8.2.3 only after about a second, in which
//!   it answers nobody.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failure is a panic with a message"
)]

mod common;
mod servers_common;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use common::{decode, fixtures, payload_of, reduced};
use keyhaul_rdb::{Form, StreamDetail, reads_form, reads_version};
use keyhaul_testkit::truth::{Hints, escape, truth};
use keyhaul_testkit::{Family, Server, Version};
use servers_common::{Answer, Throwaway, Truth, at_hand, origins, rdb_version_of, restore};

/// A value in one form, and what is in it.
struct Sample {
    origin: String,
    form: Form,
    value: Vec<u8>,
    /// The lines of its truth.
    lines: Vec<String>,
}

#[test]
fn what_the_table_says_a_server_reads_it_reads() {
    let samples = samples();
    let forms: HashSet<Form> = samples.iter().map(|sample| sample.form).collect();
    let untried: Vec<Form> = Form::all().filter(|form| !forms.contains(form)).collect();
    assert_eq!(untried, [Form::ModuleOld, Form::Module]);
    for version in at_hand() {
        let server = Server::start(version);
        let mut connection = server.client();
        let rdb_version = rdb_version_of(version);
        let mut expected = BTreeMap::new();
        for (index, sample) in samples.iter().enumerate() {
            if !reads_form(rdb_version, sample.form) {
                continue;
            }
            let key = format!("{index} {}", sample.form.name());
            let payload = payload_of(sample.form.type_byte(), &sample.value, rdb_version);
            restore(key.as_bytes(), &payload, 0)
                .exec(&mut connection)
                .unwrap_or_else(|e| panic!("{version}: {}: {}: {e}", sample.origin, key));
            expected.insert((0, key), sample);
        }
        let mut found = Truth::parse(&truth(&server, &Hints::default())).keys;
        for ((db, key), sample) in expected {
            let lines = found.remove(&(db, key)).unwrap();
            // Of a stream, what its form has no place for is the server's own guess.
            let known = known_by(version).min(StreamDetail::of(sample.form));
            assert_eq!(
                reduced(&sample.lines, known),
                reduced(&lines[1..], known),
                "{version}: {}",
                sample.origin
            );
        }
        assert!(found.is_empty(), "{version}: {found:?}");
    }
}

#[test]
fn what_the_table_says_a_server_does_not_read_it_does_not_read() {
    let samples = samples();
    for version in at_hand() {
        let rdb_version = rdb_version_of(version);
        for form in Form::all() {
            // Type 22 is another form in each family (see below).
            let reads_another = Form::of(form.type_byte(), rdb_version)
                .is_some_and(|read| read != form && reads_form(rdb_version, read));
            let Some(sample) = samples.iter().find(|sample| sample.form == form) else {
                continue;
            };
            if reads_form(rdb_version, form) || reads_another {
                continue;
            }
            // A server for each: it may die of it.
            let mut server = Throwaway::start(version);
            let payload = payload_of(form.type_byte(), &sample.value, rdb_version);
            let answer = server.ask(&[restore(b"k", &payload, 0)]);
            assert_refused(&answer, version, form.name());
        }
    }
}

/// Why the footer decides whose dialect a payload is in. What holds a time where the other family has
/// text does not fit, so these are refused; nothing says that others would be.
#[test]
fn type_22_of_the_other_family_is_refused() {
    let samples = samples();
    for version in at_hand() {
        let foreign = match rdb_version_of(version) {
            12 => Form::HashExpiringValkey,
            80 => Form::HashExpiringOld,
            _ => continue,
        };
        let mut found = samples.iter().filter(|sample| sample.form == foreign);
        let mut server = Throwaway::start(version);
        let payload = payload_of(22, &found.next().unwrap().value, rdb_version_of(version));
        let answer = server.ask(&[restore(b"k", &payload, 0)]);
        assert_refused(&answer, version, foreign.name());
    }
}

#[test]
fn which_versions_in_a_footer_a_server_takes() {
    for version in at_hand() {
        let mut server = Throwaway::start(version);
        let own = rdb_version_of(version);
        for footer in (1..=100).chain([255, 256, 1000, u16::MAX]) {
            let payload = payload_of(0, b"\x01v", footer);
            let Answer::Alive(reply) = server.ask(&[restore(b"k", &payload, 0)]) else {
                panic!("{version} died of version {footer}");
            };
            let is_taken = reads_version(own, footer);
            assert_eq!(reply == "+OK", is_taken, "{version}, {footer}: {reply}");
        }
    }
}

/// Values of modules: why a server before Redis 6.2 is never sent one, and what a refusal costs.
#[test]
fn values_of_modules_that_a_server_lacks() {
    let mut values: Vec<(Option<Version>, Vec<u8>)> = vec![(None, graph())];
    for origin in origins() {
        let mut sets = origin.keys.iter().filter(|key| key.is_vector_set());
        if let Some(key) = sets.next() {
            let value = &key.payload[1..key.payload.len() - keyhaul_rdb::FOOTER_BYTES];
            values.push((Some(origin.version), value.to_vec()));
        }
    }
    assert_eq!(values.len(), 4);
    for version in at_hand() {
        for (writer, value) in &values {
            let mut server = Throwaway::start(version);
            let payload = payload_of(7, value, rdb_version_of(version));
            let begin = Instant::now();
            let answer = server.ask(&[restore(b"k", &payload, 0)]);
            // 8.0.2 stands still for about a second before it refuses a vector set of a later release.
            eprintln!(
                "{version}, of {writer:?}: {answer:?} in {:?}",
                begin.elapsed()
            );
            assert!(begin.elapsed() < Duration::from_secs(8));
            let is_older = version == Version::REDIS_8_0 && *writer != Some(Version::REDIS_8_0);
            let has_vector_sets = version.is_at_least(Family::Redis, 8, 0);
            match has_vector_sets && !is_older && writer.is_some() {
                true => assert!(matches!(&answer, Answer::Alive(ok) if ok == "+OK")),
                false if version == Version::REDIS_6_0 => assert_exited(&answer),
                false => assert_refused(&answer, version, "module"),
            }
        }
    }
}

/// It says that it cannot read this, and stays.
fn assert_refused(answer: &Answer, version: Version, what: &str) {
    match answer {
        Answer::Alive(reply) => {
            let is_refused = reply.contains("Bad data format");
            assert!(is_refused, "{version}, {what}: {reply}");
        }
        other => panic!("{version}, {what}: {other:?}"),
    }
}

fn assert_exited(answer: &Answer) {
    match answer {
        Answer::Died(status) => assert_eq!(status.code(), Some(1), "{status}"),
        other => panic!("{other:?}"),
    }
}

/// How much of a stream a server shows.
fn known_by(version: Version) -> StreamDetail {
    match rdb_version_of(version) {
        ..=9 => StreamDetail::Basic,
        10 => StreamDetail::Offsets,
        _ => StreamDetail::ActiveTimes,
    }
}

/// Every value of every file that has a truth, once, and forms that no server at hand writes.
fn samples() -> Vec<Sample> {
    let (mut samples, mut seen) = (Vec::new(), HashMap::new());
    for fixture in fixtures() {
        let (Some(text), Ok(file)) = (
            &fixture.truth,
            decode(&fixture.bytes, 64 * 1024, usize::MAX),
        ) else {
            continue;
        };
        let truth = Truth::parse(text);
        for (record, value) in file.records {
            let key = escape(&record.key);
            let origin = format!("{} db {} {key}", fixture.name, record.db);
            let is_new = seen.insert((record.form, value.clone()), ()).is_none();
            // Modules' values have a test of their own.
            if is_new && !matches!(record.form, Form::Module | Form::ModuleOld) {
                let lines = truth.keys[&(record.db, key)][1..].to_vec();
                samples.push(Sample {
                    origin,
                    form: record.form,
                    value,
                    lines,
                });
            }
        }
    }
    samples.extend(of_release_candidates(&samples));
    samples
}

/// Hashes as Redis 7.4's release candidates wrote them: absolute times, and nothing in front.
fn of_release_candidates(samples: &[Sample]) -> Vec<Sample> {
    const MIN_EXPIRY_BYTES: usize = 8;
    let packed = samples
        .iter()
        .find(|sample| sample.form == Form::HashListpackExpiring)
        .unwrap();
    let plain = [
        &b"\x02\x81"[..],
        &4_102_444_800_123u64.to_be_bytes(),
        b"\x01a\x011\x00\x01b\x012",
    ];
    vec![
        Sample {
            origin: "made by hand".into(),
            form: Form::HashExpiringOld,
            value: plain.concat(),
            lines: vec!["field\ta\t1\t4102444800123".into(), "field\tb\t2\t-".into()],
        },
        Sample {
            origin: packed.origin.clone(),
            form: Form::HashListpackExpiringOld,
            value: packed.value[MIN_EXPIRY_BYTES..].to_vec(),
            lines: packed.lines.clone(),
        },
    ]
}

/// The value of FalkorDB's own type.
fn graph() -> Vec<u8> {
    let mut fixtures = fixtures().into_iter();
    let file = fixtures.find(|fixture| fixture.name.ends_with("/dump-module.rdb"));
    let file = decode(&file.unwrap().bytes, 4096, usize::MAX).unwrap();
    let mut records = file.records.into_iter();
    let found = records.find(|(record, _)| record.form == Form::Module);
    found.unwrap().1
}

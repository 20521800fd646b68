//! Damaged values whose checksum is right: what [`check_value`] lets pass must not kill a server.
//!
//! A server may answer an error to such a value; it may not end or hang, not even when the key is
//! used afterwards. Modules' values are left out: only their outside can be checked.
//! `KEYHAUL_TEST_LONG=1` goes on for ten minutes, `KEYHAUL_TEST_SEED` repeats one round.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failure is a panic with a message"
)]

mod common;
mod servers_common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use common::{lines, mutate, records, rounds};
use keyhaul_rdb::{FieldExpiry, Form, Modules, Reader, check_value};
use keyhaul_testkit::{Version, require, truth::hex};
use rand::RngExt;
use rand::rngs::StdRng;
use servers_common::{Answer, Throwaway, commands_for, rdb_version_of, restore};

/// Old and new of both families.
const VERSIONS: [Version; 5] = [
    Version::REDIS_6_0,
    Version::REDIS_7_0,
    Version::REDIS_8_2,
    Version::VALKEY_8_0,
    Version::VALKEY_9_1,
];
/// Longer values take longer and have nothing that short ones do not have.
const VALUE_BYTES_MAX: usize = 1500;
/// Values that are mutated in one round.
const PER_ROUND: usize = 2000;
/// Different deaths after which it is enough.
const DEATHS_MAX: usize = 12;
const NORMAL: Duration = Duration::from_secs(20);

/// A value to mutate.
struct Original {
    version: u16,
    value: Vec<u8>,
}

#[derive(Default)]
struct Counts {
    tried: u64,
    passed: u64,
    restored: u64,
    refused_by_server: u64,
}

#[test]
fn no_server_dies_of_a_value_that_passes_the_check() {
    let originals = originals();
    let mut servers: Vec<Throwaway> = VERSIONS
        .into_iter()
        .filter(|version| require(*version))
        .map(Throwaway::start)
        .collect();
    let mut counts: BTreeMap<&str, Counts> = BTreeMap::new();
    let mut deaths: BTreeMap<String, String> = BTreeMap::new();
    rounds("servers_mutated", NORMAL, |random| {
        for _ in 0..PER_ROUND {
            if deaths.len() >= DEATHS_MAX {
                return;
            }
            let (form, originals) = random_of(&originals, random);
            let original = random_of(originals, random);
            let other = &random_of(originals, random).value;
            let (form, mut value) = (*form, original.value.clone());
            mutate(&mut value, other, random);
            let counts = counts.entry(form.name()).or_default();
            counts.tried += 1;
            if check_value(form, &value).is_err() {
                continue;
            }
            counts.passed += 1;
            for server in &mut servers {
                let Some(payload) = payload_for(server.version, form, original.version, &value)
                else {
                    continue;
                };
                match send(server, form, &value, &payload) {
                    Ok(true) => counts.restored += 1,
                    Ok(false) => counts.refused_by_server += 1,
                    Err((cause, report)) => {
                        let name = format!("{} {} {cause}", server.version, form.name());
                        let report = format!("{report}\noriginal {}", hex(&original.value));
                        deaths.entry(name).or_insert_with_key(|name| {
                            eprintln!("DEATH {name}\n{report}");
                            report
                        });
                        *server = Throwaway::start(server.version);
                    }
                }
            }
        }
    });
    let mut told = BTreeSet::new();
    for (form, counts) in &counts {
        let Counts {
            tried,
            passed,
            restored,
            refused_by_server,
        } = counts;
        told.insert(format!(
            "{form}: {tried} tried, {passed} passed the check, {restored} restored, {refused_by_server} refused"
        ));
    }
    for line in told {
        eprintln!("{line}");
    }
    let mut report = String::new();
    for (name, death) in &deaths {
        let _ = writeln!(report, "{name}\n{death}");
    }
    assert!(
        deaths.is_empty(),
        "{} servers died:\n{report}",
        deaths.len()
    );
}

/// What the test above has found so far.
#[test]
fn what_has_killed_servers_is_refused() {
    for (form, value, killed) in [
        (Form::Set, "00", "Redis 6.0: SRANDMEMBER divides by zero"),
        (
            Form::Set,
            "0603636363026262c290cefeff0161c00ac3800000000000",
            "Redis 6.0: RESTORE exits over a compressed string of no bytes",
        ),
        (
            Form::Stream,
            "0110fffffffffffffffffffffffffffffffe1d1d0000000a0001010001010181660200010201000100018\
             176020401ff3e81ffffffffffffffff81fffffffffffffffe00",
            "Redis 7.0, 8.2, Valkey 8.0: XSETID looks for 62 entries where there is one",
        ),
        (
            Form::HashListpackExpiring,
            "80d8c32cbb03000019190000000600816202020100018161028474657874050201ff",
            "Redis 8.0, 8.2: HGETALL finds an expired field behind one that has not expired",
        ),
        (
            Form::HashListpackExpiring,
            "0100000000000000161600000003008161020101f4050000000000010009ff",
            "Redis 8.0, 8.2: HSET of a long value where a field expires above 48 bits",
        ),
    ] {
        let value = from_hex(value);
        check_value(form, &value).expect_err(killed);
    }
}

fn from_hex(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn is_tried(form: Form) -> bool {
    // Strings have no inside that a server looks into.
    !matches!(form, Form::Module | Form::ModuleOld | Form::String)
}

/// The short values of all fixtures, by form.
fn originals() -> Vec<(Form, Vec<Original>)> {
    let mut originals: Vec<(Form, Vec<Original>)> = Vec::new();
    let mut seen = BTreeSet::new();
    for (_, version, record, value) in records() {
        let is_tried = value.len() <= VALUE_BYTES_MAX && is_tried(record.form);
        if !is_tried || !seen.insert((record.form.type_byte(), value.clone())) {
            continue;
        }
        let original = Original { version, value };
        match originals.iter_mut().find(|(form, _)| *form == record.form) {
            Some((_, same)) => same.push(original),
            None => originals.push((record.form, vec![original])),
        }
    }
    originals
}

fn random_of<'a, T>(all: &'a [T], random: &mut StdRng) -> &'a T {
    &all[random.random_range(0..all.len())]
}

/// What a server is sent, looked into even where the original would pass as it is.
fn payload_for(version: Version, form: Form, written_by: u16, value: &[u8]) -> Option<Vec<u8>> {
    let reader = Reader {
        rdb_version: rdb_version_of(version),
        modules: Modules::None,
        field_expiry: FieldExpiry::Drop,
    };
    let mut payload = Vec::new();
    let encoded = reader.encode(form, written_by, value, &mut payload);
    encoded.ok().map(|()| payload)
}

/// Whether the server took it; else why it died.
fn send(
    server: &mut Throwaway,
    form: Form,
    value: &[u8],
    payload: &[u8],
) -> Result<bool, (String, String)> {
    let mut commands = vec![restore(b"k", payload, 0)];
    commands.extend(commands_for(form, value, b"k"));
    let cause = match server.ask(&commands) {
        Answer::Alive(first) => return Ok(first == "+OK"),
        Answer::Died(status) => format!("{status}"),
        Answer::Hangs => "hangs".to_owned(),
    };
    let words = server.last_words();
    // Without process and time, to tell one kind of death from another.
    let reason = words.lines().last().unwrap_or_default();
    let reason = reason
        .split_once(" # ")
        .map_or(reason, |(_, reason)| reason);
    let reason: String = reason.chars().filter(|c| !c.is_ascii_digit()).collect();
    let at_command = died_at(server.version, &commands);
    let values = lines(form, value).unwrap_or_default().join("\n  ");
    let report = format!(
        "{words}\nat {at_command}\nvalue {}\npayload {}\n  {}",
        hex(value),
        hex(payload),
        values.chars().take(3000).collect::<String>()
    );
    Err((format!("{cause} {reason}"), report))
}

/// The first command that a fresh server does not survive.
fn died_at(version: Version, commands: &[keyhaul_testkit::redis::Cmd]) -> String {
    let mut server = Throwaway::start(version);
    for command in commands {
        if !matches!(server.ask(std::slice::from_ref(command)), Answer::Alive(_)) {
            let packed = command.get_packed_command();
            let short: Vec<u8> = packed.into_iter().take(200).collect();
            return short.escape_ascii().to_string();
        }
    }
    "none of them, when they come alone".to_owned()
}

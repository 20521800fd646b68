//! One copy as a user makes it: the built binary, and what its report says.

use std::collections::{BTreeMap, BTreeSet};

use keyhaul_testkit::Server;
use keyhaul_testkit::process::{self, Outcome};
use redis::cmd;
use serde_json::Value;

use super::{DEADLINE, command};

/// How a copy ended, and its report.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) outcome: Outcome,
    /// Null where none was written.
    pub(crate) report: Value,
}

/// Copies with these options to the end.
pub(crate) fn copy(source: &str, target: &str, options: &[&str]) -> Ran {
    copy_with(source, target, options, &[])
}

/// The same with these variables.
pub(crate) fn copy_with(
    source: &str,
    target: &str,
    options: &[&str],
    variables: &[(&str, &str)],
) -> Ran {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("report.json");
    let mut command = command(&["replicate", source, target, "--progress", "none"]);
    command.args(options).arg("--report").arg(&file);
    command.envs(variables.iter().copied());
    let outcome = process::run(command, DEADLINE);
    let report = std::fs::read(&file).map_or(Value::Null, |text| {
        serde_json::from_slice(&text).expect("the report is JSON")
    });
    Ran { outcome, report }
}

/// Copies, compares, copies again, and compares again: the second run changes nothing.
#[track_caller]
pub(crate) fn copy_twice(source: &str, target: &str, options: &[&str], compare: impl Fn()) -> Ran {
    let first = copy(source, target, options).exits_with(0);
    compare();
    let second = copy(source, target, options).exits_with(0);
    compare();
    assert_eq!(second.count("found"), first.count("found"), "{second:?}");
    first
}

impl Ran {
    /// Fails unless it ended with this code, also by its report.
    #[track_caller]
    pub(crate) fn exits_with(self, code: i32) -> Ran {
        assert_eq!(self.outcome.code, Some(code), "{self:#?}");
        assert_eq!(self.report["exit_code"], code, "{self:#?}");
        self
    }

    /// Fails unless standard error holds this text.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Ran {
        assert!(self.outcome.stderr.contains(text), "'{text}': {self:#?}");
        self
    }

    /// A number under `counts`.
    #[track_caller]
    pub(crate) fn count(&self, name: &str) -> u64 {
        number(&self.report["counts"][name], self)
    }

    /// A number under `verify`.
    #[track_caller]
    pub(crate) fn verified(&self, name: &str) -> u64 {
        number(&self.report["verify"][name], self)
    }

    /// The keys that are listed as not moved: db and name, as the report writes it.
    #[track_caller]
    pub(crate) fn not_moved(&self) -> BTreeSet<(u64, String)> {
        let list = self.report["not_moved"].as_array().expect("is a list");
        let keys: BTreeSet<_> = list
            .iter()
            .map(|row| {
                let db = row["db"].as_u64().expect("has a db");
                (db, row["key"].as_str().expect("has a key").to_owned())
            })
            .collect();
        assert_eq!(keys.len(), list.len(), "a key is listed twice: {self:#?}");
        keys
    }

    /// Fails unless the reason of every key that was not moved holds this text.
    #[track_caller]
    pub(crate) fn reasons_say(&self, text: &str) {
        for row in self.report["not_moved"].as_array().expect("is a list") {
            let reason = row["reason"].as_str().expect("has a reason");
            assert!(reason.contains(text), "'{text}': {row}");
        }
    }
}

#[track_caller]
fn number(value: &Value, ran: &Ran) -> u64 {
    assert!(value.is_u64(), "no number: {ran:#?}");
    value.as_u64().unwrap_or_default()
}

/// How many keys each db holds; dbs without keys are left out.
pub(crate) fn key_counts(server: &Server) -> BTreeMap<u32, u64> {
    let info: String = cmd("INFO")
        .arg("keyspace")
        .query(&mut server.client())
        .expect("INFO is answered");
    let count = |line: &str| {
        let (db, rest) = line.strip_prefix("db")?.split_once(":keys=")?;
        Some((db.parse().ok()?, rest.split(',').next()?.parse().ok()?))
    };
    info.lines().filter_map(count).collect()
}

/// How many keys there are in all dbs.
pub(crate) fn key_count(server: &Server) -> u64 {
    key_counts(server).values().sum()
}

/// Runs a command given as words; fails on an error reply.
#[track_caller]
pub(crate) fn run(server: &Server, db: u32, words_all: &str) -> redis::Value {
    let mut words = words_all.split(' ');
    let mut command = cmd(words.next().expect("has a name"));
    words.for_each(|word| {
        command.arg(word);
    });
    command.query(&mut server.connection(db)).expect(words_all)
}

/// Names of keys in one db, as the report writes them.
pub(crate) fn listed(db: u64, keys: &[&str]) -> BTreeSet<(u64, String)> {
    keys.iter().map(|key| (db, (*key).to_owned())).collect()
}

/// Bytes without pattern, the same for the same seed.
pub(crate) fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

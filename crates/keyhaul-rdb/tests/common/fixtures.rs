//! The files below `tests/fixtures`, as their README describes them.

use std::path::{Path, PathBuf};

use keyhaul_rdb::Record;

use super::{decode, truth};

/// An RDB file.
#[derive(Debug, Clone)]
pub(crate) struct Fixture {
    /// `folder/file`.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// The text of its truth, if it has one.
    pub(crate) truth: Option<String>,
}

/// A line of a `payloads.tsv`.
#[derive(Debug, Clone)]
pub(crate) struct Payload {
    /// The `dump.rdb` that holds the same key.
    pub(crate) file: String,
    pub(crate) db: u32,
    /// As the truth has it.
    pub(crate) key: String,
    pub(crate) type_name: String,
    pub(crate) bytes: Vec<u8>,
}

/// All files, sorted by name.
pub(crate) fn fixtures() -> Vec<Fixture> {
    let rdb = |path: &PathBuf| path.extension().is_some_and(|end| end == "rdb");
    let files = paths().into_iter().filter(rdb);
    let read = |path: PathBuf| Fixture {
        name: name_of(&path),
        bytes: std::fs::read(&path).unwrap(),
        truth: std::fs::read_to_string(path.with_extension("tsv")).ok(),
    };
    files.map(read).collect()
}

/// All lines of all `payloads.tsv`.
pub(crate) fn payloads() -> Vec<Payload> {
    let mut payloads = Vec::new();
    for path in paths().iter().filter(|path| path.ends_with("payloads.tsv")) {
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let columns: Vec<&str> = line.split('\t').collect();
            let [db, key, type_name, hex] = columns[..] else {
                panic!("{}: {line}", path.display());
            };
            payloads.push(Payload {
                file: name_of(&path.with_file_name("dump.rdb")),
                db: db.parse().unwrap(),
                key: key.to_owned(),
                type_name: type_name.to_owned(),
                bytes: truth::from_hex(hex),
            });
        }
    }
    payloads
}

/// Every record of every file that can be read: where from, RDB version, record, value.
pub(crate) fn records() -> Vec<(String, u16, Record, Vec<u8>)> {
    let mut records = Vec::new();
    for fixture in fixtures() {
        let Ok(file) = decode(&fixture.bytes, 4096, usize::MAX) else {
            continue;
        };
        for (record, value) in file.records {
            let key = truth::escaped(&record.key);
            let name = format!("{} db {} {key}", fixture.name, record.db);
            records.push((name, file.version, record, value));
        }
    }
    records
}

fn paths() -> Vec<PathBuf> {
    let root = root();
    let list = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let folders = list(&root).into_iter().filter(|path| path.is_dir());
    let mut paths: Vec<PathBuf> = folders.flat_map(|folder| list(&folder)).collect();
    paths.sort();
    paths
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn name_of(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

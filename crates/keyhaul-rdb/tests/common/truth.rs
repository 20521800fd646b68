//! The text of a truth, parsed, and made of what was decoded (see `fixtures/README.md`).

use keyhaul_rdb::{Form, KeyType, Record, module_name};

use super::file::File;
use super::value::lines;

/// What a file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Truth {
    /// Lines of functions and scripts.
    pub(crate) head: Vec<String>,
    /// By db and name.
    pub(crate) keys: Vec<Key>,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) db: u32,
    /// Escaped.
    pub(crate) key: String,
    pub(crate) type_name: String,
    /// Its expiry, idle and freq, as text.
    pub(crate) about: Vec<String>,
    /// The lines of its value.
    pub(crate) lines: Vec<String>,
}

impl Truth {
    /// Of a `.tsv`. The insides of vector sets are left out: only the server can look into them.
    pub(crate) fn parse(text: &str) -> Self {
        let mut truth = Self::default();
        for line in text.split_terminator('\n') {
            let columns: Vec<&str> = line.split('\t').collect();
            match (columns[0], truth.keys.last_mut()) {
                ("function" | "script", _) => truth.head.push(line.to_owned()),
                ("key", _) => {
                    let [_, db, key, type_name, expiry] = columns[..] else {
                        panic!("{line}");
                    };
                    truth.keys.push(Key {
                        db: db.parse().unwrap(),
                        key: key.to_owned(),
                        type_name: type_name.to_owned(),
                        about: vec![format!("expiry {expiry}")],
                        lines: Vec::new(),
                    });
                }
                ("idle" | "freq", Some(key)) => key.about.push(columns.join(" ")),
                ("vectorset" | "vector" | "attributes", Some(_)) => {}
                (_, Some(key)) => key.lines.push(line.to_owned()),
                (_, None) => panic!("{line}"),
            }
        }
        truth
    }

    /// Of a file that was decoded.
    pub(crate) fn of(file: &File) -> Self {
        let mut head: Vec<String> = Vec::new();
        for code in &file.functions {
            let library = code.strip_prefix(b"#!lua name=").unwrap();
            let library = library.split(|byte| *byte == b'\n').next().unwrap();
            head.push(format!("function\t{}\t{}", escaped(library), escaped(code)));
        }
        for (_, value) in file.aux.iter().filter(|(name, _)| &name[..] == b"lua") {
            head.push(format!("script\t{}", escaped(value)));
        }
        head.sort();
        let mut records: Vec<&(Record, Vec<u8>)> = file.records.iter().collect();
        records.sort_by_key(|(record, _)| (record.db, record.key.clone()));
        let keys = records.iter().map(|(record, value)| Key::of(record, value));
        Self {
            head,
            keys: keys.collect(),
        }
    }
}

impl Key {
    fn of(record: &Record, value: &[u8]) -> Self {
        let expiry = record
            .expire_at_ms
            .map_or("-".to_owned(), |at| at.to_string());
        let mut about = vec![format!("expiry {expiry}")];
        about.extend(record.idle_s.map(|idle| format!("idle {idle}")));
        about.extend(record.freq.map(|freq| format!("freq {freq}")));
        Self {
            db: record.db,
            key: escaped(&record.key),
            type_name: type_name(record.form, value),
            about,
            lines: lines(record.form, value).unwrap(),
        }
    }
}

/// As TYPE names it.
pub(crate) fn type_name(form: Form, value: &[u8]) -> String {
    match form.key_type() {
        // The id, as a length of 64 bits.
        KeyType::Module => module_name(u64::from_be_bytes(value[1..9].try_into().unwrap())),
        other => other.name().to_owned(),
    }
}

/// As a column of bytes.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

pub(crate) fn from_hex(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

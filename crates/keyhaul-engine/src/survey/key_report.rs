//! A report of `keyhaul keystats report --json` in place of a sample: it tells of all keys. Of its fields only those
//! that a plan needs are read (docs/guide/analyse.md has them all); what is not there counts as nothing.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use keyhaul_rdb::{Form, KeyType, Reader};
use serde::Deserialize;

use crate::amount::count_text;
use crate::plan::Warning;
use crate::stats::key_text;
use crate::survey::kinds::{Fate, Kinds, KindsBasis, fate};

/// The schema that is understood.
const SCHEMA: u64 = 1;
/// Longest file that is read, bytes: a report is some megabytes at most.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What a report says of all keys of a source.
#[derive(Debug, Clone, Deserialize)]
pub struct KeyReport {
    schema: u64,
    #[serde(default)]
    about: About,
    totals: Totals,
    types: Vec<TypeRow>,
    #[serde(default)]
    chunked: Chunked,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct About {
    /// The source as it was named.
    source: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Totals {
    keys: u64,
    /// Likely bytes of all payloads.
    payload_bytes: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
struct TypeRow {
    #[serde(rename = "type")]
    type_name: String,
    keys: u64,
    #[serde(default)]
    encodings: Vec<EncodingRow>,
}

#[derive(Debug, Clone, Deserialize)]
struct EncodingRow {
    encoding: String,
    keys: u64,
}

/// Keys that would go by chunks.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Chunked {
    threshold: u64,
    keys: u64,
}

impl KeyReport {
    /// Reads a report.
    ///
    /// # Errors
    /// Why the file cannot be read or is no such report, readable.
    pub fn load(path: &Path) -> Result<Self, String> {
        // Looked at before it is opened: opening a pipe waits for one who writes to it.
        let found = std::fs::metadata(path).map_err(|e| e.to_string())?;
        if !found.is_file() {
            return Err("it is not a regular file".into());
        }
        let too_long = || Err("it is longer than 64 MB, too long for a report".into());
        if found.len() > FILE_BYTES_MAX {
            return too_long();
        }
        let file = File::open(path).map_err(|e| e.to_string())?;
        let mut text = Vec::new();
        // It may grow meanwhile.
        let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text);
        if read.map_err(|e| e.to_string())? as u64 > FILE_BYTES_MAX {
            return too_long();
        }
        Self::parse(&text)
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        let report: Self = serde_json::from_slice(text)
            .map_err(|e| format!("it is no report of keyhaul keystats report --json ({e})"))?;
        match report.schema {
            SCHEMA => Ok(report),
            other => Err(format!(
                "its schema is {other}, and this version reads schema {SCHEMA}"
            )),
        }
    }

    /// Why it may be one of another source, or an old one.
    pub(super) fn doubts(&self, endpoint: &str, keys: Option<u64>) -> Vec<Warning> {
        let mut doubts = Vec::new();
        if let Some(source) = self.about.source.as_ref().filter(|name| *name != endpoint) {
            let source = key_text(source.as_bytes());
            doubts.push(format!(
                "the report of --stats is of {source}, and the source is {endpoint}"
            ));
        }
        let reported = self.totals.keys;
        if let Some(keys) = keys.filter(|keys| keys.abs_diff(reported) > keys / 10) {
            doubts.push(format!(
                "the report of --stats counts {} keys, and the source holds {}",
                count_text(reported),
                count_text(keys)
            ));
        }
        let warning = |text| Warning::new("stats-differ", text);
        doubts.into_iter().map(warning).collect()
    }

    /// The kinds of all keys. `chunk_threshold`: keys above go by chunks, bytes; `None`: none does.
    pub(super) fn kinds(
        &self,
        reader: &Reader,
        source_version: u16,
        chunk_threshold: Option<u64>,
    ) -> Kinds {
        let mut kinds = Kinds {
            basis: KindsBasis::Report,
            looked_at: self.totals.keys,
            taken: self.totals.keys,
            payload_bytes: self.totals.payload_bytes,
            // A report for another threshold does not tell.
            chunked: chunk_threshold
                .filter(|threshold| *threshold == self.chunked.threshold)
                .map(|_| self.chunked.keys),
            ..Kinds::default()
        };
        for row in &self.types {
            let mut rest = row.keys;
            for encoding in &row.encodings {
                let keys = encoding.keys.min(rest);
                rest -= keys;
                let form = form_of(&row.type_name, &encoding.encoding, source_version);
                let fate = form.map_or(Fate::IsUnknown, |form| {
                    fate(reader.route(form, source_version))
                });
                kinds.add(&row.type_name, fate, keys);
                if let (Fate::CannotGo, Some(form)) = (fate, form) {
                    kinds.add_reason(form, keys);
                }
            }
            kinds.add(&row.type_name, Fate::IsUnknown, rest);
        }
        kinds
    }
}

/// The form in which a server that writes this RDB version saves a value that it keeps so (OBJECT ENCODING of
/// Redis 6.0 to 8.2 and Valkey 8 and 9), or whose form a report of a file names.
fn form_of(type_name: &str, encoding: &str, source_version: u16) -> Option<Form> {
    let since_7 = source_version >= 10;
    match (type_name, encoding) {
        ("string", "raw" | "embstr" | "int") => Some(Form::String),
        ("list", "quicklist" | "listpack") if since_7 => Some(Form::ListQuicklist2),
        ("list", "quicklist") => Some(Form::ListQuicklist),
        ("set", "intset") => Some(Form::SetIntset),
        ("set", "listpack") => Some(Form::SetListpack),
        ("set", "hashtable") => Some(Form::Set),
        ("zset", "skiplist") => Some(Form::Zset),
        ("zset", "listpack") => Some(Form::ZsetListpack),
        ("zset", "ziplist") => Some(Form::ZsetZiplist),
        ("hash", "hashtable") => Some(Form::Hash),
        ("hash", "listpack") => Some(Form::HashListpack),
        ("hash", "ziplist") => Some(Form::HashZiplist),
        ("hash", "listpackex") => Some(Form::HashListpackExpiring),
        ("stream", "stream") => Some(match source_version {
            11.. => Form::Stream3,
            10 => Form::Stream2,
            _ => Form::Stream,
        }),
        ("module", _) => Some(Form::Module),
        _ => Form::all().find(|form| {
            let named = KeyType::name(form.key_type());
            named == type_name && form.name() == encoding
        }),
    }
}

#[cfg(test)]
mod tests {
    use keyhaul_rdb::{FieldExpiry, Modules};

    use super::*;

    const REPORT: &str = r#"{"schema": 1, "about": {"source": "x"}, "more": [],
        "totals": {"keys": 100, "bytes": 5000, "elements": 3, "payload_bytes": 4000},
        "types": [
            {"type": "string", "keys": 60, "bytes": 1, "encodings": [
                {"encoding": "raw", "keys": 50, "bytes": 1}, {"encoding": "embstr", "keys": 10}]},
            {"type": "set", "keys": 30, "encodings": [
                {"encoding": "listpack", "keys": 20}, {"encoding": "(other)", "keys": 1}]},
            {"type": "hash", "keys": 3, "encodings": [{"encoding": "hash, ziplist", "keys": 3}]},
            {"type": "module", "keys": 7, "encodings": [{"encoding": "raw", "keys": 7}]}],
        "chunked": {"threshold": 64, "keys": 2, "bytes": 9, "largest": []}}"#;

    #[test]
    fn what_becomes_of_all_keys() {
        let report = KeyReport::parse(REPORT.as_bytes()).unwrap();
        let reader = Reader {
            rdb_version: 10,
            modules: Modules::None,
            field_expiry: FieldExpiry::Refuse,
        };
        let kinds = report.kinds(&reader, 11, Some(64));
        let of = |fate| kinds.of_fate(fate);
        assert_eq!((kinds.looked_at, kinds.payload_bytes), (100, Some(4000)));
        assert_eq!((of(Fate::GetsFooter), of(Fate::IsConverted)), (63, 20));
        assert_eq!((of(Fate::IsUnknown), of(Fate::CannotGo)), (10, 7));
        assert_eq!(kinds.reasons.len(), 1);
        assert_eq!(kinds.chunked, Some(2));
        assert_eq!(report.kinds(&reader, 11, Some(65)).chunked, None);
    }

    #[test]
    fn absurd_numbers() {
        let most = u64::MAX.to_string();
        let text = REPORT
            .replace(": 60,", &format!(": {most},"))
            .replace(": 50,", &format!(": {most},"))
            .replace(": 7,", &format!(": {most},"))
            .replace(": 7}", &format!(": {most}}}"));
        let report = KeyReport::parse(text.as_bytes()).unwrap();
        let reader = Reader {
            rdb_version: 10,
            modules: Modules::None,
            field_expiry: FieldExpiry::Refuse,
        };
        let kinds = report.kinds(&reader, 11, None);
        assert_eq!(kinds.of_fate(Fate::GetsFooter), u64::MAX);
        assert_eq!(kinds.of_fate(Fate::CannotGo), u64::MAX);
    }

    #[test]
    fn what_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = KeyReport::load(folder.path()).unwrap_err();
        assert!(error.contains("not a regular file"), "{error}");
        let long = folder.path().join("long");
        let file = File::create(&long).unwrap();
        file.set_len(FILE_BYTES_MAX + 1).unwrap();
        let error = KeyReport::load(&long).unwrap_err();
        assert!(error.contains("too long"), "{error}");
    }

    #[test]
    fn what_is_no_report() {
        for text in ["", "{}", "[]", r#"{"schema": 1}"#] {
            let error = KeyReport::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains("is no report"), "{text}: {error}");
        }
        let later = REPORT.replace("\"schema\": 1", "\"schema\": 2");
        let error = KeyReport::parse(later.as_bytes()).unwrap_err();
        assert!(error.contains("schema is 2"), "{error}");
    }
}

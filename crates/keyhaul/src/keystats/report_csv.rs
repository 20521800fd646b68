//! The report as CSV: a folder with a file for each table. docs/guide/analyse.md names the columns.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use keyhaul_engine::stats::report::{BigKey, PrefixRow, Report, Spread, Sum};

use super::csv::push_row;
use crate::output_file::OutputFile;
use crate::usage::UsageError;

/// The files, and the columns of each.
const TABLES: [(&str, &[&str], Rows); 10] = [
    ("totals.csv", &["name", "value"], totals),
    (
        "dbs.csv",
        &[
            "db",
            "keys",
            "size_bytes",
            "keys_without_expiry",
            "bytes_without_expiry",
        ],
        dbs,
    ),
    (
        "types.csv",
        &[
            "type",
            "keys",
            "size_bytes",
            "elements",
            "payload_bytes",
            "keys_without_expiry",
            "bytes_without_expiry",
        ],
        types,
    ),
    (
        "encodings.csv",
        &["type", "encoding", "keys", "size_bytes"],
        encodings,
    ),
    (
        "percentiles.csv",
        &[
            "of", "type", "keys", "sum", "min", "p50", "p90", "p99", "p999", "max",
        ],
        percentiles,
    ),
    (
        "histograms.csv",
        &["of", "type", "from", "below", "keys", "size_bytes"],
        histograms,
    ),
    (
        "biggest.csv",
        &[
            "list",
            "rank",
            "db",
            "key",
            "key_bytes",
            "type",
            "size_bytes",
            "elements",
            "expire_at_ms",
        ],
        biggest,
    ),
    (
        "prefixes.csv",
        &[
            "depth",
            "prefix",
            "keys",
            "size_bytes",
            "keys_here",
            "bytes_here",
            "keys_other",
            "bytes_other",
            "keys_missed_max",
            "bytes_missed_max",
        ],
        prefixes,
    ),
    ("slots.csv", &["slot", "keys", "size_bytes"], slots),
    (
        "shards.csv",
        &["shard", "slot_start", "slot_end", "keys", "size_bytes"],
        shards,
    ),
];

/// The rows of a table, each with as many fields as it has columns.
type Rows = fn(&Report) -> Vec<Vec<String>>;

/// A folder where the files can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CsvFolder {
    option: String,
    folder: PathBuf,
}

impl CsvFolder {
    /// Makes sure that the folder can be made, or the files be written in it, and leaves the place as it is. `option` is
    /// where the name came from.
    pub(crate) fn check(option: &str, folder: &Path) -> Result<Self, UsageError> {
        let (option, folder) = (option.to_owned(), folder.to_owned());
        let checked = Self { option, folder };
        if checked.folder.is_dir() {
            checked.files().collect::<Result<Vec<_>, _>>()?;
        } else {
            let (above, _) = existing(&checked.folder);
            tempfile::tempfile_in(&above).map_err(|e| checked.wrong(&e))?;
        }
        Ok(checked)
    }

    /// Makes the folder unless it is there.
    pub(crate) fn make(&self) -> Result<(), UsageError> {
        fs::create_dir_all(&self.folder).map_err(|e| self.wrong(&e))
    }

    /// Whether a file there would be in the way of one of these, or of the folder.
    pub(crate) fn collides_with(&self, file: &Path) -> bool {
        let (folder, file) = (resolved(&self.folder), resolved(file));
        folder.starts_with(&file)
            || TABLES
                .iter()
                .any(|(name, ..)| resolved(&folder.join(name)) == file)
    }

    fn files(&self) -> impl Iterator<Item = Result<OutputFile, UsageError>> {
        let files = TABLES.iter();
        files.map(|(name, ..)| OutputFile::check(&self.option, &self.folder.join(name)))
    }

    fn wrong(&self, reason: &io::Error) -> UsageError {
        let (option, folder) = (&self.option, self.folder.display());
        UsageError::new(format!("{option}: cannot make {folder}: {reason}"))
    }

    /// Writes the files, each whole or not at all; those that are there are replaced. Returns what could not be written.
    pub(crate) fn write(&self, report: &Report) -> Vec<String> {
        let mut lost = Vec::new();
        for (file, (_, columns, rows)) in self.files().zip(TABLES) {
            let file = match file {
                Ok(file) => file,
                Err(e) => {
                    lost.push(e.to_string());
                    continue;
                }
            };
            let written = file.write(|out| {
                let mut text = Vec::new();
                push_row(&mut text, columns.iter().copied());
                for row in rows(report) {
                    push_row(&mut text, row.iter().map(String::as_str));
                }
                out.write_all(&text)
            });
            if let Err(e) = written {
                lost.push(format!("cannot write {}: {e}", file.shown().display()));
            }
        }
        lost
    }
}

/// The nearest place above or at a path that is there, and what is missing behind it.
fn existing(path: &Path) -> (PathBuf, PathBuf) {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = path.ancestors().find(|above| above.exists());
    let above = found.unwrap_or(Path::new("/"));
    let missing = path.strip_prefix(above).unwrap_or(Path::new(""));
    (above.to_owned(), missing.to_owned())
}

/// The one name of a place, whether it is there or not.
fn resolved(path: &Path) -> PathBuf {
    let (above, missing) = existing(path);
    let above = fs::canonicalize(&above).unwrap_or(above);
    match missing.as_os_str().is_empty() {
        true => above,
        false => above.join(missing),
    }
}

fn totals(report: &Report) -> Vec<Vec<String>> {
    let totals = &report.totals;
    let mut rows = vec![
        ("keys", totals.sum.keys),
        ("size_bytes", totals.sum.bytes),
        ("elements", totals.elements),
        ("payload_bytes", totals.payload_bytes),
        ("chunk_threshold", report.chunked.threshold),
        ("keys_by_chunks", report.chunked.sum.keys),
        ("bytes_by_chunks", report.chunked.sum.bytes),
    ];
    if let Some(expiry) = &report.expiry {
        rows.extend([
            ("keys_without_expiry", expiry.without.keys),
            ("bytes_without_expiry", expiry.without.bytes),
            ("keys_with_expiry", expiry.with.keys),
            ("bytes_with_expiry", expiry.with.bytes),
            ("keys_past_expiry", expiry.past.keys),
            ("bytes_past_expiry", expiry.past.bytes),
        ]);
    }
    let rows = rows.into_iter();
    rows.map(|(name, value)| vec![name.to_owned(), value.to_string()])
        .collect()
}

fn dbs(report: &Report) -> Vec<Vec<String>> {
    let rows = report.dbs.iter();
    rows.map(|row| {
        let db = row.db.map_or("(other)".into(), |db| db.to_string());
        [vec![db], sum(row.sum), optional_sum(row.without_expiry)].concat()
    })
    .collect()
}

fn types(report: &Report) -> Vec<Vec<String>> {
    let rows = report.types.iter();
    rows.map(|row| {
        let counts = vec![row.elements.to_string(), row.payload_bytes.to_string()];
        let name = vec![row.type_name.clone()];
        [name, sum(row.sum), counts, optional_sum(row.without_expiry)].concat()
    })
    .collect()
}

fn encodings(report: &Report) -> Vec<Vec<String>> {
    let rows = report.types.iter().flat_map(|of_type| {
        let rows = of_type.encodings.iter();
        rows.map(|row| {
            let names = vec![of_type.type_name.clone(), row.encoding.clone()];
            [names, sum(row.sum)].concat()
        })
    });
    rows.collect()
}

/// All that is spread: what of, the type (empty: all), and how.
fn spreads(report: &Report) -> Vec<(&'static str, &str, &Spread)> {
    let mut spreads = vec![("size_bytes", "", &report.spread_of_bytes)];
    for row in &report.types {
        spreads.push(("size_bytes", &row.type_name, &row.spread_of_bytes));
        spreads.push(("elements", &row.type_name, &row.spread_of_elements));
    }
    let ttls = report.expiry.as_ref();
    spreads.extend(ttls.map(|expiry| ("ttl_ms", "", &expiry.spread_of_ttl_ms)));
    spreads
}

fn percentiles(report: &Report) -> Vec<Vec<String>> {
    let rows = spreads(report).into_iter();
    rows.map(|(of, of_type, spread)| {
        let numbers = [
            spread.keys,
            spread.sum,
            spread.min,
            spread.p50,
            spread.p90,
            spread.p99,
            spread.p999,
            spread.max,
        ];
        let numbers = numbers.iter().map(u64::to_string).collect();
        [vec![of.to_owned(), of_type.to_owned()], numbers].concat()
    })
    .collect()
}

fn histograms(report: &Report) -> Vec<Vec<String>> {
    let rows = spreads(report).into_iter();
    rows.flat_map(|(of, of_type, spread)| {
        let rows = spread.rows.iter();
        rows.map(move |row| {
            let range = [
                of.into(),
                of_type.into(),
                row.from.to_string(),
                optional(row.below),
            ];
            [range.to_vec(), sum(row.sum)].concat()
        })
    })
    .collect()
}

fn biggest(report: &Report) -> Vec<Vec<String>> {
    let of_types = report.types.iter().flat_map(|row| {
        [
            ("size", &row.biggest_by_bytes),
            ("elements", &row.biggest_by_elements),
        ]
    });
    let lists = of_types.chain([("chunks", &report.chunked.largest)]);
    lists
        .flat_map(|(list, keys)| {
            (1_usize..)
                .zip(keys)
                .map(move |(rank, key)| big_key(list, rank, key))
        })
        .collect()
}

fn big_key(list: &str, rank: usize, key: &BigKey) -> Vec<String> {
    vec![
        list.to_owned(),
        rank.to_string(),
        key.db.to_string(),
        key.key.clone(),
        key.key_bytes.to_string(),
        key.type_name.clone(),
        key.bytes.to_string(),
        optional(key.elements),
        key.expire_at_ms.map_or(String::new(), |at| at.to_string()),
    ]
}

fn prefixes(report: &Report) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    prefix_rows(
        &report.prefixes,
        0,
        "",
        &report.options.separator,
        &mut rows,
    );
    rows
}

/// A report's tree is as deep as was asked for, 16 at most.
fn prefix_rows(
    row: &PrefixRow,
    depth: usize,
    path: &str,
    separator: &str,
    rows: &mut Vec<Vec<String>>,
) {
    let names = vec![depth.to_string(), path.to_owned()];
    let sums = [row.sum, row.here, row.other, row.missed_max].map(sum);
    rows.push([names, sums.concat()].concat());
    for child in &row.children {
        let path = format!("{path}{}{separator}", child.name);
        prefix_rows(child, depth + 1, &path, separator, rows);
    }
}

fn slots(report: &Report) -> Vec<Vec<String>> {
    let rows = report.slots.iter();
    rows.map(|row| [vec![row.slot.to_string()], sum(row.sum)].concat())
        .collect()
}

fn shards(report: &Report) -> Vec<Vec<String>> {
    let rows = report.shards.iter();
    rows.map(|row| {
        let names = vec![
            row.shard.to_string(),
            row.slot_start.to_string(),
            row.slot_end.to_string(),
        ];
        [names, sum(row.sum)].concat()
    })
    .collect()
}

fn sum(sum: Sum) -> Vec<String> {
    vec![sum.keys.to_string(), sum.bytes.to_string()]
}

/// Empty fields where it is not known.
fn optional_sum(known: Option<Sum>) -> Vec<String> {
    known.map_or(vec![String::new(); 2], sum)
}

fn optional(number: Option<u64>) -> String {
    number.map_or(String::new(), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystats::sample;

    /// A reader of its own: what was written must be read the same.
    fn read(text: &str) -> Vec<Vec<String>> {
        let (mut rows, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
        let mut chars = text.chars().peekable();
        let mut is_quoted = false;
        while let Some(c) = chars.next() {
            match c {
                '"' if is_quoted && chars.peek() == Some(&'"') => {
                    chars.next();
                    field.push('"');
                }
                '"' => is_quoted = !is_quoted,
                ',' if !is_quoted => row.push(std::mem::take(&mut field)),
                '\n' if !is_quoted => {
                    row.push(std::mem::take(&mut field));
                    rows.push(std::mem::take(&mut row));
                }
                c => field.push(c),
            }
        }
        assert!(field.is_empty() && row.is_empty(), "ends with a line");
        rows
    }

    #[test]
    fn every_table_can_be_read_and_adds_up() {
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("new/folder");
        let report = sample::report();
        let csv = CsvFolder::check("--csv", &into).unwrap();
        assert!(!folder.path().join("new").exists());
        csv.make().unwrap();
        assert_eq!(csv.write(&report), Vec::<String>::new());
        assert_eq!(csv.write(&report), Vec::<String>::new());
        assert_eq!(fs::read_dir(&into).unwrap().count(), TABLES.len());
        for (file, collides) in [
            ("new", true),
            ("new/folder", true),
            ("new/../new/folder/dbs.csv", true),
            ("new/folder/r.html", false),
            ("new/other", false),
        ] {
            assert_eq!(
                csv.collides_with(&folder.path().join(file)),
                collides,
                "{file}"
            );
        }
        // What cannot be written keeps nothing else from being written.
        fs::remove_file(into.join("dbs.csv")).unwrap();
        fs::create_dir(into.join("dbs.csv")).unwrap();
        fs::remove_file(into.join("slots.csv")).unwrap();
        let lost = csv.write(&report);
        assert!(lost.len() == 1 && lost[0].contains("dbs.csv"), "{lost:?}");
        fs::remove_dir(into.join("dbs.csv")).unwrap();
        assert_eq!(csv.write(&report), Vec::<String>::new());
        let table = |name: &str| read(&fs::read_to_string(into.join(name)).unwrap());
        for (name, columns, _) in TABLES {
            let rows = table(name);
            assert_eq!(rows[0], columns, "{name}");
            assert!(rows.len() > 1, "{name}");
            assert!(rows.iter().all(|row| row.len() == columns.len()), "{name}");
        }
        for (name, column) in [
            ("dbs.csv", 2),
            ("types.csv", 2),
            ("slots.csv", 2),
            ("shards.csv", 4),
        ] {
            let rows = table(name);
            let bytes = rows
                .iter()
                .skip(1)
                .map(|row| row[column].parse::<u64>().unwrap());
            assert_eq!(bytes.sum::<u64>(), report.totals.sum.bytes, "{name}");
        }
        let biggest = table("biggest.csv");
        let names: Vec<&str> = biggest.iter().map(|row| row[3].as_str()).collect();
        assert!(names.contains(&sample::EVIL_KEY));
        assert!(names.contains(&sample::BINARY_KEY_TEXT));
    }

    #[test]
    fn a_folder_that_cannot_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = CsvFolder::check("--csv", &file.join("x")).unwrap_err();
        assert!(
            error.to_string().starts_with("--csv: cannot make"),
            "{error}"
        );
    }
}

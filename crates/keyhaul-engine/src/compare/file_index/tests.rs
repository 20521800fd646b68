//! Indexes of files that are made here, and of files of real servers.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use keyhaul_rdb::{
    END_MARK, Form, RecordHead, canonical, encode_aux, encode_db, encode_header, encode_record_head,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::names::NameBatch;
use super::row::Row;
use super::*;
use crate::prepare::check_file;
use crate::progress::Progress;
use crate::sorted::KeyedRow;

const NOW_MS: i64 = 1_700_000_000_000;

const RULES: IndexRules = IndexRules {
    seed: 7,
    detail: StreamDetail::Basic,
    with_values: true,
    now_ms: NOW_MS,
};

fn ledger() -> Arc<Ledger> {
    let progress = Arc::new(Progress::default());
    Arc::new(Ledger::new(progress, CancellationToken::new()))
}

/// The bytes of an RDB without a checksum.
struct Rdb(Vec<u8>);

impl Rdb {
    fn new() -> Self {
        let mut out = Vec::new();
        encode_header(&mut out, 11);
        encode_aux(&mut out, b"redis-ver", b"7.2.0");
        Self(out)
    }

    fn db(mut self, db: u32) -> Self {
        encode_db(&mut self.0, db);
        self
    }

    fn value(&mut self, key: &[u8], form: Form, expire_at_ms: Option<i64>, value: &[u8]) {
        let head = RecordHead {
            key,
            form,
            expire_at_ms,
            idle_s: None,
            freq: None,
        };
        encode_record_head(&mut self.0, head);
        self.0.extend_from_slice(value);
    }

    fn string(mut self, key: &str, expire_at_ms: Option<i64>, value: &str) -> Self {
        let value = text(value.as_bytes());
        self.value(key.as_bytes(), Form::String, expire_at_ms, &value);
        self
    }

    fn save(mut self, folder: &Path, name: &str) -> CheckedFile {
        self.0.extend(END_MARK);
        self.0.extend([0; 8]);
        let path = folder.join(name);
        fs::write(&path, self.0).unwrap();
        check_file(&path).unwrap()
    }
}

/// A raw string with its length before it.
fn text(text: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80];
    out.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    out.extend_from_slice(text);
    out
}

/// Texts with their count before them.
fn texts(items: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![0x80];
    out.extend(u32::try_from(items.len()).unwrap().to_be_bytes());
    items.iter().for_each(|item| out.extend(text(item)));
    out
}

fn digest(form: Form, value: &[u8]) -> Canonical {
    canonical(form, value, RULES.seed, RULES.detail).unwrap()
}

async fn index(files: &[CheckedFile]) -> Arc<FileIndex> {
    let ledger = ledger();
    let built = FileIndex::build(files, RULES, &ledger).await;
    Arc::new(built.unwrap_or_else(|_| panic!("{:?}", ledger.halted())))
}

fn look(index: &FileIndex, db: u32, key: &str) -> Option<IndexedKey> {
    let keys = [Bytes::copy_from_slice(key.as_bytes())];
    index.look(db, &keys).unwrap().remove(0)
}

/// All names, as `db name`.
async fn names(index: &Arc<FileIndex>, files: &[CheckedFile]) -> Vec<String> {
    let mut names = index.names(files, &ledger());
    let mut all = Vec::new();
    while let Some(NameBatch { db, keys }) = names.next().await.unwrap() {
        assert!((1..=names::BATCH_KEYS_MAX).contains(&keys.len()));
        let shown = |key: &Bytes| format!("{db} {}", String::from_utf8_lossy(key));
        all.extend(keys.iter().map(shown));
    }
    assert_eq!(names.next().await.unwrap(), None);
    all
}

#[tokio::test]
async fn many_keys_are_found_and_others_are_not() {
    const KEYS: u32 = 200_000;
    let folder = tempfile::tempdir().unwrap();
    let mut rdb = Rdb::new();
    let mut expected = Vec::new();
    for db in [0, 3] {
        rdb = rdb.db(db);
        for n in (db..KEYS).step_by(2) {
            rdb = rdb.string(&format!("key:{n}"), None, &format!("value {n}"));
            expected.push(format!("{db} key:{n}"));
        }
    }
    let files = [rdb.save(folder.path(), "many.rdb")];
    let index = index(&files).await;
    assert_eq!(index.keys(), expected.len() as u64);
    for (db, other) in [(0, 3), (3, 0)] {
        let keys: Vec<u32> = (db..KEYS).step_by(2).collect();
        for keys in keys.chunks(997) {
            let names: Vec<Bytes> = keys.iter().map(|n| format!("key:{n}").into()).collect();
            let found = index.look(db, &names).unwrap();
            assert_eq!(found.len(), names.len());
            for (n, found) in keys.iter().zip(found) {
                let value = digest(Form::String, &text(format!("value {n}").as_bytes()));
                let key = IndexedKey {
                    key_type: KeyType::String,
                    expire_at_ms: None,
                    value: Some(value),
                };
                assert_eq!(found, Some(key), "{db} key:{n}");
            }
            let found = index.look(other, &names).unwrap();
            assert_eq!(found, vec![None; names.len()], "db {other}");
        }
    }
    assert_eq!(names(&index, &files).await, expected);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_file_of_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let files = [Rdb::new().save(folder.path(), "empty.rdb")];
    for files in [&files[..], &[]] {
        let index = index(files).await;
        assert_eq!((index.keys(), look(&index, 0, "k")), (0, None));
        assert_eq!(index.look(0, &[]).unwrap(), []);
        assert_eq!(names(&index, files).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn the_later_of_two_counts_and_expired_ones_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let one = Rdb::new()
        .db(0)
        .string("twice", None, "early")
        .string("once", Some(NOW_MS + 1), "a")
        .string("gone", Some(NOW_MS), "b")
        .string("gone later", None, "stays")
        .string("twice", None, "late")
        .db(5)
        .string("twice", None, "elsewhere");
    let other = Rdb::new()
        .db(5)
        .string("twice", Some(i64::MAX), "later")
        .db(0)
        .string("gone", Some(-1), "b")
        .string("gone later", Some(NOW_MS - 1), "expired")
        .string("new", None, "");
    let files = [
        one.save(folder.path(), "1.rdb"),
        other.save(folder.path(), "2.rdb"),
    ];
    let index = index(&files).await;
    assert_eq!(index.keys(), 5);
    for (db, key, expected) in [
        (0, "twice", Some((None, "late"))),
        (0, "once", Some((Some(NOW_MS + 1), "a"))),
        (0, "gone", None),
        (0, "gone later", Some((None, "stays"))),
        (0, "new", Some((None, ""))),
        (5, "twice", Some((Some(i64::MAX), "later"))),
        (5, "new", None),
        (1, "twice", None),
    ] {
        let expected = expected.map(|(expire_at_ms, value)| IndexedKey {
            key_type: KeyType::String,
            expire_at_ms,
            value: Some(digest(Form::String, &text(value.as_bytes()))),
        });
        assert_eq!(look(&index, db, key), expected, "{db} {key}");
    }
    let expected = ["0 once", "0 gone later", "0 twice", "5 twice", "0 new"];
    assert_eq!(names(&index, &files).await, expected);
}

/// A string of digits, as text and as a number; a set as a table and as integers; large values, which are
/// digested in parts, as by one call.
#[tokio::test]
async fn values_and_their_encodings() {
    let folder = tempfile::tempdir().unwrap();
    let intset = [2_u32, 2].map(u32::to_le_bytes).concat();
    let intset = [&intset[..], &[5, 0], &[9, 0]].concat();
    let big_items: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![n; 100_000]).collect();
    let big_items: Vec<&[u8]> = big_items.iter().map(Vec::as_slice).collect();
    let huge = vec![b'x'; 5_000_000];
    let mut items: Vec<(&str, Form, Vec<u8>)> = vec![
        ("number", Form::String, vec![0xc0, 9]),
        ("text", Form::String, text(b"9")),
        ("other text", Form::String, text(b"8")),
        ("table", Form::Set, texts(&[b"9", b"5"])),
        ("integers", Form::SetIntset, text(&intset)),
        ("a list", Form::List, texts(&[b"9", b"5"])),
        ("big list", Form::List, texts(&big_items)),
        ("big set", Form::Set, texts(&big_items)),
        ("big string", Form::String, text(&huge)),
        ("big item", Form::List, texts(&[&huge, b"end"])),
    ];
    let mut turned = big_items.clone();
    turned.reverse();
    items.push(("big set, turned", Form::Set, texts(&turned)));
    let mut rdb = Rdb::new().db(0);
    for (key, form, value) in &items {
        rdb.value(key.as_bytes(), *form, None, value);
    }
    let files = [rdb.save(folder.path(), "values.rdb")];
    let index = index(&files).await;
    for (key, form, value) in &items {
        let found = look(&index, 0, key).unwrap();
        assert_eq!(found.value, Some(digest(*form, value)), "{key}");
        assert_eq!(found.key_type, form.key_type(), "{key}");
    }
    let value = |key| look(&index, 0, key).unwrap().value;
    for (one, other, is_same) in [
        ("number", "text", true),
        ("number", "other text", false),
        ("table", "integers", true),
        ("table", "a list", false),
        ("big set", "big set, turned", true),
    ] {
        assert_eq!(value(one) == value(other), is_same, "{one}, {other}");
    }
    let rules = IndexRules {
        with_values: false,
        ..RULES
    };
    let quick = FileIndex::build(&files, rules, &ledger()).await.unwrap();
    for (key, form, _) in &items {
        let found = look(&quick, 0, key).unwrap();
        assert_eq!((found.key_type, found.value), (form.key_type(), None));
    }
}

/// Files of real servers, with all types and modules: what the decoder and one call for each value say.
#[tokio::test]
async fn files_of_servers() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../keyhaul-rdb/tests/fixtures");
    let mut seen = 0;
    for file in [
        "redis-6.2.14/dump.rdb",
        "redis-8.2.3/dump.rdb",
        "redis-8.2.3/dump-module.rdb",
        "valkey-9.1.2/dump.rdb",
    ] {
        let path = Path::new(fixtures).join(file);
        let mut decoder = keyhaul_rdb::Decoder::new(keyhaul_rdb::Checksum::Verify);
        decoder.input().extend_from_slice(&fs::read(&path).unwrap());
        let mut expected = HashMap::new();
        while let Some(event) = decoder.next_event().unwrap() {
            let keyhaul_rdb::Event::Record(record) = event else {
                continue;
            };
            let raw = decoder.raw_value(usize::MAX - 1).unwrap();
            let Some(keyhaul_rdb::RawValue::Whole(value)) = raw else {
                panic!("{file}: {record:?} has no value");
            };
            if record.expire_at_ms.is_none_or(|at| at > NOW_MS) {
                let key = IndexedKey {
                    key_type: record.form.key_type(),
                    expire_at_ms: record.expire_at_ms,
                    value: Some(digest(record.form, &value)),
                };
                expected.insert((record.db, record.key), key);
            }
        }
        let files = [check_file(&path).unwrap()];
        let index = index(&files).await;
        assert_eq!(index.keys(), expected.len() as u64, "{file}");
        for ((db, key), expected) in &expected {
            let found = index.look(*db, std::slice::from_ref(key)).unwrap();
            assert_eq!(found, [Some(*expected)], "{file}: {key:?}");
        }
        assert_eq!(names(&index, &files).await.len(), expected.len(), "{file}");
        seen += expected.len();
    }
    assert!(seen > 100, "{seen}");
}

/// Rows of digests that are and are not spread evenly, in runs of several lengths.
#[test]
fn rows_are_found_in_few_reads() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(5);
    let spread: Vec<u128> = (0..300_000).map(|_| random.random()).collect();
    let top = u128::MAX << 90;
    let crowded: Vec<u128> = (0..20_000)
        .map(|n| if n % 2 == 0 { n } else { top | n })
        .collect();
    for (keys, rows_max, reads_max) in [
        (&spread[..], 100_000, 3.0),
        (&spread[..20_000], 777, 3.0),
        (&spread[..73], 10, 1.0),
        (&spread[..74], 10, 2.0),
        (&spread[..1], 1, 1.0),
        (&crowded[..], 3000, 25.0),
        (&[0, u128::MAX, u128::MAX - 1, 1][..], 2, 1.0),
    ] {
        let mut rows = Rows::with_rows_max(folder.path(), rows_max).unwrap();
        let found = |elements| walk::Found {
            db: 0,
            key: b"",
            form: Form::Set,
            expire_at_ms: None,
            value: Some(Canonical {
                key_type: KeyType::Set,
                elements,
                digest: u128::MAX / 3,
                is_opaque: false,
            }),
        };
        for (number, key) in (0..).zip(keys.iter().chain(keys)) {
            rows.add(Row::new(*key, number, &found(number))).unwrap();
        }
        let sorted = rows.finish(folder.path(), &CancellationToken::new());
        let sorted = sorted.unwrap();
        assert_eq!(sorted.rows(), keys.len() as u64);
        let mut finder = sorted.finder();
        for (number, key) in (keys.len() as u64..).zip(keys) {
            let row = finder.find(*key).unwrap().expect("it was added");
            assert_eq!((row.key(), row.number()), (*key, number));
            let value = row.indexed().unwrap().value.unwrap();
            assert_eq!((value.elements, value.digest), (number, u128::MAX / 3));
        }
        let reads = finder.reads as f64 / keys.len() as f64;
        assert!(reads <= reads_max, "{} rows: {reads} reads", keys.len());
        for _ in 0..1000 {
            assert_eq!(finder.find(random.random()).unwrap(), None);
        }
        for key in [2, u128::MAX - 2] {
            let is_there = keys.contains(&key);
            assert_eq!(finder.find(key).unwrap().is_some(), is_there);
        }
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_row_says_what_it_was_given() {
    for form in Form::all() {
        for expire_at_ms in [None, Some(0), Some(-1), Some(i64::MIN), Some(i64::MAX)] {
            let found = walk::Found {
                db: 0,
                key: b"",
                form,
                expire_at_ms,
                value: None,
            };
            let row = Row::new(u128::MAX - 1, (1 << 48) - 1, &found);
            assert_eq!((row.key(), row.number()), (u128::MAX - 1, (1 << 48) - 1));
            let expected = IndexedKey {
                key_type: form.key_type(),
                expire_at_ms,
                value: None,
            };
            assert_eq!(row.indexed().unwrap(), expected, "{form:?}");
        }
    }
}

#[tokio::test]
async fn a_folder_without_room_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let files = [Rdb::new()
        .db(0)
        .string("k", None, "v")
        .save(folder.path(), "a.rdb")];
    let absent = folder.path().join("absent");
    let ledger = ledger();
    let built = FileIndex::build_in(absent.clone(), &files, RULES, &ledger).await;
    assert!(built.is_err());
    let halted = ledger.halted().unwrap();
    let expected = format!(
        "cannot keep an index of the keys of the files in {}: ",
        absent.display()
    );
    assert!(halted.starts_with(&expected), "{halted}");
    let remedy = "; free space there or name another folder by TMPDIR";
    assert!(
        halted.ends_with(remedy) && !halted.contains('\n'),
        "{halted}"
    );
    assert_eq!(
        halted.matches(&*absent.to_string_lossy()).count(),
        1,
        "{halted}"
    );
}

#[tokio::test]
async fn a_stop_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let files = [Rdb::new()
        .db(0)
        .string("k", None, "v")
        .save(folder.path(), "a.rdb")];
    let built = index(&files).await;
    let ledger = ledger();
    ledger.stop.cancel();
    assert!(FileIndex::build(&files, RULES, &ledger).await.is_err());
    assert!(built.names(&files, &ledger).next().await.is_err());
    assert_eq!(ledger.halted(), None);
}

#[tokio::test]
async fn of_a_damaged_file_what_is_sound_counts() {
    let folder = tempfile::tempdir().unwrap();
    let mut rdb = Rdb::new().db(0).string("sound", None, "v");
    rdb.value(b"broken", Form::SetIntset, None, &text(b"no intset"));
    let files = [rdb.string("behind", None, "v").save(folder.path(), "a.rdb")];
    assert!(files[0].damage.is_some());
    let index = index(&files).await;
    assert_eq!(index.keys(), 1);
    assert!(look(&index, 0, "sound").is_some());
    assert_eq!(names(&index, &files).await, ["0 sound"]);
}

/// A value that cannot be taken apart is no reason to know nothing of the file.
#[tokio::test]
async fn a_value_that_is_not_what_it_says_is_listed_without_digest() {
    let folder = tempfile::tempdir().unwrap();
    let mut rdb = Rdb::new().db(0);
    rdb.value(b"small", Form::SetIntset, None, &text(b"no intset"));
    rdb.value(b"large", Form::SetIntset, None, &text(&[1; 2_000_000]));
    let mut file = rdb.string("k", None, "v").save(folder.path(), "a.rdb");
    // As if the checksum had been right: then nobody looks inside.
    file.damage = None;
    let files = [file];
    let index = index(&files).await;
    for key in ["small", "large"] {
        let found = look(&index, 0, key).unwrap();
        assert_eq!((found.key_type, found.value), (KeyType::Set, None), "{key}");
    }
    assert_eq!(index.keys(), 3);
}

#[tokio::test]
async fn a_file_that_changes_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let rdb = || Rdb::new().db(0).string("k", None, "v");
    let files = [rdb().save(folder.path(), "a.rdb")];
    let index = index(&files).await;
    for (change, bytes) in [
        ("longer", rdb().string("l", None, "v").0),
        ("shorter", rdb().0[..20].to_vec()),
        ("empty", Vec::new()),
        ("no RDB", vec![b'x'; 100]),
    ] {
        fs::write(&files[0].path, bytes).unwrap();
        let expected = format!("{} was written to while", files[0].path.display());
        let of_build = ledger();
        assert!(FileIndex::build(&files, RULES, &of_build).await.is_err());
        assert!(
            of_build.halted().unwrap().starts_with(&expected),
            "{change}"
        );
        let of_names = ledger();
        let mut names = index.names(&files, &of_names);
        while let Ok(Some(_)) = names.next().await {}
        assert!(
            of_names.halted().unwrap().starts_with(&expected),
            "{change}"
        );
    }
}

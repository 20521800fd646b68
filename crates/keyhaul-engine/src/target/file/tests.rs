//! What is written is read back by the decoder, and the folder is looked at before and after.

use std::fs;
use std::path::{Path, PathBuf};

use keyhaul_rdb::{Checksum, Decoder, Event, Form, RawValue, RecordHead};

use super::place::Place;
use super::*;

/// A record as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    db: u32,
    key: Vec<u8>,
    value: Vec<u8>,
    expire_at_ms: Option<i64>,
    idle_s: Option<u64>,
    freq: Option<u8>,
}

impl Item {
    fn new(db: u32, key: &str, value: Vec<u8>) -> Self {
        Self {
            db,
            key: key.into(),
            value,
            expire_at_ms: None,
            idle_s: None,
            freq: None,
        }
    }

    fn head(&self) -> RecordHead<'_> {
        RecordHead {
            key: &self.key,
            form: Form::String,
            expire_at_ms: self.expire_at_ms,
            idle_s: self.idle_s,
            freq: self.freq,
        }
    }

    fn write(&self, file: &mut RdbFile) {
        file.record(self.db, self.head(), &self.value).unwrap();
    }
}

/// A raw string of this many bytes, with its length before it.
fn text(bytes: usize, fill: u8) -> Vec<u8> {
    let mut value = vec![0x80];
    value.extend(u32::try_from(bytes).unwrap().to_be_bytes());
    value.resize(5 + bytes, fill);
    value
}

/// All that stands in a file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Content {
    version: u16,
    aux: Vec<String>,
    functions: Vec<Vec<u8>>,
    items: Vec<Item>,
}

fn content(path: &Path) -> Content {
    let mut content = Content::default();
    let mut decoder = Decoder::new(Checksum::Verify);
    decoder.input().extend_from_slice(&fs::read(path).unwrap());
    loop {
        match decoder.next_event().unwrap().expect("the file is whole") {
            Event::Header(header) => content.version = header.version,
            Event::Aux { name, .. } => content.aux.push(String::from_utf8(name.into()).unwrap()),
            Event::Function(code) => content.functions.push(code.into()),
            Event::Record(record) => {
                let Some(RawValue::Whole(value)) = decoder.raw_value(usize::MAX - 1).unwrap()
                else {
                    panic!("{record:?} has no value");
                };
                content.items.push(Item {
                    db: record.db,
                    key: record.key.into(),
                    value: value.into(),
                    expire_at_ms: record.expire_at_ms,
                    idle_s: record.idle_s,
                    freq: record.freq,
                });
            }
            Event::End { has_checksum } => {
                assert!(has_checksum);
                assert_eq!(decoder.next_event(), Ok(None), "nothing is behind the end");
                return content;
            }
            other => panic!("{other:?}"),
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn in_folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump.rdb");
    (folder, path)
}

#[test]
fn all_is_read_back() {
    let (folder, path) = in_folder();
    for version in [10, 11, 12, 80] {
        let mut items = vec![
            Item::new(0, "a", text(0, 0)),
            Item::new(0, "", text(10, 1)),
            Item::new(70_000, "big", text(3_000_000, 2)),
            Item::new(0, "a2", text(1_048_570, 3)),
            Item::new(9, "parts", text(2_500_000, 4)),
            Item::new(9, "few parts", text(30, 4)),
            Item::new(9, &"long".repeat(1_000_000), text(1, 5)),
        ];
        items[0].expire_at_ms = Some(1);
        items[1].expire_at_ms = Some(1_900_000_000_000);
        items[1].freq = Some(7);
        items[2].idle_s = Some(100);
        let code = b"#!lua name=l\nredis.register_function('f', function() end)";
        let mut file = RdbFile::create(&path, version, KeepWhich::Last).unwrap();
        assert!(file.function(code).unwrap());
        for item in &items {
            if item.key.ends_with(b"parts") {
                file.begin(item.db, item.head()).unwrap();
                for part in item.value.chunks(item.value.len() / 3) {
                    file.part(part).unwrap();
                }
                file.commit().unwrap();
            } else {
                item.write(&mut file);
            }
        }
        let finished = file.finish().unwrap();
        let expected = Content {
            version,
            aux: vec!["keyhaul-ver".into(), "ctime".into()],
            functions: vec![code.into()],
            items,
        };
        assert!(content(&path) == expected, "version {version}");
        assert_eq!(finished.bytes, fs::metadata(&path).unwrap().len());
        assert_eq!((finished.records, finished.doubled), (7, 0));
        assert_eq!(names(folder.path()), ["dump.rdb"]);
    }
}

#[test]
fn a_file_of_nothing() {
    let (_folder, path) = in_folder();
    let file = RdbFile::create(&path, 9, KeepWhich::First).unwrap();
    assert_eq!(file.finish().unwrap().records, 0);
    assert_eq!(content(&path).items, []);
}

#[test]
fn a_function_library_is_written_once() {
    let (_folder, path) = in_folder();
    let mut file = RdbFile::create(&path, 11, KeepWhich::Last).unwrap();
    assert!(file.function(b"#!lua name=a\n1").unwrap());
    assert!(file.function(b"#!lua name=b\n1").unwrap());
    assert!(file.function(b"#!lua name=a\n1").unwrap());
    assert!(!file.function(b"#!lua name=a\n2").unwrap());
    file.finish().unwrap();
    let expected: [&[u8]; 2] = [b"#!lua name=a\n1", b"#!lua name=b\n1"];
    assert_eq!(content(&path).functions, expected);
}

/// The records of which each key has one, and none else, in the order of the file.
fn without_doubled(items: &[Item], keep: KeepWhich) -> Vec<Item> {
    let is_same = |one: &Item, other: &Item| (one.db, &one.key) == (other.db, &other.key);
    let stays = |n: &usize| {
        let mut rivals = match keep {
            KeepWhich::First => items[..*n].iter(),
            KeepWhich::Last => items[*n + 1..].iter(),
        };
        !rivals.any(|other| is_same(other, &items[*n]))
    };
    (0..items.len())
        .filter(stays)
        .map(|n| items[n].clone())
        .collect()
}

fn check_doubled(items: &[Item], rows_max: usize) {
    let (folder, path) = in_folder();
    for keep in [KeepWhich::First, KeepWhich::Last] {
        let mut file = RdbFile::create_with(&path, 11, keep, rows_max).unwrap();
        file.function(b"#!lua name=l\n").unwrap();
        for item in items {
            item.write(&mut file);
        }
        let finished = file.finish().unwrap();
        let expected = without_doubled(items, keep);
        let found = content(&path);
        let keys = |items: &[Item]| -> Vec<String> {
            items
                .iter()
                .map(|item| format!("{} {}", item.db, item.key.escape_ascii()))
                .collect()
        };
        assert_eq!(keys(&found.items), keys(&expected), "{keep:?} {rows_max}");
        assert!(
            found.items == expected,
            "{keep:?} {rows_max}: values differ"
        );
        assert_eq!(found.functions.len(), 1);
        assert_eq!(finished.records, expected.len() as u64);
        assert_eq!(finished.doubled, (items.len() - expected.len()) as u64);
        assert_eq!(finished.bytes, fs::metadata(&path).unwrap().len());
        assert_eq!(names(folder.path()), ["dump.rdb"]);
    }
}

#[test]
fn of_doubled_keys_one_record_stays() {
    // Record after record: db, key, bytes of its value.
    let cases: [&[(u32, &str, usize)]; 7] = [
        &[(0, "a", 1), (0, "a", 2)],
        &[(0, "a", 1), (0, "b", 1), (1, "a", 3), (0, "a", 2)],
        // The first record of a db goes; what says the db must stay.
        &[
            (3, "a", 1),
            (3, "b", 1),
            (0, "c", 1),
            (3, "a", 2),
            (3, "d", 1),
        ],
        &[
            (3, "a", 1),
            (0, "b", 1),
            (3, "a", 1),
            (0, "b", 2),
            (3, "a", 3),
        ],
        &[(0, "a", 5), (0, "a", 5), (0, "a", 5), (0, "a", 5)],
        // Longer than what is read at once.
        &[
            (0, "a", 3_000_000),
            (0, "b", 9),
            (0, "a", 2_000_000),
            (0, "b", 2_500_000),
            (1, "a", 1),
        ],
        &[
            (0, "a", 1_048_576),
            (0, "a", 1_048_500),
            (0, "a", 1_048_400),
            (0, "b", 0),
        ],
    ];
    for case in cases {
        let mut items: Vec<Item> = case
            .iter()
            .enumerate()
            .map(|(n, (db, key, bytes))| Item::new(*db, key, text(*bytes, b'0' + n as u8)))
            .collect();
        // What stands before a record's type byte goes with it.
        for (n, item) in items.iter_mut().enumerate() {
            item.expire_at_ms = (n % 2 == 0).then_some(5_000_000_000_000 + n as i64);
            item.freq = (n % 3 == 0).then_some(n as u8);
        }
        for rows_max in [1, 2, 3, 1000] {
            check_doubled(&items, rows_max);
        }
    }
}

#[test]
fn doubled_keys_among_many() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for (count, names, bytes_max) in [(3000, 2500, 2500), (3000, 10, 2500), (2000, 100_000, 2500)] {
        let items: Vec<Item> = (0..count)
            .map(|n| {
                let (db, key) = (random(3) as u32, format!("key:{}", random(names)));
                let mut value = text(random(bytes_max) as usize, b'x');
                value.splice(0..5, [0x80, 0, 0, 0, 0]);
                value.extend(u32::to_be_bytes(n));
                let bytes = u32::try_from(value.len() - 5).unwrap();
                value.splice(1..5, bytes.to_be_bytes());
                Item::new(db, &key, value)
            })
            .collect();
        for rows_max in [100, 100_000] {
            check_doubled(&items, rows_max);
        }
    }
}

#[test]
fn an_aborted_record_never_was() {
    let (folder, path) = in_folder();
    let first = Item::new(0, "first", text(10, 1));
    let last = Item::new(0, "last", text(10, 2));
    let half = Item::new(5, "half", text(5_000_000, 3));
    // How much lies in the buffer before it, and how much of it comes.
    for (before, parts) in [
        (0, &[][..]),
        (0, &[100]),
        (0, &[100, 5, 5]),
        (0, &[600_000, 600_000]),
        (500_000, &[600_000, 600_000, 600_000]),
        (1_048_500, &[100]),
        (1_048_500, &[3_000_000, 10]),
        (2_000_000, &[10, 3_000_000]),
    ] {
        let early = Item::new(0, "early", text(before, 9));
        let write = |aborts: usize| {
            let mut file = RdbFile::create(&path, 11, KeepWhich::Last).unwrap();
            early.write(&mut file);
            first.write(&mut file);
            for _ in 0..aborts {
                file.begin(half.db, half.head()).unwrap();
                for bytes in parts {
                    file.part(&half.value[..*bytes]).unwrap();
                }
                file.abort().unwrap();
            }
            last.write(&mut file);
            file.finish().unwrap()
        };
        let expected = write(0);
        for aborts in [1, 2] {
            assert_eq!(write(aborts), expected, "{before} {parts:?}");
            let items = [early.clone(), first.clone(), last.clone()];
            assert!(content(&path).items == items, "{before} {parts:?}");
        }
    }
    assert_eq!(names(folder.path()), ["dump.rdb"]);
}

#[test]
fn an_aborted_record_is_no_double() {
    let (_folder, path) = in_folder();
    let item = Item::new(0, "k", text(10, 1));
    let mut file = RdbFile::create(&path, 11, KeepWhich::Last).unwrap();
    item.write(&mut file);
    file.begin(0, item.head()).unwrap();
    file.part(&item.value[..3]).unwrap();
    file.abort().unwrap();
    assert_eq!(file.finish().unwrap().doubled, 0);
    assert_eq!(content(&path).items, [item]);
}

#[test]
fn what_was_there_stays_until_the_end() {
    let (folder, path) = in_folder();
    fs::write(&path, "old").unwrap();
    let item = Item::new(0, "k", text(3_000_000, 1));
    let begin = || {
        let mut file = RdbFile::create_with(&path, 11, KeepWhich::Last, 1).unwrap();
        item.write(&mut file);
        file.begin(0, item.head()).unwrap();
        file.part(&item.value).unwrap();
        file
    };
    let unfinished = begin();
    let [hidden, name] = &names(folder.path())[..] else {
        panic!("{:?}", names(folder.path()));
    };
    assert!(hidden.starts_with(".dump.rdb.keyhaul-") && hidden.ends_with(".tmp"));
    assert_eq!(name, "dump.rdb");
    drop(unfinished);
    assert_eq!(names(folder.path()), ["dump.rdb"]);
    assert_eq!(fs::read(&path).unwrap(), b"old");

    let mut file = begin();
    file.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(file.finish().unwrap().doubled, 1);
    assert_eq!(content(&path).items, [item]);
    assert_eq!(names(folder.path()), ["dump.rdb"]);
}

#[test]
fn the_mode_is_that_of_a_new_file() {
    let (folder, path) = in_folder();
    let plain = folder.path().join("plain");
    fs::write(&plain, "").unwrap();
    let file = RdbFile::create(&path, 11, KeepWhich::Last).unwrap();
    file.finish().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions();
    assert_eq!(mode(&path), mode(&plain));
}

#[cfg(unix)]
#[test]
fn a_link_stays_and_its_file_is_replaced() {
    let (folder, path) = in_folder();
    let other = tempfile::tempdir().unwrap();
    let meant = other.path().join("meant.rdb");
    std::os::unix::fs::symlink(&meant, &path).unwrap();
    let error = check_writable(&path).unwrap_err().to_string();
    assert!(error.contains("is a link to nothing"), "{error}");
    fs::write(&meant, "old").unwrap();
    check_writable(&path).unwrap();
    let file = RdbFile::create(&path, 11, KeepWhich::Last).unwrap();
    assert_eq!(names(folder.path()), ["dump.rdb"]);
    file.finish().unwrap();
    assert!(path.is_symlink());
    assert_eq!(content(&meant).version, 11);
    assert_eq!(names(other.path()), ["meant.rdb"]);
}

#[test]
fn a_name_alone_is_one_in_the_working_folder() {
    let place = Place::of(Path::new("a name that is not there")).unwrap();
    let folder = std::env::current_dir().unwrap();
    assert_eq!(place.folder, folder.canonicalize().unwrap());
}

#[test]
fn what_cannot_be_written_is_told_before() {
    let (folder, path) = in_folder();
    fs::write(folder.path().join("file"), "").unwrap();
    check_writable(&path).unwrap();
    check_writable(&folder.path().join("file")).unwrap();
    check_writable(&folder.path().join("n".repeat(250))).unwrap();
    let long = "n".repeat(250) + "/x";
    for (name, expected) in [
        ("", "' is a folder: add a name such as dump.rdb"),
        ("..", "' is a folder: "),
        ("new/", "' names no file: add a name"),
        (
            "none/dump.rdb",
            "', the folder does not exist: create it or name another",
        ),
        (&long, "', the folder does not exist: "),
        (
            "file/dump.rdb",
            "', a part of the path is a file and no folder",
        ),
        ("/dev/null", "'/dev/null' is no regular file: name another"),
    ] {
        // A name that begins at the root stands for itself.
        let path = folder.path().join(name);
        let error = check_writable(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{name:?}: {error}");
        let created = RdbFile::create(&path, 11, KeepWhich::Last).unwrap_err();
        assert_eq!(created.to_string(), error);
    }
    let error = check_writable(Path::new("")).unwrap_err().to_string();
    assert_eq!(error, "'' names no file: add a name such as dump.rdb");
    assert_eq!(names(folder.path()), ["file"]);
}

/// Runs itself again where a file system of 4 MB is mounted that nobody else sees.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    const FOLDER: &str = "KEYHAUL_TEST_SMALL_FOLDER";
    if let Some(folder) = std::env::var_os(FOLDER) {
        return fill(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let run = |script: &str| {
        let (_, module) = module_path!().split_once("::").unwrap();
        std::process::Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", script])
            .arg(folder.path())
            .arg(std::env::current_exe().unwrap())
            .arg(format!("{module}::a_full_disk_is_told_and_leaves_nothing"))
            .env(FOLDER, folder.path())
            .output()
    };
    const MOUNT: &str = "mount -t tmpfs -o size=4m none \"$0\"";
    if !run(MOUNT).is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: a full disk, for nothing can be mounted here");
        return;
    }
    let output = run(&format!(
        "{MOUNT} && exec \"$1\" --exact \"$2\" --nocapture"
    ))
    .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && printed.contains("1 passed"),
        "{output:?}"
    );
}

#[cfg(target_os = "linux")]
fn fill(folder: &Path) {
    let (path, ballast) = (folder.join("dump.rdb"), folder.join("ballast"));
    // Which is full first: the file itself, or what notes its keys.
    for (value_bytes, rows_max, doing) in
        [(100_000, 1000, "write"), (0, 20_000, "note the keys of")]
    {
        fs::write(&path, "old").unwrap();
        fs::write(&ballast, vec![0; 100_000]).unwrap();
        let mut file = RdbFile::create_with(&path, 11, KeepWhich::Last, rows_max).unwrap();
        let value = text(value_bytes, 1);
        let mut write = |n: u32| {
            let item = Item::new(0, &format!("{n}"), Vec::new());
            file.record(0, item.head(), &value)
        };
        let errors = (0..1_000_000).find_map(|n| write(n).err());
        let error = errors.expect("the disk is small").to_string();
        let expected = format!(
            "cannot {doing} '{}', the disk is full: free space there or name a file on another \
             disk",
            path.display()
        );
        assert_eq!(error, expected);
        fs::remove_file(&ballast).unwrap();
        if doing == "write" {
            assert!(file.finish().is_err(), "a file with a gap is not finished");
        } else {
            drop(file);
        }
        assert_eq!(names(folder), ["dump.rdb"]);
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }
}

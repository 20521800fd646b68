//! Runs that stop, and what the next one finds.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

const BINARY: &[u8] = b"\x00\xff\r\n\"{}\\ \x7f";

fn identity() -> JobIdentity {
    JobIdentity {
        source: "redis://a:6379".to_owned(),
        target: "redis://b:6379".to_owned(),
        options: "match *".to_owned(),
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(folder: &TempDir, start: Start) -> (Checkpoint, Earlier) {
    Checkpoint::open(folder.path(), &identity(), start).unwrap()
}

fn resume(folder: &TempDir) -> (Checkpoint, Resumed) {
    match open(folder, Start::Resume) {
        (checkpoint, Earlier::Unfinished(resumed)) => (checkpoint, resumed),
        (_, other) => panic!("{other:?}"),
    }
}

fn journal(folder: &TempDir) -> PathBuf {
    folder
        .path()
        .join(format!("{:016x}.journal", identity().id()))
}

fn lines(folder: &TempDir) -> Vec<String> {
    let text = fs::read_to_string(journal(folder)).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn position(node_id: &str, db: u32, cursor: u64) -> ScanPosition {
    ScanPosition {
        node_id: node_id.to_owned(),
        process: "p1".to_owned(),
        db,
        cursor,
    }
}

fn big(db: u32, key: &'static [u8]) -> BigKey {
    BigKey {
        db,
        key: Bytes::from_static(key),
        memory_bytes: 77,
    }
}

fn mark(elements: u64) -> Mark {
    Mark {
        elements,
        digest: u128::MAX - u128::from(elements),
        last_id: Some("1-2".to_owned()),
        generation: 3,
        length: elements,
    }
}

fn state(key: BigKey, marks: &[u64], is_done: bool) -> BigKeyState {
    let marks = marks.iter().map(|elements| mark(*elements)).collect();
    BigKeyState {
        key,
        marks,
        is_done,
    }
}

fn not_moved(db: u32, key: &'static [u8], reason: &str) -> NotMovedRecord {
    NotMovedRecord {
        db,
        key: Bytes::from_static(key),
        reason: reason.to_owned(),
    }
}

/// Every kind of line, most of them overtaken by a later one.
fn fill(checkpoint: &Checkpoint) {
    checkpoint.position(&position("n1", 0, 5), 10);
    checkpoint.position(&position("n2", 0, u64::MAX), 11);
    checkpoint.position(&position("n1", 1, 7), 12);
    checkpoint.position(&position("n1", 0, 0), 13);
    for key in [
        big(0, BINARY),
        big(1, BINARY),
        big(0, b"done"),
        big(0, b"again"),
        big(0, b""),
    ] {
        checkpoint.big_found(&key);
        checkpoint.big_found(&key);
    }
    checkpoint.big_mark(0, BINARY, &mark(100));
    checkpoint.big_mark(1, BINARY, &mark(1));
    checkpoint.big_mark(0, BINARY, &mark(200));
    checkpoint.big_reset(1, BINARY);
    checkpoint.big_mark(0, b"done", &mark(5));
    checkpoint.big_done(0, b"done");
    checkpoint.big_done(0, b"again");
    checkpoint.big_mark(0, b"again", &mark(6));
    checkpoint.not_moved(0, BINARY, "first");
    checkpoint.not_moved(1, BINARY, "too \"new\"\n");
    checkpoint.not_moved(0, BINARY, "second");
    assert_eq!(checkpoint.failure(), None);
}

fn expect_filled(resumed: &Resumed) {
    let positions = [
        position("n2", 0, u64::MAX),
        position("n1", 1, 7),
        position("n1", 0, 0),
    ];
    assert_eq!(resumed.positions, positions);
    assert_eq!(resumed.keys_copied, 13);
    assert!(resumed.began_at_ms > 1_600_000_000_000 && resumed.saved_at_ms >= resumed.began_at_ms);
    let big_keys = [
        state(big(0, BINARY), &[100, 200], false),
        state(big(1, BINARY), &[], false),
        state(big(0, b"done"), &[], true),
        state(big(0, b"again"), &[6], false),
        state(big(0, b""), &[], false),
    ];
    assert_eq!(resumed.big_keys, big_keys);
    let listed = [
        not_moved(0, BINARY, "second"),
        not_moved(1, BINARY, "too \"new\"\n"),
    ];
    assert_eq!(resumed.not_moved, listed);
    assert_eq!(resumed.lines_dropped, 0);
}

#[test]
fn what_is_noted_is_found_again() {
    let folder = folder();
    let (first, earlier) = open(&folder, Start::Resume);
    assert_eq!(earlier, Earlier::Nothing);
    fill(&first);
    drop(first);
    let (second, resumed) = resume(&folder);
    expect_filled(&resumed);
    assert_eq!(second.path(), journal(&folder));
}

#[test]
fn compaction_keeps_what_is_alive() {
    let folder = folder();
    fill(&open(&folder, Start::Resume).0);
    // Header, 20 notes and their repetitions, of which the big keys found again are no lines.
    assert_eq!(lines(&folder).len(), 1 + 4 + 5 + 8 + 3);
    let (_, first) = resume(&folder);
    let compact = lines(&folder);
    // Three positions, five keys, three marks, one done, two not moved.
    assert_eq!(compact.len(), 1 + 3 + 5 + 3 + 1 + 2, "{compact:#?}");
    let (_, second) = resume(&folder);
    expect_filled(&second);
    assert_eq!(first, second);
    assert_eq!(lines(&folder), compact);
    let names = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names, 1, "nothing stays beside the journal");
}

#[test]
fn notes_go_on_behind_a_compacted_journal() {
    let folder = folder();
    fill(&open(&folder, Start::Resume).0);
    let (checkpoint, _) = resume(&folder);
    checkpoint.big_found(&big(0, BINARY));
    checkpoint.big_found(&big(2, b"later"));
    checkpoint.big_mark(2, b"later", &mark(9));
    checkpoint.big_done(1, BINARY);
    checkpoint.position(&position("n2", 0, 4), 20);
    drop(checkpoint);
    let (_, resumed) = resume(&folder);
    let big_keys = [
        state(big(0, BINARY), &[100, 200], false),
        state(big(1, BINARY), &[], true),
        state(big(0, b"done"), &[], true),
        state(big(0, b"again"), &[6], false),
        state(big(0, b""), &[], false),
        state(big(2, b"later"), &[9], false),
    ];
    assert_eq!(resumed.big_keys, big_keys);
    assert_eq!(resumed.positions.last(), Some(&position("n2", 0, 4)));
    assert_eq!((resumed.positions.len(), resumed.keys_copied), (3, 20));
}

#[test]
fn a_mark_does_not_repeat_the_name() {
    let folder = folder();
    let (checkpoint, _) = open(&folder, Start::Resume);
    checkpoint.big_found(&big(0, b"a-long-name"));
    checkpoint.big_mark(0, b"a-long-name", &mark(1));
    let expected = "{\"is\":\"mark\",\"big\":0,\"elements\":1,\"digest\":\
                    \"fffffffffffffffffffffffffffffffe\",\"last_id\":\"1-2\",\"generation\":3,\"length\":1}";
    assert_eq!(lines(&folder).last().unwrap(), expected);
}

#[test]
fn a_pass_that_begins_anew_voids_what_was_done() {
    let folder = folder();
    let (checkpoint, _) = open(&folder, Start::Resume);
    checkpoint.target("run 1");
    checkpoint.position(&position("n1", 0, 7), 5);
    checkpoint.big_found(&big(0, b"a"));
    checkpoint.big_done(0, b"a");
    checkpoint.begin_anew();
    checkpoint.target("run 2");
    checkpoint.position(&position("n2", 0, 9), 6);
    drop(checkpoint);
    let (checkpoint, first) = resume(&folder);
    drop(checkpoint);
    assert_eq!(first.target.as_deref(), Some("run 2"));
    assert_eq!(first.positions, [position("n2", 0, 9)]);
    assert_eq!(first.big_keys, [state(big(0, b"a"), &[], false)]);
    // The same from the compacted journal.
    assert_eq!(resume(&folder).1, first);
}

#[test]
fn a_torn_end_is_cut_at_every_byte_of_every_kind_of_line() {
    let source = folder();
    fill(&open(&source, Start::Resume).0);
    let whole = fs::read(journal(&source)).unwrap();
    let ends: Vec<usize> = (1..=whole.len())
        .filter(|end| whole[end - 1] == b'\n')
        .collect();
    let load = |bytes: &[u8]| load::load(bytes, &identity()).unwrap();
    for (from, to) in ends.iter().zip(&ends[1..]) {
        let Loaded::Journal(before) = load(&whole[..*from]) else {
            panic!("no journal up to {from}");
        };
        for end in *from..*to {
            // Cut off, or of a length that was never filled.
            let zeros = [&whole[..end], &[0; 100]].concat();
            for torn in [&whole[..end], &zeros] {
                let Loaded::Journal(alive) = load(torn) else {
                    panic!("no journal up to {end}")
                };
                assert_eq!(resumed(&alive), resumed(&before), "cut at {end}");
            }
        }
    }
    // Within the first line there is nothing to go on from.
    for end in 0..ends[0] {
        assert!(
            matches!(load(&whole[..end]), Loaded::Nothing),
            "cut at {end}"
        );
    }
}

#[test]
fn a_torn_file_is_gone_on_with() {
    let folder = folder();
    fill(&open(&folder, Start::Resume).0);
    let torn = b"{\"is\":\"done\",\"bi";
    fs::OpenOptions::new()
        .append(true)
        .open(journal(&folder))
        .unwrap()
        .write_all(torn)
        .unwrap();
    let (checkpoint, resumed) = resume(&folder);
    expect_filled(&resumed);
    checkpoint.position(&position("n3", 0, 1), 99);
    drop(checkpoint);
    assert_eq!(resume(&folder).1.keys_copied, 99);
}

#[test]
fn behind_garbage_everything_is_dropped_and_counted() {
    let garbage: [&[u8]; 7] = [
        b"\n",
        b"\xff\xfe\n",
        b"{\"is\":\"nothing\"}\n",
        b"{\"is\":\"done\",\"big\":9}\n",
        b"{\"is\":\"big\",\"big\":7,\"db\":0,\"key\":\"61\",\"memory_bytes\":1}\n",
        b"{\"is\":\"not_moved\",\"db\":0,\"key\":\"6\",\"reason\":\"\"}\n",
        b"{\"is\":\"not_moved\",\"db\":0,\"key\":\"+1\",\"reason\":\"\"}\n",
    ];
    for garbage in garbage {
        let folder = folder();
        fill(&open(&folder, Start::Resume).0);
        let path = journal(&folder);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(garbage);
        bytes.extend_from_slice(b"{\"is\":\"reset\",\"big\":0}\n{\"is\":\"done\",\"big\":0}\n");
        fs::write(&path, bytes).unwrap();
        let (checkpoint, mut resumed) = resume(&folder);
        assert_eq!(resumed.lines_dropped, 3, "{}", garbage.escape_ascii());
        resumed.lines_dropped = 0;
        expect_filled(&resumed);
        drop(checkpoint);
        assert_eq!(resume(&folder).1, resumed, "it is whole again");
    }
}

#[test]
fn a_restart_forgets_all_but_big_keys_that_were_not_done() {
    let folder = folder();
    fill(&open(&folder, Start::Resume).0);
    let left = vec![
        state(big(0, BINARY), &[100, 200], false),
        state(big(1, BINARY), &[], false),
        state(big(0, b"again"), &[6], false),
        state(big(0, b""), &[], false),
    ];
    // Twice: the first may be killed before it has cleaned up.
    for _ in 0..2 {
        let (_, earlier) = open(&folder, Start::Restart);
        assert_eq!(earlier, Earlier::SetAside(left.clone()));
    }
    let (checkpoint, resumed) = resume(&folder);
    assert_eq!((resumed.positions, resumed.keys_copied), (vec![], 0));
    assert_eq!((resumed.not_moved, resumed.big_keys), (vec![], left));
    checkpoint.big_reset(0, b"again");
    drop(checkpoint);
    assert_eq!(
        resume(&folder).1.big_keys[2],
        state(big(0, b"again"), &[], false)
    );
}

#[test]
fn a_job_runs_once_at_a_time() {
    let folder = folder();
    // The first holds a new file, the second one that took the place of another.
    for _ in 0..2 {
        let (checkpoint, _) = open(&folder, Start::Resume);
        for start in [Start::Resume, Start::Restart] {
            let error = Checkpoint::open(folder.path(), &identity(), start).unwrap_err();
            assert!(
                matches!(error, CheckpointError::Running { .. }),
                "{error:?}"
            );
            let path = journal(&folder).display().to_string();
            let text = format!(
                "this job is running already, it holds '{path}': wait for it, or stop it first"
            );
            assert_eq!(error.to_string(), text);
        }
        checkpoint.position(&position("n1", 0, 1), 1);
        let other = JobIdentity {
            options: "match b*".to_owned(),
            ..identity()
        };
        Checkpoint::open(folder.path(), &other, Start::Resume).unwrap();
    }
}

#[test]
fn runs_that_begin_at_once_never_share_a_journal() {
    let folder = folder();
    let running = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    match Checkpoint::open(folder.path(), &identity(), Start::Resume) {
                        Ok((checkpoint, _)) => {
                            let order = std::sync::atomic::Ordering::SeqCst;
                            assert_eq!(running.fetch_add(1, order), 0);
                            checkpoint.position(&position("n", 0, 1), 1);
                            running.fetch_sub(1, order);
                            checkpoint.finish().unwrap();
                        }
                        Err(CheckpointError::Running { .. }) => {}
                        Err(e) => panic!("{e:?}"),
                    }
                }
            });
        }
    });
}

#[test]
fn the_end_of_a_job_leaves_nothing() {
    let folder = folder();
    let (checkpoint, _) = open(&folder, Start::Resume);
    fill(&checkpoint);
    checkpoint.finish().unwrap();
    checkpoint.finish().unwrap();
    checkpoint.position(&position("n1", 0, 1), 1);
    assert_eq!(checkpoint.failure(), None);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    // The journal of the next run is not its own.
    let (next, earlier) = open(&folder, Start::Resume);
    assert_eq!(earlier, Earlier::Nothing);
    checkpoint.finish().unwrap();
    assert!(next.path().exists());
}

#[test]
fn what_is_no_journal_of_this_job_counts_as_none() {
    let other = "{\"keyhaul_journal\":1,\"source\":\"redis://c:6379\",\"target\":\"redis://b:6379\",\
                 \"options\":\"match *\",\"began_at_ms\":1}\n";
    let rows = [
        "",
        "\n",
        "x",
        "[]\n",
        "{}\n",
        "{\"keyhaul_journal\":0}\n",
        "{\"keyhaul_journal\":1}\n",
        other,
    ];
    for text in rows {
        for start in [Start::Resume, Start::Restart] {
            let folder = folder();
            fs::write(journal(&folder), text).unwrap();
            let (checkpoint, earlier) = open(&folder, start);
            assert_eq!(earlier, Earlier::Nothing, "{text}");
            drop(checkpoint);
            assert_eq!(resume(&folder).1.positions, [], "{text}");
        }
    }
}

#[test]
fn a_newer_journal_is_left_alone_unless_the_user_says_so() {
    let folder = folder();
    let text = "{\"keyhaul_journal\":2,\"what\":[]}\nmore\n";
    fs::write(journal(&folder), text).unwrap();
    let error = Checkpoint::open(folder.path(), &identity(), Start::Resume).unwrap_err();
    let path = journal(&folder).display().to_string();
    let message = format!(
        "the checkpoint '{path}' is of a newer keyhaul (format 2, this one reads up to 1): use that \
         version, or begin anew with --restart"
    );
    assert_eq!(error.to_string(), message);
    assert_eq!(fs::read_to_string(journal(&folder)).unwrap(), text);
    assert_eq!(open(&folder, Start::Restart).1, Earlier::Nothing);
    assert_eq!(lines(&folder).len(), 1);
}

#[test]
fn a_folder_that_cannot_be_used_is_named_with_a_remedy() {
    let folder = folder();
    let occupied = folder.path().join("file");
    fs::write(&occupied, "").unwrap();
    for path in [occupied.clone(), occupied.join("below")] {
        let error = Checkpoint::open(&path, &identity(), Start::Resume).unwrap_err();
        let message = format!(
            "cannot make the folder of the checkpoint '{}', a part of the path is a file and no \
             folder: name another folder with --state-dir",
            path.display()
        );
        assert_eq!(error.to_string(), message);
        assert!(std::error::Error::source(&error).is_some());
    }
}

#[test]
fn a_journal_that_cannot_be_replaced_stays_as_it_was() {
    let folder = folder();
    fill(&open(&folder, Start::Resume).0);
    let before = fs::read(journal(&folder)).unwrap();
    let beside = journal(&folder).with_extension("journal.new");
    fs::create_dir(&beside).unwrap();
    let error = Checkpoint::open(folder.path(), &identity(), Start::Restart).unwrap_err();
    assert!(
        matches!(error, CheckpointError::Io { doing: "write", .. }),
        "{error:?}"
    );
    assert_eq!(fs::read(journal(&folder)).unwrap(), before);
    fs::remove_dir(&beside).unwrap();
    // One that a killed run left behind does no harm.
    fs::write(&beside, "half").unwrap();
    expect_filled(&resume(&folder).1);
    assert!(!beside.exists());
}

#[test]
fn a_full_disk_is_said_once() {
    let full = || {
        fs::OpenOptions::new()
            .append(true)
            .open("/dev/full")
            .unwrap()
    };
    let checkpoint = Checkpoint {
        path: "/state/1.journal".into(),
        identity: identity(),
        inner: Mutex::new(Inner::new(full())),
    };
    assert_eq!(checkpoint.failure(), None);
    checkpoint.big_found(&big(0, b"a"));
    let message =
        "cannot write the checkpoint '/state/1.journal': No space left on device (os error 28)";
    assert_eq!(checkpoint.failure().as_deref(), Some(message));
    // Later notes are skipped, also where there is room again.
    let folder = folder();
    let path = folder.path().join("room");
    checkpoint.lock().file = File::create(&path).unwrap();
    checkpoint.big_mark(0, b"a", &mark(1));
    checkpoint.position(&position("n1", 0, 1), 1);
    assert_eq!(fs::read(&path).unwrap(), b"");
    assert_eq!(checkpoint.failure().as_deref(), Some(message));
    assert!(Alive::new(1).write(&identity(), &mut full()).is_err());
}

#[test]
fn only_this_user_sees_what_is_noted() {
    let folder = folder();
    let state_dir = folder.path().join("a/b");
    let (checkpoint, _) = Checkpoint::open(&state_dir, &identity(), Start::Resume).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&state_dir), mode(checkpoint.path())), (0o700, 0o600));
}

#[test]
fn a_job_has_a_number_of_its_own() {
    let of = |source: &str, target: &str, options: &str| {
        let (source, target, options) = (source.into(), target.into(), options.into());
        JobIdentity {
            source,
            target,
            options,
        }
        .id()
    };
    let ids = [
        of("a", "b", "c"),
        of("ab", "", "c"),
        of("a", "bc", ""),
        of("a", "b", "d"),
        of("b", "a", "c"),
    ];
    let distinct: std::collections::HashSet<u64> = ids.into_iter().collect();
    assert_eq!(distinct.len(), ids.len());
    assert_eq!(of("a", "b", "c"), ids[0]);
}

#[test]
fn what_statistics_need_replaces_what_they_needed_before() {
    let folder = folder();
    let (checkpoint, _) = open(&folder, Start::Resume);
    let state = |n: u64, bytes: usize| serde_json::json!({"n": n, "text": "x".repeat(bytes)});
    checkpoint.not_moved(0, b"k", "refused");
    for n in 0..40 {
        checkpoint.stats(state(n, 1024 * 1024));
    }
    // It was compacted on the way, and is locked as before.
    assert!(fs::metadata(checkpoint.path()).unwrap().len() < STATS_BYTES_MAX + 3 * 1024 * 1024);
    assert!(matches!(
        Checkpoint::open(folder.path(), &identity(), Start::Resume),
        Err(CheckpointError::Running { .. })
    ));
    checkpoint.stats(state(40, 3));
    drop(checkpoint);
    let (checkpoint, resumed) = resume(&folder);
    assert_eq!(resumed.stats, Some(state(40, 3)));
    assert_eq!(resumed.not_moved.len(), 1);
    assert_eq!(lines(&folder).len(), 3);
    checkpoint.finish().unwrap();
    assert!(!journal(&folder).exists());
}

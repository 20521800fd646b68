//! What is kept of each key that the engine tells of: its line in the diff file, its place in the report. All
//! of it is in files, for there may be millions.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use keyhaul_engine::compare::Listener;
use keyhaul_engine::compare::options::{KeyDiff, Mark};
use keyhaul_engine::stats::key_text;
use serde::{Deserialize, Serialize};
use tempfile::TempPath;

use crate::output_file::{OutputFile, plain_reason};

/// A diff file grows by millions of lines.
const BUFFER_BYTES: usize = 256 * 1024;

/// Takes what the engine tells; shared by its tasks.
///
/// The diff file is of what was found. With a repair it gets its name before anything is written, so that what was
/// replaced or deleted is known whatever happens then; for the same reason it takes no other one's place. The report is of
/// what is left.
#[derive(Debug)]
pub(crate) struct Told {
    diff_file: Option<DiffFile>,
    /// What was found, and what is left after a repair; `None`: there is no report.
    for_report: Option<[Mutex<Lines>; 2]>,
    repairs: bool,
    has_begun_repair: AtomicBool,
}

/// The diff file.
#[derive(Debug)]
struct DiffFile {
    place: OutputFile,
    /// `None`: it has its name, or went away.
    growing: Mutex<Option<(Lines, TempPath)>>,
}

/// A file that grows, and the first thing that went wrong with it.
#[derive(Debug)]
struct Lines {
    file: BufWriter<File>,
    failed: Option<io::Error>,
}

/// The differences of which moment.
#[derive(Debug, Clone, Copy)]
enum Which {
    Found,
    /// After a repair.
    Left,
}

/// A difference in the report.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Difference {
    pub(crate) mark: char,
    pub(crate) db: u32,
    pub(crate) key: String,
    pub(crate) what: String,
    pub(crate) inside: Vec<String>,
}

impl Told {
    /// `diff_file` takes a line a key, `for_report` (empty files) what is read back by [`Self::differences`].
    ///
    /// # Errors
    /// The diff file cannot be begun, in one line.
    pub(crate) fn new(
        diff_file: Option<OutputFile>,
        for_report: Option<[File; 2]>,
        repairs: bool,
    ) -> Result<Self, String> {
        let begin = |place: OutputFile| {
            let (file, path) = match place.temporary() {
                Ok(growing) => growing.into_parts(),
                Err(e) => return Err(lost_diff_file(&place, &e)),
            };
            let growing = Mutex::new(Some((Lines::of(file), path)));
            Ok(DiffFile { place, growing })
        };
        Ok(Self {
            diff_file: diff_file.map(begin).transpose()?,
            for_report: for_report.map(|files| files.map(|file| Mutex::new(Lines::of(file)))),
            repairs,
            has_begun_repair: AtomicBool::new(false),
        })
    }

    /// Where the diff file is; `None`: there is none.
    pub(crate) fn diff_file(&self) -> Option<&Path> {
        let file = self.diff_file.as_ref()?;
        Some(file.place.shown())
    }

    /// Gives the diff file its name, unless it has it or there is none.
    ///
    /// # Errors
    /// It is lost, in one line.
    pub(crate) fn put_diff_file(&self) -> Result<(), String> {
        let Some(file) = &self.diff_file else {
            return Ok(());
        };
        let Some((lines, path)) = locked(&file.growing).take() else {
            return Ok(());
        };
        let written = lines.failed.map_or(Ok(lines.file), Err);
        let put = written.and_then(|written| {
            if self.repairs {
                file.place.keep_what_is_there()?;
            }
            file.place.put(written, path)
        });
        put.map_err(|e| lost_diff_file(&file.place, &e))
    }

    /// Drops a diff file that has no name yet; whether there was one.
    pub(crate) fn drop_diff_file(&self) -> bool {
        let file = self.diff_file.as_ref();
        file.is_some_and(|file| locked(&file.growing).take().is_some())
    }

    fn add_line(&self, diff: &KeyDiff) {
        if let Some(file) = &self.diff_file
            && let Some((lines, _)) = locked(&file.growing).as_mut()
        {
            let (mark, db, key) = (diff.mark.char(), diff.db, key_text(&diff.key));
            lines.add(Ok(format!("{mark}\t{db}\t{key}\n").into()));
        }
    }

    fn add_difference(&self, which: Which, diff: KeyDiff) {
        let Some(lines) = self.lines(which) else {
            return;
        };
        let difference = Difference {
            mark: diff.mark.char(),
            db: diff.db,
            key: key_text(&diff.key),
            what: diff.what,
            inside: diff.inside,
        };
        let line = serde_json::to_vec(&difference).map(|mut line| {
            line.push(b'\n');
            line
        });
        locked(lines).add(line.map_err(io::Error::from));
    }

    fn lines(&self, which: Which) -> Option<&Mutex<Lines>> {
        let [found, left] = self.for_report.as_ref()?;
        Some(match which {
            Which::Found => found,
            Which::Left => left,
        })
    }

    /// Hands every difference to `take`: as it was found, or after a repair as what is left.
    ///
    /// # Errors
    /// When a temporary file could not be written or read (a full disk), or `take` fails.
    pub(crate) fn differences(
        &self,
        is_repaired: bool,
        mut take: impl FnMut(Difference) -> io::Result<()>,
    ) -> io::Result<()> {
        self.read(Which::Found, &mut |difference| {
            // What was not known was not repaired.
            match is_repaired && difference.mark != Mark::Unknown.char() {
                true => Ok(()),
                false => take(difference),
            }
        })?;
        match is_repaired {
            true => self.read(Which::Left, &mut take),
            false => Ok(()),
        }
    }

    fn read(
        &self,
        which: Which,
        take: &mut dyn FnMut(Difference) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(lines) = self.lines(which) else {
            return Ok(());
        };
        let mut lines = locked(lines);
        if let Some(e) = lines.failed.take() {
            return Err(e);
        }
        lines.file.flush()?;
        let file = lines.file.get_mut();
        file.rewind()?;
        for line in BufReader::new(file).lines() {
            take(serde_json::from_str(&line?)?)?;
        }
        Ok(())
    }
}

impl Listener for Told {
    fn found(&self, diff: KeyDiff) {
        self.add_line(&diff);
        if diff.mark != Mark::Same {
            self.add_difference(Which::Found, diff);
        }
    }

    fn left(&self, diff: KeyDiff) {
        self.add_difference(Which::Left, diff);
    }

    fn anew(&self) {
        let which = match self.has_begun_repair.load(Ordering::Acquire) {
            true => Which::Left,
            false => Which::Found,
        };
        if let Some(lines) = self.lines(which) {
            locked(lines).empty();
        }
        if let Some(file) = &self.diff_file
            && let Some((lines, _)) = locked(&file.growing).as_mut()
        {
            lines.empty();
        }
    }

    fn before_repair(&self) -> Result<(), String> {
        self.has_begun_repair.store(true, Ordering::Release);
        self.put_diff_file()
    }
}

fn lost_diff_file(file: &OutputFile, error: &io::Error) -> String {
    let (path, reason) = (file.shown().display(), plain_reason(error));
    format!("cannot write the diff file {path}: {reason}")
}

impl Lines {
    fn of(file: File) -> Self {
        Self {
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            failed: None,
        }
    }

    /// Takes all lines away.
    fn empty(&mut self) {
        let file = &mut self.file;
        let emptied = file.flush().and_then(|()| {
            file.get_mut().set_len(0)?;
            file.get_mut().rewind()
        });
        if let Err(e) = emptied {
            self.failed.get_or_insert(e);
        }
    }

    fn add(&mut self, line: io::Result<Vec<u8>>) {
        if self.failed.is_none() {
            let written = line.and_then(|line| self.file.write_all(&line));
            self.failed = written.err();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(mark: Mark, key: &'static [u8], inside: &[&str]) -> KeyDiff {
        KeyDiff {
            mark,
            db: 3,
            key: key.into(),
            what: "w".into(),
            inside: inside.iter().map(|&line| line.into()).collect(),
        }
    }

    fn spills() -> [File; 2] {
        std::array::from_fn(|_| tempfile::tempfile().unwrap())
    }

    fn keys_of_report(told: &Told, is_repaired: bool) -> Vec<String> {
        let mut keys = Vec::new();
        let take = |difference: Difference| {
            keys.push(format!("{}{}", difference.mark, difference.key));
            Ok(())
        };
        told.differences(is_repaired, take).unwrap();
        keys
    }

    #[test]
    fn each_key_goes_where_it_belongs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d");
        let place = OutputFile::check("--diff-file", &path).unwrap();
        let told = Told::new(Some(place), Some(spills()), true).unwrap();
        told.found(diff(Mark::Missing, b"of a server that was restarted", &[]));
        told.anew();
        told.found(diff(Mark::Same, b"a", &[]));
        told.found(diff(Mark::Different, b"b\n", &["field \"f\""]));
        told.found(diff(Mark::Extra, b"c", &[]));
        told.found(diff(Mark::Unknown, b"d", &[]));
        assert!(!path.exists());
        told.before_repair().unwrap();
        told.left(diff(Mark::Different, b"y", &[]));
        told.anew();
        told.left(diff(Mark::Different, b"e", &[]));
        assert_eq!(keys_of_report(&told, false), ["*b\\x0A", "+c", "!d"]);
        assert_eq!(keys_of_report(&told, true), ["!d", "*e"]);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "=\t3\ta\n*\t3\tb\\x0A\n+\t3\tc\n!\t3\td\n");
        assert!(!told.drop_diff_file(), "it has its name");
    }

    #[test]
    fn a_repair_takes_no_other_diff_files_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d");
        for (repairs, expected) in [(false, 1), (false, 1), (true, 2), (true, 3), (false, 3)] {
            let place = OutputFile::check("--diff-file", &path).unwrap();
            let told = Told::new(Some(place), None, repairs).unwrap();
            told.put_diff_file().unwrap();
            let files = std::fs::read_dir(folder.path()).unwrap().count();
            assert_eq!(files, expected);
        }
        assert!(folder.path().join("d.2").exists());
    }

    #[test]
    fn a_full_disk_is_told_at_the_end() {
        let mut full = File::options();
        let full = full.read(true).write(true).open("/dev/full").unwrap();
        let spills = [full, tempfile::tempfile().unwrap()];
        let told = Told::new(None, Some(spills), false).unwrap();
        for _ in 0..100_000 {
            told.found(diff(Mark::Different, b"key", &[]));
        }
        let error = told.differences(false, |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}

//! What is kept of each key that the engine tells of: its line in the diff file, its place in the report. All
//! of it is in files, for there may be millions.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use keyhaul_engine::compare::options::{KeyDiff, Mark};
use keyhaul_engine::stats::key_text;
use serde::{Deserialize, Serialize};

/// A diff file grows by millions of lines.
const BUFFER_BYTES: usize = 256 * 1024;

/// Takes what the engine tells; shared by its tasks.
#[derive(Debug)]
pub(crate) struct Told {
    writes_diff_file: bool,
    is_for_report: bool,
    /// `None`: not wanted, or taken already.
    diff_file: Mutex<Option<Lines>>,
    for_report: Mutex<Option<Lines>>,
}

/// A file that grows, and the first thing that went wrong with it.
#[derive(Debug)]
struct Lines {
    file: BufWriter<File>,
    failed: Option<io::Error>,
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
    /// `diff_file` takes a line a key, `for_report` what is read back by [`Self::differences`].
    pub(crate) fn new(diff_file: Option<File>, for_report: Option<File>) -> Self {
        Self {
            writes_diff_file: diff_file.is_some(),
            is_for_report: for_report.is_some(),
            diff_file: Mutex::new(diff_file.map(Lines::of)),
            for_report: Mutex::new(for_report.map(Lines::of)),
        }
    }

    /// Keeps what is to be kept. What cannot be written is told at the end.
    pub(crate) fn take(&self, diff: KeyDiff) {
        let key = key_text(&diff.key);
        if self.writes_diff_file {
            let line = format!("{}\t{}\t{key}\n", diff.mark.char(), diff.db);
            add(&self.diff_file, Ok(line.into()));
        }
        if diff.mark == Mark::Same {
            return;
        }
        if self.is_for_report {
            let difference = Difference {
                mark: diff.mark.char(),
                db: diff.db,
                key,
                what: diff.what,
                inside: diff.inside,
            };
            let line = serde_json::to_vec(&difference).map(|mut line| {
                line.push(b'\n');
                line
            });
            add(&self.for_report, line.map_err(io::Error::from));
        }
    }

    /// The diff file, to be given its name. `None`: there is none, or it was taken already.
    pub(crate) fn take_diff_file(&self) -> Option<io::Result<BufWriter<File>>> {
        let lines = locked(&self.diff_file).take()?;
        Some(lines.failed.map_or(Ok(lines.file), Err))
    }

    /// Hands every difference to `take`, in the order in which they were told.
    ///
    /// # Errors
    /// When the temporary file could not be written or read (a full disk), or `take` fails.
    pub(crate) fn differences(
        &self,
        mut take: impl FnMut(Difference) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut lines = locked(&self.for_report);
        let Some(lines) = lines.as_mut() else {
            return Ok(());
        };
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

impl Lines {
    fn of(file: File) -> Self {
        Self {
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            failed: None,
        }
    }
}

fn add(lines: &Mutex<Option<Lines>>, line: io::Result<Vec<u8>>) {
    if let Some(lines) = locked(lines).as_mut()
        && lines.failed.is_none()
    {
        let written = line.and_then(|line| lines.file.write_all(&line));
        lines.failed = written.err();
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

    #[test]
    fn each_key_goes_where_it_belongs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d");
        let (file, spill) = (File::create(&path).unwrap(), tempfile::tempfile().unwrap());
        let told = Told::new(Some(file), Some(spill));
        told.take(diff(Mark::Same, b"a", &[]));
        told.take(diff(Mark::Different, b"b\n", &["field \"f\""]));
        told.take(diff(Mark::Extra, b"c", &[]));
        let mut keys = Vec::new();
        told.differences(|difference| {
            keys.push(format!("{}{}", difference.mark, difference.key));
            Ok(())
        })
        .unwrap();
        assert_eq!(keys, ["*b\\x0A", "+c"]);
        drop(
            told.take_diff_file()
                .unwrap()
                .unwrap()
                .into_inner()
                .unwrap(),
        );
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text, "=\t3\ta\n*\t3\tb\\x0A\n+\t3\tc\n");
    }

    #[test]
    fn a_full_disk_is_told_at_the_end() {
        let full = || {
            File::options()
                .read(true)
                .write(true)
                .open("/dev/full")
                .unwrap()
        };
        let told = Told::new(Some(full()), Some(full()));
        for _ in 0..100_000 {
            told.take(diff(Mark::Different, b"key", &[]));
        }
        let error = told.take_diff_file().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let error = told.differences(|_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}

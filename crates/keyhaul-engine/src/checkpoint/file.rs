//! The file of a journal: where it lies, who holds it, how it is replaced.
//!
//! The lock lies on the journal itself, so nothing stays behind when it is removed. As the file is
//! replaced when it is compacted, whoever gets the lock looks whether the name still leads to the same
//! file, and otherwise tries again.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, BufWriter, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::load::{Alive, Loaded, load};
use super::{CheckpointError, JobIdentity};

/// How often a file that was replaced or removed before the lock was there is opened again.
const OPENINGS_MAX: u32 = 100;

/// Makes the folder, for this user alone, unless it is there.
///
/// # Errors
/// [`CheckpointError::Io`].
pub(super) fn make_folder(state_dir: &Path) -> Result<(), CheckpointError> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state_dir);
    made.map_err(CheckpointError::during("make the folder of", state_dir))
}

/// Opens the file, and makes it if there is none. The lock is held as long as the file is open.
///
/// # Errors
/// [`CheckpointError::Running`] if another one holds it; those of the system.
pub(super) fn open_locked(path: &Path) -> Result<File, CheckpointError> {
    for _ in 0..OPENINGS_MAX {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let file = options
            .open(path)
            .map_err(CheckpointError::during("open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(CheckpointError::Running { path: path.into() });
            }
            Err(TryLockError::Error(e)) => return Err(CheckpointError::during("lock", path)(e)),
        }
        if leads_to(path, &file).map_err(CheckpointError::during("look at", path))? {
            return Ok(file);
        }
    }
    Err(CheckpointError::Unsteady { path: path.into() })
}

fn leads_to(path: &Path, file: &File) -> io::Result<bool> {
    let held = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (held.dev(), held.ino())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Reads what is in the file.
///
/// # Errors
/// [`CheckpointError::Io`].
pub(super) fn read(
    path: &Path,
    file: &File,
    identity: &JobIdentity,
) -> Result<Loaded, CheckpointError> {
    load(BufReader::new(file), identity).map_err(CheckpointError::during("read", path))
}

/// Puts a journal of what is alive in the place of the one at `path`, whose lock the caller holds until
/// this is over. The new file is locked and open for appending. After an error the old one is as it was.
///
/// # Errors
/// [`CheckpointError::Io`].
pub(super) fn replace(
    path: &Path,
    alive: &Alive,
    identity: &JobIdentity,
) -> Result<File, CheckpointError> {
    let beside = path_beside(path);
    let written = write_new(&beside, alive, identity)
        .and_then(|file| std::fs::rename(&beside, path).map(|()| file));
    let file = written.map_err(|e| {
        // What is left would be replaced by the next run anyhow.
        let _ = std::fs::remove_file(&beside);
        CheckpointError::during("write", path)(e)
    })?;
    // Not every file system lets a folder be synced; without it a power cut may bring the old one back.
    if let Some(folder) = path.parent().and_then(|folder| File::open(folder).ok()) {
        let _ = folder.sync_all();
    }
    Ok(file)
}

/// Removes the journal, unless the name leads to another one by now: then `file` is gone already.
///
/// # Errors
/// [`CheckpointError::Io`].
pub(super) fn remove(path: &Path, file: &File) -> Result<(), CheckpointError> {
    let removed = match leads_to(path, file) {
        Ok(true) => std::fs::remove_file(path),
        Ok(false) => Ok(()),
        Err(e) => Err(e),
    };
    removed.map_err(CheckpointError::during("remove", path))
}

fn path_beside(path: &Path) -> PathBuf {
    path.with_extension("journal.new")
}

fn write_new(beside: &Path, alive: &Alive, identity: &JobIdentity) -> io::Result<File> {
    match std::fs::remove_file(beside) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let file = options
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(beside)?;
    file.try_lock().map_err(io::Error::from)?;
    let mut output = BufWriter::new(file);
    alive.write(identity, &mut output)?;
    let file = output
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    // Before the name leads here: a name without its content would lose what the old one held.
    file.sync_all()?;
    Ok(file)
}

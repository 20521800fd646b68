//! Where a file goes: the folder and name behind the path that the user gave, the temporary file
//! beside it, and the step in which the one becomes the other.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::error::FileError;

/// Longer names do not become part of the temporary file's name, bytes: most file systems take 255.
const NAME_BYTES_MAX: usize = 200;
/// How many random names are tried.
const ATTEMPTS_MAX: u32 = 16;

/// Checks that a file can be put at `path`: that its folder is there and can be written, and that
/// nothing but a regular file is there already. Leaves nothing behind.
///
/// # Errors
/// [`FileError`].
pub(crate) fn check_writable(path: &Path) -> Result<(), FileError> {
    let place = Place::of(path)?;
    place.create_temporary().map(drop)
}

/// Where a file goes.
#[derive(Debug)]
pub(super) struct Place {
    /// As the user named it, for messages.
    pub(super) asked: PathBuf,
    pub(super) folder: PathBuf,
    name: OsString,
}

impl Place {
    /// A link is followed: the file that it points to is replaced and the link stays.
    pub(super) fn of(path: &Path) -> Result<Self, FileError> {
        let ends_open = path
            .as_os_str()
            .as_encoded_bytes()
            .last()
            .is_some_and(|byte| std::path::is_separator(char::from(*byte)));
        let path_is = match fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(FileError::Folder(path.into())),
            Ok(found) if !found.is_file() => return Err(FileError::Special(path.into())),
            Ok(_) => fs::canonicalize(path),
            Err(_) if ends_open => return Err(FileError::Unnamed(path.into())),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                if path.is_symlink() {
                    return Err(FileError::Dangling(path.into()));
                }
                absent(path)
            }
            Err(e) => Err(e),
        };
        let path_is = path_is.map_err(FileError::during("create", path))?;
        let (Some(folder), Some(name)) = (path_is.parent(), path_is.file_name()) else {
            return Err(FileError::Unnamed(path.into()));
        };
        Ok(Self {
            asked: path.into(),
            folder: folder.into(),
            name: name.into(),
        })
    }

    /// A new file in the same folder, hidden, with the mode of any new file; removed when the
    /// second value is dropped.
    pub(super) fn create_temporary(&self) -> Result<(File, TempPath), FileError> {
        let failed = |e| FileError::during("create", &self.asked)(e);
        for _ in 0..ATTEMPTS_MAX {
            let path = self.folder.join(self.temporary_name());
            let mut options = OpenOptions::new();
            let opened = options.read(true).write(true).create_new(true).open(&path);
            match opened {
                Ok(file) => return Ok((file, TempPath::try_from_path(path).map_err(failed)?)),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(failed(e)),
            }
        }
        Err(failed(ErrorKind::AlreadyExists.into()))
    }

    fn temporary_name(&self) -> OsString {
        let mut name = OsString::from(".");
        if self.name.len() <= NAME_BYTES_MAX {
            name.push(&self.name);
            name.push(".");
        }
        name.push(format!("keyhaul-{:016x}.tmp", random()));
        name
    }

    /// Puts a temporary file, which is whole and on the disk, in its place: whoever looks sees what
    /// was there before or all of the new file, also after a loss of power.
    pub(super) fn put(&self, temporary: TempPath) -> Result<(), FileError> {
        temporary
            .persist(self.folder.join(&self.name))
            .map_err(|e| FileError::during("rename the finished file to", &self.asked)(e.error))?;
        sync_folder(&self.folder).map_err(FileError::during("sync the folder of", &self.asked))
    }
}

/// The path of a file that is not there, in a folder that is.
fn absent(path: &Path) -> io::Result<PathBuf> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = fs::canonicalize(folder)?;
    if !folder.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    Ok(match path.file_name() {
        Some(name) => folder.join(name),
        // The root of a file system: it has no name either.
        None => PathBuf::new(),
    })
}

/// The standard library seeds its hash tables at random.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    let opened = match File::open(folder) {
        // A folder may be writable without being readable.
        Err(e) if e.kind() == ErrorKind::PermissionDenied => return Ok(()),
        opened => opened?,
    };
    match opened.sync_all() {
        // Some network file systems know no such thing.
        Err(e) if e.kind() == ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

//! Why a file cannot be written, and what to do about it.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why a file was not written. Paths are as the user named them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The path has no last part, or ends in a separator.
    #[error("'{}' names no file: add a name such as dump.rdb", .0.display())]
    Unnamed(PathBuf),
    /// A folder.
    #[error("'{}' is a folder: add a name such as dump.rdb", .0.display())]
    Folder(PathBuf),
    /// A device, a pipe or a socket: what cannot be replaced by a whole file.
    #[error("'{}' is no regular file: name another", .0.display())]
    Special(PathBuf),
    /// A link to a file that does not exist, so that its folder may not exist either.
    #[error("'{}' is a link to nothing: remove it or name the file itself", .0.display())]
    Dangling(PathBuf),
    /// The system refused.
    #[error("cannot {doing} '{}'{}", path.display(), remedy(source.kind()))]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done, as a verb: "write".
        doing: &'static str,
        /// Its kind decides on the remedy.
        source: io::Error,
    },
}

impl FileError {
    /// Says of an error what was being done to which file.
    pub(super) fn during(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            path: path.into(),
            doing,
            source,
        }
    }
}

/// What helps; empty where nothing general can be said. The cause itself is printed behind it.
fn remedy(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::StorageFull => {
            ", the disk is full: free space there or name a file on another disk"
        }
        ErrorKind::QuotaExceeded => {
            ", the quota is used up: free space there or name a file on another disk"
        }
        ErrorKind::FileTooLarge => {
            ", the file became too large: raise the limit (ulimit -f) or name a file on a file \
             system that takes larger ones"
        }
        ErrorKind::PermissionDenied => {
            ", it is not permitted: let this user create and rename files in the folder or name a \
             file in another"
        }
        ErrorKind::NotFound => ", the folder does not exist: create it or name another",
        ErrorKind::NotADirectory => {
            ", a part of the path is a file and no folder: correct the path"
        }
        ErrorKind::IsADirectory => ", there is a folder of this name: name another file",
        ErrorKind::ReadOnlyFilesystem => {
            ", the file system is read-only: mount it writable or name a file on another"
        }
        ErrorKind::InvalidFilename => {
            ", the name is too long or has a form that is not allowed there"
        }
        _ => "",
    }
}

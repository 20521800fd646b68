//! Why a checkpoint cannot be opened, and what to do about it.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why a job cannot keep, or go on from, a checkpoint.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    /// Another process holds the journal.
    #[error(
        "this job is running already, it holds '{}': wait for it, or stop it first",
        path.display()
    )]
    Running {
        /// The journal.
        path: PathBuf,
    },
    /// A later keyhaul wrote it.
    #[error(
        "the checkpoint '{}' is of a newer keyhaul (format {version}, this one reads up to {known}): \
         use that version, or begin anew with --restart",
        path.display()
    )]
    Newer {
        /// The journal.
        path: PathBuf,
        /// Its format.
        version: u64,
        /// The newest format that is understood.
        known: u64,
    },
    /// The file was replaced again and again while it was being opened.
    #[error(
        "the checkpoint '{}' is replaced all the time: let only one keyhaul of this job run, or name \
         another folder with --state-dir",
        path.display()
    )]
    Unsteady {
        /// The journal.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {doing} the checkpoint '{}'{}", path.display(), remedy(source.kind()))]
    Io {
        /// The journal, the file beside it, or the folder.
        path: PathBuf,
        /// What was being done, as a verb: "write".
        doing: &'static str,
        /// Its kind decides on the remedy.
        source: io::Error,
    },
}

impl CheckpointError {
    /// Says of an error what was being done to which file.
    pub(super) fn during(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            path: path.into(),
            doing,
            source,
        }
    }
}

/// What helps. The cause itself is printed behind it.
fn remedy(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            ", no space is left: free some or name a folder on another disk with --state-dir"
        }
        ErrorKind::PermissionDenied => {
            ", it is not permitted: let this user write there or name another folder with --state-dir"
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            ", a part of the path is a file and no folder: name another folder with --state-dir"
        }
        ErrorKind::IsADirectory => {
            ", there is a folder of this name: remove it or name another folder with --state-dir"
        }
        ErrorKind::Unsupported => {
            ", the file system has no locks: name a folder on another with --state-dir"
        }
        _ => ": name another folder with --state-dir",
    }
}

//! Files that are written whole or not at all: to a temporary name in the same folder, and renamed.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tempfile::{NamedTempFile, TempPath};

use crate::usage::UsageError;

/// A place where a file can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputFile {
    /// As it was typed.
    shown: PathBuf,
    path: PathBuf,
}

impl OutputFile {
    /// Makes sure that a file can be written there, and leaves the place as it is. `option` is where the name
    /// came from.
    pub(crate) fn check(option: &str, path: &Path) -> Result<Self, UsageError> {
        let wrong = |reason: String| {
            UsageError::new(format!(
                "{option}: cannot write to {}: {reason}",
                path.display()
            ))
        };
        let shown = path.to_owned();
        // What a link points to is replaced, not the link.
        let path = match fs::metadata(path) {
            Ok(found) if found.is_file() => {
                fs::canonicalize(path).map_err(|e| wrong(e.to_string()))?
            }
            Ok(_) => return Err(wrong("it is there and no regular file".into())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(e) => return Err(wrong(e.to_string())),
        };
        if path.file_name().is_none() {
            return Err(wrong("it names no file".into()));
        }
        let file = Self { shown, path };
        file.temporary().map_err(|e| wrong(plain_reason(&e)))?;
        Ok(file)
    }

    /// The path as it was typed.
    pub(crate) fn shown(&self) -> &Path {
        &self.shown
    }

    /// Writes a report: whole or not at all.
    pub(crate) fn write_json(&self, report: &impl Serialize) -> io::Result<()> {
        self.write(|out| {
            serde_json::to_writer_pretty(&mut *out, report)?;
            out.write_all(b"\n")
        })
    }

    /// Writes what `content` writes: whole or not at all.
    pub(crate) fn write(
        &self,
        content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> io::Result<()> {
        let (file, path) = self.temporary()?.into_parts();
        let mut out = BufWriter::new(file);
        content(&mut out)?;
        self.put(out, path)
    }

    /// A file beside the place, that goes away unless [`Self::put`] gives it its name.
    pub(crate) fn temporary(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new()
            .prefix(".keyhaul-")
            .permissions(Permissions::from_mode(0o666)) // less the umask, like any other file
            .tempfile_in(self.folder())
    }

    /// Gives what was written its name, when it is on the disk.
    pub(crate) fn put(&self, written: BufWriter<File>, path: TempPath) -> io::Result<()> {
        let file = written
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        path.persist(&self.path).map_err(|e| e.error)?;
        // The new name is on the disk only when its folder is.
        File::open(self.folder())?.sync_all()
    }

    /// Gives a file that is there another name: with the next number that is free behind it.
    pub(crate) fn keep_what_is_there(&self) -> io::Result<()> {
        if !self.path.is_file() {
            return Ok(());
        }
        for number in 1_u32.. {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            // A link is made only where nothing is, in one step.
            match fs::hard_link(&self.path, &name) {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(_) => return fs::rename(&self.path, &name),
            }
        }
        Ok(())
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        }
    }
}

/// Without the name of the temporary file, which nobody has asked for.
pub(crate) fn plain_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such folder".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no/such/folder/r.json");
        for (path, reason) in [
            (missing.as_path(), "there is no such folder"),
            (folder.path(), "no regular file"),
            (Path::new("/dev/null"), "no regular file"),
            (Path::new(""), "it names no file"),
        ] {
            let error = OutputFile::check("--report", path).unwrap_err().to_string();
            assert!(error.starts_with("--report: "), "{error}");
            assert!(error.contains(reason), "{error}");
        }
    }
}

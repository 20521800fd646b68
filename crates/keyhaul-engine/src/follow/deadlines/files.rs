//! The files of buckets: numbers for names, frames one after another. None is open for longer than a call.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::bucket::Bucket;
use super::frame::{FRAME_BYTES_MAX, damaged, decode};
use super::log::NAME_NEXT;

#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
}

impl Files {
    /// Makes the folder, for this user alone, unless it is there.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes what an interrupted run left and looks whether all is there that counts.
    ///
    /// # Errors
    /// Those of the disk; [`ErrorKind::InvalidData`] if something is missing.
    pub(super) fn tidy_up<'a>(&self, buckets: impl Iterator<Item = &'a Bucket>) -> io::Result<()> {
        let buckets = buckets.filter(|bucket| bucket.file != 0);
        let mut bytes_of_file: BTreeMap<u64, u64> = buckets
            .map(|bucket| (bucket.file, bucket.file_bytes))
            .collect();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let file = name.to_str().and_then(|name| name.parse().ok());
            match file.map(|file: u64| bytes_of_file.remove(&file)) {
                Some(Some(bytes)) if entry.metadata()?.len() < bytes => return Err(damaged()),
                Some(None) => std::fs::remove_file(entry.path())?,
                None if name == NAME_NEXT => std::fs::remove_file(entry.path())?,
                _ => {}
            }
        }
        if bytes_of_file.is_empty() {
            Ok(())
        } else {
            Err(damaged())
        }
    }

    /// Writes what of the bucket is in memory behind what counts of its file.
    pub(super) fn append_buffer(&self, bucket: &Bucket) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(self.path(bucket.file))?;
        file.write_all_at(&bucket.buffer, bucket.file_bytes)
    }

    /// The frames of a bucket from a position on, about so many bytes. At least one is whole.
    ///
    /// # Errors
    /// Those of the disk; [`ErrorKind::InvalidData`] if there is none.
    pub(super) fn read(&self, bucket: &Bucket, begin: u64, bytes: usize) -> io::Result<Bytes> {
        let portion = self.read_exactly(bucket, begin, bytes)?;
        if decode(&portion)?.is_some() {
            return Ok(portion);
        }
        let portion = self.read_exactly(bucket, begin, FRAME_BYTES_MAX)?;
        match decode(&portion)? {
            Some(_) => Ok(portion),
            None => Err(damaged()),
        }
    }

    /// So many bytes, or less where the file or the memory ends.
    fn read_exactly(&self, bucket: &Bucket, begin: u64, bytes: usize) -> io::Result<Bytes> {
        if let Some(skipped) = begin.checked_sub(bucket.file_bytes) {
            let skipped = usize::try_from(skipped).map_err(|_| damaged())?;
            let frames = bucket.buffer.get(skipped..).unwrap_or_default();
            return Ok(Bytes::copy_from_slice(
                frames.get(..bytes).unwrap_or(frames),
            ));
        }
        let left = usize::try_from(bucket.file_bytes - begin);
        let mut portion = vec![0; left.map_or(bytes, |left| left.min(bytes))];
        let file = File::open(self.path(bucket.file))?;
        file.read_exact_at(&mut portion, begin)?;
        Ok(portion.into())
    }

    /// It may be gone already.
    pub(super) fn remove(&self, file: u64) -> io::Result<()> {
        unless_gone(std::fs::remove_file(self.path(file)))
    }

    fn path(&self, file: u64) -> PathBuf {
        self.folder.join(file.to_string())
    }
}

/// Nothing to be removed is no error.
pub(super) fn unless_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

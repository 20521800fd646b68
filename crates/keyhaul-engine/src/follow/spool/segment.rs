//! One file of the spool, and the folder where they lie. All of this waits for the disk.
//!
//! A file is named after its number in the order of writing, which is never used twice, `00000000000000000007.spool`. Other
//! names in the folder are not looked at.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tempfile::TempDir;

use super::block::{HEAD_BYTES, HEADER_BYTES, Head, Header};

const SUFFIX: &str = ".spool";

/// A file of the spool: contiguous bytes of one history.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub number: u64,
    pub path: PathBuf,
    pub file: Arc<File>,
    pub replid: Arc<str>,
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the byte behind the last one.
    pub end: u64,
    pub file_bytes: u64,
}

/// Where the files lie.
#[derive(Debug)]
pub(super) struct Folder {
    named: Option<PathBuf>,
    /// Made with the first file, where no folder was named.
    temporary: Mutex<Option<TempDir>>,
}

impl Folder {
    pub(super) fn new(named: Option<PathBuf>) -> Self {
        Self {
            named,
            temporary: Mutex::new(None),
        }
    }

    /// The folder, made if need be.
    fn make(&self) -> io::Result<PathBuf> {
        if let Some(named) = &self.named {
            std::fs::create_dir_all(named)?;
            return Ok(named.clone());
        }
        let mut temporary = self
            .temporary
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = &*temporary {
            return Ok(folder.path().to_owned());
        }
        let folder = tempfile::Builder::new()
            .prefix("keyhaul-spool-")
            .tempdir()?;
        Ok(temporary.insert(folder).path().to_owned())
    }

    /// What an earlier run has left: number and path, in the order of writing.
    pub(super) fn list(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let Some(named) = &self.named else {
            return Ok(Vec::new());
        };
        let entries = match std::fs::read_dir(named) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let number = entry
                .file_name()
                .to_str()
                .and_then(|name| name.strip_suffix(SUFFIX)?.parse().ok());
            if let Some(number) = number {
                found.push((number, entry.path()));
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// Removes a file; one that is not there is no error.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

impl Segment {
    /// Begins a file with its first block; there is none when that fails.
    pub(super) fn create(
        folder: &Folder,
        number: u64,
        head: &Head,
        block: &[u8],
    ) -> io::Result<(PathBuf, Arc<File>)> {
        let head_bytes = head
            .to_bytes()
            .ok_or_else(|| io::Error::other("the replid has no 40 bytes"))?;
        let path = folder.make()?.join(format!("{number:020}{SUFFIX}"));
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        let written = file
            .write_all_at(&head_bytes, 0)
            .and_then(|()| file.write_all_at(block, HEAD_BYTES as u64));
        if let Err(e) = written {
            // What is left of it would be found to be torn by a later run.
            drop(remove(&path));
            return Err(e);
        }
        Ok((path, Arc::new(file)))
    }

    /// Opens a file of an earlier run and reads all of it; what is torn off at its end is cut off. `None`: it is
    /// worth nothing.
    pub(super) fn open(number: u64, path: PathBuf) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let mut head = [0; HEAD_BYTES];
        if !read_whole(&file, &mut head, 0)? {
            return Ok(None);
        }
        let Some(head) = Head::of_bytes(&head) else {
            return Ok(None);
        };
        let (mut at, mut end) = (HEAD_BYTES as u64, head.first);
        let mut stored = Vec::new();
        while let Some((header, bytes)) = header_at(&file, at)? {
            stored.resize(header.stored_bytes, 0);
            let is_whole = read_whole(&file, &mut stored, at + HEADER_BYTES as u64)?;
            if !is_whole || header.first != end || !header.is_sound(&bytes, &stored) {
                break;
            }
            at += header.block_bytes();
            end += header.raw_bytes as u64;
        }
        file.set_len(at)?;
        Ok((end > head.first).then(|| Self {
            number,
            path,
            file: Arc::new(file),
            replid: head.replid.into(),
            first: head.first,
            end,
            file_bytes: at,
        }))
    }

    /// Offset of the first byte of a file of an earlier run; `None`: it is damaged.
    pub(super) fn first_of(path: &Path) -> io::Result<Option<u64>> {
        let mut head = [0; HEAD_BYTES];
        let is_whole = read_whole(&File::open(path)?, &mut head, 0)?;
        let head = Head::of_bytes(&head).filter(|_| is_whole);
        Ok(head.map(|head| head.first))
    }
}

/// Where in a file the next block lies, if the one before was read.
pub(super) const FIRST_BLOCK: u64 = HEAD_BYTES as u64;

/// Reads the block that holds this byte, looking for it from a block on that does not lie behind it. The offset
/// of its first byte, its bytes, and where the next one lies.
pub(super) fn read_block(file: &File, mut at: u64, offset: u64) -> io::Result<(u64, Bytes, u64)> {
    let damaged = || io::Error::new(ErrorKind::InvalidData, "a block is damaged");
    loop {
        let (header, bytes) = header_at(file, at)?.ok_or_else(damaged)?;
        let end = header.end().ok_or_else(damaged)?;
        if offset >= end {
            at += header.block_bytes();
            continue;
        }
        if offset < header.first {
            return Err(damaged());
        }
        let mut stored = vec![0; header.stored_bytes];
        file.read_exact_at(&mut stored, at + HEADER_BYTES as u64)?;
        let raw = header.unpack(&bytes, stored).ok_or_else(damaged)?;
        return Ok((header.first, raw, at + header.block_bytes()));
    }
}

/// The header of a block and its bytes; `None`: there is none.
fn header_at(file: &File, at: u64) -> io::Result<Option<(Header, [u8; HEADER_BYTES])>> {
    let mut bytes = [0; HEADER_BYTES];
    if !read_whole(file, &mut bytes, at)? {
        return Ok(None);
    }
    Ok(Header::of_bytes(&bytes).map(|header| (header, bytes)))
}

/// `false`: the file ends before.
fn read_whole(file: &File, bytes: &mut [u8], at: u64) -> io::Result<bool> {
    match file.read_exact_at(bytes, at) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

//! Where the bytes of an RDB come from: a file, or a server that takes us for a replica.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use keyhaul_client::ClientError;
use tokio::sync::mpsc;

use crate::plan::CheckedFile;
use crate::source::overflow::{Overflow, OverflowError};

/// Bytes that are read from a file at a time.
const PORTION_BYTES: usize = 512 * 1024;
/// Portions that are read ahead.
const PORTIONS_AHEAD: usize = 2;

/// A source of bytes.
pub(crate) enum Feed {
    /// A file, read ahead by a thread of its own.
    File {
        path: PathBuf,
        portions: mpsc::Receiver<std::io::Result<Bytes>>,
    },
    /// A link to a primary, read whether the bytes are wanted yet or not.
    Link(Overflow),
}

/// Why there are no more bytes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    #[error("cannot read {}: {error}", path.display())]
    File {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("source: {}", keyhaul_client::chain(.0))]
    Link(ClientError),
    #[error(
        "what the source sends faster than it can be used cannot be kept in a temporary file ({0}): free space in {dir} or name another folder by TMPDIR",
        dir = std::env::temp_dir().display()
    )]
    Spool(std::io::Error),
    #[error("the source is not read any more")]
    Abandoned,
}

impl Feed {
    /// Reads a file that was checked from its start, and not what may have got its name since.
    pub(crate) fn file(file: &CheckedFile) -> Self {
        let (sender, portions) = mpsc::channel(PORTIONS_AHEAD);
        let path = file.path.clone();
        if let Some(file) = file.opened.clone() {
            tokio::task::spawn_blocking(move || read_file(&file, &sender));
        }
        Self::File { path, portions }
    }

    /// The next bytes; `None`: that was all.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, FeedError> {
        match self {
            Self::File { path, portions } => match portions.recv().await {
                None => Ok(None),
                Some(Ok(portion)) => Ok(Some(portion)),
                Some(Err(error)) => Err(FeedError::File {
                    path: path.clone(),
                    error,
                }),
            },
            Self::Link(overflow) => overflow.next().await.map_err(|e| match e {
                OverflowError::Link(e) => FeedError::Link(e),
                OverflowError::File(e) => FeedError::Spool(e),
                OverflowError::Abandoned => FeedError::Abandoned,
            }),
        }
    }
}

/// Ends when the file does or nobody listens.
fn read_file(file: &Arc<File>, sender: &mpsc::Sender<std::io::Result<Bytes>>) {
    let mut at = 0;
    loop {
        let mut portion = BytesMut::zeroed(PORTION_BYTES);
        let read = match file.read_at(&mut portion, at) {
            Ok(0) => return,
            Ok(bytes) => {
                at += bytes as u64;
                portion.truncate(bytes);
                Ok(portion.freeze())
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => Err(e),
        };
        let is_error = read.is_err();
        if sender.blocking_send(read).is_err() || is_error {
            return;
        }
    }
}

//! Temporary folders with short paths: the path of a Unix socket is limited to 107 bytes.

use std::path::Path;

use tempfile::TempDir;

/// Longest parent folder that leaves room for our folder and a socket's name.
const PARENT_BYTES_MAX: usize = 70;

/// Makes a folder that is removed when the value is dropped.
pub(crate) fn temp_dir() -> TempDir {
    let mut parent = std::env::temp_dir();
    if parent.as_os_str().len() > PARENT_BYTES_MAX {
        parent = Path::new("/tmp").to_path_buf();
    }
    tempfile::Builder::new()
        .prefix("keyhaul-")
        .tempdir_in(&parent)
        .unwrap_or_else(|error| panic!("no temporary folder in {}: {error}", parent.display()))
}

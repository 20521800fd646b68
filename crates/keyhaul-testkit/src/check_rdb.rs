//! The servers' own check of RDB files: the server's program under another name.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::{Family, Version, tempdir};

/// Has `redis-check-rdb` (or `valkey-check-rdb`) of this version look at a file.
///
/// # Errors
/// What it printed, when it found a fault.
///
/// # Panics
/// If the version is not laid out as `scripts/servers` does it.
pub fn check_rdb(version: Version, rdb_file: &Path) -> Result<(), String> {
    let library = version.folder().join("lib");
    let loader = library.join("ld.so");
    let (program, name) = match version.family() {
        Family::Redis => ("redis-server", "redis-check-rdb"),
        Family::Valkey => ("valkey-server", "valkey-check-rdb"),
    };
    assert!(
        loader.is_file() && library.join(program).is_file(),
        "{version} is not laid out as scripts/servers does it: {name} cannot be run"
    );
    let dir = tempdir::temp_dir();
    let link = dir.path().join(name);
    symlink(library.join(program), &link).expect("a link can be made");
    let output = Command::new(loader)
        .args(["--inhibit-cache", "--library-path"])
        .args([&library, &link, &rdb_file.to_path_buf()])
        .output()
        .expect("the loader runs");
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && text.contains("RDB looks OK") {
        return Ok(());
    }
    Err(format!(
        "{name} of {version} on {}: {}\n{text}{}",
        rdb_file.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}

//! RDB files as sources and targets: the fixtures, servers that start with a file, and damage.

use std::path::{Path, PathBuf};

use keyhaul_testkit::diff::{DiffOptions, View, assert_equal_with};
use keyhaul_testkit::{Server, ServerBuilder, Version, check_rdb};
use redis::cmd;
use tempfile::TempDir;

use super::copying::key_counts;

/// A file that a real server wrote, such as `redis-7.0.15/dump.rdb`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../keyhaul-rdb/tests/fixtures");
    let path = folder.join(name);
    assert!(path.is_file(), "{}", path.display());
    path
}

/// The newest dump of each version in the fixtures.
pub(crate) const DUMPS: [(&str, Version); 8] = [
    ("redis-6.0.16/dump.rdb", Version::REDIS_6_0),
    ("redis-6.2.14/dump.rdb", Version::REDIS_6_2),
    ("redis-7.0.15/dump.rdb", Version::REDIS_7_0),
    ("redis-8.0.2/dump.rdb", Version::REDIS_8_0),
    ("redis-8.2.3/dump.rdb", Version::REDIS_8_2),
    ("valkey-8.0.1/dump.rdb", Version::VALKEY_8_0),
    ("valkey-8.1.1/dump.rdb", Version::VALKEY_8_1),
    ("valkey-9.1.2/dump.rdb", Version::VALKEY_9_1),
];

/// A folder for files, removed at the end.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a folder can be made"))
    }

    /// The path of a file in it, as an argument.
    pub(crate) fn path(&self, name: &str) -> String {
        let path = self.0.path().join(name);
        path.to_str().expect("is UTF-8").to_owned()
    }

    /// Writes a file.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("a file can be written");
        path
    }

    /// The names of all that is in it, hidden files too.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).expect("the folder is there");
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            let name = entry.expect("can be listed").file_name();
            name.to_string_lossy().into_owned()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }
}

/// A server whose snapshots for replicas begin at once.
pub(crate) fn prompt(version: Version) -> ServerBuilder {
    Server::builder(version).arg("repl-diskless-sync-delay", 0)
}

/// A server that has started with this file, which its own check accepts.
#[track_caller]
pub(crate) fn started_with(version: Version, file: &str) -> Server {
    check_rdb(version, Path::new(file)).expect("the server's own check accepts it");
    Server::builder(version).dump(Path::new(file)).start()
}

/// A copy of the server's dump, saved now.
pub(crate) fn saved(server: &Server, folder: &Folder, name: &str) -> String {
    cmd("SAVE")
        .exec(&mut server.client())
        .expect("it can be saved");
    let bytes = std::fs::read(server.dir().join("dump.rdb")).expect("the dump is there");
    folder.put(name, &bytes)
}

/// The URI of a file; `file:` allows any name.
pub(crate) fn uri(path: &str) -> String {
    format!("file:{path}")
}

/// Many small strings, `key:0` and up, each with a value of so many bytes.
pub(crate) fn populate(server: &Server, keys: usize, value_bytes: usize) {
    let mut client = server.client();
    for first in (0..keys).step_by(1000) {
        let mut pipe = redis::pipe();
        for n in first..keys.min(first + 1000) {
            let mut value = n.to_string();
            value.push_str(&"v".repeat(value_bytes.saturating_sub(value.len())));
            pipe.cmd("SET").arg(format!("key:{n}")).arg(value).ignore();
        }
        pipe.exec(&mut client).expect("keys are taken");
    }
}

/// Fails unless both hold the same (vector sets are only counted), as far as both versions can: counters of streams came with 7.0.
#[track_caller]
pub(crate) fn assert_same(source: &Server, target: &Server) {
    assert_eq!(key_counts(source), key_counts(target));
    let knows = |server: &Server| server.version().has_redis_feature(7, 0);
    let options = DiffOptions {
        ignore_stream_counters: !(knows(source) && knows(target)),
        // The diff cannot read them; that they are there is counted.
        only: Box::new(|_, key| !key.starts_with(b"vectorset:")),
        extra_allowed: Box::new(|_, key| key.starts_with(b"vectorset:")),
        ..DiffOptions::default()
    };
    assert_equal_with(&View::server(source), &View::server(target), &options);
}

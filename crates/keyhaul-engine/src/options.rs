//! What a copy job is asked to do: resolved and validated, without a trace of how it was typed.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
pub use keyhaul_rdb::{KeyType, WRITABLE_VERSIONS};

use crate::transform::{DbMap, Glob, PrefixRename};

/// Default of [`CopyOptions::memory_bytes`]: all buffers together.
pub const MEMORY_BYTES: u64 = 128 * 1024 * 1024;
/// Smallest budget with which a job can run: a few batches in flight on both sides.
pub const MEMORY_BYTES_MIN: u64 = 4 * 1024 * 1024;
/// Default of [`CopyOptions::scan_count`], keys a SCAN step looks at.
pub const SCAN_COUNT: u32 = 1000;
/// Default of [`CopyOptions::retry_for`].
pub const RETRY_FOR: Duration = Duration::from_secs(120);
/// Default of [`CopyOptions::chunk_threshold`], bytes.
pub const CHUNK_THRESHOLD: u64 = 64 * 1024 * 1024;
/// Most elements of a chunk unless [`CopyOptions::chunk_elements`] says otherwise.
pub const CHUNK_ELEMENTS: u32 = 10_000;
/// Most elements of [`CopyOptions::chunk_elements`]: a server stands still while it takes a chunk.
pub const CHUNK_ELEMENTS_MAX: u32 = 1_000_000;
/// Most connections per node on either side.
pub const THREADS_MAX: u32 = 64;

/// What happens to a key that the target already holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// The source's key replaces it.
    #[default]
    Replace,
    /// It stays as it is; counted.
    Skip,
    /// It stays as it is; the key counts as not moved and is listed.
    Fail,
}

/// How much is proved after the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Nothing.
    None,
    /// Each key's existence, type and expiry.
    #[default]
    Quick,
    /// And each byte of its value.
    Full,
}

/// How the source is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// By PSYNC into a file or when following, where the source permits it; else by SCAN.
    #[default]
    Auto,
    /// By SCAN and DUMP: needs the right to read.
    Scan,
    /// As a replica: a snapshot of one moment. The source forks for it.
    Psync,
}

/// Losses that are accepted: where a target cannot hold all of a value, or not all keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AcceptedLosses {
    /// Fields of hashes that expire are kept for ever.
    pub field_ttl: bool,
    /// A target that is too small for all keys evicts some.
    pub eviction: bool,
    /// A target that is too small for all keys stops the run when it is full.
    pub no_room: bool,
}

/// Which keys a job is about, beside its filters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    #[default]
    Every,
    /// Those whose MEMORY USAGE is above it, bytes.
    Above(u64),
    /// These, whatever their size; in each of the dbs.
    Named(Vec<Bytes>),
}

/// Default of [`LiveOptions::spool_bytes_max`].
pub const SPOOL_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// Smallest [`LiveOptions::spool_bytes_max`].
pub const SPOOL_BYTES_MAX_MIN: u64 = 64 * 1024 * 1024;

/// What a job does after the copy: it follows the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveOptions {
    /// Whether the keys that are there at the start go over too; else only what changes from now on.
    pub copies_first: bool,
    /// Most bytes on the disk that are received and not applied, at least [`SPOOL_BYTES_MAX_MIN`].
    pub spool_bytes_max: u64,
    /// Where a shard of the source has replicas, one of them is read.
    pub prefers_replica: bool,
    /// Whether messages that are published on the source are published on the target too.
    pub forwards_messages: bool,
    /// The job ends once the target is synced.
    pub until_synced: bool,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            copies_first: true,
            spool_bytes_max: SPOOL_BYTES_MAX,
            prefers_replica: false,
            forwards_messages: false,
            until_synced: false,
        }
    }
}

/// A copy job.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// Which keys.
    pub scope: Scope,
    /// Only keys that match; a key may match any one of them. Empty: every key.
    pub key_patterns: Vec<Glob>,
    /// Not these keys.
    pub key_excludes: Vec<Glob>,
    /// Only keys of these names, in whatever db. `None`: of any.
    pub only: Option<Arc<HashSet<Bytes>>>,
    /// Only these types. Empty: every type.
    pub key_types: Vec<KeyType>,
    /// Only these dbs of the source. `None`: all.
    pub dbs: Option<Vec<u32>>,
    /// Source db -> target db; a db that is not named keeps its number.
    pub db_map: DbMap,
    /// Prefixes that are replaced in key names; the first that fits counts.
    pub renames: Vec<PrefixRename>,
    /// Keys whose MEMORY USAGE is above it are left out and listed, bytes.
    pub mem_limit: Option<u64>,
    /// Keys whose MEMORY USAGE is above it go over in chunks, bytes, 1...
    pub chunk_threshold: u64,
    /// Elements in a chunk at most, 1.. `None`: [`CHUNK_ELEMENTS`], and fewer of types whose elements take a
    /// server long.
    pub chunk_elements: Option<u32>,
    /// Keys that the target already holds.
    pub on_conflict: OnConflict,
    /// Keys a SCAN step looks at, 1..
    pub scan_count: u32,
    /// Connections per source node that read payloads, 1..=[`THREADS_MAX`].
    pub read_threads: u32,
    /// Connections per target node, 1..=[`THREADS_MAX`].
    pub threads: u32,
    /// All buffers together, bytes, at least [`MEMORY_BYTES_MIN`].
    pub memory_bytes: u64,
    /// Payload bytes per second at most. `None`: as fast as the servers go.
    pub rate_limit: Option<u64>,
    /// The source is followed after the copy. `None`: the job ends with the copy.
    pub live: Option<LiveOptions>,
    /// How the source is read.
    pub method: Method,
    /// What may be lost.
    pub accepted_losses: AcceptedLosses,
    /// A damaged RDB file is read up to the damage.
    pub allow_partial: bool,
    /// The version of an RDB file that is written. `None`: the source's own.
    pub rdb_version: Option<u16>,
    /// Proof after the copy.
    pub verify: Verify,
    /// Whether function libraries go over too.
    pub functions: bool,
    /// How long a server may be unreachable, loading, full or without quorum before the job stops.
    pub retry_for: Duration,
    /// Where checkpoints lie; `None`: none is kept, and a job that stops begins anew.
    pub state_dir: Option<PathBuf>,
    /// A checkpoint that cannot be kept is a reason not to begin.
    pub needs_state_dir: bool,
    /// The checkpoint of an earlier run is forgotten.
    pub restart: bool,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self {
            key_patterns: Vec::new(),
            key_excludes: Vec::new(),
            only: None,
            key_types: Vec::new(),
            dbs: None,
            db_map: DbMap::default(),
            renames: Vec::new(),
            scope: Scope::default(),
            mem_limit: None,
            chunk_threshold: CHUNK_THRESHOLD,
            chunk_elements: None,
            on_conflict: OnConflict::default(),
            scan_count: SCAN_COUNT,
            read_threads: 1,
            threads: 1,
            memory_bytes: MEMORY_BYTES,
            rate_limit: None,
            live: None,
            method: Method::default(),
            accepted_losses: AcceptedLosses::default(),
            allow_partial: false,
            rdb_version: None,
            verify: Verify::default(),
            functions: true,
            retry_for: RETRY_FOR,
            state_dir: None,
            needs_state_dir: false,
            restart: false,
        }
    }
}

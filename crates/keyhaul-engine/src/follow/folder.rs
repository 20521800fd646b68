//! What a live job keeps on the disk, and what makes it worth going on from.
//!
//! ```text
//! <state folder>/<job>.live/job.json              what the job is about, below
//!                           <slot>.position       where each shard is, by its first slot
//!                           <slot>.deadlines/     expiry times that are held back
//!                           <slot>.fields         hashes with fields that expire, by digest
//!                           <slot>.spool/         stream that is not applied
//! ```

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// Tells one start of a machine from another: what is not on the disk yet is lost between them (Linux).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The folder of one job.
#[derive(Debug)]
pub(crate) struct LiveFolder {
    path: PathBuf,
    /// Without a state folder nothing outlives the process.
    _temporary: Option<TempDir>,
}

/// What holds for all shards.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobFacts {
    /// The target held no key when the job began: all that it holds is of the source.
    pub target_was_empty: bool,
    /// The processes of the target that hold what was applied, as text.
    pub target: String,
    /// The slots of each shard, as text.
    pub layout: String,
    /// See [`BOOT_ID`]; empty where there is none.
    pub boot_id: String,
}

impl LiveFolder {
    /// Makes it, or opens what an earlier run left.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn open(state_dir: Option<&Path>, job_id: u64) -> io::Result<Self> {
        let (path, temporary) = match state_dir {
            Some(dir) => (dir.join(format!("{job_id:016x}.live")), None),
            None => {
                let temporary = tempfile::Builder::new().prefix("keyhaul-").tempdir()?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        std::fs::create_dir_all(&path)?;
        Ok(Self {
            path,
            _temporary: temporary,
        })
    }

    /// What an earlier run noted; `None`: nothing that can be gone on from.
    pub(crate) fn facts(&self) -> Option<JobFacts> {
        let text = std::fs::read(self.path.join("job.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Notes what holds from now on.
    ///
    /// # Errors
    /// Those of the system; what was noted before is as it was.
    pub(crate) fn note(&self, facts: &JobFacts) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
        serde_json::to_writer(&mut file, facts)?;
        file.persist(self.path.join("job.json"))
            .map_err(|e| e.error)?;
        Ok(())
    }

    /// A file or folder of the shard whose first slot this is.
    pub(crate) fn of_shard(&self, slot: usize, what: &str) -> PathBuf {
        self.path.join(format!("{slot}.{what}"))
    }

    /// Nothing of an earlier run is left.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn empty(&self) -> io::Result<()> {
        std::fs::remove_dir_all(&self.path)?;
        std::fs::create_dir_all(&self.path)
    }
}

/// Which start of this machine it is.
pub(crate) fn boot_id() -> String {
    let id = std::fs::read_to_string(BOOT_ID);
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
}

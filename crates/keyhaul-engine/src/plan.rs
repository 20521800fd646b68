//! What was found on both ends, and what will be done: data to be shown before anything is written.

use std::path::PathBuf;

use keyhaul_client::{ClientError, Mode, ServerFacts};

pub use crate::prepare::{CheckedFile, Damage};

/// One primary and what is known of it.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// Its address.
    pub address: String,
    /// The facts about it.
    pub facts: ServerFacts,
}

/// One end.
#[derive(Debug, Clone)]
pub struct SidePlan {
    /// The endpoint without credentials.
    pub endpoint: String,
    /// What it is.
    pub kind: SideKind,
    /// Its primaries; none of files.
    pub primaries: Vec<NodePlan>,
    /// Keys on all of them, as far as they tell.
    pub keys: Option<u64>,
}

/// What an end is.
#[derive(Debug, Clone)]
pub enum SideKind {
    /// Standalone server or cluster.
    Servers(Mode),
    /// RDB files to be read, checked already.
    Files(Vec<CheckedFile>),
    /// An RDB file to be written.
    NewFile {
        /// Where.
        path: PathBuf,
        /// In which version.
        rdb_version: u16,
    },
}

impl SidePlan {
    /// Whether it is a cluster.
    pub fn is_cluster(&self) -> bool {
        matches!(self.kind, SideKind::Servers(Mode::Cluster))
    }
}

/// The keys of one db and where they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DbPlan {
    /// The db of the source.
    pub source_db: u32,
    /// The db of the target.
    pub target_db: u32,
    /// How many keys the source db holds, if that could be told.
    pub keys: Option<u64>,
}

/// The whole plan.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where the keys come from.
    pub source: SidePlan,
    /// Where they go.
    pub target: SidePlan,
    /// The dbs that go over.
    pub dbs: Vec<DbPlan>,
    /// The target's clock minus the source's, ms, and how far off that may be.
    pub clock_difference_ms: Option<(f64, f64)>,
    /// What will be done, a plain line each.
    pub steps: Vec<String>,
    /// What the user should know first, a plain line each.
    pub warnings: Vec<String>,
}

/// Which end an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SideName {
    /// Where the keys come from.
    Source,
    /// Where they go.
    Target,
}

impl std::fmt::Display for SideName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

/// Why a job cannot begin. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// One end cannot be reached or does not let us in.
    #[error("{side}: {}", keyhaul_client::chain(error.as_ref()))]
    Client {
        /// Which end.
        side: SideName,
        /// What went wrong. Part of the message, so not given again as the source.
        #[allow(missing_docs, reason = "see above")]
        error: Box<ClientError>,
    },
    /// The job would fail or lose data; why, and the remedy.
    #[error("{0}")]
    Refused(String),
}

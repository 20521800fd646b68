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
    /// What the user should know first.
    pub warnings: Vec<Warning>,
}

impl Plan {
    /// The warnings as plain lines.
    pub fn warning_lines(&self) -> Vec<String> {
        self.warnings.iter().map(ToString::to_string).collect()
    }
}

/// What the user should know before a job begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// By which programs know it: `target-evicts`. docs/guide/plan.md lists them.
    pub name: &'static str,
    /// A plain line.
    pub text: String,
}

impl Warning {
    /// Names a line.
    pub(crate) fn new(name: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { name, text }
    }
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// A loss that a plan foresees. It stops the job unless it is accepted by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Risk {
    /// The target is too small and evicts keys.
    Eviction,
    /// The target is too small and takes no more when it is full.
    NoRoom,
}

impl Risk {
    /// The name for `--accept-loss`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eviction => "eviction",
            Self::NoRoom => "no-room",
        }
    }
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
    /// The job would fail; why, and the remedy.
    #[error("{0}")]
    Refused(String),
    /// The job would lose data; why, and the remedy.
    #[error("{text}; --accept-loss {} begins all the same", risk.name())]
    Loses {
        /// What it would lose.
        risk: Risk,
        /// Why, and what else would help.
        text: String,
    },
}

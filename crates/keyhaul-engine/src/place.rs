//! The ends of a job as they are named: servers or RDB files.

use std::fmt;
use std::path::PathBuf;

use keyhaul_client::Endpoint;

/// One end of a job.
#[derive(Debug, Clone)]
pub enum Place {
    /// A server or a cluster.
    Servers(Endpoint),
    /// RDB files: several as a source are read one after the other; a target is one.
    Files(Vec<PathBuf>),
}

impl Place {
    /// The servers' endpoint.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::Servers(endpoint) => Some(endpoint),
            Self::Files(_) => None,
        }
    }
}

impl fmt::Display for Place {
    /// Without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Servers(endpoint) => endpoint.fmt(f),
            Self::Files(paths) => {
                f.write_str("file:")?;
                for (index, path) in paths.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{}", path.display())?;
                }
                Ok(())
            }
        }
    }
}

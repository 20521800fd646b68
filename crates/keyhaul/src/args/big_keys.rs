//! The options of `keyhaul big-keys`.

use std::path::PathBuf;

use super::shared::{CopyArgs, SharedArgs};
use super::{HOW, SAFETY, WHAT};

/// The options of `keyhaul big-keys`.
#[derive(clap::Args)]
pub(crate) struct BigKeysArgs {
    #[command(flatten)]
    pub(crate) shared: SharedArgs,

    #[command(flatten)]
    pub(crate) copying: CopyArgs,

    /// Keys whose MEMORY USAGE is above this [default: 512mb, unless keys are named]
    #[arg(long, value_name = "SIZE", help_heading = WHAT)]
    pub(crate) mem_limit: Option<String>,

    /// This key, whatever its size; repeatable
    #[arg(long, value_name = "NAME", help_heading = WHAT)]
    pub(crate) key: Vec<String>,

    /// The keys that this file names, one in a line, whatever their size
    #[arg(long, value_name = "FILE", help_heading = WHAT)]
    pub(crate) key_file: Option<PathBuf>,

    /// Replace a key that the target already holds [default: it stays, and the source's is listed]
    #[arg(long, help_heading = SAFETY)]
    pub(crate) replace: bool,

    /// How many keys the source looks at in one SCAN step
    #[arg(long, value_name = "N", default_value = "100", help_heading = HOW)]
    pub(crate) scan_count: String,
}

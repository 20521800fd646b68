//! The options of `keyhaul compare`.

use std::path::PathBuf;

use super::shared::{EveryKeyArgs, ResumeArgs, SharedArgs};
use super::{HOW, OUTPUT, SAFETY, WHAT};

/// The options of `keyhaul compare`.
#[derive(clap::Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    pub(crate) shared: SharedArgs,

    #[command(flatten)]
    pub(crate) every_key: EveryKeyArgs,

    #[command(flatten)]
    pub(crate) resume: ResumeArgs,

    /// Existence, type and expiry only; values are not read
    #[arg(long, help_heading = WHAT)]
    pub(crate) quick: bool,

    /// Expiries that are no further apart than this are the same: a number of ms, or 500ms, 2s
    /// [default: 0, and 10 where a server before Redis 7.0 tells only the time that is left]
    #[arg(long, value_name = "MS", help_heading = WHAT)]
    pub(crate) ttl_tolerance: Option<String>,

    /// Only the keys of this file: that of an earlier --diff-file, without those that were the same
    ///
    /// Also lines that are a name, or a db, a tab and a name. Names are text as in a diff file: \xHH for a
    /// byte, \\ for a backslash.
    #[arg(long, value_name = "FILE", help_heading = WHAT)]
    pub(crate) only_keys: Option<PathBuf>,

    /// How often a key that differs is looked at again, with growing waits, before it counts [default: 5]
    #[arg(long, value_name = "N", help_heading = HOW)]
    pub(crate) recheck: Option<String>,

    /// Copy what is missing or different, then compare those keys again
    #[arg(long, help_heading = SAFETY)]
    pub(crate) repair: bool,

    /// With --repair: also delete the keys that only the target has
    #[arg(long, help_heading = SAFETY)]
    pub(crate) delete_extra: bool,

    /// With --repair: compare, and say what a repair would do. Without: print the plan and stop
    #[arg(long, help_heading = SAFETY)]
    pub(crate) dry_run: bool,

    /// Say what differs inside a value: the first fields, members or positions
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) show_diffs: bool,

    /// Write one line a key to this file: = same, - missing on the target, + only there, * different, ! not
    /// known; a tab, the db, a tab, the key. With --repair: as it was before anything was written
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) diff_file: Option<PathBuf>,
}

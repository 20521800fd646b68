//! The options of `keyhaul replicate`, and of `keyhaul plan`, which says what it would do.

use std::path::PathBuf;

use super::live::{LiveArgs, StatusArgs};
use super::shared::{CopyArgs, EveryKeyArgs, SharedArgs};
use super::{HOW, OUTPUT, SAFETY, WHAT};
use super::{MethodArg, ModeArg, OnConflictArg};

/// The options of `keyhaul replicate`.
#[derive(clap::Args)]
pub(crate) struct ReplicateArgs {
    #[command(flatten)]
    pub(crate) shared: SharedArgs,

    #[command(flatten)]
    pub(crate) every_key: EveryKeyArgs,

    #[command(flatten)]
    pub(crate) copying: CopyArgs,

    /// Leave out keys whose MEMORY USAGE is above this, and list them as not moved
    ///
    /// From an RDB file, or by PSYNC: keys whose value takes more in the RDB.
    #[arg(long, value_name = "SIZE", help_heading = WHAT)]
    pub(crate) mem_limit: Option<String>,

    /// What goes over
    #[arg(
        long, value_enum, ignore_case = true, default_value_t = ModeArg::Scan, help_heading = HOW
    )]
    pub(crate) mode: ModeArg,

    /// How the source is read
    #[arg(
        long, value_enum, ignore_case = true, default_value_t = MethodArg::Auto, help_heading = HOW
    )]
    pub(crate) method: MethodArg,

    #[command(flatten)]
    pub(crate) live: LiveArgs,

    /// The RDB version of the file that is written: 9 (Redis 5 and 6), 10 (7.0), 11 (7.2, Valkey 7.2 and
    /// 8), 12 (Redis 7.4 and 8), 80 (Valkey 9) [default: the source's own]
    #[arg(long, value_name = "N", help_heading = HOW)]
    pub(crate) rdb_version: Option<String>,

    /// What happens to a key that the target already holds
    #[arg(
        long, value_enum, ignore_case = true, default_value_t = OnConflictArg::Replace,
        help_heading = SAFETY
    )]
    pub(crate) on_conflict: OnConflictArg,

    /// Load what is sound of a damaged RDB file: all that lies before the damage
    #[arg(long, help_heading = SAFETY)]
    pub(crate) allow_partial: bool,

    /// With --dry-run: print the plan as JSON
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) json: bool,

    /// With --dry-run: take the kinds of keys from this report, that of keyhaul keystats report --json, instead of a
    /// sample
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) stats: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) status: StatusArgs,
}

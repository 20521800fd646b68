//! The options of `keyhaul replicate`.

use super::shared::SharedArgs;
use super::{HOW, SAFETY, WHAT};
use super::{MethodArg, ModeArg, OnConflictArg};

/// The options of `keyhaul replicate`.
#[derive(clap::Args)]
pub(crate) struct ReplicateArgs {
    #[command(flatten)]
    pub(crate) shared: SharedArgs,

    /// Not the keys whose name matches this pattern; repeatable
    #[arg(long, value_name = "GLOB", help_heading = WHAT)]
    pub(crate) key_exclude: Vec<String>,

    /// Only keys of these types: string, list, set, zset, hash, stream; repeatable
    #[arg(long, value_name = "TYPE[,TYPE]", value_delimiter = ',', help_heading = WHAT)]
    pub(crate) key_type: Vec<String>,

    /// Leave out keys whose MEMORY USAGE is above this, and list them as not moved
    ///
    /// From an RDB file, or by PSYNC: keys whose value takes more in the RDB.
    #[arg(long, value_name = "SIZE", help_heading = WHAT)]
    pub(crate) mem_limit: Option<String>,

    /// Leave function libraries where they are
    #[arg(long, help_heading = WHAT)]
    pub(crate) no_functions: bool,

    /// Copy once
    #[arg(
        long, value_enum, ignore_case = true, default_value_t = ModeArg::Scan, help_heading = HOW
    )]
    pub(crate) mode: ModeArg,

    /// How the source is read
    #[arg(
        long, value_enum, ignore_case = true, default_value_t = MethodArg::Auto, help_heading = HOW
    )]
    pub(crate) method: MethodArg,

    /// How many keys the source looks at in one SCAN step
    #[arg(long, value_name = "N", default_value = "1000", help_heading = HOW)]
    pub(crate) scan_count: String,

    /// Connections per source node
    #[arg(long, value_name = "N", default_value = "1", help_heading = HOW)]
    pub(crate) read_threads: String,

    /// Connections per target node
    #[arg(long, value_name = "N", default_value = "1", help_heading = HOW)]
    pub(crate) threads: String,

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
}

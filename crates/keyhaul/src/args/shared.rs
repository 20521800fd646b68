//! What several commands can be given.

use std::path::PathBuf;

use super::{ENDPOINTS, HOW, OUTPUT, SAFETY, WHAT};
use super::{LossArg, ProgressArg, VerifyArg};
use crate::endpoint_args::{SourceArgs, TargetArgs};

/// Of all commands with two ends: names, limits, output.
#[derive(clap::Args)]
pub(crate) struct SharedArgs {
    /// Where the keys come from
    ///
    /// redis://[user[:password]@]host[:port][/db], rediss:// for TLS, valkey://, valkeys://,
    /// unix:///path[?db=N], redis-sentinel://host,host/name[/db], or a bare host[:port]. Several
    /// seed nodes are separated by commas. A cluster is recognised by itself. Any of the TLS options
    /// below switches TLS on where the scheme does not.
    ///
    /// An RDB file: file:dump.rdb, or any path that ends in .rdb. Several, separated by commas, are read
    /// one after the other; a file is read from start to end before anything of it is loaded.
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,

    /// Where they go, in the same forms
    ///
    /// An RDB file gets its name when it is whole; a file that is there is replaced then.
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,

    #[command(flatten, next_help_heading = ENDPOINTS)]
    pub(crate) source_side: SourceArgs,

    #[command(flatten, next_help_heading = ENDPOINTS)]
    pub(crate) target_side: TargetArgs,

    /// Only keys whose name matches this pattern, as in KEYS; repeat it for more patterns
    #[arg(long, value_name = "GLOB", help_heading = WHAT)]
    pub(crate) key_pattern: Vec<String>,

    /// Only these dbs of the source [default: the db of its URI, else all]
    #[arg(long, value_name = "N[,N]|all", value_delimiter = ',', help_heading = WHAT)]
    pub(crate) db: Vec<String>,

    /// Put the keys of source db A into target db B; repeatable
    #[arg(long, value_name = "A:B[,A:B]", value_delimiter = ',', help_heading = WHAT)]
    pub(crate) db_map: Vec<String>,

    /// Replace a prefix of key names; repeatable, the first that fits counts
    ///
    /// OLD=NEW where a prefix holds a colon. An empty OLD puts NEW before every key.
    #[arg(long, value_name = "OLD:NEW", help_heading = WHAT)]
    pub(crate) rename_prefix: Vec<String>,

    /// All buffers together, at least 4mb
    #[arg(long, value_name = "SIZE", default_value = "128mb", help_heading = HOW)]
    pub(crate) memory: String,

    /// Payload bytes per second at most, such as 20mb/s [default: as fast as the servers go]
    #[arg(long, value_name = "SIZE/s", help_heading = HOW)]
    pub(crate) rate_limit: Option<String>,

    /// How long a server may be unreachable, loading or full before the job stops: 30s, 2m, 1h
    #[arg(long, value_name = "DURATION", default_value = "2m", help_heading = HOW)]
    pub(crate) retry_for: String,

    /// Keys whose MEMORY USAGE is above this are read element by element, and never visible on the target before
    /// they are whole
    ///
    /// Never more than what the target takes as one argument.
    #[arg(long, value_name = "SIZE", default_value = "64mb", help_heading = HOW)]
    pub(crate) chunk_threshold: String,

    /// Elements of a large key that go over at once, at most; and at most 1 MB [default: 10000, and fewer of types
    /// whose elements take a server long]
    #[arg(long, value_name = "N", help_heading = HOW)]
    pub(crate) chunk_size: Option<String>,

    /// Go on where a target cannot hold all of a value, or is too small for all keys; repeatable
    ///
    /// Without field-ttl such a key is listed as not moved; without eviction and no-room a copy that is
    /// certain not to fit is refused.
    #[arg(
        long, value_enum, ignore_case = true, value_name = "LOSS", value_delimiter = ',',
        help_heading = SAFETY
    )]
    pub(crate) accept_loss: Vec<LossArg>,

    /// How progress is shown on standard error
    #[arg(
        long, value_enum, ignore_case = true, default_value_t = ProgressArg::Auto,
        help_heading = OUTPUT
    )]
    pub(crate) progress: ProgressArg,

    /// Write a report in JSON to this file, with every key that was not moved, or that differs
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) report: Option<PathBuf>,

    /// Say more: log lines, and progress per source node
    #[arg(long, short, help_heading = OUTPUT)]
    pub(crate) verbose: bool,
}

/// Of the commands that go over all keys.
#[derive(clap::Args)]
pub(crate) struct EveryKeyArgs {
    /// Not the keys whose name matches this pattern; repeatable
    #[arg(long, value_name = "GLOB", help_heading = WHAT)]
    pub(crate) key_exclude: Vec<String>,

    /// Only keys of these types: string, list, set, zset, hash, stream; repeatable
    #[arg(long, value_name = "TYPE[,TYPE]", value_delimiter = ',', help_heading = WHAT)]
    pub(crate) key_type: Vec<String>,

    /// Leave function libraries out
    #[arg(long, help_heading = WHAT)]
    pub(crate) no_functions: bool,

    /// How many keys a server looks at in one SCAN step
    #[arg(long, value_name = "N", default_value = "1000", help_heading = HOW)]
    pub(crate) scan_count: String,

    /// Connections per source node
    #[arg(long, value_name = "N", default_value = "1", help_heading = HOW)]
    pub(crate) read_threads: String,

    /// Connections per target node
    #[arg(long, value_name = "N", default_value = "1", help_heading = HOW)]
    pub(crate) threads: String,
}

/// Of the commands that go on where an earlier run stopped.
#[derive(clap::Args)]
pub(crate) struct ResumeArgs {
    /// Where a run that stops leaves what the same command needs to go on
    /// [default: $XDG_STATE_HOME/keyhaul, or ~/.local/state/keyhaul]
    #[arg(long, value_name = "DIR", help_heading = SAFETY)]
    pub(crate) state_dir: Option<PathBuf>,

    /// Forget what an earlier run of this command left, and begin anew
    #[arg(long, help_heading = SAFETY)]
    pub(crate) restart: bool,
}

/// Of the commands that copy.
#[derive(clap::Args)]
pub(crate) struct CopyArgs {
    /// Probe both ends, print the plan and stop; writes nothing
    #[arg(long, help_heading = SAFETY)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) resume: ResumeArgs,

    /// What is proved after the copy [default: quick; in live mode none]
    #[arg(long, value_enum, ignore_case = true, help_heading = SAFETY)]
    pub(crate) verify: Option<VerifyArg>,
}

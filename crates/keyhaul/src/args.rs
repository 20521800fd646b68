//! What can be typed, and its help. Nothing is judged here; [`crate::job`] does that.
//!
//! Values are plain text on purpose: the parser's own complaints repeat them, and an address may hold
//! a password.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::endpoint_args::{SourceArgs, TargetArgs};
use crate::exit::Exit;

const ENDPOINTS: &str = "Endpoints";
const WHAT: &str = "What is copied";
const HOW: &str = "How";
const SAFETY: &str = "Safety";
const OUTPUT: &str = "Output";

const EXAMPLES: &str = "\
Examples:
  keyhaul replicate redis://old:6379 valkey://new:6379
  keyhaul replicate --dry-run old:6379 new:6379
  keyhaul replicate --key-pattern 'user:*' --key-type hash,zset old:6379 new:6379
  keyhaul replicate --db 0,3 --db-map 3:0 --rename-prefix app:=shop:app: old:6379 new:6379
  keyhaul replicate dump.rdb new:6379
  keyhaul replicate old:6379 file:backup.rdb
  keyhaul replicate --report report.json rediss://old:6380 redis-sentinel://s1,s2/main
  KEYHAUL_SOURCE_PASS=... keyhaul replicate --source-user mover old:6379 unix:///run/new.sock

";

#[derive(Parser)]
#[command(
    name = "keyhaul",
    version,
    about = "Moves live Redis and Valkey data from one place to another, and checks that it arrived",
    after_help = "keyhaul replicate --help tells all options, with examples and exit codes.",
    subcommand_required = true,
    disable_help_subcommand = true
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Copy the keys of one deployment to another, and verify them
    ///
    /// Either end may be an RDB file. Probes both ends, shows the plan, copies key by key, converts
    /// values to what the target reads, and compares both ends. The source is only read.
    /// Each key goes over as it was at one moment during the run, with its expiry exact to the
    /// millisecond.
    #[command(after_help = EXAMPLES.to_owned() + &Exit::table())]
    Replicate(Box<ReplicateArgs>),

    /// Print the completion script for a shell
    ///
    /// For bash: keyhaul completions bash > ~/.local/share/bash-completion/completions/keyhaul
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },

    /// Print the manual page, or write one page per command into a folder
    Man {
        /// The folder; made if it is not there
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
    },
}

/// The options of `keyhaul replicate`.
#[derive(clap::Args)]
pub(crate) struct ReplicateArgs {
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

    /// Not the keys whose name matches this pattern; repeatable
    #[arg(long, value_name = "GLOB", help_heading = WHAT)]
    pub(crate) key_exclude: Vec<String>,

    /// Only keys of these types: string, list, set, zset, hash, stream; repeatable
    #[arg(long, value_name = "TYPE[,TYPE]", value_delimiter = ',', help_heading = WHAT)]
    pub(crate) key_type: Vec<String>,

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

    /// All buffers together, at least 4mb
    #[arg(long, value_name = "SIZE", default_value = "128mb", help_heading = HOW)]
    pub(crate) memory: String,

    /// Payload bytes per second at most, such as 20mb/s [default: as fast as the servers go]
    #[arg(long, value_name = "SIZE/s", help_heading = HOW)]
    pub(crate) rate_limit: Option<String>,

    /// How long a server may be unreachable, loading or full before the job stops: 30s, 2m, 1h
    #[arg(long, value_name = "DURATION", default_value = "2m", help_heading = HOW)]
    pub(crate) retry_for: String,

    /// The RDB version of the file that is written: 9 (Redis 5 and 6), 10 (7.0), 11 (7.2, Valkey 7.2 and
    /// 8), 12 (Redis 7.4 and 8), 80 (Valkey 9) [default: the source's own]
    #[arg(long, value_name = "N", help_heading = HOW)]
    pub(crate) rdb_version: Option<String>,

    /// Probe both ends, print the plan and stop; writes nothing
    #[arg(long, help_heading = SAFETY)]
    pub(crate) dry_run: bool,

    /// What happens to a key that the target already holds
    #[arg(
        long, value_enum, ignore_case = true, default_value_t = OnConflictArg::Replace,
        help_heading = SAFETY
    )]
    pub(crate) on_conflict: OnConflictArg,

    /// Go on where a target cannot hold all of a value, instead of listing the key; repeatable
    #[arg(
        long, value_enum, ignore_case = true, value_name = "LOSS", value_delimiter = ',',
        help_heading = SAFETY
    )]
    pub(crate) accept_loss: Vec<LossArg>,

    /// Load what is sound of a damaged RDB file: all that lies before the damage
    #[arg(long, help_heading = SAFETY)]
    pub(crate) allow_partial: bool,

    /// What is proved after the copy
    #[arg(
        long, value_enum, ignore_case = true, default_value_t = VerifyArg::Quick,
        help_heading = SAFETY
    )]
    pub(crate) verify: VerifyArg,

    /// How progress is shown on standard error
    #[arg(
        long, value_enum, ignore_case = true, default_value_t = ProgressArg::Auto,
        help_heading = OUTPUT
    )]
    pub(crate) progress: ProgressArg,

    /// Write a report in JSON to this file, with every key that was not moved
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) report: Option<PathBuf>,

    /// Say more: log lines, and progress per source node
    #[arg(long, short, help_heading = OUTPUT)]
    pub(crate) verbose: bool,
}

/// `--mode`. Those that this version lacks are known, to be refused by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// Copies the keys that are there
    Scan,
    #[value(hide = true)]
    Live,
    #[value(hide = true)]
    Liveonly,
}

/// `--method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MethodArg {
    /// Into a server with scan, into a file with psync where the source permits it
    Auto,
    /// With SCAN: needs the right to read, nothing else
    Scan,
    /// As a replica: a snapshot of one moment, for which the source forks
    Psync,
}

/// `--accept-loss`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LossArg {
    /// Fields of hashes that expire are kept for ever
    FieldTtl,
}

/// `--on-conflict`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnConflictArg {
    /// The source's key replaces it
    Replace,
    /// It stays as it is, and is counted
    Skip,
    /// It stays as it is, and the source's key is listed as not moved
    Fail,
}

/// `--verify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VerifyArg {
    /// Each key's existence, type and expiry
    Quick,
    #[value(hide = true)]
    Full,
    /// Nothing
    None,
}

/// `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressArg {
    /// A bar on a terminal, else plain lines
    Auto,
    /// A bar; plain lines where there is no terminal
    Bar,
    /// A line of key=value pairs every 5 seconds and at each change of phase
    Plain,
    /// Nothing
    None,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }
}

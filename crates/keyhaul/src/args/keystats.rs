//! The options of `keyhaul keystats`. `-h` is the host there, as users of redis-cli type it; help is `--help`.

use std::path::PathBuf;

use clap::{ArgAction, Subcommand};

use super::{ENDPOINTS, HOW, OUTPUT, ProgressArg, ResumeArgs, WHAT};
use crate::exit::Exit;

const MEMKEYS_EXAMPLES: &str = "\
Examples:
  keyhaul keystats memkeys -u redis://source:6379 --mem-limit 100mb > bigkeys.csv
  keyhaul keystats memkeys -h source -p 6379 --prefer-replica --mem-limit 1gb
  keyhaul keystats memkeys dump.rdb --mem-limit 10mb

";

const SLOTS_EXAMPLES: &str = "\
Examples:
  keyhaul keystats slots -u redis://source:6379 --shards 140 > slots.csv
  keyhaul keystats slots --shards 16384 -h source
  keyhaul keystats slots dump.rdb --shards 3

";

const REPORT_EXAMPLES: &str = "\
Examples:
  keyhaul keystats report -u redis://source:6379
  keyhaul keystats report -h source --html report.html --csv tables
  keyhaul keystats report dump.rdb --json > report.json

";

/// The options of `keyhaul keystats`.
#[derive(clap::Args)]
pub(crate) struct KeystatsArgs {
    #[command(subcommand)]
    pub(crate) command: KeystatsCommand,

    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// What is made of the keys.
#[derive(Subcommand)]
pub(crate) enum KeystatsCommand {
    /// List the keys above a size, as CSV: key,size_bytes
    ///
    /// One row for each key above the limit, as it is found. A key stands there as it is when it is UTF-8, in quotes where
    /// it holds a comma, a quote or a line break (RFC 4180); one that is no UTF-8 is escaped: \xHH for a byte, \\ for a
    /// backslash.
    #[command(
        disable_help_flag = true,
        after_help = MEMKEYS_EXAMPLES.to_owned() + &Exit::table()
    )]
    Memkeys(Box<MemkeysArgs>),

    /// Sum up what the keys of each shard take, as CSV: shard,slot_start,slot_end,size_bytes
    ///
    /// The 16384 slots are split into shards of the same number of slots, numbered from 0; the last one has those that are
    /// left over too. Shards that hold nothing are left out. A source that is no cluster is summed up as if it were one.
    #[command(
        disable_help_flag = true,
        after_help = SLOTS_EXAMPLES.to_owned() + &Exit::table()
    )]
    Slots(Box<SlotsArgs>),

    /// Report on everything: types, sizes, expiries, prefixes, slots, the biggest keys
    ///
    /// One pass over all keys. The report is a page for the terminal, or JSON; in addition a page for a browser, which needs
    /// no network, and a folder of CSV files.
    #[command(
        disable_help_flag = true,
        after_help = REPORT_EXAMPLES.to_owned() + &Exit::table()
    )]
    Report(Box<ReportArgs>),
}

/// The options of `keyhaul keystats memkeys`.
#[derive(clap::Args)]
pub(crate) struct MemkeysArgs {
    #[command(flatten)]
    pub(crate) shared: KeystatsSharedArgs,

    /// Keys that take more than this; 0: every key
    #[arg(long, value_name = "SIZE", default_value = "100mb", help_heading = WHAT)]
    pub(crate) mem_limit: String,
}

/// The options of `keyhaul keystats slots`.
#[derive(clap::Args)]
pub(crate) struct SlotsArgs {
    #[command(flatten)]
    pub(crate) shared: KeystatsSharedArgs,

    /// How many shards the slots are split into, 1 to 16384
    #[arg(long, value_name = "N", default_value = "100", help_heading = WHAT)]
    pub(crate) shards: String,
}

/// The options of `keyhaul keystats report`.
#[derive(clap::Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    pub(crate) shared: KeystatsSharedArgs,

    /// JSON on standard output, instead of the page
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) json: bool,

    /// Also a page for a browser, with all data in it
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) html: Option<PathBuf>,

    /// Also a folder of CSV files, one a table
    #[arg(long, value_name = "DIR", help_heading = OUTPUT)]
    pub(crate) csv: Option<PathBuf>,

    /// What stands between the parts of names; empty: names have no parts
    #[arg(long, value_name = "TEXT", default_value = ":", help_heading = OUTPUT)]
    pub(crate) separator: String,

    /// How many parts of a name the prefixes go down, 1 to 16
    #[arg(long, value_name = "N", default_value = "6", help_heading = OUTPUT)]
    pub(crate) prefix_depth: String,

    /// How many prefixes are shown below each, the largest
    #[arg(long, value_name = "N", default_value = "20", help_heading = OUTPUT)]
    pub(crate) prefix_width: String,

    /// How many keys each list of the biggest holds, 1 to 1000
    #[arg(long, value_name = "N", default_value = "20", help_heading = OUTPUT)]
    pub(crate) top: String,

    /// How many shards the slots are split into, 1 to 16384
    #[arg(long, value_name = "N", default_value = "100", help_heading = OUTPUT)]
    pub(crate) shards: String,

    /// Keys above this would go element by element
    #[arg(long, value_name = "SIZE", default_value = "64MB", help_heading = OUTPUT)]
    pub(crate) chunk_threshold: String,
}

/// Of all of them: what is read, and how.
#[derive(clap::Args)]
pub(crate) struct KeystatsSharedArgs {
    /// What is read: a URI, a bare host[:port], or RDB files [default: 127.0.0.1:6379]
    ///
    /// In the forms of `keyhaul replicate`: redis://[user[:password]@]host[:port][/db], rediss:// for TLS, valkey://,
    /// unix:///path[?db=N], redis-sentinel://host,host/name[/db]; file:dump.rdb, or any path that ends in .rdb. A cluster
    /// is recognised by itself, any of its nodes will do.
    #[arg(value_name = "SOURCE")]
    pub(crate) source: Option<String>,

    /// The same, by name
    #[arg(long, short, value_name = "URI", help_heading = ENDPOINTS)]
    pub(crate) uri: Option<String>,

    /// Host, where no URI is given [default: 127.0.0.1]
    #[arg(long, short = 'h', value_name = "HOST", help_heading = ENDPOINTS)]
    pub(crate) host: Option<String>,

    /// Port, where no URI is given [default: 6379]
    #[arg(long, short, value_name = "PORT", help_heading = ENDPOINTS)]
    pub(crate) port: Option<String>,

    /// Password, seen by all who may list processes: better in the variable KEYHAUL_SOURCE_PASS or REDISCLI_AUTH
    #[arg(
        long, short = 'a', visible_alias = "source-pass", value_name = "PASSWORD",
        help_heading = ENDPOINTS
    )]
    pub(crate) password: Option<String>,

    /// ACL user
    #[arg(long, visible_alias = "source-user", value_name = "NAME", help_heading = ENDPOINTS)]
    pub(crate) user: Option<String>,

    /// TLS, as rediss:// would
    #[arg(long, help_heading = ENDPOINTS)]
    pub(crate) tls: bool,

    /// TLS without checking the certificate
    #[arg(long, visible_alias = "source-insecure", help_heading = ENDPOINTS)]
    pub(crate) insecure: bool,

    /// TLS: trust these authorities (PEM) instead of the system's
    #[arg(long, visible_alias = "source-cacert", value_name = "FILE", help_heading = ENDPOINTS)]
    pub(crate) cacert: Option<PathBuf>,

    /// TLS: certificate of the client (PEM)
    #[arg(long, visible_alias = "source-cert", value_name = "FILE", help_heading = ENDPOINTS)]
    pub(crate) cert: Option<PathBuf>,

    /// TLS: key of that certificate (PEM)
    #[arg(long, visible_alias = "source-key", value_name = "FILE", help_heading = ENDPOINTS)]
    pub(crate) key: Option<PathBuf>,

    /// Only keys whose name matches this pattern, as in KEYS; repeat it for more patterns
    #[arg(long, value_name = "GLOB", help_heading = WHAT)]
    pub(crate) key_pattern: Vec<String>,

    /// Not the keys whose name matches this pattern; repeatable
    #[arg(long, value_name = "GLOB", help_heading = WHAT)]
    pub(crate) key_exclude: Vec<String>,

    /// Only keys of these types: string, list, set, zset, hash, stream; repeatable
    #[arg(long, value_name = "TYPE[,TYPE]", value_delimiter = ',', help_heading = WHAT)]
    pub(crate) key_type: Vec<String>,

    /// Only these dbs [default: the db of the URI, else all]
    #[arg(long, value_name = "N[,N]|all", value_delimiter = ',', help_heading = WHAT)]
    pub(crate) db: Vec<String>,

    /// Read what is sound of a damaged RDB file
    #[arg(long, help_heading = WHAT)]
    pub(crate) allow_partial: bool,

    /// How many keys a server looks at in one SCAN step
    #[arg(long, value_name = "N", default_value = "1000", help_heading = HOW)]
    pub(crate) scan_count: String,

    /// Of how many elements of a value the server takes the mean, 0: all, which is exact and slow [default: the server's
    /// own, 5]
    #[arg(long, value_name = "N", help_heading = HOW)]
    pub(crate) samples: Option<String>,

    /// Read a replica of each primary, where there is one that can be read
    #[arg(long, help_heading = HOW)]
    pub(crate) prefer_replica: bool,

    /// How long a server may be unreachable or loading before the run stops: 30s, 2m, 1h
    #[arg(long, value_name = "DURATION", default_value = "2m", help_heading = HOW)]
    pub(crate) retry_for: String,

    #[command(flatten)]
    pub(crate) resume: ResumeArgs,

    /// How progress is shown on standard error
    #[arg(
        long, value_enum, ignore_case = true, default_value_t = ProgressArg::Auto,
        help_heading = OUTPUT
    )]
    pub(crate) progress: ProgressArg,

    /// Say more: log lines, and progress per node
    #[arg(long, short, help_heading = OUTPUT)]
    pub(crate) verbose: bool,

    /// Print help
    #[arg(long, action = ArgAction::Help, help_heading = OUTPUT)]
    help: Option<bool>,
}

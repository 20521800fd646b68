//! What can be typed, and its help. Nothing is judged here; [`crate::job`] does that.
//!
//! Values are plain text on purpose: the parser's own complaints repeat them, and an address may hold
//! a password.

mod big_keys;
mod compare;
mod keystats;
mod live;
mod replicate;
mod shared;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::exit::Exit;

pub(crate) use big_keys::BigKeysArgs;
pub(crate) use compare::CompareArgs;
pub(crate) use keystats::{KeystatsArgs, KeystatsCommand, KeystatsSharedArgs, ReportArgs};
pub(crate) use live::LiveArgs;
pub(crate) use replicate::ReplicateArgs;
pub(crate) use shared::{CopyArgs, EveryKeyArgs, ResumeArgs, SharedArgs};

const ENDPOINTS: &str = "Endpoints";
const WHAT: &str = "Which keys";
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
  keyhaul replicate --mode live --status-listen :9121 old:6379 new:6379
  keyhaul replicate --mode live --until synced old:6379 new:6379
  keyhaul replicate --report report.json rediss://old:6380 redis-sentinel://s1,s2/main
  KEYHAUL_SOURCE_PASS=... keyhaul replicate --source-user mover old:6379 unix:///run/new.sock

";

const PLAN_EXAMPLES: &str = "\
Examples:
  keyhaul plan old:6379 new:6379
  keyhaul plan --json --key-pattern 'user:*' old:6379 new:6379
  keyhaul plan dump.rdb new:6379

";

const BIG_KEYS_EXAMPLES: &str = "\
Examples:
  keyhaul big-keys source:6379 target:6379 --mem-limit 512MB --replace
  keyhaul big-keys source:6379 target:6379 --key my:large:key --replace --verbose
  keyhaul big-keys source:6379 target:6379 --mem-limit 512MB --dry-run

";

const COMPARE_EXAMPLES: &str = "\
Examples:
  keyhaul compare old:6379 new:6379
  keyhaul compare --quick --key-pattern 'user:*' old:6379 new:6379
  keyhaul compare --diff-file diff.txt --show-diffs --report report.json old:6379 new:6379
  keyhaul compare --only-keys diff.txt old:6379 new:6379
  keyhaul compare --repair --dry-run old:6379 new:6379
  keyhaul compare --repair --delete-extra old:6379 new:6379
  keyhaul compare backup.rdb old:6379

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
    /// millisecond. With --mode live all that changes on the source afterwards goes over too, until
    /// told to stop.
    #[command(
        after_help = EXAMPLES.to_owned() + &Exit::table(),
        allow_negative_numbers = true
    )]
    Replicate(Box<ReplicateArgs>),

    /// Say what a copy would do, how long it takes and what is in its way; writes nothing
    ///
    /// Takes the options of keyhaul replicate, and looks at both ends as that would: what they are, which rights
    /// are there, what becomes of the kinds of keys (from a sample), whether there is room, how much is written
    /// meanwhile. Ends with 3 where the copy would be refused. keyhaul replicate --dry-run is the same.
    #[command(
        after_help = PLAN_EXAMPLES.to_owned() + &Exit::table(),
        allow_negative_numbers = true,
        mut_arg("dry_run", |arg| arg.hide(true)),
        mut_arg("json", |arg| arg.help("Print the plan as JSON")),
        mut_arg("stats", |arg| {
            arg.help(
                "Take the kinds of keys from this report, that of keyhaul keystats report --json, instead of a sample",
            )
        })
    )]
    Plan(Box<ReplicateArgs>),

    /// Copy only the keys above a size, or those that are named
    ///
    /// Each goes over element by element into a key of another name beside its place on the target, which it
    /// takes in one step when it is whole. What was copied of it when the run stops is not copied again by the
    /// same command. `keyhaul replicate` copies big keys the same way, beside all others.
    #[command(
        after_help = BIG_KEYS_EXAMPLES.to_owned() + &Exit::table(),
        allow_negative_numbers = true
    )]
    BigKeys(Box<BigKeysArgs>),

    /// Prove that both ends hold the same, list what differs, and mend it
    ///
    /// Every key in both directions: existence, type, expiry and every byte of the value, in bounded memory,
    /// also while both are written. Other encodings and versions of the same value are no difference. Either
    /// end may be an RDB file. Nothing is written unless --repair is given.
    #[command(
        after_help = COMPARE_EXAMPLES.to_owned() + &Exit::table(),
        allow_negative_numbers = true,
        mut_arg("target", |arg| {
            arg.help("What it is compared with, in the same forms")
                .long_help("What it is compared with, in the same forms; an RDB file is only read")
        }),
        mut_arg("db_map", |arg| {
            arg.help("Look for the keys of source db A in target db B; repeatable")
        }),
        mut_arg("rename_prefix", |arg| {
            arg.help("Look for keys under names with another prefix; repeatable").long_help(
                "Look for keys under names with another prefix; repeatable, the first that fits counts\n\n\
                 OLD=NEW where a prefix holds a colon. An empty OLD puts NEW before every key.",
            )
        })
    )]
    Compare(Box<CompareArgs>),

    /// Find out what the keys take: those above a size, and sums by shard
    ///
    /// Goes over all keys of a server, a cluster or an RDB file. Data comes on standard output, all else on standard
    /// error. Here -h is the host.
    #[command(disable_help_flag = true)]
    Keystats(KeystatsArgs),

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

/// `--mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// Copies the keys that are there, once
    Scan,
    /// Copies them, and goes on following the source: every change goes over until told to stop
    Live,
    /// Copies nothing: only what changes from now on goes over
    Liveonly,
}

/// `--until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum UntilArg {
    /// All that the source has done is applied on the target
    Synced,
}

/// `--method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MethodArg {
    /// With psync where the source permits it, into a file and in live mode; else with scan
    Auto,
    /// With SCAN: needs the right to read, nothing else; in live mode the names of changed keys are tracked beside it
    Scan,
    /// As a replica: a snapshot of one moment, for which the source forks; in live mode every command after it
    Psync,
}

/// `--accept-loss`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LossArg {
    /// Fields of hashes that expire are kept for ever
    FieldTtl,
    /// A target that is too small for all keys evicts some of them
    Eviction,
    /// A target that is too small for all keys stops the run when it is full
    NoRoom,
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
    /// Its value too, byte by byte
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

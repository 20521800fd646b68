//! From what was typed to what the engine needs. Everything that is wrong is said here, in one line.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use keyhaul_engine::options::{
    AcceptedLosses, CHUNK_ELEMENTS_MAX, CHUNK_THRESHOLD, CopyOptions, KeyType, MEMORY_BYTES_MIN,
    Method, OnConflict, Scope, THREADS_MAX, Verify, WRITABLE_VERSIONS,
};
use keyhaul_engine::place::Place;
use keyhaul_engine::transform::{DbMap, Glob, PrefixRename};

use crate::args::{BigKeysArgs, CopyArgs, EveryKeyArgs, ReplicateArgs, ResumeArgs, SharedArgs};
use crate::args::{LossArg, MethodArg, OnConflictArg, ProgressArg, VerifyArg};
use crate::status::ListenAddress;
use crate::usage::UsageError;
use crate::{duration, endpoint_args, live, size};

/// The size from which `big-keys` takes keys that are not named, bytes: what a server takes by default as one
/// argument.
const BIG_KEYS_LIMIT: u64 = 512 * 1024 * 1024;

/// A copy as it will be made.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) source: Place,
    pub(crate) target: Place,
    pub(crate) options: CopyOptions,
    pub(crate) is_dry_run: bool,
    /// A plan that is the result is printed as JSON.
    pub(crate) prints_json: bool,
    /// A report on all keys of the source, for a plan.
    pub(crate) stats: Option<PathBuf>,
    pub(crate) report: Option<PathBuf>,
    /// Where others can look at the job while it runs.
    pub(crate) status_listen: Option<ListenAddress>,
    pub(crate) progress: ProgressArg,
    pub(crate) is_verbose: bool,
    /// What is worth saying about how the command line was understood.
    pub(crate) notes: Vec<String>,
}

/// The passwords that come by environment.
#[derive(Default)]
pub(crate) struct Environment {
    pub(crate) source_password: Option<String>,
    pub(crate) target_password: Option<String>,
    pub(crate) any_password: Option<String>,
    /// `XDG_STATE_HOME`, and `HOME`.
    pub(crate) state_home: Option<PathBuf>,
    pub(crate) home: Option<PathBuf>,
}

impl Environment {
    /// Those of this process.
    pub(crate) fn of_process() -> Self {
        let variable = |name| std::env::var(name).ok();
        // A relative path is not valid there, by the XDG specification.
        let folder = |name| {
            let path = std::env::var_os(name).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        Self {
            source_password: variable("KEYHAUL_SOURCE_PASS"),
            target_password: variable("KEYHAUL_TARGET_PASS"),
            any_password: variable("REDISCLI_AUTH"),
            state_home: folder("XDG_STATE_HOME"),
            home: folder("HOME"),
        }
    }

    /// Those of a source, the first that is there counts.
    pub(crate) fn source_passwords(&self) -> [Option<&str>; 2] {
        [
            self.source_password.as_deref(),
            self.any_password.as_deref(),
        ]
    }

    /// Where checkpoints lie unless another folder is named; `None`: there is no home.
    pub(crate) fn state_dir(&self) -> Option<PathBuf> {
        let home = || Some(self.home.as_ref()?.join(".local/state"));
        Some(self.state_home.clone().or_else(home)?.join("keyhaul"))
    }
}

/// Understands `keyhaul replicate`.
pub(crate) fn replicate(
    args: &ReplicateArgs,
    environment: &Environment,
) -> Result<Request, UsageError> {
    if args.json && !args.copying.dry_run {
        return Err(UsageError::new(
            "--json prints the plan of --dry-run; for a copy there is --report FILE",
        ));
    }
    if args.stats.is_some() && !args.copying.dry_run {
        return Err(UsageError::new("--stats is for the plan of --dry-run"));
    }
    replicate_or_plan(args, environment, args.copying.dry_run)
}

/// Understands `keyhaul plan`, which takes what `keyhaul replicate` takes.
pub(crate) fn plan(args: &ReplicateArgs, environment: &Environment) -> Result<Request, UsageError> {
    replicate_or_plan(args, environment, true)
}

fn replicate_or_plan(
    args: &ReplicateArgs,
    environment: &Environment,
    is_dry_run: bool,
) -> Result<Request, UsageError> {
    let follows = live::options::understand(args)?;
    let copied = copying(
        &args.copying,
        environment,
        every_key(&args.every_key, shared(&args.shared)?)?,
    );
    let options = CopyOptions {
        // The source is written while it is followed: `keyhaul compare` knows how to look at that.
        verify: if follows.is_some() {
            Verify::None
        } else {
            copied.verify
        },
        live: follows,
        mem_limit: optional_size("--mem-limit", args.mem_limit.as_deref())?,
        on_conflict: match args.on_conflict {
            OnConflictArg::Replace => OnConflict::Replace,
            OnConflictArg::Skip => OnConflict::Skip,
            OnConflictArg::Fail => OnConflict::Fail,
        },
        method: match args.method {
            MethodArg::Auto => Method::Auto,
            MethodArg::Scan => Method::Scan,
            MethodArg::Psync => Method::Psync,
        },
        allow_partial: args.allow_partial,
        rdb_version: rdb_version(args.rdb_version.as_deref())?,
        ..copied
    };
    let has_filters = !(options.key_patterns.is_empty()
        && options.key_excludes.is_empty()
        && options.key_types.is_empty()
        && options.dbs.is_none());
    if args.stats.is_some() && has_filters {
        return Err(UsageError::new(
            "--stats tells of all keys: leave it out where filters choose some, and they are sampled",
        ));
    }
    Ok(Request {
        prints_json: args.json,
        stats: args.stats.clone(),
        status_listen: (args.status.status_listen.as_deref())
            .map(ListenAddress::parse)
            .transpose()?,
        ..request(&args.shared, environment, options, is_dry_run)?
    })
}

/// Understands `keyhaul big-keys`.
pub(crate) fn big_keys(
    args: &BigKeysArgs,
    environment: &Environment,
) -> Result<Request, UsageError> {
    let is_file = |text: &str| endpoint_args::file_path(text).is_some();
    if is_file(&args.shared.source) || is_file(&args.shared.target) {
        return Err(UsageError::new(
            "big-keys goes from server to server; replicate reads and writes RDB files",
        ));
    }
    let mut keys: Vec<Bytes> = args.key.iter().map(|key| key.clone().into()).collect();
    if let Some(path) = &args.key_file {
        keys.extend(key_file(path)?);
    }
    let limit = optional_size("--mem-limit", args.mem_limit.as_deref())?;
    let scope = match (keys.is_empty(), limit) {
        (true, limit) => Scope::Above(limit.unwrap_or(BIG_KEYS_LIMIT)),
        (false, None) => Scope::Named(keys),
        (false, Some(_)) => {
            return Err(UsageError::new(
                "--mem-limit searches for keys, --key and --key-file name them: give one or the other",
            ));
        }
    };
    let options = CopyOptions {
        scope,
        on_conflict: match args.replace {
            true => OnConflict::Replace,
            false => OnConflict::Fail,
        },
        scan_count: number("--scan-count", &args.scan_count, u32::MAX)?,
        method: Method::Scan,
        functions: false,
        ..copying(&args.copying, environment, shared(&args.shared)?)
    };
    request(&args.shared, environment, options, args.copying.dry_run)
}

/// What all commands have in common.
pub(crate) fn shared(args: &SharedArgs) -> Result<CopyOptions, UsageError> {
    let dbs = dbs(&args.db)?;
    let db_map = db_map(&args.db_map, dbs.as_deref())?;
    Ok(CopyOptions {
        key_patterns: globs(&args.key_pattern),
        dbs,
        db_map,
        renames: each("--rename-prefix", &args.rename_prefix, PrefixRename::parse)?,
        chunk_threshold: optional_size("--chunk-threshold", Some(&args.chunk_threshold))?
            .unwrap_or(CHUNK_THRESHOLD),
        chunk_elements: (args.chunk_size.as_ref())
            .map(|text| number("--chunk-size", text, CHUNK_ELEMENTS_MAX))
            .transpose()?,
        memory_bytes: memory(&args.memory)?,
        rate_limit: rate_limit(args.rate_limit.as_deref())?,
        accepted_losses: AcceptedLosses {
            field_ttl: args.accept_loss.contains(&LossArg::FieldTtl),
            eviction: args.accept_loss.contains(&LossArg::Eviction),
            no_room: args.accept_loss.contains(&LossArg::NoRoom),
        },
        retry_for: duration::parse(&args.retry_for)
            .ok_or_else(|| UsageError::new("--retry-for needs a duration like 30s, 2m or 1h"))?,
        ..CopyOptions::default()
    })
}

/// What the commands that go over all keys add.
pub(crate) fn every_key(
    args: &EveryKeyArgs,
    options: CopyOptions,
) -> Result<CopyOptions, UsageError> {
    Ok(CopyOptions {
        key_excludes: globs(&args.key_exclude),
        key_types: key_types(&args.key_type)?,
        scan_count: number("--scan-count", &args.scan_count, u32::MAX)?,
        read_threads: number("--read-threads", &args.read_threads, THREADS_MAX)?,
        threads: number("--threads", &args.threads, THREADS_MAX)?,
        functions: !args.no_functions,
        ..options
    })
}

/// What the commands that copy add.
fn copying(args: &CopyArgs, environment: &Environment, options: CopyOptions) -> CopyOptions {
    CopyOptions {
        verify: match args.verify {
            Some(VerifyArg::None) => Verify::None,
            Some(VerifyArg::Quick) | None => Verify::Quick,
            Some(VerifyArg::Full) => Verify::Full,
        },
        ..resuming(&args.resume, environment, options)
    }
}

/// What the commands add that go on where an earlier run stopped.
pub(crate) fn resuming(
    args: &ResumeArgs,
    environment: &Environment,
    options: CopyOptions,
) -> CopyOptions {
    CopyOptions {
        state_dir: args.state_dir.clone().or_else(|| environment.state_dir()),
        needs_state_dir: args.state_dir.is_some(),
        restart: args.restart,
        ..options
    }
}

/// Both ends beside the options.
pub(crate) fn request(
    args: &SharedArgs,
    environment: &Environment,
    options: CopyOptions,
    is_dry_run: bool,
) -> Result<Request, UsageError> {
    let any_password = environment.any_password.as_deref();
    let source = endpoint_args::resolve_source(
        &args.source,
        &args.source_side.typed(),
        &environment.source_passwords(),
    )?;
    let target = endpoint_args::resolve_target(
        &args.target,
        &args.target_side.typed(),
        &[environment.target_password.as_deref(), any_password],
    )?;
    Ok(Request {
        source: source.place,
        target: target.place,
        options,
        is_dry_run,
        prints_json: false,
        stats: None,
        report: args.report.clone(),
        status_listen: None,
        progress: args.progress,
        is_verbose: args.verbose,
        notes: [source.note, target.note].into_iter().flatten().collect(),
    })
}

/// The keys that a file names: one in a line, as they are; empty lines are passed over.
fn key_file(path: &Path) -> Result<Vec<Bytes>, UsageError> {
    let wrong = |reason: String| {
        UsageError::new(format!(
            "--key-file: cannot read {}: {reason}",
            path.display()
        ))
    };
    let text = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    let lines = text.split(|byte| *byte == b'\n');
    let names = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let names: Vec<Bytes> = names
        .filter(|name| !name.is_empty())
        .map(Bytes::copy_from_slice)
        .collect();
    match names.is_empty() {
        true => Err(wrong("it names no key".into())),
        false => Ok(names),
    }
}

fn each<T, E: std::fmt::Display>(
    option: &str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, UsageError> {
    let parse_one =
        |text: &String| parse(text).map_err(|e| UsageError::new(format!("{option}: {e}")));
    texts.iter().map(parse_one).collect()
}

pub(crate) fn globs(texts: &[String]) -> Vec<Glob> {
    texts
        .iter()
        .map(|text| Glob::new(text.as_bytes()))
        .collect()
}

pub(crate) fn key_types(texts: &[String]) -> Result<Vec<KeyType>, UsageError> {
    each("--key-type", texts, |text| text.trim().parse())
}

/// `--db`; `None`: all, or the one that the source's URI names.
pub(crate) fn dbs(typed: &[String]) -> Result<Option<Vec<u32>>, UsageError> {
    let is_all = matches!(typed, [one] if one.trim().eq_ignore_ascii_case("all"));
    if typed.is_empty() || is_all {
        return Ok(None);
    }
    let number = |text: &String| {
        db_number(text)
            .ok_or_else(|| UsageError::new("--db needs numbers separated by commas, or all"))
    };
    let mut dbs: Vec<u32> = typed.iter().map(number).collect::<Result<_, _>>()?;
    dbs.sort_unstable();
    dbs.dedup();
    Ok(Some(dbs))
}

fn db_map(typed: &[String], dbs: Option<&[u32]>) -> Result<DbMap, UsageError> {
    let wrong = |message: String| Err(UsageError::new(message));
    let mut map = DbMap::default();
    for text in typed {
        let pair = text.split_once(':');
        let pair = pair.and_then(|(from, to)| Some((db_number(from)?, db_number(to)?)));
        let Some((source_db, target_db)) = pair else {
            return wrong("--db-map needs pairs of db numbers like 3:0".into());
        };
        if map
            .insert(source_db, target_db)
            .is_some_and(|before| before != target_db)
        {
            return wrong(format!("--db-map sends db {source_db} to two places"));
        }
        if dbs.is_some_and(|dbs| !dbs.contains(&source_db)) {
            return wrong(format!(
                "--db-map names db {source_db}, which --db leaves out"
            ));
        }
    }
    Ok(map)
}

fn db_number(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|db| is_number && *db <= i32::MAX as u32)
}

pub(crate) fn number(option: &str, text: &str, max: u32) -> Result<u32, UsageError> {
    let number = text
        .trim()
        .parse()
        .ok()
        .filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| UsageError::new(format!("{option} needs a number from 1 to {max}")))
}

pub(crate) fn optional_size(option: &str, text: Option<&str>) -> Result<Option<u64>, UsageError> {
    let Some(text) = text else { return Ok(None) };
    match size::parse(text).filter(|bytes| *bytes > 0) {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(UsageError::new(format!(
            "{option} needs a size above 0, like 512, 64kb or 1.5gb"
        ))),
    }
}

fn memory(text: &str) -> Result<u64, UsageError> {
    size::parse(text)
        .filter(|bytes| *bytes >= MEMORY_BYTES_MIN)
        .ok_or_else(|| {
            let least = size::show(MEMORY_BYTES_MIN);
            UsageError::new(format!(
                "--memory needs a size of at least {least}, like 64mb"
            ))
        })
}

fn rdb_version(text: Option<&str>) -> Result<Option<u16>, UsageError> {
    let Some(text) = text else { return Ok(None) };
    let version = text.trim().parse().ok();
    let version = version.filter(|version| WRITABLE_VERSIONS.contains(version));
    version.map(Some).ok_or_else(|| {
        let versions = WRITABLE_VERSIONS.map(|version| version.to_string());
        UsageError::new(format!(
            "--rdb-version needs one of {}",
            versions.join(", ")
        ))
    })
}

fn rate_limit(text: Option<&str>) -> Result<Option<u64>, UsageError> {
    let per_second = text.map(|text| text.strip_suffix("/s").unwrap_or(text));
    optional_size("--rate-limit", per_second)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use keyhaul_engine::options::LiveOptions;

    use super::*;
    use crate::args::{Args, Command};

    fn request(line: &str) -> Result<Request, UsageError> {
        let words = ["keyhaul", "replicate"]
            .into_iter()
            .chain(line.split_whitespace());
        let args = Args::try_parse_from(words).unwrap_or_else(|e| panic!("{line}: {e}"));
        let Command::Replicate(args) = args.command else {
            panic!("{line}")
        };
        replicate(&args, &Environment::default())
    }

    #[test]
    fn the_defaults_in_the_help_are_those_of_the_engine() {
        let options = request("a b").unwrap().options;
        assert_eq!(
            format!("{options:?}"),
            format!("{:?}", CopyOptions::default())
        );
    }

    #[test]
    fn every_option_arrives() {
        let request = request(
            "a b --key-pattern u:* --key-pattern v:* --key-exclude *:t --key-type hash,ZSET \
             --key-type list --db 3,0,3 --db-map 3:1,0:2 --rename-prefix a::b: --mem-limit 1.5mb \
             --on-conflict FAIL --scan-count 10 --read-threads 2 --threads 3 --memory 8mb \
             --rate-limit 20mb/s --verify none --no-functions --retry-for 1h --dry-run -v \
             --report r.json --progress plain --mode scan --method PSYNC --accept-loss field-ttl \
             --allow-partial --rdb-version 11 --chunk-threshold 1kb --chunk-size 7 \
             --state-dir s --restart",
        )
        .unwrap();
        let options = request.options;
        assert_eq!(options.key_patterns, [Glob::new(b"u:*"), Glob::new(b"v:*")]);
        assert_eq!(options.key_excludes, [Glob::new(b"*:t")]);
        assert_eq!(
            format!("{:?}", options.key_types),
            "[Hash, SortedSet, List]"
        );
        assert_eq!(options.dbs, Some(vec![0, 3]));
        assert_eq!(options.db_map.iter().collect::<Vec<_>>(), [(0, 2), (3, 1)]);
        assert_eq!(options.renames, [PrefixRename::new(b"a:", b"b:")]);
        assert_eq!(options.mem_limit, Some(3 << 19));
        assert_eq!(options.on_conflict, OnConflict::Fail);
        assert_eq!(
            (options.scan_count, options.read_threads, options.threads),
            (10, 2, 3)
        );
        assert_eq!(
            (options.memory_bytes, options.rate_limit),
            (8 << 20, Some(20 << 20))
        );
        assert_eq!((options.verify, options.functions), (Verify::None, false));
        assert_eq!(options.retry_for.as_secs(), 3600);
        assert_eq!(
            (options.method, options.rdb_version),
            (Method::Psync, Some(11))
        );
        assert!(options.accepted_losses.field_ttl && options.allow_partial);
        assert_eq!(
            (options.chunk_threshold, options.chunk_elements),
            (1024, Some(7))
        );
        assert_eq!(options.state_dir, Some("s".into()));
        assert!(options.needs_state_dir && options.restart);
        assert!(request.is_dry_run && request.is_verbose);
        assert_eq!(request.report, Some("r.json".into()));
        assert_eq!(request.progress, ProgressArg::Plain);
    }

    #[test]
    fn how_the_source_is_followed() {
        let live = |line: &str| request(line).unwrap().options.live;
        assert_eq!(live("a b"), None);
        assert_eq!(live("a b --mode live"), Some(LiveOptions::default()));
        let all =
            live("a b --mode LIVEONLY --spool-limit 1gb --prefer-replica --pubsub --until synced");
        let expected = LiveOptions {
            copies_first: false,
            spool_bytes_max: 1 << 30,
            prefers_replica: true,
            forwards_messages: true,
            until_synced: true,
        };
        assert_eq!(all, Some(expected));
        let followed = request("a b --mode live --status-listen 9121").unwrap();
        assert_eq!(followed.options.verify, Verify::None);
        assert_eq!(
            followed.status_listen.map(|address| address.port),
            Some(9121)
        );
    }

    #[test]
    fn dbs() {
        for (line, dbs) in [
            ("a b", None),
            ("a b --db ALL", None),
            ("a b --db 3 --db 1,3", Some(vec![1, 3])),
            // What a URI names is the engine's to judge, which knows the dbs that hold keys.
            ("redis://a/2 redis://b/5", None),
        ] {
            assert_eq!(request(line).unwrap().options.dbs, dbs, "{line}");
        }
        let twice_the_same = request("a b --db-map 1:0,1:0").unwrap().options.db_map;
        assert_eq!(twice_the_same.iter().collect::<Vec<_>>(), [(1, 0)]);
    }
}

//! From what was typed to what the comparison needs.

use std::path::PathBuf;

use keyhaul_engine::compare::options::{CompareOptions, Depth, RECHECKS, RECHECKS_MAX, Repair};

use crate::args::CompareArgs;
use crate::compare::only_keys;
use crate::duration;
use crate::job::{self, Environment, Request};
use crate::usage::UsageError;

/// A comparison as it will be made.
#[derive(Debug)]
pub(crate) struct CompareRequest {
    /// Both ends, the options of a repair, what is shown. A dry run is one of the plan only.
    pub(crate) base: Request,
    pub(crate) options: CompareOptions,
    pub(crate) diff_file: Option<PathBuf>,
}

/// Understands `keyhaul compare`. Reads the file of `--only-keys`.
pub(crate) fn request(
    args: &CompareArgs,
    environment: &Environment,
) -> Result<CompareRequest, UsageError> {
    if args.delete_extra && !args.repair {
        return Err(UsageError::new("--delete-extra needs --repair"));
    }
    if args.diff_file.is_some() && args.diff_file == args.shared.report {
        return Err(UsageError::new(
            "--report and --diff-file name the same file",
        ));
    }
    let copy = job::every_key(&args.every_key, job::shared(&args.shared)?)?;
    let copy = job::resuming(&args.resume, environment, copy);
    let ttl_tolerance_ms = args
        .ttl_tolerance
        .as_deref()
        .map(tolerance_ms)
        .transpose()?;
    let rechecks = match &args.recheck {
        Some(text) => job::number("--recheck", text, RECHECKS_MAX)?,
        None => RECHECKS,
    };
    let repair = args.repair.then_some(Repair {
        deletes_extra: args.delete_extra,
        is_dry_run: args.dry_run,
    });
    let is_plan_only = args.dry_run && !args.repair;
    let base = job::request(&args.shared, environment, copy.clone(), is_plan_only)?;
    let only = args.only_keys.as_deref().map(only_keys::read).transpose()?;
    let options = CompareOptions {
        copy,
        depth: match args.quick {
            true => Depth::Quick,
            false => Depth::Full,
        },
        ttl_tolerance_ms,
        rechecks,
        shows_diffs: args.show_diffs,
        tells_same: args.diff_file.is_some(),
        only,
        repair,
    };
    Ok(CompareRequest {
        base,
        options,
        diff_file: args.diff_file.clone(),
    })
}

/// A bare number is ms, as tools for expiries count; with a unit it is any duration.
fn tolerance_ms(text: &str) -> Result<u64, UsageError> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let ms = match is_number {
        true => text.parse().ok(),
        false => duration::parse(text).and_then(|time| u64::try_from(time.as_millis()).ok()),
    };
    // More would not fit the times of a server, which are signed.
    ms.filter(|ms| *ms <= i64::MAX as u64).ok_or_else(|| {
        UsageError::new("--ttl-tolerance needs a number of ms, or a duration like 500ms or 2s")
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use keyhaul_engine::options::CopyOptions;

    use super::*;
    use crate::args::{Args, Command};

    fn typed(line: &str) -> Result<CompareRequest, UsageError> {
        let words = ["keyhaul", "compare"]
            .into_iter()
            .chain(line.split_whitespace());
        let args = Args::try_parse_from(words).unwrap_or_else(|e| panic!("{line}: {e}"));
        let Command::Compare(args) = args.command else {
            panic!("{line}")
        };
        request(&args, &Environment::default())
    }

    #[test]
    fn the_defaults() {
        let request = typed("a b").unwrap();
        let options = request.options;
        assert_eq!(
            format!("{:?}", options.copy),
            format!("{:?}", CopyOptions::default())
        );
        assert_eq!(
            (options.depth, options.ttl_tolerance_ms, options.rechecks),
            (Depth::Full, None, RECHECKS)
        );
        assert!(!options.shows_diffs && !options.tells_same);
        assert!(options.only.is_none() && options.repair.is_none());
        assert!(request.diff_file.is_none() && !request.base.is_dry_run);
    }

    #[test]
    fn every_option_arrives() {
        let request = typed(
            "a b --quick --ttl-tolerance 2s --recheck 3 --repair --delete-extra --dry-run \
             --show-diffs --diff-file d.txt --key-pattern u:* --key-exclude *:t --key-type hash \
             --db 3 --db-map 3:1 --rename-prefix a::b: --scan-count 10 --read-threads 2 --threads 3 \
             --memory 8mb --rate-limit 20mb/s --chunk-threshold 1kb --chunk-size 7 --retry-for 1h \
             --no-functions --accept-loss field-ttl --progress none --report r.json -v",
        )
        .unwrap();
        let options = request.options;
        assert_eq!(
            (options.depth, options.ttl_tolerance_ms, options.rechecks),
            (Depth::Quick, Some(2000), 3)
        );
        let repair = Repair {
            deletes_extra: true,
            is_dry_run: true,
        };
        assert_eq!(options.repair, Some(repair));
        assert!(options.shows_diffs && options.tells_same && !request.base.is_dry_run);
        assert_eq!(request.diff_file, Some("d.txt".into()));
        let copy = options.copy;
        assert_eq!((copy.key_patterns.len(), copy.key_excludes.len()), (1, 1));
        assert_eq!((copy.dbs, copy.renames.len()), (Some(vec![3]), 1));
        assert_eq!(copy.db_map.iter().collect::<Vec<_>>(), [(3, 1)]);
        assert_eq!(
            (copy.scan_count, copy.read_threads, copy.threads),
            (10, 2, 3)
        );
        assert_eq!(
            (copy.memory_bytes, copy.rate_limit),
            (8 << 20, Some(20 << 20))
        );
        assert_eq!((copy.chunk_threshold, copy.chunk_elements), (1024, Some(7)));
        assert!(!copy.functions && copy.accepted_losses.field_ttl);
        assert_eq!(request.base.report, Some("r.json".into()));
        assert!(request.base.is_verbose);
    }

    #[test]
    fn a_dry_run_without_a_repair_is_of_the_plan() {
        let request = typed("a b --dry-run").unwrap();
        assert!(request.base.is_dry_run && request.options.repair.is_none());
    }

    #[test]
    fn tolerances() {
        for (text, ms) in [
            ("0", Some(0)),
            ("250", Some(250)),
            ("500ms", Some(500)),
            ("2s", Some(2000)),
            ("1m30s", Some(90_000)),
            ("", None),
            ("-1", None),
            ("1.5s", None),
            ("9223372036854775808", None),
        ] {
            assert_eq!(tolerance_ms(text).ok(), ms, "{text}");
        }
    }

    #[test]
    fn what_does_not_fit() {
        for (line, reason) in [
            ("a b --delete-extra", "--delete-extra needs --repair"),
            ("a b --report r --diff-file r", "name the same file"),
            ("a b --recheck 0", "--recheck needs a number from 1 to 20"),
            ("a b --recheck 21", "--recheck needs a number from 1 to 20"),
            (
                "a b --ttl-tolerance x",
                "--ttl-tolerance needs a number of ms",
            ),
            (
                "a b --only-keys /no/such",
                "--only-keys: cannot read /no/such",
            ),
        ] {
            let error = typed(line).unwrap_err().to_string();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}

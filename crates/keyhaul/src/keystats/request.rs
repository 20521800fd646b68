//! From what was typed to what the statistics need.

use std::net::Ipv6Addr;

use keyhaul_client::TlsOptions;
use keyhaul_engine::options::CopyOptions;
use keyhaul_engine::place::Place;
use keyhaul_engine::stats::report::SizeKind;
use keyhaul_engine::stats::{ShardSplit, StatsOptions, Wanted};

use super::report_request::{self, ReportOutput};
use crate::args::{KeystatsArgs, KeystatsCommand, KeystatsSharedArgs, ProgressArg};
use crate::endpoint_args::{self, Resolved, SideTyped};
use crate::job::{self, Environment};
use crate::usage::UsageError;
use crate::{duration, size};

/// Most of `--samples`: that of a server is an `int`.
const SAMPLES_MAX: u32 = 2_147_483_647;

/// Statistics as they will be made.
#[derive(Debug)]
pub(crate) struct KeystatsRequest {
    pub(crate) source: Place,
    pub(crate) options: StatsOptions,
    pub(crate) output: Output,
    pub(crate) progress: ProgressArg,
    pub(crate) is_verbose: bool,
    /// What is worth saying about how the command line was understood.
    pub(crate) notes: Vec<String>,
}

/// What is made of the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    /// Those above a size.
    MemKeys { limit_bytes: u64 },
    /// Sums by shard.
    Slots { split: ShardSplit },
    /// A report.
    Report(Box<ReportOutput>),
}

/// Understands `keyhaul keystats`.
pub(crate) fn request(
    args: &KeystatsArgs,
    environment: &Environment,
) -> Result<KeystatsRequest, UsageError> {
    match &args.command {
        KeystatsCommand::Memkeys(args) => {
            let limit_bytes = size::parse(&args.mem_limit);
            let limit_bytes = limit_bytes.ok_or_else(|| {
                UsageError::new("--mem-limit needs a size like 0, 512, 64kb or 1.5gb")
            })?;
            let output = Output::MemKeys { limit_bytes };
            shared(&args.shared, environment, output)
        }
        KeystatsCommand::Slots(args) => {
            let split = args.shards.trim().parse().ok().and_then(ShardSplit::new);
            let split =
                split.ok_or_else(|| UsageError::new("--shards needs a number from 1 to 16384"))?;
            shared(&args.shared, environment, Output::Slots { split })
        }
        KeystatsCommand::Report(args) => {
            let output = Output::Report(Box::new(report_request::output(args)?));
            let mut request = shared(&args.shared, environment, output)?;
            if let (Output::Report(report), Place::Files(_)) =
                (&mut request.output, &request.source)
            {
                report.options.size_kind = SizeKind::Record;
            }
            Ok(request)
        }
    }
}

fn shared(
    args: &KeystatsSharedArgs,
    environment: &Environment,
    output: Output,
) -> Result<KeystatsRequest, UsageError> {
    let Resolved { mut place, note } = endpoint_args::resolve_source(
        &source_text(args)?,
        &typed(args),
        &environment.source_passwords(),
    )?;
    if args.tls {
        switch_tls_on(&mut place)?;
    }
    let copy = CopyOptions {
        key_patterns: job::globs(&args.key_pattern),
        key_excludes: job::globs(&args.key_exclude),
        key_types: job::key_types(&args.key_type)?,
        dbs: job::dbs(&args.db)?,
        scan_count: job::number("--scan-count", &args.scan_count, u32::MAX)?,
        retry_for: duration::parse(&args.retry_for)
            .ok_or_else(|| UsageError::new("--retry-for needs a duration like 30s, 2m or 1h"))?,
        allow_partial: args.allow_partial,
        ..CopyOptions::default()
    };
    let copy = job::resuming(&args.resume, environment, copy);
    refuse_what_does_not_fit(args, &place)?;
    Ok(KeystatsRequest {
        source: place,
        options: StatsOptions {
            copy,
            wanted: match &output {
                Output::Report(_) => Wanted::Everything,
                Output::MemKeys { .. } | Output::Slots { .. } => Wanted::Sizes,
            },
            samples: args.samples.as_deref().map(samples).transpose()?,
            prefers_replica: args.prefer_replica,
            output: match &output {
                Output::MemKeys { limit_bytes } => format!("keystats memkeys {limit_bytes}"),
                // Sums are kept by slot: the shards make no difference.
                Output::Slots { .. } => "keystats slots".into(),
                Output::Report(report) => report.identity(),
            },
        },
        output,
        progress: args.progress,
        is_verbose: args.verbose,
        notes: note.into_iter().collect(),
    })
}

/// The one name of the source, in whatever way it was given.
fn source_text(args: &KeystatsSharedArgs) -> Result<String, UsageError> {
    let has_host = args.host.is_some() || args.port.is_some();
    match (&args.source, &args.uri, has_host) {
        (Some(text), None, false) | (None, Some(text), false) => Ok(text.clone()),
        (None, None, _) => {
            let host = args.host.as_deref().unwrap_or("127.0.0.1");
            let port = args.port.as_deref().unwrap_or("6379");
            let address = host
                .split_once('%')
                .map_or(host, |(address, _zone)| address);
            let is_in_brackets = host.starts_with('[') && host.ends_with(']');
            if address.parse::<Ipv6Addr>().is_ok() {
                Ok(format!("[{host}]:{port}"))
            } else if host.contains(':') && !is_in_brackets {
                Err(UsageError::new(
                    "--host takes a host alone: name the port with --port, or both as SOURCE",
                ))
            } else {
                Ok(format!("{host}:{port}"))
            }
        }
        _ => Err(UsageError::new(
            "the source is named more than once: use SOURCE, or --uri, or --host and --port",
        )),
    }
}

fn typed(args: &KeystatsSharedArgs) -> SideTyped<'_> {
    SideTyped {
        side: "source",
        user: args.user.as_deref(),
        password: args.password.as_deref(),
        tls: TlsOptions {
            insecure: args.insecure,
            ca_file: args.cacert.clone(),
            cert_file: args.cert.clone(),
            key_file: args.key.clone(),
        },
    }
}

fn switch_tls_on(place: &mut Place) -> Result<(), UsageError> {
    match place {
        Place::Files(_) => Err(UsageError::new("--tls does not fit a file")),
        Place::Servers(endpoint) if endpoint_args::is_unix_socket(endpoint) => Err(
            UsageError::new("--tls does not fit a Unix socket, which has no TLS"),
        ),
        Place::Servers(endpoint) => {
            endpoint.tls.get_or_insert_default();
            Ok(())
        }
    }
}

fn refuse_what_does_not_fit(args: &KeystatsSharedArgs, place: &Place) -> Result<(), UsageError> {
    let (option, needs) = match place {
        Place::Files(_) if args.samples.is_some() => ("--samples", "a server"),
        Place::Files(_) if args.prefer_replica => ("--prefer-replica", "a server"),
        Place::Servers(_) if args.allow_partial => ("--allow-partial", "a file"),
        _ => return Ok(()),
    };
    Err(UsageError::new(format!(
        "{option} needs {needs} as the source"
    )))
}

fn samples(text: &str) -> Result<u32, UsageError> {
    let number = text.trim().parse().ok();
    number
        .filter(|number| *number <= SAMPLES_MAX)
        .ok_or_else(|| {
            UsageError::new(format!(
                "--samples needs a number from 0, which is all elements, to {SAMPLES_MAX}"
            ))
        })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use keyhaul_engine::stats::report::ReportOptions;

    use super::*;
    use crate::args::{Args, Command};

    fn typed_line(line: &str) -> Result<KeystatsRequest, UsageError> {
        let words = ["keyhaul", "keystats"]
            .into_iter()
            .chain(line.split_whitespace());
        let args = Args::try_parse_from(words).unwrap_or_else(|e| panic!("{line}: {e}"));
        let Command::Keystats(args) = args.command else {
            panic!("{line}")
        };
        request(&args, &Environment::default())
    }

    #[test]
    fn the_defaults() {
        let request = typed_line("memkeys").unwrap();
        assert_eq!(request.source.to_string(), "redis://127.0.0.1:6379");
        let limit_bytes = 100 << 20;
        assert_eq!(request.output, Output::MemKeys { limit_bytes });
        assert_eq!(
            format!("{:?}", request.options.copy),
            format!("{:?}", CopyOptions::default())
        );
        let options = request.options;
        assert_eq!((options.samples, options.prefers_replica), (None, false));
        let split = ShardSplit::new(100).unwrap();
        assert_eq!(typed_line("slots").unwrap().output, Output::Slots { split });
    }

    #[test]
    fn a_report() {
        let report = |line| match typed_line(line).unwrap() {
            KeystatsRequest {
                output: Output::Report(report),
                options,
                ..
            } => (*report, options),
            other => panic!("{line}: {other:?}"),
        };
        let (of_defaults, options) = report("report");
        assert_eq!(options.wanted, Wanted::Everything);
        let now_ms = of_defaults.options.now_ms;
        let defaults = ReportOptions::new(SizeKind::Memory, now_ms);
        assert!(now_ms > 1_700_000_000_000);
        assert_eq!(of_defaults.options, defaults);
        assert!(!of_defaults.is_json && of_defaults.html.is_none() && of_defaults.csv.is_none());
        let (of_all, options) = report(
            "report d.rdb --json --separator / --prefix-depth 2 --prefix-width 3 --top 4 \
             --shards 5 --chunk-threshold 6kb",
        );
        let expected = ReportOptions {
            separator: "/".into(),
            prefix_depth: 2,
            prefix_width: 3,
            top: 4,
            shards: 5,
            chunk_threshold: 6 << 10,
            ..ReportOptions::new(SizeKind::Record, of_all.options.now_ms)
        };
        assert_eq!(of_all.options, expected);
        assert!(of_all.is_json);
        // The moment is another each time, and makes no other report of it.
        assert!(!options.output.contains(&of_all.options.now_ms.to_string()));
    }

    #[test]
    fn ways_to_name_the_source() {
        for (line, shown) in [
            ("memkeys -h db1 -p 7000", "redis://db1:7000"),
            ("memkeys -h ::1", "redis://[::1]:6379"),
            ("memkeys -h [::1]", "redis://[::1]:6379"),
            ("memkeys -p 7000", "redis://127.0.0.1:7000"),
            ("slots --host db1 --tls", "rediss://db1:6379"),
            ("slots -u redis://:pw@h:1/3", "redis://h:1/3"),
            ("slots --uri redis://h --tls", "rediss://h:6379"),
            ("slots h:2", "redis://h:2"),
            ("slots dump.rdb", "file:dump.rdb"),
            ("slots -u file:d", "file:d"),
            ("slots h --source-cacert ca.pem", "rediss://h:6379"),
        ] {
            assert_eq!(
                typed_line(line).unwrap().source.to_string(),
                shown,
                "{line}"
            );
        }
    }

    #[test]
    fn every_option_arrives() {
        let request = typed_line(
            "memkeys h -a pw --user u --insecure --mem-limit 0 --key-pattern a* --key-exclude b* \
             --key-type hash,list --db 1,2 --scan-count 7 --samples 0 --prefer-replica \
             --retry-for 1s --state-dir /d --restart --progress none -v",
        )
        .unwrap();
        let endpoint = request.source.endpoint().unwrap();
        assert_eq!(endpoint.user.as_deref(), Some("u"));
        assert!(endpoint.password.is_some());
        assert!(endpoint.tls.as_ref().is_some_and(|tls| tls.insecure));
        assert_eq!(request.output, Output::MemKeys { limit_bytes: 0 });
        let options = request.options;
        assert_eq!((options.samples, options.prefers_replica), (Some(0), true));
        let copy = options.copy;
        assert_eq!((copy.key_patterns.len(), copy.key_excludes.len()), (1, 1));
        assert_eq!((copy.key_types.len(), copy.dbs), (2, Some(vec![1, 2])));
        assert_eq!((copy.scan_count, copy.retry_for.as_secs()), (7, 1));
        assert_eq!(copy.state_dir, Some("/d".into()));
        assert!(copy.needs_state_dir && copy.restart && request.is_verbose);
    }

    #[test]
    fn what_does_not_fit() {
        for (line, reason) in [
            ("memkeys h -u i", "named more than once"),
            ("memkeys h -p 1", "named more than once"),
            ("memkeys -u i -h j", "named more than once"),
            ("memkeys --mem-limit x", "--mem-limit needs a size"),
            (
                "slots --shards 0",
                "--shards needs a number from 1 to 16384",
            ),
            ("slots --shards 16385", "--shards needs a number"),
            ("slots --samples x", "--samples needs a number"),
            ("slots --samples 2147483648", "to 2147483647"),
            ("slots -h host:6379", "--host takes a host alone"),
            ("slots -h [::1]:6379", "--host takes a host alone"),
            ("slots d.rdb --samples 1", "--samples needs a server"),
            (
                "slots d.rdb --prefer-replica",
                "--prefer-replica needs a server",
            ),
            ("slots d.rdb --tls", "--tls does not fit a file"),
            ("slots unix:///s --tls", "--tls does not fit a Unix socket"),
            ("slots d.rdb -a pw", "does not fit a file"),
            ("slots h --allow-partial", "--allow-partial needs a file"),
            ("slots h --cert c", "--source-key"),
            ("slots -p x", "1 to 65535"),
            ("report --shards 0", "--shards needs a number"),
            ("report --top 1001", "--top needs a number from 1 to 1000"),
            (
                "report --prefix-depth 17",
                "--prefix-depth needs a number from 1 to 16",
            ),
            ("report --prefix-width 0", "--prefix-width needs a number"),
            (
                "report --chunk-threshold x",
                "--chunk-threshold needs a size",
            ),
            (
                "report --html /no/such/folder/r.html",
                "--html: cannot write",
            ),
            ("report --csv /dev/null/x", "--csv: cannot make"),
            ("report --csv /dev/null", "--csv: cannot make"),
            ("report --html same --csv same", "name the same place"),
            ("report --csv new --html new/a.html", "no such folder"),
        ] {
            let error = typed_line(line).unwrap_err().to_string();
            assert!(error.contains(reason), "{line}: {error}");
            assert!(!error.contains("pw"), "{line}: {error}");
        }
        // Nothing was made.
        for name in ["same", "new"] {
            assert!(!std::path::Path::new(name).exists());
        }
    }
}

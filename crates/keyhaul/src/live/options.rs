//! From `--mode` and the options that go with it to what the engine follows by.

use keyhaul_engine::options::{LiveOptions, SPOOL_BYTES_MAX, SPOOL_BYTES_MAX_MIN};

use crate::args::{
    LiveArgs, MethodArg, ModeArg, OnConflictArg, ReplicateArgs, UntilArg, VerifyArg,
};
use crate::usage::UsageError;
use crate::{endpoint_args, job, size};

/// How the source is followed; `None`: it is copied once.
pub(crate) fn understand(args: &ReplicateArgs) -> Result<Option<LiveOptions>, UsageError> {
    let copies_first = match args.mode {
        ModeArg::Scan => return refuse_without_live(&args.live).map(|()| None),
        ModeArg::Live => true,
        ModeArg::Liveonly => false,
    };
    refuse_with_live(args)?;
    Ok(Some(LiveOptions {
        copies_first,
        spool_bytes_max: spool_limit(args.live.spool_limit.as_deref())?,
        prefers_replica: args.live.prefer_replica,
        forwards_messages: args.live.pubsub,
        until_synced: args.live.until == Some(UntilArg::Synced),
    }))
}

/// What would have no effect is a mistake.
fn refuse_without_live(live: &LiveArgs) -> Result<(), UsageError> {
    let given = [
        ("--spool-limit", live.spool_limit.is_some()),
        ("--prefer-replica", live.prefer_replica),
        ("--pubsub", live.pubsub),
        ("--until", live.until.is_some()),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => Err(UsageError::new(format!(
            "{option} is for following the source: add --mode live"
        ))),
        None => Ok(()),
    }
}

fn refuse_with_live(args: &ReplicateArgs) -> Result<(), UsageError> {
    let mode = match args.mode {
        ModeArg::Liveonly => "--mode liveonly",
        ModeArg::Scan | ModeArg::Live => "--mode live",
    };
    let wrong = |reason: &str| Err(UsageError::new(format!("{mode} {reason}")));
    let is_file = |text: &str| endpoint_args::file_path(text).is_some();
    if is_file(&args.shared.source) {
        return wrong("needs a server as the source: a file does not change; leave --mode out");
    }
    if is_file(&args.shared.target) {
        return wrong("needs a server as the target: a file cannot follow; leave --mode out");
    }
    if !matches!(args.copying.verify, None | Some(VerifyArg::None)) {
        return wrong(
            "does not take --verify quick or full: give keyhaul compare while it runs, or after it",
        );
    }
    if args.on_conflict != OnConflictArg::Replace {
        return wrong(
            "takes only --on-conflict replace: following writes on the target what the source writes",
        );
    }
    if args.live.pubsub && args.method == MethodArg::Scan {
        return wrong(
            "takes messages for --pubsub from the replication stream: leave --method scan out",
        );
    }
    Ok(())
}

fn spool_limit(text: Option<&str>) -> Result<u64, UsageError> {
    let bytes = job::optional_size("--spool-limit", text)?.unwrap_or(SPOOL_BYTES_MAX);
    if bytes >= SPOOL_BYTES_MAX_MIN {
        return Ok(bytes);
    }
    let least = size::show(SPOOL_BYTES_MAX_MIN);
    Err(UsageError::new(format!(
        "--spool-limit needs a size of at least {least}, like 16gb"
    )))
}

//! The options of `keyhaul replicate --mode live`, and the page that shows a running job.

use super::UntilArg;
use super::{HOW, OUTPUT};

/// What only a job that follows the source takes.
#[derive(clap::Args)]
pub(crate) struct LiveArgs {
    /// In live mode: most bytes on the disk that are received and not applied yet, at least 64mb [default: 16gb]
    ///
    /// They lie compressed in --state-dir and go as they are applied. When it is full, the source is read no faster than
    /// the target takes; a source that has to wait too long drops the link, and all keys are copied again.
    #[arg(long, value_name = "SIZE", help_heading = HOW)]
    pub(crate) spool_limit: Option<String>,

    /// In live mode: read from a replica of each source node that has one, so that no primary forks for it
    #[arg(long, help_heading = HOW)]
    pub(crate) prefer_replica: bool,

    /// In live mode: publish on the target what is published on the source [default: messages are dropped]
    #[arg(long, help_heading = HOW)]
    pub(crate) pubsub: bool,

    /// In live mode: end with exit code 0 as soon as this is reached [default: go on until told to stop]
    #[arg(long, value_enum, ignore_case = true, value_name = "STATE", help_heading = HOW)]
    pub(crate) until: Option<UntilArg>,
}

/// How others can look at a running job.
#[derive(clap::Args)]
pub(crate) struct StatusArgs {
    /// Serve the state of the job by HTTP at host:port, :port or port, the latter two on 127.0.0.1 only
    ///
    /// GET / is a page, /status JSON, /metrics for Prometheus, /healthz says that the job runs. There is no login:
    /// keep it to hosts that you trust. It holds no key, no value and no password.
    #[arg(long, value_name = "ADDR", help_heading = OUTPUT)]
    pub(crate) status_listen: Option<String>,
}

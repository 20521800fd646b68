//! The one table of exit codes, and which of them an outcome or an error is.

use std::io;

use keyhaul_engine::compare::options::CompareReceipt;
use keyhaul_engine::receipt::{Outcome, Receipt};
use keyhaul_engine::stats::StatsReceipt;

use crate::usage::UsageError;

/// How keyhaul ends. Scripts rely on the numbers: they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All of it was done; both ends are equal.
    Done,
    /// There are differences that nothing explains.
    Different,
    /// The command line is wrong.
    Usage,
    /// Nothing was written: an end cannot be used, or the plan says that it would fail.
    Refused,
    /// It came to its end, but some keys were not moved.
    NotAllMoved,
    /// It stopped before its end.
    Stopped,
}

impl Exit {
    const ALL: [Self; 6] = [
        Self::Done,
        Self::Different,
        Self::Usage,
        Self::Refused,
        Self::NotAllMoved,
        Self::Stopped,
    ];

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Different => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::NotAllMoved => 4,
            Self::Stopped => 5,
        }
    }

    /// What the code means, as help, manual and receipt say it.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Done => {
                "all of it was done, and verified unless --verify none; live: synced; compare: both are equal"
            }
            Self::Different => {
                "differences that nothing explains; compare: any, or keys of which it is not known"
            }
            Self::Usage => "wrong usage; nothing was done",
            Self::Refused => {
                "refused before anything was written: no connection, no right, bad plan"
            }
            Self::NotAllMoved => {
                "finished, but some keys were not moved, or not read or counted twice by keystats"
            }
            Self::Stopped => {
                "stopped before the end, or live while it lags; the same command can be given again"
            }
        }
    }

    /// The table at the end of the help.
    pub(crate) fn table() -> String {
        let mut text = String::from("Exit codes:\n");
        for exit in Self::ALL {
            text.push_str(&format!("  {}  {}\n", exit.code(), exit.meaning()));
        }
        text
    }

    /// The exit of a job that ran. Differences that nothing explains outweigh keys that were not
    /// moved: the latter are listed, the former nobody knows of.
    pub(crate) fn of_receipt(receipt: &Receipt) -> Self {
        let unexplained = receipt
            .verify
            .as_ref()
            .map_or(0, |verify| verify.unexplained());
        match receipt.outcome {
            Outcome::Stopped(_) => Self::Stopped,
            Outcome::Different => Self::Different,
            Outcome::NotAllMoved if unexplained > 0 => Self::Different,
            Outcome::NotAllMoved => Self::NotAllMoved,
            Outcome::Done => Self::Done,
        }
    }

    /// The exit of a comparison that ran, by what is left after a repair.
    pub(crate) fn of_comparison(receipt: &CompareReceipt) -> Self {
        match receipt.outcome {
            Outcome::Stopped(_) => Self::Stopped,
            Outcome::Done if receipt.counts.is_equal() => Self::Done,
            Outcome::Done | Outcome::Different | Outcome::NotAllMoved => Self::Different,
        }
    }

    /// The exit of statistics that were made. Keys that could not be read are listed; that some count twice is said.
    pub(crate) fn of_statistics(receipt: &StatsReceipt) -> Self {
        match receipt.outcome {
            Outcome::Stopped(_) => Self::Stopped,
            Outcome::Done if receipt.unread.count == 0 && !receipt.counts_twice => Self::Done,
            Outcome::Done | Outcome::Different | Outcome::NotAllMoved => Self::NotAllMoved,
        }
    }

    /// The exit of a command that failed.
    pub(crate) fn of_error(error: &anyhow::Error) -> Self {
        if error.is::<UsageError>() {
            Self::Usage
        } else if error.is::<keyhaul_engine::plan::PlanError>() {
            Self::Refused
        } else if is_broken_pipe(error) {
            Self::Done // `keyhaul man | head`: the reader has seen enough
        } else {
            Self::Stopped
        }
    }

    /// The exit when what is known could not be written down: never success.
    pub(crate) fn with_lost_output(self) -> Self {
        match self {
            Self::Done | Self::NotAllMoved => Self::Stopped,
            other => other,
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_rows_of_the_table() {
        let table = Exit::table();
        for (row, exit) in Exit::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(exit.code()), row);
            assert!(table.contains(exit.meaning()), "{table}");
        }
    }

    #[test]
    fn errors() {
        let pipe = io::Error::from(io::ErrorKind::BrokenPipe);
        let refused = keyhaul_engine::plan::PlanError::Refused("no".into());
        let rows = [
            (UsageError::new("x").into(), Exit::Usage),
            (anyhow::Error::from(refused), Exit::Refused),
            (
                anyhow::Error::from(pipe).context("cannot write"),
                Exit::Done,
            ),
            (anyhow::anyhow!("anything else"), Exit::Stopped),
        ];
        for (error, exit) in rows {
            assert_eq!(Exit::of_error(&error), exit, "{error}");
        }
    }

    #[test]
    fn lost_output_is_never_success() {
        for exit in Exit::ALL {
            assert_ne!(exit.with_lost_output(), Exit::Done);
        }
        assert_eq!(Exit::Different.with_lost_output(), Exit::Different);
    }
}

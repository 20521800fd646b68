//! Which commands a copy needs or is better off with, and what each that is missing costs.

use keyhaul_client::Tried;

use crate::options::{CopyOptions, Method, OnConflict, Verify};

/// What a command is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The copy, or its verification: without it the job is refused.
    Copy,
    /// It can be done without; what that costs is said.
    Comfort,
    /// Keys that go over element by element.
    BigKeys,
    /// A snapshot by PSYNC, where nobody asked for one.
    Snapshot,
}

/// A command, what it is for, and what its lack costs.
pub(super) type Row = (&'static str, Need, &'static str);

pub(super) const REFUSED: &str = "the job is refused";
const LISTED: &str = "keys that need it are listed as not moved";

/// What reads and verifies; `dump` and `scan` of a source only.
const SOURCE_READS: &[Row] = &[("scan", Need::Copy, REFUSED), ("dump", Need::Copy, REFUSED)];
const EXPIRIES: &[Row] = &[
    (
        "pexpiretime",
        Need::Comfort,
        "expiries are worked out from PTTL and TIME",
    ),
    ("pttl", Need::Copy, REFUSED),
];
const COMFORT: &[Row] = &[
    ("info", Need::Comfort, "memory and limits are unknown"),
    (
        "config|get",
        Need::Comfort,
        "the server's default limits are assumed",
    ),
    (
        "module|list",
        Need::Comfort,
        "which modules are loaded is unknown",
    ),
    (
        "client|setname",
        Need::Comfort,
        "CLIENT LIST shows our connections without a name",
    ),
];
const OF_CLUSTER: &[Row] = &[
    ("cluster|slots", Need::Copy, REFUSED),
    (
        "cluster|nodes",
        Need::Comfort,
        "slots are only seen to move when they have moved",
    ),
    (
        "asking",
        Need::Comfort,
        "keys of slots on the move are listed as not moved",
    ),
];

/// docs/guide/permissions.md says the same; a test holds them against one another.
const BIG_SOURCE: &[&str] = &[
    "watch",
    "unwatch",
    "multi",
    "exec",
    "time",
    "strlen",
    "llen",
    "scard",
    "zcard",
    "hlen",
    "xlen",
    "getrange",
    "lrange",
    "sscan",
    "zrange",
    "hscan",
    "hpexpiretime",
    "xrange",
    "xpending",
    "xinfo",
    "client|tracking",
];
const BIG_TARGET: &[&str] = &[
    "watch",
    "unwatch",
    "multi",
    "exec",
    "time",
    "set",
    "exists",
    "getrange",
    "unlink",
    "rename",
    "renamenx",
    "persist",
    "pexpire",
    "pexpireat",
    "strlen",
    "llen",
    "scard",
    "zcard",
    "hlen",
    "xlen",
    "setrange",
    "rpush",
    "ltrim",
    "sadd",
    "zadd",
    "hset",
    "hdel",
    "hpexpireat",
    "xadd",
    "xdel",
    "xtrim",
    "xsetid",
    "xgroup",
    "xclaim",
    "xrange",
    "xrevrange",
    "xpending",
];

/// What is asked of the job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub options: &'a CopyOptions,
    /// Two keys may become one.
    pub may_collide: bool,
    /// Into a file a snapshot is taken where that is permitted.
    pub into_file: bool,
}

impl Wanted<'_> {
    fn verifies(&self) -> bool {
        self.options.verify != Verify::None && !self.into_file
    }

    /// Whether keys are not read one by one.
    pub(super) fn reads_snapshot(&self, psync: &Tried) -> bool {
        match self.options.method {
            Method::Psync => true,
            Method::Auto => self.into_file && matches!(psync, Tried::Permitted | Tried::Unknown),
            Method::Scan => false,
        }
    }

    /// What a source must or may give.
    pub(super) fn of_source(&self, is_cluster: bool, by_snapshot: bool) -> Vec<Row> {
        let mut rows = Vec::new();
        if !by_snapshot || self.verifies() {
            rows.extend_from_slice(SOURCE_READS);
            rows.extend_from_slice(EXPIRIES);
            if !is_cluster {
                rows.push(("select", Need::Comfort, "only db 0 can be read"));
            }
            rows.push(match self.options.mem_limit {
                Some(_) => ("memory|usage", Need::Copy, REFUSED),
                None => (
                    "memory|usage",
                    Need::Comfort,
                    "large keys are found only when read, for which the source stands still",
                ),
            });
        }
        if self.verifies() {
            rows.push(("type", Need::Copy, "only --verify none is possible"));
        }
        if self.may_collide && !by_snapshot {
            rows.push(("exists", Need::Copy, REFUSED));
        }
        rows.extend_from_slice(COMFORT);
        rows.push((
            "time",
            Need::Comfort,
            "the difference of the clocks is unknown",
        ));
        if self.options.functions {
            rows.push((
                "function|list",
                Need::Comfort,
                "function libraries are not copied",
            ));
        }
        if is_cluster {
            rows.extend_from_slice(OF_CLUSTER);
        }
        if !by_snapshot && !self.into_file {
            rows.extend(BIG_SOURCE.iter().map(|name| (*name, Need::BigKeys, LISTED)));
        }
        rows
    }

    /// What a target must or may give.
    pub(super) fn of_target(&self, is_cluster: bool) -> Vec<Row> {
        let options = self.options;
        let mut rows: Vec<Row> = vec![("restore", Need::Copy, REFUSED)];
        if !is_cluster {
            rows.push(("select", Need::Comfort, "only db 0 can be written"));
        }
        if self.verifies() {
            rows.push(("type", Need::Copy, "only --verify none is possible"));
            rows.extend_from_slice(EXPIRIES);
        }
        if options.on_conflict == OnConflict::Fail {
            let without = "a key that is there is listed as a conflict, also where it is the same";
            rows.push(("dump", Need::Comfort, without));
        }
        rows.extend_from_slice(COMFORT);
        rows.push((
            "time",
            Need::Comfort,
            "the difference of the clocks is unknown",
        ));
        if options.functions {
            let without = "function libraries are not copied";
            rows.push(("function|load", Need::Comfort, without));
            rows.push(("function|list", Need::Comfort, without));
        }
        if is_cluster {
            rows.extend_from_slice(OF_CLUSTER);
        }
        rows.extend(BIG_TARGET.iter().map(|name| (*name, Need::BigKeys, LISTED)));
        rows
    }
}

#[cfg(test)]
mod tests {
    use keyhaul_client::{FAILING_WRITES, READS, WRITES};

    use super::*;

    #[test]
    fn all_that_is_asked_for_can_be_tried_and_is_documented() {
        let page = include_str!("../../../../docs/guide/permissions.md");
        let tables = [SOURCE_READS, EXPIRIES, COMFORT, OF_CLUSTER];
        let names = tables.into_iter().flatten().map(|(name, ..)| *name);
        for name in names.chain(BIG_SOURCE.iter().chain(BIG_TARGET).copied()) {
            let mut known = [READS, FAILING_WRITES, WRITES].into_iter().flatten();
            assert!(known.any(|(known, _)| *known == name), "{name}");
            assert!(page.contains(&format!("+{name}")), "{name}");
        }
    }
}

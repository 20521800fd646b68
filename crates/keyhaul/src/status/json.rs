//! `GET /status`: the job in JSON. docs/guide/monitoring.md describes it; adding a field? also describe it there.

use serde::Serialize;

use super::observed::Moment;
use crate::live::json::LiveJson;
use crate::progress::keys_settled;

#[derive(Serialize)]
struct Status<'a> {
    keyhaul: &'static str,
    state: &'static str,
    waiting: Option<&'a str>,
    source: &'a str,
    target: &'a str,
    uptime_seconds: f64,
    counts: Counts,
    rate: Rate,
    live: Option<LiveJson>,
}

#[derive(Serialize)]
struct Counts {
    /// 0: not known.
    expected: u64,
    found: u64,
    done: u64,
    copied: u64,
    chunked: u64,
    skipped: u64,
    gone: u64,
    not_moved: u64,
    verified: u64,
    bytes: u64,
    rdb_bytes_expected: u64,
    rdb_bytes_read: u64,
    retries: u64,
}

/// Per second, over the last ten.
#[derive(Serialize)]
struct Rate {
    keys: Option<f64>,
    bytes: Option<f64>,
    commands: Option<f64>,
}

/// The whole answer.
///
/// # Errors
/// None that a job can cause; those of the serialiser.
pub(super) fn text(now: &Moment<'_>) -> serde_json::Result<Vec<u8>> {
    let counts = &now.counts;
    serde_json::to_vec(&Status {
        keyhaul: env!("CARGO_PKG_VERSION"),
        state: now.state(),
        waiting: now.waiting(),
        source: &now.ends.source,
        target: &now.ends.target,
        uptime_seconds: now.uptime.as_secs_f64(),
        counts: Counts {
            expected: counts.keys_expected,
            found: counts.keys_found,
            done: keys_settled(counts),
            copied: counts.keys_copied,
            chunked: counts.keys_chunked,
            skipped: counts.keys_skipped,
            gone: counts.keys_gone,
            not_moved: counts.keys_not_moved,
            verified: counts.keys_verified,
            bytes: counts.bytes_copied,
            rdb_bytes_expected: counts.bytes_expected,
            rdb_bytes_read: counts.bytes_read,
            retries: counts.retries,
        },
        rate: Rate {
            keys: now.keys_and_bytes.map(|(keys, _)| keys),
            bytes: now.keys_and_bytes.map(|(_, bytes)| bytes),
            commands: now.live.as_ref().and(now.commands),
        },
        live: now.live.as_ref().map(LiveJson::of),
    })
}

#[cfg(test)]
mod tests {
    use super::super::observed::tests::{ends, moment};
    use super::*;

    #[test]
    fn a_job_that_follows() {
        let ends = ends();
        let json: serde_json::Value =
            serde_json::from_slice(&text(&moment(&ends)).unwrap()).unwrap();
        for (pointer, expected) in [
            ("/state", serde_json::json!("catching_up")),
            ("/waiting", "target c:1 is full".into()),
            ("/source", "redis://a:1".into()),
            ("/uptime_seconds", 1.5.into()),
            ("/counts/done", 96.into()),
            ("/counts/bytes", 4096.into()),
            ("/rate/keys", 10.0.into()),
            ("/rate/commands", 7.5.into()),
            ("/live/shards/0/lag_bytes", 1000.into()),
        ] {
            assert_eq!(json.pointer(pointer), Some(&expected), "{pointer}");
        }
    }
}

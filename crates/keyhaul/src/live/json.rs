//! The state of a live job in JSON: the same object in the report and at `/status`. docs/guide/report.md describes
//! it.

use keyhaul_engine::follow::{ShardSnapshot, StatusSnapshot};
use serde::Serialize;

use super::{applied_offset, has_offsets, lag_bytes, shard_lag_bytes};

/// A live job. What is not known is null.
#[derive(Debug, Serialize)]
pub(crate) struct LiveJson {
    state: &'static str,
    lag_bytes: Option<u64>,
    lag_ms: Option<u64>,
    shards: Vec<ShardJson>,
}

#[derive(Debug, Serialize)]
struct ShardJson {
    node: String,
    state: &'static str,
    replid: Option<String>,
    source_offset: Option<u64>,
    received_offset: Option<u64>,
    applied_offset: Option<u64>,
    lag_bytes: Option<u64>,
    lag_ms: Option<u64>,
    commands: u64,
    keys_open: u64,
    keys_reread: u64,
    full_resyncs: u64,
    partial_resyncs: u64,
    spool_bytes: u64,
    spool_disk_bytes: u64,
    waiting: Option<String>,
}

impl LiveJson {
    pub(crate) fn of(live: &StatusSnapshot) -> Self {
        Self {
            state: live.state.name(),
            lag_bytes: lag_bytes(live),
            lag_ms: live.lag_ms(),
            shards: live.shards.iter().map(ShardJson::of).collect(),
        }
    }
}

impl ShardJson {
    fn of(shard: &ShardSnapshot) -> Self {
        let offset = |bytes: u64| has_offsets(shard).then_some(bytes);
        Self {
            node: shard.node.clone(),
            state: shard.state.name(),
            replid: has_offsets(shard).then(|| shard.replid.clone()),
            source_offset: offset(shard.source_offset),
            received_offset: offset(shard.received_offset),
            applied_offset: applied_offset(shard),
            lag_bytes: shard_lag_bytes(shard),
            lag_ms: shard.lag_ms,
            commands: shard.commands,
            keys_open: shard.keys_open,
            keys_reread: shard.keys_reread,
            full_resyncs: shard.full_resyncs,
            partial_resyncs: shard.partial_resyncs,
            spool_bytes: shard.spool_bytes,
            spool_disk_bytes: shard.spool_disk_bytes,
            waiting: shard.waiting.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::snapshot;
    use super::*;

    #[test]
    fn what_is_not_known_is_null() {
        let expected = json!({
            "state": "catching_up", "lag_bytes": null, "lag_ms": null,
            "shards": [
                {
                    "node": "a:1", "state": "following", "replid": "0123",
                    "source_offset": 5000, "received_offset": 4900, "applied_offset": 4000,
                    "lag_bytes": 1000, "lag_ms": 12, "commands": 70,
                    "keys_open": 2, "keys_reread": 3, "full_resyncs": 1, "partial_resyncs": 4,
                    "spool_bytes": 900, "spool_disk_bytes": 0, "waiting": null,
                },
                {
                    "node": "b:1", "state": "catching_up", "replid": null,
                    "source_offset": null, "received_offset": null, "applied_offset": null,
                    "lag_bytes": null, "lag_ms": null, "commands": 5,
                    "keys_open": 0, "keys_reread": 0, "full_resyncs": 0, "partial_resyncs": 0,
                    "spool_bytes": 0, "spool_disk_bytes": 0, "waiting": "target c:1 is full",
                },
            ],
        });
        let got = serde_json::to_value(LiveJson::of(&snapshot())).unwrap();
        assert_eq!(got, expected);
    }
}

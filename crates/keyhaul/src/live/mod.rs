//! A job that follows its source: what is typed for it, and how its state is told.

pub(crate) mod json;
pub(crate) mod options;
pub(crate) mod text;

use keyhaul_engine::follow::{ShardSnapshot, StatusSnapshot};

/// The offsets of a shard mean something only when they are of a history.
fn has_offsets(shard: &ShardSnapshot) -> bool {
    !shard.replid.is_empty()
}

/// How far the target is behind, bytes; `None`: not known of a shard, as always without PSYNC.
pub(crate) fn lag_bytes(live: &StatusSnapshot) -> Option<u64> {
    let is_known = !live.shards.is_empty() && live.shards.iter().all(has_offsets);
    is_known.then(|| live.lag_bytes())
}

/// The same of one shard.
pub(crate) fn shard_lag_bytes(shard: &ShardSnapshot) -> Option<u64> {
    has_offsets(shard).then(|| shard.lag_bytes())
}

/// Up to where the stream of a shard is applied, bytes.
pub(crate) fn applied_offset(shard: &ShardSnapshot) -> Option<u64> {
    has_offsets(shard).then_some(shard.applied_offset)
}

/// The sum of a number over all shards.
pub(crate) fn sum(live: &StatusSnapshot, of: impl Fn(&ShardSnapshot) -> u64) -> u64 {
    live.shards.iter().map(of).fold(0, u64::saturating_add)
}

#[cfg(test)]
pub(crate) mod tests {
    use keyhaul_engine::follow::State;

    use super::*;

    /// Two shards, one of which is read by PSYNC.
    pub(crate) fn snapshot() -> StatusSnapshot {
        let by_psync = ShardSnapshot {
            state: State::Following,
            node: "a:1".into(),
            replid: "0123".into(),
            waiting: None,
            source_offset: 5000,
            received_offset: 4900,
            applied_offset: 4000,
            lag_ms: Some(12),
            spool_bytes: 900,
            spool_disk_bytes: 0,
            commands: 70,
            keys_open: 2,
            keys_reread: 3,
            full_resyncs: 1,
            partial_resyncs: 4,
        };
        let by_tracking = ShardSnapshot {
            state: State::CatchingUp,
            node: "b:1".into(),
            waiting: Some("target c:1 is full".into()),
            commands: 5,
            ..ShardSnapshot::default()
        };
        StatusSnapshot {
            state: State::CatchingUp,
            shards: vec![by_psync, by_tracking],
        }
    }

    /// The first shard of it alone.
    pub(crate) fn one_shard() -> StatusSnapshot {
        let mut one = snapshot();
        one.shards.truncate(1);
        one.state = State::Following;
        one
    }

    #[test]
    fn a_lag_that_is_not_known_is_not_zero() {
        assert_eq!(lag_bytes(&one_shard()), Some(1000));
        assert_eq!(lag_bytes(&snapshot()), None);
        assert_eq!(lag_bytes(&StatusSnapshot::default()), None);
        assert_eq!(sum(&snapshot(), |shard| shard.commands), 75);
    }
}

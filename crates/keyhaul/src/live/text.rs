//! The state of a live job in words: pairs for a log, a line for a terminal, rows of the summary.

use std::fmt::Write as _;

use keyhaul_engine::follow::{ShardSnapshot, State, StatusSnapshot};
use keyhaul_engine::progress::Phase;

use super::{applied_offset, lag_bytes, shard_lag_bytes, sum};
use crate::size;

/// A cluster may have hundreds of shards.
pub(crate) const SHARD_LINES_MAX: usize = 16;

/// What a job is doing: one that follows copies as long as one of its shards does.
pub(crate) fn phase(phase: Phase, live: Option<&StatusSnapshot>) -> Phase {
    match (phase, live.map(|live| live.state)) {
        (Phase::Following, Some(State::Starting)) => Phase::Starting,
        (Phase::Following, Some(State::Copying)) => Phase::Copying,
        (phase, _) => phase,
    }
}

/// The same in one word.
pub(crate) fn state(of: Phase, live: Option<&StatusSnapshot>) -> &'static str {
    match (phase(of, live), live) {
        (Phase::Following, Some(live)) => live.state.name(),
        (Phase::Starting, _) => "starting",
        (Phase::Copying, _) => "copying",
        (Phase::Verifying, _) => "verifying",
        (Phase::Scanning, _) => "scanning",
        (Phase::Following, None) => "following",
        (Phase::Done, _) => "done",
        (Phase::Stopped, _) => "stopped",
    }
}

/// Whether the lag is what matters, and no longer how much of the copy is done.
pub(crate) fn follows(of: Phase, live: &StatusSnapshot) -> bool {
    match phase(of, Some(live)) {
        Phase::Following => true,
        Phase::Done | Phase::Stopped => !live.shards.is_empty(),
        Phase::Starting | Phase::Copying | Phase::Verifying | Phase::Scanning => false,
    }
}

/// ` lag_bytes=0 lag_ms=0`; what is not known is left out.
pub(crate) fn lag_pairs(live: &StatusSnapshot) -> String {
    let mut text = String::new();
    push(&mut text, "lag_bytes", lag_bytes(live));
    push(&mut text, "lag_ms", live.lag_ms());
    text
}

/// ` commands=7 rate=1 applied_offset=99 spool=0 ...`. An offset is that of one shard; those of several are on lines
/// of their own.
pub(crate) fn pairs(live: &StatusSnapshot, commands_per_second: Option<f64>) -> String {
    let mut text = String::new();
    let offset = match live.shards.as_slice() {
        [one] => applied_offset(one),
        _ => None,
    };
    let of = |number: fn(&ShardSnapshot) -> u64| Some(sum(live, number));
    push(&mut text, "commands", of(|shard| shard.commands));
    push(
        &mut text,
        "rate",
        commands_per_second.map(|rate| rate as u64),
    );
    push(&mut text, "applied_offset", offset);
    push(&mut text, "spool", of(|shard| shard.spool_bytes));
    push(&mut text, "spool_disk", of(|shard| shard.spool_disk_bytes));
    push(&mut text, "open", of(|shard| shard.keys_open));
    push(&mut text, "reread", of(|shard| shard.keys_reread));
    push(&mut text, "full_resyncs", of(|shard| shard.full_resyncs));
    push(
        &mut text,
        "partial_resyncs",
        of(|shard| shard.partial_resyncs),
    );
    text
}

/// `state=following node=a:1 lag_bytes=0 ...`
pub(crate) fn shard_pairs(shard: &ShardSnapshot) -> String {
    let mut text = format!("state={} node={}", shard.state.name(), shard.node);
    push(&mut text, "lag_bytes", shard_lag_bytes(shard));
    push(&mut text, "lag_ms", shard.lag_ms);
    push(&mut text, "commands", Some(shard.commands));
    push(&mut text, "applied_offset", applied_offset(shard));
    push(&mut text, "spool", Some(shard.spool_bytes));
    push(&mut text, "open", Some(shard.keys_open));
    if let Some(reason) = &shard.waiting {
        push_text(&mut text, "waiting", reason);
    }
    text
}

fn push(text: &mut String, name: &str, value: Option<u64>) {
    if let Some(value) = value {
        // Writing to a string does not fail.
        let _ = write!(text, " {name}={value}");
    }
}

/// A value with blanks in it, in quotes.
fn push_text(text: &mut String, name: &str, value: &str) {
    let _ = write!(text, " {name}={value:?}");
}

/// Why nothing moves, as the first shard that waits says it.
pub(crate) fn waiting(live: &StatusSnapshot) -> Option<&str> {
    live.shards
        .iter()
        .find_map(|shard| shard.waiting.as_deref())
}

/// `12 KB and 30 ms behind  1,000 commands  50/s  3 keys to read again`
pub(crate) fn readable(live: &StatusSnapshot, commands_per_second: Option<f64>) -> String {
    let commands = sum(live, |shard| shard.commands);
    let mut parts = vec![
        behind(live.state, lag_bytes(live), live.lag_ms()),
        format!("{} commands", size::show_count(commands)),
    ];
    if let Some(rate) = commands_per_second {
        parts.push(format!("{}/s", size::show_count(rate as u64)));
    }
    let spool = sum(live, |shard| shard.spool_bytes);
    if spool > 0 {
        parts.push(format!("{} received, not applied", size::show(spool)));
    }
    let open = sum(live, |shard| shard.keys_open);
    if open > 0 {
        parts.push(format!("{} keys to read again", size::show_count(open)));
    }
    parts.join("  ")
}

/// `a:1: following, 12 KB and 30 ms behind, offset 4711`
pub(crate) fn shard_readable(shard: &ShardSnapshot) -> String {
    let mut text = format!(
        "{}: {}, {}",
        shard.node,
        shard.state.name().replace('_', " "),
        behind(shard.state, shard_lag_bytes(shard), shard.lag_ms)
    );
    if let Some(offset) = applied_offset(shard) {
        let _ = write!(text, ", offset {offset}");
    }
    if let Some(reason) = &shard.waiting {
        let _ = write!(text, ", waiting: {reason}");
    }
    text
}

fn behind(state: State, bytes: Option<u64>, ms: Option<u64>) -> String {
    match (bytes, ms) {
        (Some(0), _) => "nothing behind".into(),
        (Some(bytes), Some(ms)) => format!("{} and {ms} ms behind", size::show(bytes)),
        (Some(bytes), None) => format!("{} behind", size::show(bytes)),
        (None, Some(ms)) => format!("{ms} ms behind"),
        (None, None) if state == State::Synced => "nothing behind".into(),
        (None, None) => "lag unknown".into(),
    }
}

/// What following came to: `70 commands, 3 keys read again, 1 full resync, 4 partial`.
pub(crate) fn followed(live: &StatusSnapshot) -> String {
    let count = |of: fn(&ShardSnapshot) -> u64| size::show_count(sum(live, of));
    format!(
        "{} commands, {} keys read again, {} full and {} partial resyncs",
        count(|shard| shard.commands),
        count(|shard| shard.keys_reread),
        count(|shard| shard.full_resyncs),
        count(|shard| shard.partial_resyncs)
    )
}

/// Where a shard stopped: `a:1: applied up to offset 4711 of 0123, nothing behind`.
pub(crate) fn stopped_at(shard: &ShardSnapshot) -> String {
    match applied_offset(shard) {
        Some(offset) => format!(
            "{}: applied up to offset {offset} of {}, {}",
            shard.node,
            shard.replid,
            behind(shard.state, shard_lag_bytes(shard), None)
        ),
        None => format!(
            "{}: {} changed keys taken over",
            shard.node,
            size::show_count(shard.commands)
        ),
    }
}

/// How far the target is behind, for the headline; `None`: not at all, or not known.
pub(crate) fn lags(live: &StatusSnapshot) -> Option<String> {
    let bytes = lag_bytes(live).filter(|bytes| *bytes > 0)?;
    Some(behind(live.state, Some(bytes), live.lag_ms()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{one_shard, snapshot};
    use super::*;

    #[test]
    fn pairs_of_one_shard_and_of_several() {
        let (one, two) = (one_shard(), snapshot());
        assert_eq!(lag_pairs(&one), " lag_bytes=1000 lag_ms=12");
        assert_eq!(lag_pairs(&two), "");
        assert_eq!(
            pairs(&one, Some(7.9)),
            " commands=70 rate=7 applied_offset=4000 spool=900 spool_disk=0 open=2 reread=3 \
             full_resyncs=1 partial_resyncs=4"
        );
        assert_eq!(
            pairs(&two, None),
            " commands=75 spool=900 spool_disk=0 open=2 reread=3 full_resyncs=1 partial_resyncs=4"
        );
        assert_eq!(
            shard_pairs(&two.shards[0]),
            "state=following node=a:1 lag_bytes=1000 lag_ms=12 commands=70 applied_offset=4000 \
             spool=900 open=2"
        );
        assert_eq!(
            shard_pairs(&two.shards[1]),
            "state=catching_up node=b:1 commands=5 spool=0 open=0 waiting=\"target c:1 is full\""
        );
    }

    #[test]
    fn readable_lines() {
        let (one, two) = (one_shard(), snapshot());
        assert_eq!(
            readable(&one, Some(7.9)),
            "1000 B and 12 ms behind  70 commands  7/s  900 B received, not applied  2 keys to read again"
        );
        assert_eq!(
            shard_readable(&two.shards[1]),
            "b:1: catching up, lag unknown, waiting: target c:1 is full"
        );
        assert_eq!(
            stopped_at(&one.shards[0]),
            "a:1: applied up to offset 4000 of 0123, 1000 B behind"
        );
        assert_eq!(stopped_at(&two.shards[1]), "b:1: 5 changed keys taken over");
        assert_eq!(
            followed(&two),
            "75 commands, 3 keys read again, 1 full and 4 partial resyncs"
        );
        assert_eq!(lags(&one).as_deref(), Some("1000 B and 12 ms behind"));
        assert_eq!(lags(&two), None);
        assert_eq!(waiting(&two), Some("target c:1 is full"));
    }

    #[test]
    fn states() {
        let (one, none) = (one_shard(), StatusSnapshot::default());
        let copying = StatusSnapshot {
            state: State::Copying,
            ..one_shard()
        };
        for (of, live, expected, is_followed) in [
            (Phase::Following, &one, "following", true),
            (Phase::Following, &snapshot(), "catching_up", true),
            (Phase::Following, &copying, "copying", false),
            (Phase::Following, &none, "starting", false),
            (Phase::Copying, &one, "copying", false),
            (Phase::Stopped, &one, "stopped", true),
            (Phase::Stopped, &none, "stopped", false),
        ] {
            assert_eq!(state(of, Some(live)), expected, "{of:?}");
            assert_eq!(
                follows(of, live),
                is_followed,
                "{of:?} {}",
                live.state.name()
            );
        }
        assert_eq!(state(Phase::Following, None), "following");
    }
}

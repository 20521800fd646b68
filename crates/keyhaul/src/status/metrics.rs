//! `GET /metrics`: the job in the text format of Prometheus, version 0.0.4. docs/guide/monitoring.md lists the names;
//! they never change their meaning.

use std::fmt::Write as _;

use keyhaul_engine::follow::{ShardSnapshot, State};
use keyhaul_engine::progress::Snapshot;

use super::observed::Moment;
use crate::live;

/// As the format is to be named in the answer.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All that a job can be doing.
const STATES: [&str; 9] = [
    "starting",
    "copying",
    "verifying",
    "scanning",
    "catching_up",
    "following",
    "synced",
    "done",
    "stopped",
];

/// Name, kind, help, value.
type JobRow = (&'static str, Kind, &'static str, fn(&Snapshot) -> u64);
/// The same of a shard; `None`: not known.
type ShardRow = (
    &'static str,
    Kind,
    &'static str,
    fn(&ShardSnapshot) -> Option<f64>,
);

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

const JOB: [JobRow; 12] = [
    (
        "keyhaul_keys_expected",
        Kind::Gauge,
        "Keys that the source said it holds at the start, 0 if unknown.",
        |c| c.keys_expected,
    ),
    (
        "keyhaul_keys_found_total",
        Kind::Counter,
        "Keys that were found on the source and that the filters took.",
        |c| c.keys_found,
    ),
    (
        "keyhaul_keys_copied_total",
        Kind::Counter,
        "Keys that the target acknowledged.",
        |c| c.keys_copied,
    ),
    (
        "keyhaul_keys_chunked_total",
        Kind::Counter,
        "Of those, keys that went over in chunks.",
        |c| c.keys_chunked,
    ),
    (
        "keyhaul_keys_skipped_total",
        Kind::Counter,
        "Keys left as they were on the target.",
        |c| c.keys_skipped,
    ),
    (
        "keyhaul_keys_gone_total",
        Kind::Counter,
        "Keys that vanished before they could be read.",
        |c| c.keys_gone,
    ),
    (
        "keyhaul_keys_not_moved_total",
        Kind::Counter,
        "Keys that were not moved and are listed.",
        |c| c.keys_not_moved,
    ),
    (
        "keyhaul_keys_verified_total",
        Kind::Counter,
        "Keys that the verification looked at.",
        |c| c.keys_verified,
    ),
    (
        "keyhaul_copied_bytes_total",
        Kind::Counter,
        "Payload bytes that the target acknowledged.",
        |c| c.bytes_copied,
    ),
    (
        "keyhaul_rdb_expected_bytes",
        Kind::Gauge,
        "Bytes of RDB that there are to read, 0 if unknown.",
        |c| c.bytes_expected,
    ),
    (
        "keyhaul_rdb_read_bytes_total",
        Kind::Counter,
        "Bytes of RDB that were read.",
        |c| c.bytes_read,
    ),
    (
        "keyhaul_retries_total",
        Kind::Counter,
        "Connections opened again and commands repeated.",
        |c| c.retries,
    ),
];

const SHARD: [ShardRow; 13] = [
    (
        "keyhaul_shard_lag_bytes",
        Kind::Gauge,
        "Bytes of the stream that are not applied.",
        |s| live::shard_lag_bytes(s).map(number),
    ),
    (
        "keyhaul_shard_lag_seconds",
        Kind::Gauge,
        "How far the target is behind in time.",
        |s| s.lag_ms.map(|ms| number(ms) / 1000.0),
    ),
    (
        "keyhaul_shard_source_offset_bytes",
        Kind::Gauge,
        "Offset of the source.",
        |s| offset(s, s.source_offset),
    ),
    (
        "keyhaul_shard_received_offset_bytes",
        Kind::Gauge,
        "The stream was received up to here.",
        |s| offset(s, s.received_offset),
    ),
    (
        "keyhaul_shard_applied_offset_bytes",
        Kind::Gauge,
        "The stream is applied up to here.",
        |s| offset(s, s.applied_offset),
    ),
    (
        "keyhaul_shard_spool_bytes",
        Kind::Gauge,
        "Bytes received and not applied, as they came.",
        |s| some(s.spool_bytes),
    ),
    (
        "keyhaul_shard_spool_disk_bytes",
        Kind::Gauge,
        "What they take on the disk.",
        |s| some(s.spool_disk_bytes),
    ),
    (
        "keyhaul_shard_keys_open",
        Kind::Gauge,
        "Keys that are to be read again.",
        |s| some(s.keys_open),
    ),
    (
        "keyhaul_shard_waiting",
        Kind::Gauge,
        "1 while nothing moves.",
        |s| some(u64::from(s.waiting.is_some())),
    ),
    (
        "keyhaul_shard_commands_total",
        Kind::Counter,
        "Commands that were applied; without PSYNC, keys told to have changed.",
        |s| some(s.commands),
    ),
    (
        "keyhaul_shard_keys_reread_total",
        Kind::Counter,
        "Keys that were read again.",
        |s| some(s.keys_reread),
    ),
    (
        "keyhaul_shard_full_resyncs_total",
        Kind::Counter,
        "Full resyncs, the first one counted.",
        |s| some(s.full_resyncs),
    ),
    (
        "keyhaul_shard_partial_resyncs_total",
        Kind::Counter,
        "Times the link broke and was gone on with.",
        |s| some(s.partial_resyncs),
    ),
];

/// What is exact as a float up to 2^53; offsets beyond lose bytes that nobody misses in a graph.
fn number(value: u64) -> f64 {
    value as f64
}

fn some(value: u64) -> Option<f64> {
    Some(number(value))
}

fn offset(shard: &ShardSnapshot, value: u64) -> Option<f64> {
    live::applied_offset(shard).map(|_| number(value))
}

/// The whole answer.
pub(super) fn text(now: &Moment<'_>) -> String {
    let mut text = Text::default();
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("source", now.ends.source.as_str()),
        ("target", now.ends.target.as_str()),
    ];
    text.head("keyhaul_info", Kind::Gauge, "What runs: always 1.");
    text.sample("keyhaul_info", &labels, 1.0);
    text.head(
        "keyhaul_uptime_seconds",
        Kind::Gauge,
        "Since the job began.",
    );
    text.sample("keyhaul_uptime_seconds", &[], now.uptime.as_secs_f64());
    text.head(
        "keyhaul_state",
        Kind::Gauge,
        "What the job does: 1 for one state, 0 for the others.",
    );
    for state in STATES {
        let is_it = u8::from(state == now.state());
        text.sample("keyhaul_state", &[("state", state)], is_it.into());
    }
    text.head("keyhaul_waiting", Kind::Gauge, "1 while nothing moves.");
    text.sample(
        "keyhaul_waiting",
        &[],
        u8::from(now.waiting().is_some()).into(),
    );
    for (name, kind, help, value) in JOB {
        text.head(name, kind, help);
        text.sample(name, &[], number(value(&now.counts)));
    }
    if let Some(live) = &now.live {
        shards(&mut text, &live.shards);
    }
    text.0
}

fn shards(text: &mut Text, shards: &[ShardSnapshot]) {
    let numbers: Vec<String> = (0..shards.len()).map(|index| index.to_string()).collect();
    let numbered = || shards.iter().zip(&numbers);
    text.head(
        "keyhaul_shard_state",
        Kind::Gauge,
        "What a shard does: 1 for one state, 0 for the others.",
    );
    for (shard, number) in numbered() {
        for state in State::ALL {
            let labels = [
                ("shard", number.as_str()),
                ("node", &shard.node),
                ("state", state.name()),
            ];
            text.sample(
                "keyhaul_shard_state",
                &labels,
                u8::from(state == shard.state).into(),
            );
        }
    }
    for (name, kind, help, value) in SHARD {
        text.head(name, kind, help);
        for (shard, number) in numbered() {
            if let Some(value) = value(shard) {
                let labels = [("shard", number.as_str()), ("node", &shard.node)];
                text.sample(name, &labels, value);
            }
        }
    }
}

/// The answer as it grows. Writing to a string does not fail.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{}\"", escaped(text));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }
}

/// A label's value: only these three are special.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::observed::tests::{ends, moment};
    use super::*;

    #[test]
    fn lines() {
        let ends = ends();
        let text = text(&moment(&ends));
        for line in [
            "# TYPE keyhaul_keys_copied_total counter",
            "keyhaul_keys_copied_total 90",
            "keyhaul_uptime_seconds 1.5",
            "keyhaul_state{state=\"catching_up\"} 1",
            "keyhaul_state{state=\"synced\"} 0",
            "keyhaul_waiting 1",
            "keyhaul_shard_lag_seconds{shard=\"0\",node=\"a:1\"} 0.012",
            "keyhaul_shard_lag_bytes{shard=\"0\",node=\"a:1\"} 1000",
            "keyhaul_shard_state{shard=\"1\",node=\"b:1\",state=\"catching_up\"} 1",
            "keyhaul_shard_waiting{shard=\"1\",node=\"b:1\"} 1",
        ] {
            assert!(
                text.lines().any(|one| one == line),
                "{line} is not in\n{text}"
            );
        }
        assert!(
            text.contains("target=\"redis://\\\"b\\\":1\"} 1\n"),
            "{text}"
        );
        // What is not known is not there.
        assert!(
            !text.contains("keyhaul_shard_lag_bytes{shard=\"1\""),
            "{text}"
        );
    }

    /// Every sample stands below its TYPE, no series comes twice, counters end in _total.
    #[test]
    fn the_format() {
        let ends = ends();
        let text = text(&moment(&ends));
        let (mut current, mut series) = (String::new(), BTreeSet::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                current = name.to_owned();
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert_eq!(name.split('{').next(), Some(current.as_str()), "{line}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
                assert!(series.insert(name.to_owned()), "{line}");
            }
        }
    }

    /// The guide lists every name, and the dashboard asks for none that is not there.
    #[test]
    fn guide_and_dashboard() {
        let ends = ends();
        let text = text(&moment(&ends));
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let names: BTreeSet<&str> = types.filter_map(|line| line.split(' ').next()).collect();
        let guide = include_str!("../../../../docs/guide/monitoring.md");
        for name in &names {
            assert!(
                guide.contains(&format!("`{name}")),
                "{name} is not in the guide"
            );
        }
        let dashboard = include_str!("../../../../docs/grafana/keyhaul.json");
        let json: serde_json::Value = serde_json::from_str(dashboard).unwrap();
        let panels = json["panels"].as_array().unwrap();
        let queries = panels
            .iter()
            .filter_map(|panel| panel["targets"].as_array())
            .flatten();
        let mut asked = BTreeSet::new();
        for query in queries {
            let expression = query["expr"].as_str().unwrap();
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let words = expression.split(|c| !is_name(c));
            for name in words.filter(|word| word.starts_with("keyhaul_")) {
                assert!(names.contains(name), "{name} is not exported");
                asked.insert(name.to_owned());
            }
        }
        assert!(asked.len() > 10, "{asked:?}");
    }
}

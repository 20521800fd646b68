//! Whole reports against sums that are made another way: all keys held, and added up where they are asked for.

use keyhaul_rdb::KeyType;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const NOW_MS: i64 = 1_800_000_000_000;
const CHUNK_THRESHOLD: u64 = 1 << 20;

/// A key with all that is known of it.
#[derive(Debug, Clone)]
struct Key {
    db: u32,
    name: Vec<u8>,
    key_type: Option<KeyType>,
    encoding: Option<&'static str>,
    size_bytes: u64,
    elements: Option<u64>,
    expire_at_ms: Option<i64>,
}

impl Key {
    fn facts(&self) -> KeyFacts<'_> {
        KeyFacts {
            db: self.db,
            key: &self.name,
            key_type: self.key_type,
            encoding: self.encoding,
            size_bytes: self.size_bytes,
            elements: self.elements,
            expire_at_ms: self.expire_at_ms,
        }
    }

    fn type_name(&self) -> &'static str {
        self.key_type.map_or("unknown", KeyType::name)
    }
}

fn options() -> ReportOptions {
    ReportOptions {
        chunk_threshold: CHUNK_THRESHOLD,
        top: 5,
        prefix_width: 4,
        shards: 140,
        ..ReportOptions::new(SizeKind::Memory, NOW_MS)
    }
}

fn keys(seed: u64, count: usize) -> Vec<Key> {
    let mut random = StdRng::seed_from_u64(seed);
    let types = [
        None,
        Some(KeyType::String),
        Some(KeyType::List),
        Some(KeyType::SortedSet),
        Some(KeyType::Hash),
        Some(KeyType::Module),
    ];
    (0..count)
        .map(|n| {
            let depth = random.random_range(0..4);
            let mut name: Vec<u8> = (0..depth)
                .flat_map(|_| [b"abcdefgh"[random.random_range(0..8)], b':'])
                .collect();
            name.extend_from_slice(n.to_string().as_bytes());
            Key {
                db: [0, 0, 3, 15][random.random_range(0..4)],
                name,
                key_type: types[random.random_range(0..types.len())],
                encoding: [None, Some("listpack"), Some("raw")][random.random_range(0..3)],
                size_bytes: random.random::<u64>() >> random.random_range(40..60),
                elements: random
                    .random_bool(0.8)
                    .then(|| random.random::<u64>() >> random.random_range(44..64)),
                expire_at_ms: random
                    .random_bool(0.4)
                    .then(|| NOW_MS + random.random_range(-1_000_000..1_000_000_000)),
            }
        })
        .collect()
}

fn builder<'a>(keys: impl IntoIterator<Item = &'a Key>) -> ReportBuilder {
    let mut builder = ReportBuilder::new(options());
    keys.into_iter().for_each(|key| builder.take(&key.facts()));
    builder
}

fn sum_where(keys: &[Key], holds: impl Fn(&Key) -> bool) -> Sum {
    let held: Vec<&Key> = keys.iter().filter(|key| holds(key)).collect();
    Sum {
        keys: held.len() as u64,
        bytes: held.iter().map(|key| key.size_bytes).sum(),
    }
}

/// What stands on a list of the biggest: db, name, bytes, elements.
type Listed = (u32, String, u64, Option<u64>);

fn listed(list: &[BigKey]) -> Vec<Listed> {
    let rows = list.iter();
    rows.map(|key| (key.db, key.key.clone(), key.bytes, key.elements))
        .collect()
}

fn largest(
    keys: &[Key],
    most: usize,
    number: impl Fn(&Key) -> u64,
    holds: impl Fn(&Key) -> bool,
) -> Vec<Listed> {
    let mut held: Vec<&Key> = keys.iter().filter(|key| holds(key)).collect();
    held.sort_by(|a, b| {
        let order = number(b).cmp(&number(a));
        order.then((a.db, &a.name).cmp(&(b.db, &b.name)))
    });
    let rows = held.into_iter().take(most);
    rows.map(|key| {
        let name = String::from_utf8(key.name.clone()).unwrap();
        (key.db, name, key.size_bytes, key.elements)
    })
    .collect()
}

#[test]
fn a_report_says_what_adding_up_all_keys_says() {
    for seed in 0..10 {
        let keys = keys(seed, 3000);
        let report = builder(&keys).finish();
        let all = sum_where(&keys, |_| true);
        assert_eq!(report.totals.sum, all, "seed {seed}");
        let is_other = |key: &&Key| key.key_type != Some(KeyType::String);
        let others = keys.iter().filter(is_other);
        let elements: u64 = others.filter_map(|key| key.elements).sum();
        assert_eq!(report.totals.elements, elements);
        check_dbs(&report, &keys);
        for row in &report.types {
            check_type(row, &keys);
        }
        assert_eq!(sum_of(report.types.iter().map(|row| row.sum)), all);
        check_expiry(&report, &keys);
        let is_chunked =
            |key: &Key| key.size_bytes > CHUNK_THRESHOLD && key.key_type != Some(KeyType::Module);
        assert_eq!(report.chunked.sum, sum_where(&keys, is_chunked));
        assert_eq!(
            listed(&report.chunked.largest),
            largest(&keys, CHUNKED_MAX, |key| key.size_bytes, is_chunked)
        );
        check_prefix(&report.prefixes, &mut String::new(), &keys);
        assert_eq!(report.prefixes.sum, all);
        check_slots(&report, &keys);
    }
}

fn sum_of(sums: impl Iterator<Item = Sum>) -> Sum {
    sums.fold(Sum::default(), |mut all, sum| {
        all.add(sum);
        all
    })
}

fn check_dbs(report: &Report, keys: &[Key]) {
    let dbs: Vec<_> = report.dbs.iter().map(|row| row.db).collect();
    assert_eq!(dbs, [Some(0), Some(3), Some(15)]);
    for row in &report.dbs {
        let is_of_db = |key: &Key| Some(key.db) == row.db;
        assert_eq!(row.sum, sum_where(keys, is_of_db));
        let stays = sum_where(keys, |key| is_of_db(key) && key.expire_at_ms.is_none());
        assert_eq!(row.without_expiry, Some(stays));
    }
}

fn check_type(row: &TypeRow, keys: &[Key]) {
    let is_of_type = |key: &Key| key.type_name() == row.type_name;
    assert_eq!(row.sum, sum_where(keys, is_of_type));
    assert_eq!(
        sum_of(row.spread_of_bytes.rows.iter().map(|row| row.sum)),
        row.sum
    );
    let of_type: Vec<&Key> = keys.iter().filter(|key| is_of_type(key)).collect();
    let elements = of_type.iter().filter_map(|key| key.elements);
    assert_eq!(row.elements, elements.sum::<u64>());
    for encoding in &row.encodings {
        let is_encoded =
            |key: &Key| is_of_type(key) && key.encoding == Some(encoding.encoding.as_str());
        assert_eq!(encoding.sum, sum_where(keys, is_encoded));
    }
    assert_eq!(
        listed(&row.biggest_by_bytes),
        largest(keys, 5, |key| key.size_bytes, is_of_type)
    );
    let has_elements = |key: &Key| is_of_type(key) && key.elements.is_some();
    assert_eq!(
        listed(&row.biggest_by_elements),
        largest(keys, 5, |key| key.elements.unwrap_or(0), has_elements)
    );
}

fn check_expiry(report: &Report, keys: &[Key]) {
    let expiry = report.expiry.as_ref().unwrap();
    assert_eq!(
        expiry.without,
        sum_where(keys, |key| key.expire_at_ms.is_none())
    );
    assert_eq!(
        expiry.with,
        sum_where(keys, |key| key.expire_at_ms.is_some())
    );
    let is_past = |key: &Key| key.expire_at_ms.is_some_and(|at| at <= NOW_MS);
    assert_eq!(expiry.past, sum_where(keys, is_past));
    for row in &expiry.spread_of_ttl_ms.rows {
        let is_in_row = |key: &Key| {
            let ttl_ms = key.expire_at_ms.map(|at| (at - NOW_MS).max(0) as u64);
            ttl_ms.is_some_and(|ttl| ttl >= row.from && row.below.is_none_or(|end| ttl < end))
        };
        assert_eq!(row.sum, sum_where(keys, is_in_row), "{row:?}");
    }
}

/// Nothing was folded: what is shown is exact, and what is not shown is in `other`.
fn check_prefix(row: &PrefixRow, path: &mut String, keys: &[Key]) {
    let below = |key: &Key| key.name.starts_with(path.as_bytes());
    assert_eq!(row.sum, sum_where(keys, below), "{path}");
    assert_eq!(row.missed_max, Sum::default());
    let is_here = |key: &Key| below(key) && !key.name[path.len()..].contains(&b':');
    assert_eq!(row.here, sum_where(keys, is_here));
    let children = sum_of(row.children.iter().map(|child| child.sum));
    assert_eq!(sum_of([children, row.here, row.other].into_iter()), row.sum);
    assert!(row.children.len() <= 4);
    assert!(
        row.children
            .is_sorted_by_key(|child| std::cmp::Reverse(child.sum.bytes))
    );
    for child in &row.children {
        let length = path.len();
        path.push_str(&child.name);
        path.push(':');
        check_prefix(child, path, keys);
        path.truncate(length);
    }
}

fn check_slots(report: &Report, keys: &[Key]) {
    use keyhaul_client::Slot;
    let all = sum_where(keys, |_| true);
    assert_eq!(sum_of(report.slots.iter().map(|row| row.sum)), all);
    assert_eq!(sum_of(report.shards.iter().map(|row| row.sum)), all);
    for row in report.slots.iter().step_by(50) {
        let is_in_slot = |key: &Key| Slot::of_key(&key.name).index() == usize::from(row.slot);
        assert_eq!(row.sum, sum_where(keys, is_in_slot));
    }
    for shard in report.shards.iter().step_by(7) {
        let slots = usize::from(shard.slot_start)..=usize::from(shard.slot_end);
        let is_in_shard = |key: &Key| slots.contains(&Slot::of_key(&key.name).index());
        assert_eq!(shard.sum, sum_where(keys, is_in_shard));
    }
}

#[test]
fn two_builders_merged_say_what_one_says() {
    let keys = keys(77, 5000);
    let one = builder(&keys);
    let mut merged = builder(keys.iter().step_by(2));
    merged.merge(builder(keys.iter().skip(1).step_by(2)));
    assert_eq!(merged, one);
    assert_eq!(merged.finish(), one.finish());
}

#[test]
fn a_builder_that_was_written_down_goes_on() {
    let keys = keys(78, 3000);
    let text = builder(&keys[..1000]).to_text();
    let later = ReportOptions {
        now_ms: NOW_MS + 5000,
        ..options()
    };
    let mut again = ReportBuilder::of_text(&text, &later).unwrap();
    keys[1000..].iter().for_each(|key| again.take(&key.facts()));
    assert_eq!(again, builder(&keys));
    let other = ReportOptions {
        top: 7,
        ..options()
    };
    for (text, options) in [(text.as_str(), other), ("", options()), ("{}", options())] {
        assert_eq!(ReportBuilder::of_text(text, &options), None);
    }
}

#[test]
fn a_report_is_read_back() {
    let report = builder(&keys(79, 1000)).finish();
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    // What `keyhaul plan` and programs rely on.
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["totals"]["keys"], 1000);
    assert_eq!(json["options"]["size_kind"], "memory");
    assert_eq!(json["slots"][0].as_array().map(Vec::len), Some(3));
}

#[test]
fn what_was_not_asked_for_is_not_told() {
    let options = ReportOptions {
        has_expiries: false,
        ..options()
    };
    let mut builder = ReportBuilder::new(options);
    keys(80, 10)
        .iter()
        .for_each(|key| builder.take(&key.facts()));
    let report = builder.finish();
    assert_eq!(report.expiry, None);
    assert!(report.dbs.iter().all(|row| row.without_expiry.is_none()));
    assert!(report.types.iter().all(|row| row.without_expiry.is_none()));
}

#[test]
fn without_a_key() {
    let report = ReportBuilder::new(options()).finish();
    assert_eq!(report.totals, Totals::default());
    assert_eq!(
        (report.types.len(), report.dbs.len(), report.slots.len()),
        (0, 0, 0)
    );
    assert_eq!(report.prefixes, PrefixRow::default());
    assert_eq!(report.shards.len(), 140);
}

#[test]
fn numbers_that_no_server_should_tell() {
    let mut builder = ReportBuilder::new(options());
    for db in (0..6000).chain([u32::MAX]) {
        let encoding = format!("{db}{}", "é".repeat(100));
        builder.take(&KeyFacts {
            db,
            key: &[0xff, b':'],
            key_type: Some(KeyType::Hash),
            encoding: Some(&encoding),
            size_bytes: u64::MAX,
            elements: Some(u64::MAX),
            expire_at_ms: Some(if db % 2 == 0 { i64::MIN } else { i64::MAX }),
        });
    }
    let report = builder.finish();
    assert_eq!(
        report.totals.sum,
        Sum {
            keys: 6001,
            bytes: u64::MAX
        }
    );
    assert_eq!(report.dbs.len(), DBS_MAX + 1);
    assert_eq!(
        report.dbs.last().map(|row| (row.db, row.sum.keys)),
        Some((None, 6001 - 4096))
    );
    let encodings = &report.types[0].encodings;
    assert_eq!(encodings.len(), 33);
    assert_eq!(encodings.iter().map(|row| row.sum.keys).sum::<u64>(), 6001);
    assert_eq!(report.prefixes.children[0].name, "\\xFF");
}

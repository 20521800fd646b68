//! A report for tests of pages and tables: a shop, and keys whose names are meant to do harm.

use keyhaul_engine::stats::KeyFacts;
use keyhaul_engine::stats::report::{
    About, KeyType, Report, ReportBuilder, ReportOptions, SizeKind,
};

/// A name that would run in a page that does not escape it.
pub(super) const EVIL_KEY: &str =
    "</script><img src=x onerror=\"document.title='harm'\">,\"quoted\" & <b>bold</b>";
/// A name that is no text, and how it is shown.
const BINARY_KEY: &[u8] = b"bin:\x00\xff,\n\xe2\x80\xa8x";
pub(super) const BINARY_KEY_TEXT: &str = "bin:\\x00\\xFF,\\x0A\u{2028}x";

const NOW_MS: i64 = 1_790_000_000_000;
const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 86_400_000;

/// Keys of one kind.
struct Kind {
    count: u64,
    /// `#` is a number that is different for each.
    name: &'static str,
    key_type: KeyType,
    encoding: &'static str,
    /// Sizes, bytes, between these, small ones more often.
    size_bytes: (u64, u64),
    /// For each element; 0: as many elements as the string has bytes.
    element_bytes: u64,
    /// Time left at most; 0: none is set.
    ttl_ms: u64,
    db: u32,
}

#[rustfmt::skip]
fn kinds() -> [Kind; 15] {
    let kind = |count, name, key_type, encoding, size_bytes, element_bytes, ttl_ms, db| Kind {
        count, name, key_type, encoding, size_bytes, element_bytes, ttl_ms, db,
    };
    [
        kind(4000, "user:#:profile", KeyType::Hash, "listpack", (180, 900), 30, 0, 0),
        kind(1500, "user:#:cart", KeyType::List, "listpack", (120, 2000), 40, 7 * DAY_MS, 0),
        kind(700, "user:#:friends", KeyType::Set, "intset", (80, 9000), 8, 0, 0),
        kind(300, "user:#:timeline", KeyType::SortedSet, "skiplist", (9000, 900_000), 90, 0, 0),
        kind(5000, "session:#", KeyType::String, "raw", (300, 1200), 0, DAY_MS, 0),
        kind(2500, "cache:page:en:#", KeyType::String, "raw", (2000, 200_000), 0, 10 * MINUTE_MS, 1),
        kind(1200, "cache:page:de:#", KeyType::String, "raw", (2000, 160_000), 0, 10 * MINUTE_MS, 1),
        kind(900, "cache:fragment:#", KeyType::String, "raw", (500, 20_000), 0, MINUTE_MS, 1),
        kind(3000, "ratelimit:#", KeyType::String, "int", (56, 72), 0, MINUTE_MS, 1),
        kind(60, "index:products:facet-#", KeyType::Set, "hashtable", (40_000, 30_000_000), 60, 0, 0),
        kind(24, "leaderboard:weekly:#", KeyType::SortedSet, "skiplist", (900_000, 40_000_000), 110, 90 * DAY_MS, 0),
        kind(5, "{events}:log:#", KeyType::Stream, "stream", (60_000_000, 190_000_000), 120, 0, 0),
        kind(12, "queue:#", KeyType::List, "quicklist", (100, 9_000_000), 200, 0, 0),
        kind(40, "search:bf:#", KeyType::Module, "raw", (20_000, 2_000_000), 0, 0, 3),
        kind(200, "lock-#", KeyType::String, "embstr", (60, 100), 0, MINUTE_MS, 0),
    ]
}

/// The report on all of it.
pub(super) fn report() -> Report {
    let mut builder = ReportBuilder::new(ReportOptions::new(SizeKind::Memory, NOW_MS));
    let mut random = Random(7);
    for kind in kinds() {
        for number in 0..kind.count {
            take(&mut builder, &kind, number, &mut random);
        }
    }
    for (key, size_bytes) in [(EVIL_KEY.as_bytes(), 90_000_000), (BINARY_KEY, 80_000_000)] {
        builder.take(&KeyFacts {
            db: 3,
            key,
            key_type: Some(KeyType::Hash),
            encoding: Some("hashtable"),
            size_bytes,
            elements: Some(size_bytes / 80),
            expire_at_ms: None,
        });
    }
    let mut report = builder.finish();
    report.about = About {
        keyhaul: env!("CARGO_PKG_VERSION").into(),
        source: "redis://shop-1.example:6379".into(),
        seconds: 1.75,
        remarks: vec!["a remark with <i>markup</i>".into()],
    };
    report
}

/// More prefixes than fit: some are folded.
pub(super) fn random_prefixes() -> Report {
    let options = ReportOptions {
        shards: 1000,
        ..ReportOptions::new(SizeKind::Record, NOW_MS)
    };
    let mut builder = ReportBuilder::new(options);
    let mut random = Random(8);
    for number in 0..30_000 {
        let (first, second) = (random.below(1 << 40), random.below(5));
        builder.take(&KeyFacts {
            db: 0,
            key: format!("{first:x}:kind-{second}:a:b:c:d:e:f:{number}").as_bytes(),
            key_type: Some(KeyType::String),
            encoding: None,
            size_bytes: 40 + random.below(1000),
            elements: Some(random.below(1000)),
            expire_at_ms: None,
        });
    }
    builder.finish()
}

fn take(builder: &mut ReportBuilder, kind: &Kind, number: u64, random: &mut Random) {
    let (least, most) = kind.size_bytes;
    // The cube of a number below 1 is mostly small.
    let part = random.below(1000) as f64 / 1000.0;
    let size_bytes = least + ((most - least) as f64 * part.powi(3)) as u64;
    let name = kind
        .name
        .replace('#', &(number * 7919 % 1_000_003).to_string());
    let elements = match kind.element_bytes {
        0 => size_bytes - 50,
        each => size_bytes / each,
    };
    let ttl_ms = match kind.ttl_ms {
        0 => None,
        most => Some(random.below(most)),
    };
    builder.take(&KeyFacts {
        db: kind.db,
        key: name.as_bytes(),
        key_type: Some(kind.key_type),
        encoding: Some(kind.encoding),
        size_bytes,
        elements: (kind.key_type != KeyType::Module).then_some(elements),
        expire_at_ms: ttl_ms.map(|ttl| NOW_MS + ttl as i64),
    });
}

/// Numbers that look random, and are the same each time: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

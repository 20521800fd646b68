//! The report as a page for the terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::time::Duration;

use keyhaul_engine::stats::report::{
    BigKey, PrefixRow, Report, ShardRow, SizeKind, Spread, SpreadRow, Sum,
};

use super::text_table::{Field, bar, cut, percent, write_table};
use crate::receipt::count;
use crate::{duration, size};

/// Most lines of a list; the rest is in the other forms of the report.
const LINES_MAX: usize = 10;
/// Most prefixes that are shown.
const PREFIXES_MAX: usize = 40;
/// A prefix is shown from this part of all bytes on, one of so many.
const PREFIX_PART_MIN: u64 = 200;
/// Longest name of a key, characters.
const NAME_CHARS: usize = 48;
/// How many characters of the strip of shards stand on a line.
const STRIP_CHARS: usize = 64;

/// Writes the page.
pub(crate) fn write(out: &mut impl Write, report: &Report) -> io::Result<()> {
    write_totals(out, report)?;
    write_dbs(out, report)?;
    write_types(out, report)?;
    write_encodings(out, report)?;
    write_percentiles(out, report)?;
    let sizes = &report.spread_of_bytes;
    write_spread(out, size_title(report), sizes, size::show)?;
    for row in report.types.iter().filter(|row| row.type_name != "string") {
        let title = format!("elements of a {}", row.type_name);
        write_spread(out, &title, &row.spread_of_elements, size::show_count)?;
    }
    if let Some(expiry) = &report.expiry {
        write_spread(out, "time to live", &expiry.spread_of_ttl_ms, time)?;
    }
    write_prefixes(out, report)?;
    write_shards(out, report)?;
    write_biggest(out, report)?;
    if !report.about.remarks.is_empty() {
        title(out, "remarks")?;
        for remark in &report.about.remarks {
            writeln!(out, "  {remark}")?;
        }
    }
    Ok(())
}

fn title(out: &mut impl Write, text: &str) -> io::Result<()> {
    writeln!(out, "\n{text}:")
}

fn size_title(report: &Report) -> &'static str {
    match report.options.size_kind {
        SizeKind::Memory => "memory of a key",
        SizeKind::Record => "record of a key",
    }
}

fn write_totals(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let (totals, all) = (&report.totals, report.totals.sum);
    writeln!(out, "{}", report.about.source)?;
    writeln!(out)?;
    let mut row = |name: &str, text: String| writeln!(out, "  {name:16} {text}");
    row("keys", size::show_count(all.keys))?;
    match report.options.size_kind {
        SizeKind::Memory => row("memory", size::show(all.bytes))?,
        SizeKind::Record => row("records", size::show(all.bytes))?,
    }
    row("elements", size::show_count(totals.elements))?;
    row(
        "payload",
        format!("about {}", size::show(totals.payload_bytes)),
    )?;
    if let Some(expiry) = &report.expiry {
        row("without expiry", part_of(expiry.without, all))?;
        if expiry.past.keys > 0 {
            row("expired", part_of(expiry.past, all))?;
        }
    }
    let chunked = &report.chunked;
    let above = size::show(chunked.threshold);
    row(
        "by chunks",
        format!("{}, above {above} each", part_of(chunked.sum, all)),
    )?;
    let time = Duration::try_from_secs_f64(report.about.seconds).unwrap_or_default();
    row("time", duration::show(time))
}

fn part_of(part: Sum, all: Sum) -> String {
    let (keys, bytes) = (count(part.keys, "key"), size::show(part.bytes));
    let share = |part, whole| match percent(part, whole) {
        Field::Text(text) | Field::Number(text) => text,
    };
    let (of_keys, of_bytes) = (share(part.keys, all.keys), share(part.bytes, all.bytes));
    format!("{keys} ({of_keys}), {bytes} ({of_bytes})")
}

fn number(number: u64) -> Field {
    Field::Number(size::show_count(number))
}

fn bytes(bytes: u64) -> Field {
    Field::Number(size::show(bytes))
}

fn write_dbs(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let all = report.totals.sum.bytes;
    let mut rows: Vec<_> = report.dbs.iter().collect();
    if rows.len() < 2 {
        return Ok(());
    }
    title(out, "dbs")?;
    rows.sort_by_key(|row| std::cmp::Reverse(row.sum.bytes));
    let fields = rows.iter().take(LINES_MAX).map(|row| {
        let db = row.db.map_or("(other)".into(), |db| db.to_string());
        let sum = row.sum;
        let share = percent(sum.bytes, all);
        [
            Field::Number(db),
            number(sum.keys),
            bytes(sum.bytes),
            share,
            bar(sum.bytes, all),
        ]
    });
    let fields: Vec<_> = fields.collect();
    write_table(out, ["db", "keys", "size", "part", ""], &fields)?;
    write_left_out(out, rows.len())
}

/// Says that a list was longer.
fn write_left_out(out: &mut impl Write, rows: usize) -> io::Result<()> {
    match rows.saturating_sub(LINES_MAX) {
        0 => Ok(()),
        more => writeln!(out, "  and {} more", size::show_count(more as u64)),
    }
}

fn write_types(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let all = report.totals.sum.bytes;
    let rows: Vec<_> = report
        .types
        .iter()
        .map(|row| {
            let sum = row.sum;
            [
                Field::Text(row.type_name.clone()),
                number(sum.keys),
                bytes(sum.bytes),
                percent(sum.bytes, all),
                bar(sum.bytes, all),
            ]
        })
        .collect();
    if !rows.is_empty() {
        title(out, "types")?;
    }
    write_table(out, ["type", "keys", "size", "part", ""], &rows)
}

fn write_encodings(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let all = report.totals.sum.bytes;
    let of_types = report.types.iter();
    let rows: Vec<_> = of_types
        .flat_map(|of_type| {
            of_type.encodings.iter().map(|row| {
                [
                    Field::Text(format!("{} {}", of_type.type_name, row.encoding)),
                    number(row.sum.keys),
                    bytes(row.sum.bytes),
                    percent(row.sum.bytes, all),
                    bar(row.sum.bytes, all),
                ]
            })
        })
        .collect();
    if !rows.is_empty() {
        title(out, "encodings")?;
    }
    write_table(out, ["encoding", "keys", "size", "part", ""], &rows)
}

fn write_percentiles(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let sizes = (
        "size".to_owned(),
        &report.spread_of_bytes,
        size::show as fn(u64) -> String,
    );
    let mut spreads = vec![sizes];
    for row in &report.types {
        let name = &row.type_name;
        spreads.push((
            format!("size of a {name}"),
            &row.spread_of_bytes,
            size::show,
        ));
        if name != "string" {
            let title = format!("elements of a {name}");
            spreads.push((title, &row.spread_of_elements, size::show_count));
        }
    }
    if let Some(expiry) = &report.expiry {
        spreads.push(("time to live".into(), &expiry.spread_of_ttl_ms, time));
    }
    let rows: Vec<_> = spreads
        .iter()
        .filter(|(_, spread, _)| spread.keys > 0)
        .map(|(name, spread, show)| {
            let field = |number| Field::Number(show(number));
            [
                Field::Text(name.clone()),
                field(spread.p50),
                field(spread.p90),
                field(spread.p99),
                field(spread.p999),
                field(spread.max),
            ]
        })
        .collect();
    if !rows.is_empty() {
        title(out, "percentiles")?;
    }
    write_table(out, ["", "p50", "p90", "p99", "p99.9", "max"], &rows)
}

fn write_spread(
    out: &mut impl Write,
    name: &str,
    spread: &Spread,
    show: fn(u64) -> String,
) -> io::Result<()> {
    if spread.keys == 0 {
        return Ok(());
    }
    title(out, name)?;
    let most = spread
        .rows
        .iter()
        .map(|row| row.sum.keys)
        .max()
        .unwrap_or(0);
    let fields = |row: &SpreadRow| {
        [
            Field::Number(show(row.from)),
            Field::Number(row.below.map_or("no end".into(), show)),
            number(row.sum.keys),
            bytes(row.sum.bytes),
            bar(row.sum.keys, most),
        ]
    };
    let rows: Vec<_> = spread.rows.iter().map(fields).collect();
    write_table(out, ["from", "below", "keys", "size", ""], &rows)
}

/// `10 s`, `6 h`, `1.5 d`.
fn time(ms: u64) -> String {
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "min"),
        (1000, "s"),
    ];
    let unit = units.into_iter().find(|(unit_ms, _)| ms >= *unit_ms);
    match unit {
        None => format!("{ms} ms"),
        Some((unit_ms, unit)) if ms.is_multiple_of(unit_ms) => format!("{} {unit}", ms / unit_ms),
        Some((unit_ms, unit)) => format!("{:.1} {unit}", ms as f64 / unit_ms as f64),
    }
}

fn write_prefixes(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let root = &report.prefixes;
    if root.children.is_empty() {
        return Ok(());
    }
    title(out, "prefixes")?;
    let least = report.totals.sum.bytes / PREFIX_PART_MIN;
    let (lines, left_out) = prefix_lines(root, least, &report.options.separator);
    let all = report.totals.sum.bytes;
    let fields = lines.iter().map(|(name, sum)| {
        [
            Field::Text(name.clone()),
            number(sum.keys),
            bytes(sum.bytes),
            percent(sum.bytes, all),
            bar(sum.bytes, all),
        ]
    });
    let fields: Vec<_> = fields.collect();
    write_table(out, ["prefix", "keys", "size", "part", ""], &fields)?;
    match left_out {
        0 => Ok(()),
        more => writeln!(
            out,
            "  and {} more, which count with those above them, or as (other)",
            size::show_count(more as u64)
        ),
    }
}

/// The prefixes from a size on as a tree, and below each that has some the rest of it in one line. Where they are too many
/// those are taken that are nearest to the root, of one depth the largest. And how many of the report's are left out.
fn prefix_lines(root: &PrefixRow, least: u64, separator: &str) -> (Vec<(String, Sum)>, usize) {
    // By the places of the prefix and of those above it: in the order of the tree.
    let mut lines = BTreeMap::new();
    let (mut level, mut shown, mut seen) = (vec![(Vec::new(), root)], 0, 0);
    while !level.is_empty() {
        let mut next: Vec<(Vec<usize>, &PrefixRow)> = Vec::new();
        for (path, row) in &level {
            let below = row.children.iter().enumerate();
            next.extend(below.map(|(place, child)| ([&path[..], &[place]].concat(), child)));
        }
        seen += next.len();
        next.sort_by_key(|(_, child)| std::cmp::Reverse(child.sum.bytes));
        let is_shown = |child: &PrefixRow| child.sum.bytes >= least.max(1);
        let fitting = next.iter().take_while(|(_, child)| is_shown(child)).count();
        let taken = fitting.min(PREFIXES_MAX - shown);
        shown += taken;
        for (path, child) in next.iter().take(taken) {
            let indent = "  ".repeat(path.len() - 1);
            let name = cut(&child.name, NAME_CHARS.saturating_sub(indent.len()));
            lines.insert(
                path.clone(),
                (format!("{indent}{name}{separator}"), child.sum),
            );
        }
        for (path, row) in &level {
            let of_row = next
                .iter()
                .take(taken)
                .filter(|(below, _)| below.starts_with(path));
            let mut rest = row.sum;
            let mut is_leaf = true;
            for (_, child) in of_row {
                rest.keys = rest.keys.saturating_sub(child.sum.keys);
                rest.bytes = rest.bytes.saturating_sub(child.sum.bytes);
                is_leaf = false;
            }
            if !is_leaf && rest.keys > 0 {
                let indent = "  ".repeat(path.len());
                let behind = [&path[..], &[usize::MAX]].concat();
                lines.insert(behind, (format!("{indent}(other)"), rest));
            }
        }
        level = next;
    }
    (lines.into_values().collect(), seen - shown)
}

fn write_shards(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let shards = &report.shards;
    let (all, shard_count) = (report.totals.sum, shards.len().max(1) as u64);
    if all.keys == 0 {
        return Ok(());
    }
    let most = shards
        .iter()
        .map(|shard| shard.sum.bytes)
        .max()
        .unwrap_or(0);
    let mean = all.bytes / shard_count;
    title(
        out,
        &format!("{} of a cluster", count(shard_count, "shard")),
    )?;
    let strip: Vec<char> = shards
        .iter()
        .map(|shard| level(shard.sum.bytes, most))
        .collect();
    for line in strip.chunks(STRIP_CHARS) {
        writeln!(out, "  {}", line.iter().collect::<String>())?;
    }
    let holding = shards.iter().filter(|shard| shard.sum.keys > 0).count() as u64;
    let times = most as f64 / mean.max(1) as f64;
    writeln!(
        out,
        "  {} hold something, {} on average, the largest {} ({times:.1} times as much)",
        size::show_count(holding),
        size::show(mean),
        size::show(most),
    )?;
    let mut largest: Vec<&ShardRow> = shards.iter().filter(|shard| shard.sum.keys > 0).collect();
    largest.sort_by_key(|shard| (std::cmp::Reverse(shard.sum.bytes), shard.shard));
    let fields = largest.into_iter().take(5).map(|shard| {
        [
            Field::Number(shard.shard.to_string()),
            Field::Text(format!("{}..{}", shard.slot_start, shard.slot_end)),
            number(shard.sum.keys),
            bytes(shard.sum.bytes),
            percent(shard.sum.bytes, all.bytes),
            bar(shard.sum.bytes, most),
        ]
    });
    let fields: Vec<_> = fields.collect();
    write_table(out, ["shard", "slots", "keys", "size", "part", ""], &fields)
}

/// One character that is the higher the more a shard holds.
fn level(part: u64, most: u64) -> char {
    let levels = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    if part == 0 {
        return '·';
    }
    let level = u128::from(part) * 8 / (u128::from(most) + 1);
    usize::try_from(level)
        .ok()
        .and_then(|level| levels.get(level).copied())
        .unwrap_or('█')
}

fn write_biggest(out: &mut impl Write, report: &Report) -> io::Result<()> {
    for row in &report.types {
        let name = &row.type_name;
        let by_size = format!("biggest keys of type {name}");
        write_keys(out, &by_size, &row.biggest_by_bytes)?;
        // Mostly these are the same keys.
        let names = |keys: &[BigKey]| -> BTreeSet<(u32, String)> {
            let shown = keys.iter().take(LINES_MAX);
            shown.map(|key| (key.db, key.key.clone())).collect()
        };
        if names(&row.biggest_by_elements) != names(&row.biggest_by_bytes) && name != "string" {
            let by_elements = format!("most elements of type {name}");
            write_keys(out, &by_elements, &row.biggest_by_elements)?;
        }
    }
    let above = size::show(report.chunked.threshold);
    let by_chunks = format!("would go by chunks, above {above}");
    write_keys(out, &by_chunks, &report.chunked.largest)
}

fn write_keys(out: &mut impl Write, name: &str, keys: &[BigKey]) -> io::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    title(out, name)?;
    let fields = keys.iter().take(LINES_MAX).map(|key| {
        [
            bytes(key.bytes),
            Field::Number(key.elements.map_or("?".into(), size::show_count)),
            Field::Number(key.db.to_string()),
            Field::Text(cut(&key.key, NAME_CHARS)),
        ]
    });
    let fields: Vec<_> = fields.collect();
    write_table(out, ["size", "elements", "db", "key"], &fields)?;
    write_left_out(out, keys.len())
}

#[cfg(test)]
mod tests {
    use keyhaul_engine::stats::report::{ReportBuilder, ReportOptions};

    use super::*;
    use crate::keystats::sample;

    fn page(report: &Report) -> String {
        let mut out = Vec::new();
        write(&mut out, report).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_the_page_says() {
        let page = page(&sample::report());
        let lines = [
            "redis://shop-1.example:6379",
            "  keys             19,443",
            "types:",
            "  hash",
            "encodings:",
            "  zset skiplist",
            "memory of a key:",
            "elements of a hash:",
            "time to live:",
            "prefixes:",
            "  cache:",
            "    page:",
            "100 shards of a cluster:",
            "biggest keys of type hash:",
            "would go by chunks, above 64.0 MB:",
            "remarks:",
        ];
        let mut rest = page.as_str();
        for line in lines {
            let at = rest
                .find(line)
                .unwrap_or_else(|| panic!("no {line:?} in\n{page}"));
            rest = &rest[at..];
        }
        assert!(
            page.lines().all(|line| line.chars().count() <= 110),
            "{page}"
        );
        assert!(!page.contains(|c: char| c.is_control() && c != '\n'));
    }

    #[test]
    fn prefixes_near_the_root_come_first() {
        let row = |name: String, keys, children| PrefixRow {
            name,
            sum: Sum { keys, bytes: keys },
            children,
            ..PrefixRow::default()
        };
        let deep = (0..30).map(|n| row(format!("deep{n}"), 10, Vec::new()));
        let large = row("large".into(), 310, deep.collect());
        let small = (0..29).map(|n| row(format!("small{n}"), 9, Vec::new()));
        let children: Vec<_> = [large].into_iter().chain(small).collect();
        let (lines, left_out) = prefix_lines(&row(String::new(), 600, children), 2, ":");
        let names: Vec<&str> = lines.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[..3], ["large:", "  deep0:", "  deep1:"]);
        assert_eq!(names[11..14], ["  (other)", "small0:", "small1:"]);
        assert_eq!(names[39..], ["small27:", "small28:", "(other)"]);
        assert_eq!(
            (lines[11].1.keys, lines[41].1.keys, left_out),
            (210, 29, 20)
        );
    }

    #[test]
    fn without_a_key() {
        let options = ReportOptions::new(SizeKind::Record, 0);
        let page = page(&ReportBuilder::new(options).finish());
        assert!(page.contains("keys             0\n"), "{page}");
        assert!(!page.contains("types:"));
    }

    #[test]
    fn times() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1000, "1 s"),
            (90_000, "1.5 min"),
            (6 * 3_600_000, "6 h"),
            (365 * 86_400_000, "365 d"),
        ] {
            assert_eq!(time(ms), text);
        }
    }
}

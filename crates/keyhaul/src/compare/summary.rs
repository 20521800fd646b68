//! The summary on standard output: whether both ends are equal, and what differs.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use keyhaul_engine::compare::options::{CompareCounts, CompareReceipt, Depth, RepairCounts};
use keyhaul_engine::receipt::Outcome;

use crate::exit::Exit;
use crate::receipt::{Ends, count};
use crate::{duration, size};

/// What the summary says beside the receipt.
#[derive(Debug)]
pub(crate) struct Summary<'a> {
    pub(crate) ends: &'a Ends,
    pub(crate) depth: Depth,
    pub(crate) extent: Extent,
    /// Of the repair.
    pub(crate) is_dry_run: bool,
    pub(crate) exit: Exit,
    pub(crate) files: Files<'a>,
}

/// Which keys a verdict is about: who reads it must not take a part for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Every,
    /// Those that the filters take.
    Filtered,
    /// Those of `--only-keys`.
    Named,
}

/// Where files were written, if they were.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Files<'a> {
    pub(crate) diff_file: Option<&'a Path>,
    pub(crate) report: Option<&'a Path>,
}

impl Summary<'_> {
    /// Writes the summary.
    pub(crate) fn write(&self, out: &mut impl Write, receipt: &CompareReceipt) -> io::Result<()> {
        writeln!(out, "{}", self.headline(receipt))?;
        writeln!(out)?;
        let mut row = |name: &str, text: String| writeln!(out, "  {name:10} {text}");
        row("from", self.ends.source.clone())?;
        row("to", self.ends.target.clone())?;
        row("compared", compared(receipt, self.depth))?;
        if let Some(before) = &receipt.before_repair {
            row("found", found(before))?;
        }
        if let Some(repaired) = &receipt.repaired {
            let name = if self.is_dry_run {
                "repair"
            } else {
                "repaired"
            };
            row(name, repair(repaired, self.is_dry_run))?;
        }
        let nothing = match receipt.outcome {
            Outcome::Stopped(_) => "nothing so far",
            _ => "nothing",
        };
        write_counts(&mut row, &receipt.counts, nothing)?;
        if receipt.retries > 0 {
            row("retries", size::show_count(receipt.retries))?;
        }
        if let Some(path) = self.files.diff_file {
            row("diff file", path.display().to_string())?;
        }
        if let Some(path) = self.files.report {
            row("report", path.display().to_string())?;
        }
        write_lists(out, receipt)?;
        if matches!(receipt.outcome, Outcome::Stopped(_)) {
            let way = match &receipt.saved {
                Some(_) => "it goes on where it stopped (--restart begins anew)",
                None => "it starts over",
            };
            writeln!(out, "\nto go on, give the same command again: {way}")?;
            if let Some(path) = &receipt.saved {
                writeln!(out, "how far it came is saved in {}", path.display())?;
            }
        }
        Ok(())
    }

    fn headline(&self, receipt: &CompareReceipt) -> String {
        let mut text = verdict(receipt, self.depth, self.extent);
        if self.exit != Exit::of_comparison(receipt) {
            let code = self.exit.code();
            text.push_str(&format!(" (exit code {code}: a file could not be written)"));
        } else if self.exit != Exit::Done {
            text.push_str(&format!(" (exit code {})", self.exit.code()));
        }
        text
    }
}

/// Whether nothing differs for certain, and only some keys are not known.
pub(crate) fn is_not_known(receipt: &CompareReceipt) -> bool {
    Exit::of_comparison(receipt) == Exit::Different && receipt.counts.differences() == 0
}

fn write_lists(out: &mut impl Write, receipt: &CompareReceipt) -> io::Result<()> {
    let lists = [
        ("differences, the first ones", &receipt.examples),
        ("functions", &receipt.functions),
        ("remarks", &receipt.remarks),
    ];
    for (title, lines) in lists {
        if !lines.is_empty() {
            writeln!(out, "\n{title}:")?;
        }
        // A difference has lines of its own where the inside of values is shown.
        for line in lines.iter().flat_map(|text| text.lines()) {
            writeln!(out, "  {line}")?;
        }
    }
    Ok(())
}

fn verdict(receipt: &CompareReceipt, depth: Depth, extent: Extent) -> String {
    let counts = &receipt.counts;
    let not_known = counts.unsettled + counts.errors;
    let left = match receipt.before_repair {
        Some(_) => " left after the repair",
        None => "",
    };
    match &receipt.outcome {
        Outcome::Stopped(reason) => format!("stopped before the end: {reason}"),
        _ if is_not_known(receipt) => match not_known {
            0 => {
                "not known: function libraries could not be compared, the keys are the same".into()
            }
            keys => format!(
                "not known: {}, no difference in the others",
                count(keys, "key")
            ),
        },
        _ if counts.differences() > 0 => {
            let mut text = format!(
                "different: {}{left}",
                count(counts.differences(), "difference")
            );
            if not_known > 0 {
                text.push_str(&format!(", {} not known", count(not_known, "key")));
            }
            text
        }
        _ => equal(receipt, depth, extent),
    }
}

fn equal(receipt: &CompareReceipt, depth: Depth, extent: Extent) -> String {
    let which = match extent {
        Extent::Every => "",
        Extent::Filtered => " that the filters take",
        Extent::Named => " of the file",
    };
    let checked = receipt.counts.checked;
    if checked == 0 && receipt.before_repair.is_none() {
        return format!("equal: no key{which} was there to compare on either side");
    }
    let after = match receipt.before_repair {
        Some(_) => " after the repair",
        None => "",
    };
    if checked == 0 {
        return format!("equal{after}: no key{which} is on either side");
    }
    let verb = if checked == 1 { "is" } else { "are" };
    let how = match depth {
        Depth::Full if extent == Extent::Named => "in type, expiry and value",
        Depth::Full => "in both directions, with their values",
        Depth::Quick => "in existence, type and expiry; values were not compared",
    };
    let earlier = receipt.earlier.map(|earlier| {
        format!(
            "; about {} of them as an earlier run found them, up to {} before this one",
            size::show_count(earlier.keys_same),
            duration::show(earlier.ago)
        )
    });
    format!(
        "equal{after}: {}{which} {verb} the same {how}{}",
        count(checked, "key"),
        earlier.unwrap_or_default()
    )
}

fn compared(receipt: &CompareReceipt, depth: Depth) -> String {
    let keys = receipt
        .before_repair
        .as_ref()
        .unwrap_or(&receipt.counts)
        .checked;
    let mut text = format!("{} in {}", count(keys, "key"), duration::show(receipt.time));
    // A rate over an instant says nothing.
    if receipt.time >= Duration::from_millis(100) {
        let rate = (keys as f64 / receipt.time.as_secs_f64()) as u64;
        text.push_str(&format!(" ({} keys/s)", size::show_count(rate)));
    }
    if depth == Depth::Quick {
        text.push_str(", without values");
    }
    text
}

fn write_counts(
    row: &mut impl FnMut(&str, String) -> io::Result<()>,
    counts: &CompareCounts,
    nothing: &str,
) -> io::Result<()> {
    row("same", count(counts.same, "key"))?;
    let of_target = |number| match number {
        0 => nothing.to_owned(),
        keys => count(keys, "key"),
    };
    row("missing", of_target(counts.missing))?;
    row("extra", of_target(counts.extra))?;
    row("different", different(counts, nothing))?;
    if counts.unsettled > 0 {
        row(
            "unsettled",
            format!("{} written all the time", count(counts.unsettled, "key")),
        )?;
    }
    if counts.errors > 0 {
        row(
            "errors",
            format!("{} that could not be compared", count(counts.errors, "key")),
        )?;
    }
    match counts.functions_differ {
        0 => Ok(()),
        1 => row("functions", "1 library differs".into()),
        libraries => {
            let libraries = size::show_count(libraries);
            row("functions", format!("{libraries} libraries differ"))
        }
    }
}

fn different(counts: &CompareCounts, nothing: &str) -> String {
    let parts = [
        (counts.type_differs, "of another type"),
        (counts.value_differs, "with another value"),
        (counts.expiry_differs, "with another expiry alone"),
    ];
    let all = parts.iter().map(|(number, _)| number).sum();
    let parts = parts.iter().filter(|(number, _)| *number > 0);
    let parts: Vec<String> = parts
        .map(|(number, what)| format!("{} {what}", size::show_count(*number)))
        .collect();
    match all {
        0 => nothing.into(),
        keys => format!("{}: {}", count(keys, "key"), parts.join(", ")),
    }
}

/// What there was before a repair, in one line.
fn found(counts: &CompareCounts) -> String {
    let parts = [
        (counts.missing, "missing"),
        (counts.extra, "extra"),
        (
            counts.type_differs + counts.value_differs + counts.expiry_differs,
            "different",
        ),
        (counts.unsettled, "unsettled"),
        (counts.errors, "not compared"),
    ];
    let parts = parts.iter().filter(|(number, _)| *number > 0);
    let mut parts: Vec<String> = parts
        .map(|(number, what)| format!("{} {what}", size::show_count(*number)))
        .collect();
    if counts.functions_differ > 0 {
        let ies = if counts.functions_differ == 1 {
            "y"
        } else {
            "ies"
        };
        let number = size::show_count(counts.functions_differ);
        parts.push(format!("{number} function librar{ies} different"));
    }
    match parts.is_empty() {
        true => "nothing".into(),
        false => parts.join(", "),
    }
}

fn repair(repaired: &RepairCounts, is_dry_run: bool) -> String {
    let RepairCounts {
        copied,
        deleted,
        left,
        functions_copied,
        functions_deleted,
    } = *repaired;
    let with = |keys: String, libraries: u64| match libraries {
        0 => keys,
        1 => format!("{keys} and 1 function library"),
        _ => format!(
            "{keys} and {} function libraries",
            size::show_count(libraries)
        ),
    };
    let copied = with(count(copied, "key"), functions_copied);
    let deleted = match functions_deleted {
        0 => size::show_count(deleted),
        libraries => with(count(deleted, "key"), libraries),
    };
    let mut text = match is_dry_run {
        true => format!("would copy {copied} and delete {deleted}; nothing was written"),
        false => format!("{copied} copied, {deleted} deleted"),
    };
    if left > 0 {
        let verb = if left == 1 { "stays" } else { "stay" };
        let left = size::show_count(left);
        text.push_str(&format!("; {left} extra {verb} (--delete-extra deletes)"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(outcome: Outcome, counts: CompareCounts) -> CompareReceipt {
        CompareReceipt {
            outcome,
            counts,
            before_repair: None,
            repaired: None,
            examples: Vec::new(),
            functions: Vec::new(),
            earlier: None,
            saved: None,
            retries: 0,
            time: Duration::from_secs(2),
            remarks: Vec::new(),
        }
    }

    fn same(keys: u64) -> CompareCounts {
        CompareCounts {
            checked: keys,
            same: keys,
            ..CompareCounts::default()
        }
    }

    fn text_at(receipt: &CompareReceipt, depth: Depth, is_dry_run: bool) -> String {
        let ends = Ends {
            source: "redis://a:1".into(),
            target: "redis://b:1".into(),
        };
        let summary = Summary {
            ends: &ends,
            depth,
            extent: Extent::Every,
            is_dry_run,
            exit: Exit::of_comparison(receipt),
            files: Files {
                diff_file: Some(Path::new("d.txt")),
                report: Some(Path::new("r.json")),
            },
        };
        let mut out = Vec::new();
        summary.write(&mut out, receipt).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn text(receipt: &CompareReceipt) -> String {
        text_at(receipt, Depth::Full, false)
    }

    #[test]
    fn equal() {
        let expected = "\
equal: 1,002 keys are the same in both directions, with their values

  from       redis://a:1
  to         redis://b:1
  compared   1,002 keys in 2.0 s (501 keys/s)
  same       1,002 keys
  missing    nothing
  extra      nothing
  different  nothing
  diff file  d.txt
  report     r.json
";
        assert_eq!(text(&receipt(Outcome::Done, same(1002))), expected);
    }

    #[test]
    fn different() {
        let counts = CompareCounts {
            checked: 1010,
            same: 1000,
            missing: 3,
            extra: 1,
            type_differs: 1,
            value_differs: 2,
            expiry_differs: 1,
            unsettled: 1,
            errors: 1,
            functions_differ: 1,
            functions_unknown: false,
        };
        let receipt = CompareReceipt {
            examples: vec![
                "db 0 \"h\": value differs\n  field \"f\": 1 / 2".into(),
                "db 0 \"m\": missing".into(),
            ],
            functions: vec!["library \"l\" is not on the target".into()],
            remarks: vec!["a:1 was scanned again".into()],
            retries: 2,
            ..receipt(Outcome::Different, counts)
        };
        let expected = "\
different: 9 differences, 2 keys not known (exit code 1)

  from       redis://a:1
  to         redis://b:1
  compared   1,010 keys in 2.0 s (505 keys/s)
  same       1,000 keys
  missing    3 keys
  extra      1 key
  different  4 keys: 1 of another type, 2 with another value, 1 with another expiry alone
  unsettled  1 key written all the time
  errors     1 key that could not be compared
  functions  1 library differs
  retries    2
  diff file  d.txt
  report     r.json

differences, the first ones:
  db 0 \"h\": value differs
    field \"f\": 1 / 2
  db 0 \"m\": missing

functions:
  library \"l\" is not on the target

remarks:
  a:1 was scanned again
";
        assert_eq!(text(&receipt), expected);
    }

    #[test]
    fn repaired() {
        let before = CompareCounts {
            checked: 1003,
            same: 1000,
            missing: 2,
            extra: 1,
            ..CompareCounts::default()
        };
        let after = CompareCounts {
            checked: 1003,
            same: 1002,
            extra: 1,
            ..CompareCounts::default()
        };
        let repaired = RepairCounts {
            copied: 2,
            deleted: 0,
            left: 1,
            ..RepairCounts::default()
        };
        let done = CompareReceipt {
            before_repair: Some(before.clone()),
            repaired: Some(repaired.clone()),
            ..receipt(Outcome::Different, after)
        };
        let shown = text(&done);
        let expected = "\
different: 1 difference left after the repair (exit code 1)

  from       redis://a:1
  to         redis://b:1
  compared   1,003 keys in 2.0 s (501 keys/s)
  found      2 missing, 1 extra
  repaired   2 keys copied, 0 deleted; 1 extra stays (--delete-extra deletes)
  same       1,002 keys
";
        assert!(shown.starts_with(expected), "{shown}");
        let would = CompareReceipt {
            repaired: Some(repaired),
            ..receipt(Outcome::Different, before)
        };
        let shown = text_at(&would, Depth::Full, true);
        let row = "  repair     would copy 2 keys and delete 0; nothing was written; 1 extra stays \
                   (--delete-extra deletes)\n";
        assert!(shown.contains(row), "{shown}");
        let all = CompareReceipt {
            before_repair: Some(same(1)),
            ..receipt(Outcome::Done, same(1003))
        };
        let shown = text(&all);
        assert!(
            shown.starts_with("equal after the repair: 1,003 keys are the same"),
            "{shown}"
        );
    }

    #[test]
    fn verdicts() {
        let unsettled = CompareCounts {
            checked: 3,
            same: 1,
            unsettled: 1,
            errors: 1,
            ..CompareCounts::default()
        };
        let rows = [
            (
                receipt(Outcome::Different, unsettled.clone()),
                "not known: 2 keys, no difference in the others (exit code 1)\n",
            ),
            // Whoever says that it is done must have seen all.
            (
                receipt(Outcome::Done, unsettled),
                "not known: 2 keys, no difference in the others (exit code 1)\n",
            ),
            (
                receipt(Outcome::Different, same(3)),
                "not known: function libraries could not be compared, the keys are the same (exit code 1)\n",
            ),
            (
                receipt(Outcome::Done, same(0)),
                "equal: no key was there to compare on either side\n",
            ),
            (
                receipt(Outcome::Stopped("asked to".into()), same(3)),
                "stopped before the end: asked to (exit code 5)\n",
            ),
        ];
        for (receipt, expected) in rows {
            let shown = text(&receipt);
            assert!(shown.starts_with(expected), "{shown}");
        }
        let quick = text_at(&receipt(Outcome::Done, same(1)), Depth::Quick, false);
        let expected =
            "equal: 1 key is the same in existence, type and expiry; values were not compared\n";
        assert!(quick.starts_with(expected), "{quick}");
        let stopped = text(&receipt(Outcome::Stopped("asked to".into()), same(3)));
        assert!(
            stopped.contains("  extra      nothing so far\n"),
            "{stopped}"
        );
        assert!(
            stopped.ends_with("give the same command again: it starts over\n"),
            "{stopped}"
        );
    }

    #[test]
    fn a_part_is_not_taken_for_the_whole() {
        for (extent, keys, expected) in [
            (
                Extent::Filtered,
                2,
                "equal: 2 keys that the filters take are the same in both directions, with their values",
            ),
            (
                Extent::Named,
                1,
                "equal: 1 key of the file is the same in type, expiry and value",
            ),
            (
                Extent::Filtered,
                0,
                "equal: no key that the filters take was there to compare on either side",
            ),
        ] {
            let receipt = receipt(Outcome::Done, same(keys));
            assert_eq!(verdict(&receipt, Depth::Full, extent), expected);
        }
    }
}

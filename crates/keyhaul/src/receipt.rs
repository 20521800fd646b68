//! The summary on standard output: what was done, what was not, and what to do next.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use keyhaul_engine::follow::StatusSnapshot;
use keyhaul_engine::options::{OnConflict, Verify};
use keyhaul_engine::receipt::{Outcome, Receipt, VerifyCounts};

use crate::exit::Exit;
use crate::live::text::{self as live_text, SHARD_LINES_MAX};
use crate::{duration, size};

/// The two ends, without credentials.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    pub(crate) source: String,
    pub(crate) target: String,
}

/// What the summary says beside the receipt.
#[derive(Debug)]
pub(crate) struct Summary<'a> {
    pub(crate) ends: &'a Ends,
    pub(crate) on_conflict: OnConflict,
    /// How the verification looked.
    pub(crate) depth: Verify,
    pub(crate) exit: Exit,
    /// Where the JSON report was written, if it was.
    pub(crate) report: Option<&'a Path>,
}

impl Summary<'_> {
    /// Writes the summary.
    pub(crate) fn write(&self, out: &mut impl Write, receipt: &Receipt) -> io::Result<()> {
        let Self {
            ends,
            on_conflict,
            depth,
            exit,
            report,
        } = *self;
        writeln!(out, "{}", headline(receipt, exit))?;
        writeln!(out)?;
        let mut row = |name: &str, text: String| writeln!(out, "  {name:10} {text}");
        row("from", ends.source.clone())?;
        row("to", ends.target.clone())?;
        row("copied", copied(receipt))?;
        if let Some(bytes) = receipt.file_bytes {
            row(
                "file",
                format!("{}, synced and in its place", size::show(bytes)),
            )?;
        }
        if receipt.keys_chunked > 0 {
            let keys = count(receipt.keys_chunked, "key");
            row("in chunks", format!("{keys} of them, element by element"))?;
        }
        if receipt.keys_skipped > 0 {
            let keys = count(receipt.keys_skipped, "key");
            row("skipped", format!("{keys} that the target held already"))?;
        }
        if receipt.keys_gone > 0 {
            let keys = count(receipt.keys_gone, "key");
            row("gone", format!("{keys} expired or deleted before the copy"))?;
        }
        if receipt.functions_copied > 0 {
            row("functions", libraries(receipt.functions_copied))?;
        }
        row("not moved", not_moved(receipt))?;
        match &receipt.live {
            Some(live) => {
                let time = duration::show(receipt.copy_time);
                row(
                    "followed",
                    format!("{}, in {time}", live_text::followed(live)),
                )?;
                row("verified", "no: keyhaul compare does it".into())?;
            }
            None => row("verified", verified(receipt, on_conflict, depth))?,
        }
        if receipt.retries > 0 {
            row("retries", size::show_count(receipt.retries))?;
        }
        if let Some(report) = report {
            row("report", report.display().to_string())?;
        }
        write_lists(out, receipt)?;
        if let Some(live) = &receipt.live {
            write_shards(out, live)?;
        }
        if matches!(receipt.outcome, Outcome::Stopped(_)) {
            let way = match &receipt.saved {
                Some(_) => "it goes on where it stopped (--restart begins anew), and",
                None => "it starts over, and",
            };
            writeln!(out, "\nto go on, give the same command again: {way}")?;
            if let Some(path) = &receipt.saved {
                writeln!(out, "how far it came is saved in {}", path.display())?;
            }
            let is_file = ends.target.starts_with("file:");
            let fate = match (is_file, &receipt.live) {
                (true, _) => "no file was written; one that was there is as it was",
                (false, Some(_)) => "what the source does meanwhile goes over then",
                (false, None) => fate_of_what_is_there(on_conflict),
            };
            writeln!(out, "{fate}")?;
        } else if receipt.live.is_some() {
            writeln!(
                out,
                "\nnothing is left to apply; to follow the source further, give the same command again"
            )?;
        }
        Ok(())
    }
}

fn fate_of_what_is_there(on_conflict: OnConflict) -> &'static str {
    match on_conflict {
        OnConflict::Replace => "keys that are there already are replaced by the same",
        OnConflict::Skip => "keys that are there already are left as they are",
        OnConflict::Fail => "keys that are there already with the same value are left as they are",
    }
}

fn headline(receipt: &Receipt, exit: Exit) -> String {
    let unexplained = receipt.verify.as_ref().map_or(0, VerifyCounts::unexplained);
    let not_moved = receipt.not_moved.count;
    let mut text = match &receipt.outcome {
        Outcome::Stopped(reason) => match receipt.live.as_ref().map(live_text::lags) {
            Some(Some(lag)) => format!("stopped with the target {lag}: {reason}"),
            Some(None) => format!("stopped before the target was synced: {reason}"),
            None => format!("stopped before the end: {reason}"),
        },
        Outcome::Done if receipt.live.is_some() => {
            "done: the target is synced, it holds all that the source has done".into()
        }
        Outcome::Done => {
            let all = if receipt.keys_skipped > 0 {
                "are there"
            } else {
                "were copied"
            };
            let verified = if receipt.verify.is_some() {
                " and verified"
            } else {
                ", not verified"
            };
            format!("done: all keys {all}{verified}")
        }
        Outcome::Different | Outcome::NotAllMoved => {
            let mut parts = Vec::new();
            if unexplained > 0 {
                parts.push(format!("{} found", count(unexplained, "difference")));
            }
            if not_moved > 0 {
                parts.push(format!("{} not moved", count(not_moved, "key")));
            }
            if parts.is_empty() {
                parts.push("not everything was copied, see the remarks".into());
            }
            format!("finished: {}", parts.join(", "))
        }
    };
    if exit != Exit::of_receipt(receipt) {
        text.push_str(&format!(
            " (exit code {}: the report could not be written)",
            exit.code()
        ));
    } else if exit != Exit::Done {
        text.push_str(&format!(" (exit code {})", exit.code()));
    }
    text
}

fn copied(receipt: &Receipt) -> String {
    if receipt.live.is_some() {
        // The time is that of following, mostly.
        let keys = count(receipt.keys_copied, "key");
        return format!("{keys}, {}", size::show(receipt.bytes_copied));
    }
    let mut text = format!(
        "{}, {} in {}",
        count(receipt.keys_copied, "key"),
        size::show(receipt.bytes_copied),
        duration::show(receipt.copy_time)
    );
    // A rate over an instant says nothing.
    if receipt.copy_time >= Duration::from_millis(100) {
        let seconds = receipt.copy_time.as_secs_f64();
        let keys = (receipt.keys_copied as f64 / seconds) as u64;
        let bytes = (receipt.bytes_copied as f64 / seconds) as u64;
        text.push_str(&format!(
            " ({} keys/s, {}/s)",
            size::show_count(keys),
            size::show(bytes)
        ));
    }
    text
}

fn not_moved(receipt: &Receipt) -> String {
    match receipt.not_moved.count {
        0 => "nothing".into(),
        keys => count(keys, "key"),
    }
}

fn verified(receipt: &Receipt, on_conflict: OnConflict, depth: Verify) -> String {
    let Some(verify) = &receipt.verify else {
        return "no".into();
    };
    let what = match on_conflict {
        _ if receipt.file_bytes.is_some() => "read back from the file",
        // What was there before may be anything.
        OnConflict::Skip => "are on the target",
        _ if depth == Verify::Full => "the same in existence, type, value and expiry",
        OnConflict::Replace | OnConflict::Fail => "the same in existence, type and expiry",
    };
    let mut parts = vec![format!(
        "{} of {} {what}, in {}",
        size::show_count(verify.same),
        count(verify.checked, "key"),
        duration::show(receipt.verify_time)
    )];
    for (number, what) in [
        (verify.missing, "missing on the target"),
        (verify.type_differs, "of another type"),
        (verify.value_differs, "with another value"),
        (verify.expiry_differs, "with another expiry"),
        (verify.errors, "that could not be checked"),
        (verify.listed_as_not_moved, "of these listed as not moved"),
    ] {
        if number > 0 {
            parts.push(format!("{} {what}", size::show_count(number)));
        }
    }
    parts.join("; ")
}

/// Where each shard stopped.
fn write_shards(out: &mut impl Write, live: &StatusSnapshot) -> io::Result<()> {
    if !live.shards.is_empty() {
        writeln!(out, "\nwhere it stopped:")?;
    }
    for shard in live.shards.iter().take(SHARD_LINES_MAX) {
        writeln!(out, "  {}", live_text::stopped_at(shard))?;
    }
    match live.shards.len().saturating_sub(SHARD_LINES_MAX) {
        0 => Ok(()),
        more => writeln!(
            out,
            "  and {more} more shards (all of them with --report FILE)"
        ),
    }
}

fn write_lists(out: &mut impl Write, receipt: &Receipt) -> io::Result<()> {
    let not_moved = &receipt.not_moved;
    if !not_moved.first.is_empty() {
        let shown = not_moved.first.len() as u64;
        match not_moved.count.saturating_sub(shown) {
            0 => writeln!(out, "\nnot moved:")?,
            _ => writeln!(
                out,
                "\nnot moved, the first {shown} (all of them with --report FILE):"
            )?,
        }
        for key in &not_moved.first {
            writeln!(out, "  db {} \"{}\": {}", key.db, key.key, key.reason)?;
        }
    }
    let examples = receipt
        .verify
        .as_ref()
        .map_or(&[][..], |verify| &verify.examples);
    if !examples.is_empty() {
        writeln!(out, "\ndifferences, the first ones:")?;
    }
    for example in examples {
        writeln!(out, "  {example}")?;
    }
    if !receipt.remarks.is_empty() {
        writeln!(out, "\nremarks:")?;
    }
    for remark in &receipt.remarks {
        writeln!(out, "  {remark}")?;
    }
    Ok(())
}

/// `1 key`, `1,000 keys`.
pub(crate) fn count(number: u64, name: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {name}{s}", size::show_count(number))
}

fn libraries(number: u64) -> String {
    let ies = if number == 1 { "y" } else { "ies" };
    format!("{} librar{ies}", size::show_count(number))
}

#[cfg(test)]
mod tests {
    use keyhaul_engine::stats::NotMovedList;

    use super::*;

    fn receipt(outcome: Outcome, not_moved: &NotMovedList) -> Receipt {
        Receipt {
            outcome,
            keys_found: 1003,
            keys_copied: 1000,
            keys_chunked: 0,
            keys_skipped: 0,
            keys_gone: 1,
            bytes_copied: 4 << 20,
            retries: 0,
            functions_copied: 1,
            file_bytes: None,
            copy_time: Duration::from_secs(2),
            verify_time: Duration::from_millis(120),
            verify: Some(VerifyCounts {
                checked: 1002,
                same: 1002,
                ..VerifyCounts::default()
            }),
            not_moved: not_moved.finish(),
            saved: None,
            live: None,
            remarks: vec!["a:1 was scanned again".into()],
        }
    }

    fn text(receipt: &Receipt) -> String {
        let ends = Ends {
            source: "redis://a:1".into(),
            target: "redis://b:1".into(),
        };
        let mut out = Vec::new();
        let summary = Summary {
            ends: &ends,
            on_conflict: OnConflict::Replace,
            depth: Verify::Quick,
            exit: Exit::of_receipt(receipt),
            report: Some(Path::new("r.json")),
        };
        summary.write(&mut out, receipt).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn all_is_well() {
        let expected = "\
done: all keys were copied and verified

  from       redis://a:1
  to         redis://b:1
  copied     1,000 keys, 4.0 MB in 2.0 s (500 keys/s, 2.0 MB/s)
  gone       1 key expired or deleted before the copy
  functions  1 library
  not moved  nothing
  verified   1,002 of 1,002 keys the same in existence, type and expiry, in 120 ms
  report     r.json

remarks:
  a:1 was scanned again
";
        assert_eq!(
            text(&receipt(Outcome::Done, &NotMovedList::default())),
            expected
        );
    }

    #[test]
    fn headlines() {
        let list = || {
            let list = NotMovedList::default();
            list.add(0, b"big", "larger than --mem-limit".into());
            list
        };
        let not_moved = receipt(Outcome::NotAllMoved, &list());
        let shown = text(&not_moved);
        assert!(
            shown.starts_with("finished: 1 key not moved (exit code 4)\n"),
            "{shown}"
        );
        assert!(
            shown.contains("not moved:\n  db 0 \"big\": larger than --mem-limit\n"),
            "{shown}"
        );
        let mut both = receipt(Outcome::NotAllMoved, &list());
        let verify = VerifyCounts {
            missing: 3,
            listed_as_not_moved: 1,
            ..VerifyCounts::default()
        };
        both.verify = Some(verify);
        let shown = text(&both);
        let headline = "finished: 2 differences found, 1 key not moved (exit code 1)\n";
        assert!(shown.starts_with(headline), "{shown}");
        let stopped = receipt(
            Outcome::Stopped("asked to".into()),
            &NotMovedList::default(),
        );
        let shown = text(&stopped);
        assert!(
            shown.starts_with("stopped before the end: asked to (exit code 5)\n"),
            "{shown}"
        );
        assert!(shown.contains("give the same command again"), "{shown}");
    }

    #[test]
    fn a_job_that_followed() {
        let mut synced = receipt(Outcome::Done, &NotMovedList::default());
        (synced.verify, synced.remarks) = (None, Vec::new());
        synced.live = Some(crate::live::tests::one_shard());
        let shown = text(&synced);
        let expected = "\
done: the target is synced, it holds all that the source has done

  from       redis://a:1
  to         redis://b:1
  copied     1,000 keys, 4.0 MB
  gone       1 key expired or deleted before the copy
  functions  1 library
  not moved  nothing
  followed   70 commands, 3 keys read again, 1 full and 4 partial resyncs, in 2.0 s
  verified   no: keyhaul compare does it
  report     r.json

where it stopped:
  a:1: applied up to offset 4000 of 0123, 1000 B behind

nothing is left to apply; to follow the source further, give the same command again
";
        assert_eq!(shown, expected);
        synced.outcome = Outcome::Stopped("interrupted".into());
        synced.saved = Some("/s/job".into());
        let shown = text(&synced);
        let headline =
            "stopped with the target 1000 B and 12 ms behind: interrupted (exit code 5)\n";
        assert!(shown.starts_with(headline), "{shown}");
        assert!(
            shown.ends_with("\nwhat the source does meanwhile goes over then\n"),
            "{shown}"
        );
        let one = synced
            .live
            .iter()
            .flat_map(|live| live.shards.clone())
            .next()
            .unwrap();
        let many = keyhaul_engine::follow::StatusSnapshot {
            shards: vec![one; 40],
            ..Default::default()
        };
        synced.live = Some(many);
        assert!(
            text(&synced).contains("and 24 more shards"),
            "{}",
            text(&synced)
        );
    }
}

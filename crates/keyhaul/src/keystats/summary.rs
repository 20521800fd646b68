//! The summary on standard error: how much was looked at, and what the reader of the data should know.

use keyhaul_engine::receipt::Outcome;
use keyhaul_engine::stats::StatsReceipt;

use crate::exit::Exit;
use crate::receipt::count;
use crate::{duration, size};

/// How many keys that could not be read are named.
const UNREAD_SHOWN: usize = 5;

/// The lines. `found` says what was found, such as `3 keys above 100 MB`; `size_of` what the sizes are of.
pub(crate) fn text(
    receipt: &StatsReceipt,
    exit: Exit,
    source: &str,
    found: &str,
    size_of: &str,
) -> String {
    let mut lines = vec![headline(receipt, exit, found), String::new()];
    let mut row = |name: &str, text: String| lines.push(format!("  {name:10} {text}"));
    row("source", source.to_owned());
    row("looked at", looked_at(receipt, size_of));
    if receipt.keys_gone > 0 {
        let keys = count(receipt.keys_gone, "key");
        row("gone", format!("{keys} expired or vanished before"));
    }
    if receipt.unread.count > 0 {
        let keys = count(receipt.unread.count, "key");
        row(
            "unread",
            format!("{keys} that the server does not tell about"),
        );
    }
    if receipt.retries > 0 {
        row("retries", size::show_count(receipt.retries));
    }
    if receipt.unread.count > 0 {
        lines.extend([String::new(), "unread, the first ones:".into()]);
        let first = receipt.unread.first.iter().take(UNREAD_SHOWN);
        lines.extend(first.map(|key| format!("  db {} \"{}\": {}", key.db, key.key, key.reason)));
    }
    if !receipt.remarks.is_empty() {
        lines.extend([String::new(), "remarks:".into()]);
        lines.extend(receipt.remarks.iter().map(|line| format!("  {line}")));
    }
    if let Outcome::Stopped(_) = receipt.outcome {
        let how = match receipt.saved {
            Some(_) => "to go on, give the same command again",
            None => "give the same command again: it starts over",
        };
        lines.extend([String::new(), how.into()]);
    }
    lines.join("\n")
}

fn headline(receipt: &StatsReceipt, exit: Exit, found: &str) -> String {
    let text = match &receipt.outcome {
        Outcome::Stopped(reason) => format!("stopped before the end: {reason}"),
        Outcome::NotAllMoved => format!("done, but not of all keys: {found}"),
        _ if receipt.counts_twice => format!("done, but keys count twice: {found}"),
        Outcome::Done | Outcome::Different => format!("done: {found}"),
    };
    match exit {
        Exit::Done => text,
        exit => format!("{text} (exit code {})", exit.code()),
    }
}

fn looked_at(receipt: &StatsReceipt, size_of: &str) -> String {
    let mut text = format!(
        "{}, {} {size_of}, in {}",
        count(receipt.keys, "key"),
        size::show(receipt.size_bytes),
        duration::show(receipt.time)
    );
    // A rate over an instant says nothing.
    let seconds = receipt.time.as_secs_f64();
    if seconds >= 0.1 {
        let rate = (receipt.keys_this_run as f64 / seconds) as u64;
        text.push_str(&format!(" ({} keys/s)", size::show_count(rate)));
    }
    text
}

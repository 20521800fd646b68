//! `keyhaul big-keys --dry-run`: which keys there are, and how each would go.

use std::fmt::Write as _;
use std::sync::Arc;

use keyhaul_engine::progress::Progress;
use keyhaul_engine::stats::key_text;
use keyhaul_engine::{BigKeyListing, BigKeyWay, Job};
use tokio_util::sync::CancellationToken;

use crate::copy::{lost_report, plan_text, write_stdout};
use crate::exit::Exit;
use crate::output_file::OutputFile;
use crate::receipt::Ends;
use crate::report::Report;
use crate::screen::Screen;
use crate::size;

/// Prints the plan to standard error, and the list to standard output.
pub(crate) async fn list(
    job: &Job,
    ends: &Ends,
    report: Option<&OutputFile>,
    screen: &Screen,
    stop: CancellationToken,
) -> anyhow::Result<Exit> {
    screen.line(&plan_text(job.plan()));
    let mut keys = match job.list_big_keys(Arc::new(Progress::default()), stop).await {
        Ok(keys) => keys,
        Err(reason) => {
            screen.line(&format!("error: stopped before the end: {reason}"));
            return Ok(Exit::Stopped);
        }
    };
    keys.sort_by(|a, b| {
        let order = |key: &BigKeyListing| (std::cmp::Reverse(key.memory_bytes), key.db);
        order(a).cmp(&order(b)).then_with(|| a.key.cmp(&b.key))
    });
    if let Some(file) = report {
        file.write_json(&Report::of_plan(ends, &job.plan().warning_lines()))
            .map_err(|e| anyhow::anyhow!(lost_report(file, &e)))?;
    }
    write_stdout(table(&keys).as_bytes())?;
    Ok(Exit::Done)
}

fn table(keys: &[BigKeyListing]) -> String {
    let sum = keys.iter().map(|key| key.memory_bytes).sum();
    let noun = if keys.len() == 1 { "key" } else { "keys" };
    let count = size::show_count(keys.len() as u64);
    let mut text = format!("{count} {noun}, {} of memory\n", size::show(sum));
    if keys.is_empty() {
        return text;
    }
    let row = |text: &mut String, columns: [&str; 5]| {
        let [memory, key_type, way, db, key] = columns;
        // A String takes everything.
        let _ = writeln!(text, "{memory:>10}  {key_type:<8} {way:<9} {db:>3}  {key}");
    };
    row(&mut text, ["SIZE", "TYPE", "WAY", "DB", "KEY"]);
    for key in keys {
        let way = match key.way {
            BigKeyWay::Whole => "whole",
            BigKeyWay::Chunks => "chunks",
            BigKeyWay::TooLong(_) => "too long",
            BigKeyWay::Missing => "missing",
        };
        let (memory, db) = (size::show(key.memory_bytes), key.db.to_string());
        row(
            &mut text,
            [&memory, &key.key_type, way, &db, &key_text(&key.key)],
        );
    }
    if keys
        .iter()
        .any(|key| matches!(key.way, BigKeyWay::TooLong(_)))
    {
        text.push_str(
            "too long: the target takes it when proto-max-bulk-len and client-query-buffer-limit are raised above its size there\n",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_for_each_key() {
        let key = |key: &'static [u8], memory_bytes, way| BigKeyListing {
            db: 3,
            key: key.into(),
            key_type: "zset".into(),
            memory_bytes,
            way,
        };
        let keys = [
            key(b"a\n", 3 << 30, BigKeyWay::Chunks),
            key(b"b", 1 << 20, BigKeyWay::TooLong(1 << 20)),
        ];
        assert_eq!(
            table(&keys),
            "2 keys, 3.0 GB of memory\n      SIZE  TYPE     WAY        DB  KEY\n    \
             3.0 GB  zset     chunks      3  a\\x0A\n    1.0 MB  zset     too long    3  b\n\
             too long: the target takes it when proto-max-bulk-len and client-query-buffer-limit are \
             raised above its size there\n"
        );
        assert_eq!(table(&[]), "0 keys, 0 B of memory\n");
    }
}

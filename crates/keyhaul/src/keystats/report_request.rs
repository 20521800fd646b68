//! From what was typed to what a report needs.

use std::time::{SystemTime, UNIX_EPOCH};

use keyhaul_engine::stats::ShardSplit;
use keyhaul_engine::stats::report::{PREFIX_DEPTH_MAX, ReportOptions, SizeKind, TOP_MAX};

use super::report_csv::CsvFolder;
use crate::args::ReportArgs;
use crate::output_file::OutputFile;
use crate::usage::UsageError;
use crate::{job, size};

/// Most prefixes below one that can be asked for; all of a report are no more.
const PREFIX_WIDTH_MAX: usize = 2000;

/// A report, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReportOutput {
    pub(crate) options: ReportOptions,
    /// Standard output gets JSON and not the page.
    pub(crate) is_json: bool,
    pub(crate) html: Option<OutputFile>,
    pub(crate) csv: Option<CsvFolder>,
}

impl ReportOutput {
    /// What a run must have in common with an earlier one to go on from it.
    pub(crate) fn identity(&self) -> String {
        let options = ReportOptions {
            now_ms: 0,
            ..self.options.clone()
        };
        format!("keystats report {options:?}")
    }
}

/// Understands the options of `keyhaul keystats report` that the others do not have. Sizes are those of a server.
pub(super) fn output(args: &ReportArgs) -> Result<ReportOutput, UsageError> {
    let number = |option, text: &str, max: usize| {
        let max = u32::try_from(max).unwrap_or(u32::MAX);
        job::number(option, text, max).map(|number| number as usize)
    };
    let shards = args.shards.trim().parse().ok();
    let shards = shards.filter(|count| ShardSplit::new(*count).is_some());
    let csv = args.csv.as_deref();
    let csv = csv
        .map(|path| CsvFolder::check("--csv", path))
        .transpose()?;
    let html = args.html.as_deref();
    if let (Some(html), Some(csv)) = (html, &csv)
        && csv.collides_with(html)
    {
        return Err(UsageError::new(
            "--html and --csv name the same place: one would replace the other",
        ));
    }
    Ok(ReportOutput {
        options: ReportOptions {
            separator: args.separator.clone(),
            prefix_depth: number("--prefix-depth", &args.prefix_depth, PREFIX_DEPTH_MAX)?,
            prefix_width: number("--prefix-width", &args.prefix_width, PREFIX_WIDTH_MAX)?,
            top: number("--top", &args.top, TOP_MAX)?,
            shards: shards
                .ok_or_else(|| UsageError::new("--shards needs a number from 1 to 16384"))?,
            chunk_threshold: size::parse(&args.chunk_threshold).ok_or_else(|| {
                UsageError::new("--chunk-threshold needs a size like 512, 64kb or 1.5gb")
            })?,
            ..ReportOptions::new(SizeKind::Memory, now_ms())
        },
        is_json: args.json,
        html: html
            .map(|path| OutputFile::check("--html", path))
            .transpose()?,
        csv,
    })
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

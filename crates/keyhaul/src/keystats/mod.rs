//! `keyhaul keystats`, told from top to bottom: probe, go over all keys, write the data. Standard output carries the data
//! and nothing else.

mod csv;
mod report_request;
mod request;
mod summary;

mod report_csv;
mod report_html;
mod report_json;
mod report_page;
mod text_table;

#[cfg(test)]
mod sample;

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use keyhaul_engine::place::Place;
use keyhaul_engine::progress::Progress;
use keyhaul_engine::receipt::Outcome;
use keyhaul_engine::stats::report::{About, Report, ReportBuilder};
use keyhaul_engine::stats::{
    Collector, MemKey, MemKeys, ROWS_REMEMBERED_MAX, ShardSplit, SlotSums, StatsJob, StatsReceipt,
};
use tokio_util::sync::CancellationToken;

use crate::copy::{is_filtered, write_stdout};
use crate::exit::Exit;
use crate::progress::{self, ShowOptions, Style};
use crate::receipt::count;
use crate::screen::Screen;
use crate::size;

pub(crate) use request::{KeystatsRequest, request};

use report_request::ReportOutput;
use request::Output;

/// Runs the command. When `stop` is cancelled, what was read is written down and the rest left.
pub(crate) async fn keystats(
    request: KeystatsRequest,
    screen: &Screen,
    stop: CancellationToken,
) -> anyhow::Result<Exit> {
    if request.is_verbose {
        screen.show_log();
    }
    for note in &request.notes {
        screen.line(note);
    }
    let preparing = StatsJob::prepare(request.source.clone(), request.options.clone());
    let mut job = tokio::select! {
        job = preparing => job?,
        () = stop.cancelled() => {
            screen.line("stopped before anything was looked at");
            return Ok(Exit::Stopped);
        }
    };
    job.open_checkpoint()?;
    for node in &job.source().primaries {
        node.facts
            .degraded
            .iter()
            .for_each(|lacking| tracing::info!("{}: {lacking}", node.address));
    }
    match request.output {
        Output::MemKeys { limit_bytes } => mem_keys(job, &request, limit_bytes, screen, stop).await,
        Output::Slots { split } => slots(job, &request, split, screen, stop).await,
        Output::Report(ref output) => report(job, &request, output, screen, stop).await,
    }
}

async fn mem_keys(
    job: StatsJob,
    request: &KeystatsRequest,
    limit_bytes: u64,
    screen: &Screen,
    stop: CancellationToken,
) -> anyhow::Result<Exit> {
    write_stdout(csv::MEM_KEYS_HEADER.as_bytes()).context("cannot write to standard output")?;
    let is_closed = Arc::new(AtomicBool::new(false));
    let keys = MemKeys::new(limit_bytes, {
        let is_closed = is_closed.clone();
        Box::new(move |rows| write_rows(rows, &is_closed))
    });
    let (mut receipt, keys) = run(job, request, keys, screen, stop).await?;
    if is_closed.load(Ordering::Relaxed) {
        // `| head`: the reader has seen enough.
        return Ok(Exit::Done);
    }
    receipt.settle();
    if keys.dbs() > 1 {
        receipt.remarks.push(format!(
            "the rows are of {} dbs, and do not say which: choose one with --db",
            keys.dbs()
        ));
    }
    if keys.may_repeat() {
        receipt.remarks.push(format!(
            "only the first {} rows are remembered: a key that the server returned twice may stand twice",
            size::show_count(ROWS_REMEMBERED_MAX as u64)
        ));
    }
    let limit = size::show(limit_bytes);
    let found = format!("{} above {limit}", count(keys.rows(), "key"));
    let exit = Exit::of_statistics(&receipt);
    Ok(sum_up(&receipt, request, &found, exit, screen))
}

/// Writes rows as they are found.
fn write_rows(rows: &[MemKey], is_closed: &AtomicBool) -> io::Result<()> {
    // A reader that is slow must not hold up other tasks.
    let written = tokio::task::block_in_place(|| {
        csv::write_mem_keys(&mut BufWriter::new(io::stdout().lock()), rows)
    });
    written.map_err(|e| {
        if e.kind() == io::ErrorKind::BrokenPipe {
            is_closed.store(true, Ordering::Relaxed);
        }
        io::Error::new(e.kind(), format!("cannot write to standard output: {e}"))
    })
}

async fn slots(
    job: StatsJob,
    request: &KeystatsRequest,
    split: ShardSplit,
    screen: &Screen,
    stop: CancellationToken,
) -> anyhow::Result<Exit> {
    let (mut receipt, sums) = run(job, request, SlotSums::default(), screen, stop).await?;
    let rows = sums.shards(split);
    // Sums of a part would be taken for those of the whole.
    if !matches!(receipt.outcome, Outcome::Stopped(_)) {
        let mut text = csv::SLOTS_HEADER.as_bytes().to_vec();
        rows.iter().for_each(|row| csv::push_shard(&mut text, row));
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(&text).and_then(|()| stdout.flush());
        if !is_lost(&written) {
            receipt.settle();
        }
        written.context("cannot write to standard output")?;
    }
    let found = format!(
        "{} of {} hold keys",
        count(rows.len() as u64, "shard"),
        size::show_count(split.count() as u64)
    );
    let exit = Exit::of_statistics(&receipt);
    Ok(sum_up(&receipt, request, &found, exit, screen))
}

async fn report(
    job: StatsJob,
    request: &KeystatsRequest,
    output: &ReportOutput,
    screen: &Screen,
    stop: CancellationToken,
) -> anyhow::Result<Exit> {
    if let Some(folder) = &output.csv {
        folder.make()?;
    }
    let builder = ReportBuilder::new(output.options.clone());
    let (mut receipt, builder) = run(job, request, builder, screen, stop).await?;
    let mut report = builder.finish();
    let found = count(report.totals.sum.keys, "key");
    let mut exit = Exit::of_statistics(&receipt);
    // A report on a part would be taken for one on the whole.
    if !matches!(receipt.outcome, Outcome::Stopped(_)) {
        report.about = about(&receipt, request);
        let lost = write_report(&report, output);
        lost.iter()
            .for_each(|line| screen.line(&format!("error: {line}")));
        if lost.is_empty() {
            receipt.settle();
        } else {
            exit = exit.with_lost_output();
        }
        if !lost.is_empty() && receipt.kept.is_some() {
            receipt.remarks.push(
                "the same command writes the report at once, without reading all keys again".into(),
            );
        }
    }
    Ok(sum_up(&receipt, request, &found, exit, screen))
}

/// Whether something was not written that somebody would have read.
fn is_lost(written: &io::Result<()>) -> bool {
    let reason = written.as_ref().err();
    reason.is_some_and(|e| e.kind() != io::ErrorKind::BrokenPipe)
}

fn about(receipt: &StatsReceipt, request: &KeystatsRequest) -> About {
    let mut remarks = receipt.remarks.clone();
    if receipt.unread.count > 0 {
        let keys = count(receipt.unread.count, "key");
        remarks.push(format!(
            "{keys} not counted: the server does not tell about them"
        ));
    }
    About {
        keyhaul: env!("CARGO_PKG_VERSION").into(),
        source: request.source.to_string(),
        seconds: receipt.time.as_secs_f64(),
        remarks,
    }
}

/// Writes everything that can be written, and returns what cannot.
fn write_report(report: &Report, output: &ReportOutput) -> Vec<String> {
    let mut lost = Vec::new();
    if let Some(folder) = &output.csv {
        lost.extend(folder.write(report));
    }
    if let Some(file) = &output.html
        && let Err(e) = file.write(|out| report_html::write(out, report))
    {
        lost.push(format!("cannot write {}: {e}", file.shown().display()));
    }
    let mut text = Vec::new();
    let made = match output.is_json {
        true => report_json::write(&mut text, report),
        false => report_page::write(&mut text, report),
    };
    let written = made.and_then(|()| write_stdout(&text));
    if is_lost(&written)
        && let Err(e) = written
    {
        lost.push(format!("cannot write to standard output: {e}"));
    }
    lost
}

/// Runs the job while its progress is shown.
async fn run<C: Collector + 'static>(
    job: StatsJob,
    request: &KeystatsRequest,
    mut collector: C,
    screen: &Screen,
    stop: CancellationToken,
) -> anyhow::Result<(StatsReceipt, C)> {
    let progress = Arc::new(Progress::default());
    let options = ShowOptions {
        style: Style::of(request.progress),
        with_shards: request.is_verbose,
        is_filtered: is_filtered(&request.options.copy),
        compares: true,
        follows: false,
    };
    // A task of its own: writing rows may block, and signals have to be heard then.
    let running = tokio::spawn({
        let progress = progress.clone();
        async move {
            let receipt = job.run(progress, stop, &mut collector).await;
            (receipt, collector)
        }
    });
    let ended = progress::shown(progress, options, screen, running).await;
    Ok(ended?)
}

fn sum_up(
    receipt: &StatsReceipt,
    request: &KeystatsRequest,
    found: &str,
    exit: Exit,
    screen: &Screen,
) -> Exit {
    let size_of = match request.source {
        Place::Servers(_) => "of memory",
        Place::Files(_) => "of records",
    };
    let source = request.source.to_string();
    screen.line(&summary::text(receipt, exit, &source, found, size_of));
    exit
}

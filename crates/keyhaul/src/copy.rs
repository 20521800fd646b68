//! `keyhaul replicate` and `keyhaul big-keys`, told from top to bottom: check, probe, show, copy, report, sum
//! up. A dry run of `replicate` is [`crate::plan`]'s.

use std::io::{self, Write};
use std::sync::Arc;

use keyhaul_engine::Job;
use keyhaul_engine::options::{CopyOptions, OnConflict, Scope, Verify};
use keyhaul_engine::plan::{Plan, PlanError};
use keyhaul_engine::progress::Progress;
use keyhaul_engine::receipt::Receipt;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::big_keys;
use crate::exit::Exit;
use crate::hints;
use crate::job::Request;
use crate::output_file::{self, OutputFile};
use crate::progress::{self, ShowOptions, Style};
use crate::receipt::{Ends, Summary};
use crate::report::Report;
use crate::screen::Screen;
use crate::show_plan;
use crate::status::{Observed, StatusServer};
use crate::usage::UsageError;

/// What every command with two ends begins with: says what is to be said of the command line, and makes sure that the
/// report can be written.
pub(crate) fn begin(
    request: &Request,
    screen: &Screen,
) -> Result<(Option<OutputFile>, Ends), UsageError> {
    if request.is_verbose {
        screen.show_log();
    }
    for note in &request.notes {
        screen.line(note);
    }
    let report = request
        .report
        .as_deref()
        .map(|path| OutputFile::check("--report", path))
        .transpose()?;
    let ends = Ends {
        source: request.source.to_string(),
        target: request.target.to_string(),
    };
    Ok((report, ends))
}

/// Runs the command. When `stop` is cancelled, what is in flight is finished and the rest left.
pub(crate) async fn copy(
    request: Request,
    screen: &Screen,
    stop: CancellationToken,
) -> anyhow::Result<Exit> {
    let (report, ends) = begin(&request, screen)?;
    let progress = Arc::new(Progress::default());
    // Held to the very end: it answers until the summary is written.
    let _status = match show_status(&request, &progress, &ends, screen).await {
        Ok(status) => status,
        Err(e) => return Err(refused(e, &ends, report.as_ref(), screen).into()),
    };

    let preparing = Job::prepare(
        request.source.clone(),
        request.target.clone(),
        request.options.clone(),
    );
    let mut job = tokio::select! {
        prepared = preparing => match prepared {
            Ok(job) => job,
            Err(e) => return Err(refused(e, &ends, report.as_ref(), screen).into()),
        },
        () = stop.cancelled() => return Ok(stopped_early(&ends, report.as_ref(), screen)),
    };
    if request.is_dry_run {
        return big_keys::list(&job, &ends, report.as_ref(), screen, stop).await;
    }
    if let Err(e) = job.open_checkpoint() {
        return Err(refused(e, &ends, report.as_ref(), screen).into());
    }
    screen.line(&plan_text(job.plan()));

    let warnings = job.plan().warning_lines();
    let (on_conflict, verify) = (request.options.on_conflict, request.options.verify);
    let receipt = run(job, progress, &request, screen, stop).await;
    // Off this task, so that a second Ctrl-C is heard while a long report is written.
    tokio::task::spawn_blocking({
        let screen = screen.clone();
        move || {
            sum_up(
                receipt,
                &Told {
                    ends,
                    warnings,
                    on_conflict,
                    verify,
                },
                report.as_ref(),
                &screen,
            )
        }
    })
    .await
    .map_err(anyhow::Error::from)
}

/// Lets others look at the job, where that was asked for.
async fn show_status(
    request: &Request,
    progress: &Arc<Progress>,
    ends: &Ends,
    screen: &Screen,
) -> Result<Option<StatusServer>, PlanError> {
    let Some(listen) = &request.status_listen else {
        return Ok(None);
    };
    let follows = request.options.live.is_some();
    let job = Observed::new(Arc::clone(progress), ends.clone(), follows);
    let server = StatusServer::start(listen, Arc::new(job)).await?;
    screen.line(&format!("status   http://{}/", server.address()));
    Ok(Some(server))
}

/// Runs the job while its progress is shown.
async fn run(
    job: Job,
    progress: Arc<Progress>,
    request: &Request,
    screen: &Screen,
    stop: CancellationToken,
) -> Receipt {
    let options = ShowOptions {
        style: Style::of(request.progress),
        with_shards: request.is_verbose,
        is_filtered: is_filtered(&request.options),
        compares: false,
        follows: request.options.live.is_some(),
    };
    let running = job.run(Arc::clone(&progress), stop);
    progress::shown(progress, options, screen, running).await
}

/// Whether nobody can tell how many keys there will be.
pub(crate) fn is_filtered(options: &CopyOptions) -> bool {
    !(options.key_patterns.is_empty()
        && options.key_excludes.is_empty()
        && options.key_types.is_empty()
        && options.scope == Scope::Every)
}

/// What report and summary say of a job beside its receipt.
struct Told {
    ends: Ends,
    warnings: Vec<String>,
    on_conflict: OnConflict,
    verify: Verify,
}

/// Writes report and summary; a report that is lost is never a success.
fn sum_up(mut receipt: Receipt, told: &Told, report: Option<&OutputFile>, screen: &Screen) -> Exit {
    let mut exit = Exit::of_receipt(&receipt);
    let mut written = None;
    if let Some(file) = report {
        match file.write_json(&Report::of_receipt(
            &told.ends,
            &told.warnings,
            &mut receipt,
            exit,
        )) {
            Ok(()) => written = Some(file.shown()),
            Err(e) => {
                exit = exit.with_lost_output();
                screen.line(&format!("error: {}", lost_report(file, &e)));
            }
        }
    }
    let mut text = Vec::new();
    let summary = Summary {
        ends: &told.ends,
        on_conflict: told.on_conflict,
        depth: told.verify,
        exit,
        report: written,
    };
    let written = summary
        .write(&mut text, &receipt)
        .and_then(|()| write_stdout(&text));
    exit_of_summary(written, exit, screen)
}

/// The exit when the summary was written, or was not.
pub(crate) fn exit_of_summary(written: io::Result<()>, exit: Exit, screen: &Screen) -> Exit {
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            screen.line(&format!("error: cannot write to standard output: {e}"));
            exit.with_lost_output()
        }
        _ => exit,
    }
}

pub(crate) fn refused(
    error: PlanError,
    ends: &Ends,
    report: Option<&OutputFile>,
    screen: &Screen,
) -> PlanError {
    let text = hints::with_remedy(&error);
    write_small_report(
        report,
        &Report::of_refusal(ends, Exit::Refused, text),
        screen,
    );
    error
}

pub(crate) fn stopped_early(ends: &Ends, report: Option<&OutputFile>, screen: &Screen) -> Exit {
    let text = "stopped before anything was written";
    write_small_report(
        report,
        &Report::of_refusal(ends, Exit::Stopped, text.into()),
        screen,
    );
    screen.line(text);
    Exit::Stopped
}

/// For endings that are no success anyway: a report that cannot be written changes nothing but a line.
pub(crate) fn write_small_report(
    file: Option<&OutputFile>,
    report: &impl Serialize,
    screen: &Screen,
) {
    if let Some(file) = file
        && let Err(e) = file.write_json(report)
    {
        screen.line(&format!("error: {}", lost_report(file, &e)));
    }
}

pub(crate) fn lost_report(file: &OutputFile, error: &io::Error) -> String {
    let reason = output_file::plain_reason(error);
    format!(
        "cannot write the report {}: {reason}",
        file.shown().display()
    )
}

pub(crate) fn plan_text(plan: &Plan) -> String {
    let mut text = Vec::new();
    // Writing to memory does not fail.
    drop(show_plan::write(&mut text, plan));
    String::from_utf8_lossy(&text).trim_end().to_owned()
}

pub(crate) fn write_stdout(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text)?;
    stdout.flush()
}

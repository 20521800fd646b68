//! `keyhaul compare`, told from top to bottom: check, probe, show, compare, write files, sum up.

mod only_keys;
mod request;

mod told;

mod report;
mod summary;

use std::fs::File;
use std::io::{self, BufWriter};
use std::sync::Arc;

use anyhow::Context;
use keyhaul_engine::compare::CompareJob;
use keyhaul_engine::compare::options::{CompareOptions, CompareReceipt, Depth, KeyDiff};
use keyhaul_engine::progress::Progress;
use keyhaul_engine::receipt::Outcome;
use tempfile::TempPath;
use tokio_util::sync::CancellationToken;

use crate::copy::{
    exit_of_summary, is_filtered, lost_report, plan_text, write_small_report, write_stdout,
};
use crate::exit::Exit;
use crate::hints;
use crate::output_file::{OutputFile, plain_reason};
use crate::progress::{self, ShowOptions, Style};
use crate::receipt::Ends;
use crate::screen::Screen;

use report::{CompareReport, Facts};
use summary::{Extent, Files, Summary};
use told::Told;

pub(crate) use request::{CompareRequest, request};

/// Runs the command. When `stop` is cancelled, what is in flight is finished and the rest left.
pub(crate) async fn compare(
    request: CompareRequest,
    screen: &Screen,
    stop: CancellationToken,
) -> anyhow::Result<Exit> {
    let base = &request.base;
    if base.is_verbose {
        screen.show_log();
    }
    for note in &base.notes {
        screen.line(note);
    }
    let report = (base.report.as_deref())
        .map(|path| OutputFile::check("--report", path))
        .transpose()?;
    let diff_file = (request.diff_file.as_deref())
        .map(|path| OutputFile::check("--diff-file", path))
        .transpose()?;
    let ends = Ends {
        source: base.source.to_string(),
        target: base.target.to_string(),
    };

    let preparing = CompareJob::prepare(
        base.source.clone(),
        base.target.clone(),
        request.options.clone(),
    );
    let job = tokio::select! {
        prepared = preparing => match prepared {
            Ok(job) => job,
            Err(e) => {
                let text = hints::with_remedy(&e);
                let refusal = CompareReport::of_refusal(&ends, Exit::Refused, text);
                write_small_report(report.as_ref(), &refusal, screen);
                return Err(e.into());
            }
        },
        () = stop.cancelled() => {
            let text = "stopped before anything was compared";
            let refusal = CompareReport::of_refusal(&ends, Exit::Stopped, text.into());
            write_small_report(report.as_ref(), &refusal, screen);
            screen.line(text);
            return Ok(Exit::Stopped);
        }
    };
    if base.is_dry_run {
        return show_only(&job, &ends, report.as_ref());
    }
    screen.line(&plan_text(job.plan()));

    let results = Results {
        ends,
        warnings: job.plan().warnings.clone(),
        depth: request.options.depth,
        extent: extent(&request.options),
        is_dry_run: request
            .options
            .repair
            .is_some_and(|repair| repair.is_dry_run),
        report,
        diff_file,
    };
    let (told, diff_path) = results.begin()?;
    let told = Arc::new(told);
    let receipt = run(job, &request, &told, screen, stop).await;
    // Off this task, so that a second Ctrl-C is heard while a long report is written.
    let screen = screen.clone();
    tokio::task::spawn_blocking(move || results.sum_up(&receipt, &told, diff_path, &screen))
        .await
        .map_err(anyhow::Error::from)
}

fn extent(options: &CompareOptions) -> Extent {
    match options.only {
        Some(_) => Extent::Named,
        None if is_filtered(&options.copy) || options.copy.dbs.is_some() => Extent::Filtered,
        None => Extent::Every,
    }
}

/// Runs the job while its progress is shown, and keeps what it tells.
async fn run(
    job: CompareJob,
    request: &CompareRequest,
    told: &Arc<Told>,
    screen: &Screen,
    stop: CancellationToken,
) -> CompareReceipt {
    let progress = Arc::new(Progress::default());
    let options = ShowOptions {
        style: Style::of(request.base.progress),
        with_shards: request.base.is_verbose,
        is_filtered: is_filtered(&request.options.copy) || request.options.only.is_some(),
        compares: true,
    };
    let tell = {
        let told = Arc::clone(told);
        Arc::new(move |diff: KeyDiff| told.take(diff))
    };
    let running = job.run(Arc::clone(&progress), stop, tell);
    progress::shown(progress, options, screen, running).await
}

/// `--dry-run` without a repair: the plan is the result.
fn show_only(job: &CompareJob, ends: &Ends, report: Option<&OutputFile>) -> anyhow::Result<Exit> {
    if let Some(file) = report {
        file.write_json(&CompareReport::of_plan(ends, &job.plan().warnings))
            .map_err(|e| anyhow::anyhow!(lost_report(file, &e)))?;
    }
    write_stdout(format!("{}\n", plan_text(job.plan())).as_bytes())?;
    Ok(Exit::Done)
}

/// Where the results go, and what they say beside the receipt.
struct Results {
    ends: Ends,
    warnings: Vec<String>,
    depth: Depth,
    extent: Extent,
    is_dry_run: bool,
    report: Option<OutputFile>,
    diff_file: Option<OutputFile>,
}

impl Results {
    /// Opens what is written while it goes. The path is that of the growing diff file, which goes away with it.
    fn begin(&self) -> anyhow::Result<(Told, Option<TempPath>)> {
        let for_report = match &self.report {
            Some(_) => Some(tempfile::tempfile().context("cannot make a temporary file")?),
            None => None,
        };
        let Some(place) = &self.diff_file else {
            return Ok((Told::new(None, for_report), None));
        };
        let growing = place.temporary();
        let growing = growing.map_err(|e| anyhow::anyhow!(lost_diff_file(place, &e)))?;
        let (file, path) = growing.into_parts();
        Ok((Told::new(Some(file), for_report), Some(path)))
    }

    /// Writes diff file, report and summary; what is lost is never a success.
    fn sum_up(
        &self,
        receipt: &CompareReceipt,
        told: &Told,
        diff_path: Option<TempPath>,
        screen: &Screen,
    ) -> Exit {
        let (exit, files) = self.write_files(receipt, told, diff_path, screen);
        let summary = Summary {
            ends: &self.ends,
            depth: self.depth,
            extent: self.extent,
            is_dry_run: self.is_dry_run,
            exit,
            files,
        };
        let mut text = Vec::new();
        let written = summary.write(&mut text, receipt);
        exit_of_summary(written.and_then(|()| write_stdout(&text)), exit, screen)
    }

    /// The exit then, and which files there are.
    fn write_files(
        &self,
        receipt: &CompareReceipt,
        told: &Told,
        diff_path: Option<TempPath>,
        screen: &Screen,
    ) -> (Exit, Files<'_>) {
        let mut exit = Exit::of_comparison(receipt);
        let mut files = Files::default();
        if let (Some(place), Some(lines), Some(path)) =
            (&self.diff_file, told.take_diff_file(), diff_path)
        {
            match put(place, lines, path, &receipt.outcome) {
                Ok(true) => files.diff_file = Some(place.shown()),
                Ok(false) => {
                    let shown = place.shown().display();
                    screen.line(&format!(
                        "the diff file {shown} was not written: it would not be whole"
                    ));
                }
                Err(e) => {
                    exit = exit.with_lost_output();
                    screen.line(&format!("error: {}", lost_diff_file(place, &e)));
                }
            }
        }
        if let Some(place) = &self.report {
            let facts = Facts {
                ends: &self.ends,
                warnings: &self.warnings,
                told,
                exit,
                is_dry_run: self.is_dry_run,
            };
            match place.write_json(&CompareReport::of_receipt(receipt, facts)) {
                Ok(()) => files.report = Some(place.shown()),
                Err(e) => {
                    exit = exit.with_lost_output();
                    screen.line(&format!("error: {}", lost_report(place, &e)));
                }
            }
        }
        (exit, files)
    }
}

/// Gives the diff file its name; `false`: it is not whole, and goes away.
fn put(
    place: &OutputFile,
    lines: io::Result<BufWriter<File>>,
    path: TempPath,
    outcome: &Outcome,
) -> io::Result<bool> {
    match outcome {
        Outcome::Stopped(_) => Ok(false),
        _ => place.put(lines?, path).map(|()| true),
    }
}

fn lost_diff_file(file: &OutputFile, error: &io::Error) -> String {
    let (path, reason) = (file.shown().display(), plain_reason(error));
    format!("cannot write the diff file {path}: {reason}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use keyhaul_engine::compare::options::{CompareCounts, Mark};

    use super::*;

    fn receipt(outcome: Outcome) -> CompareReceipt {
        CompareReceipt {
            outcome,
            counts: CompareCounts {
                checked: 1,
                same: 1,
                ..CompareCounts::default()
            },
            before_repair: None,
            repaired: None,
            examples: Vec::new(),
            functions: Vec::new(),
            retries: 0,
            time: Duration::ZERO,
            remarks: Vec::new(),
        }
    }

    fn results(folder: &std::path::Path) -> Results {
        Results {
            ends: Ends {
                source: "redis://a:1".into(),
                target: "redis://b:1".into(),
            },
            warnings: Vec::new(),
            depth: Depth::Full,
            extent: Extent::Every,
            is_dry_run: false,
            report: Some(OutputFile::check("--report", &folder.join("r.json")).unwrap()),
            diff_file: Some(OutputFile::check("--diff-file", &folder.join("d.txt")).unwrap()),
        }
    }

    fn same() -> KeyDiff {
        KeyDiff {
            mark: Mark::Same,
            db: 0,
            key: Bytes::from_static(b"a"),
            what: String::new(),
            inside: Vec::new(),
        }
    }

    #[test]
    fn files_are_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let diff_file = folder.path().join("d.txt");
        let rows = [
            (Outcome::Stopped("x".into()), Exit::Stopped, "older"),
            (Outcome::Done, Exit::Done, "=\t0\ta\n"),
        ];
        for (outcome, exit, text) in rows {
            std::fs::write(&diff_file, "older").unwrap();
            let results = results(folder.path());
            let (told, path) = results.begin().unwrap();
            told.take(same());
            let (got, files) = results.write_files(&receipt(outcome), &told, path, &Screen::new());
            assert_eq!((got, files.diff_file.is_some()), (exit, exit == Exit::Done));
            assert_eq!(std::fs::read_to_string(&diff_file).unwrap(), text);
            assert!(folder.path().join("r.json").exists());
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        }
    }

    #[test]
    fn a_lost_diff_file_is_no_success() {
        let folder = tempfile::tempdir().unwrap();
        let results = results(folder.path());
        let (_, path) = results.begin().unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let told = Told::new(Some(full), None);
        told.take(same());
        let (exit, files) =
            results.write_files(&receipt(Outcome::Done), &told, path, &Screen::new());
        assert_eq!((exit, files.diff_file), (Exit::Stopped, None));
        assert!(!folder.path().join("d.txt").exists());
        let report = std::fs::read_to_string(folder.path().join("r.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(
            (&json["outcome"], &json["exit_code"]),
            (&"equal".into(), &5.into())
        );
    }
}

//! `keyhaul compare`, told from top to bottom: check, probe, show, compare, write files, sum up.

mod only_keys;
mod request;

mod told;

mod report;
mod summary;

use std::fs::File;
use std::sync::Arc;

use anyhow::Context;
use keyhaul_engine::compare::CompareJob;
use keyhaul_engine::compare::options::{CompareOptions, CompareReceipt, Depth};
use keyhaul_engine::progress::Progress;
use keyhaul_engine::receipt::Outcome;
use tokio_util::sync::CancellationToken;

use crate::copy::{
    begin, exit_of_summary, is_filtered, lost_report, plan_text, write_small_report, write_stdout,
};
use crate::exit::Exit;
use crate::hints;
use crate::output_file::OutputFile;
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
    let (report, ends) = begin(base, screen)?;
    let diff_file = (request.diff_file.as_deref())
        .map(|path| OutputFile::check("--diff-file", path))
        .transpose()?;

    let preparing = CompareJob::prepare(
        base.source.clone(),
        base.target.clone(),
        request.options.clone(),
    );
    let mut job = tokio::select! {
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
    if let Err(e) = job.open_checkpoint() {
        let refusal = CompareReport::of_refusal(&ends, Exit::Refused, hints::with_remedy(&e));
        write_small_report(report.as_ref(), &refusal, screen);
        return Err(e.into());
    }
    screen.line(&plan_text(job.plan()));

    let repairs = request
        .options
        .repair
        .is_some_and(|repair| !repair.is_dry_run);
    let for_report = match &report {
        Some(_) => Some([temporary_file()?, temporary_file()?]),
        None => None,
    };
    let told = Told::new(diff_file, for_report, repairs).map_err(|e| anyhow::anyhow!(e))?;
    let told = Arc::new(told);
    let results = Results {
        ends,
        warnings: job.plan().warning_lines(),
        depth: request.options.depth,
        extent: extent(&request.options),
        is_dry_run: request
            .options
            .repair
            .is_some_and(|repair| repair.is_dry_run),
        report,
    };
    let receipt = run(job, &request, &told, screen, stop).await;
    // Off this task, so that a second Ctrl-C is heard while a long report is written.
    let screen = screen.clone();
    tokio::task::spawn_blocking(move || results.sum_up(&receipt, &told, &screen))
        .await
        .map_err(anyhow::Error::from)
}

fn temporary_file() -> anyhow::Result<File> {
    tempfile::tempfile().context("cannot make a temporary file")
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
        follows: false,
    };
    let running = job.run(Arc::clone(&progress), stop, told.clone());
    progress::shown(progress, options, screen, running).await
}

/// `--dry-run` without a repair: the plan is the result.
fn show_only(job: &CompareJob, ends: &Ends, report: Option<&OutputFile>) -> anyhow::Result<Exit> {
    if let Some(file) = report {
        file.write_json(&CompareReport::of_plan(ends, &job.plan().warning_lines()))
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
}

impl Results {
    /// Writes diff file, report and summary; what is lost is never a success.
    fn sum_up(&self, receipt: &CompareReceipt, told: &Told, screen: &Screen) -> Exit {
        let (exit, files) = self.write_files(receipt, told, screen);
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
    fn write_files<'a>(
        &'a self,
        receipt: &CompareReceipt,
        told: &'a Told,
        screen: &Screen,
    ) -> (Exit, Files<'a>) {
        let mut exit = Exit::of_comparison(receipt);
        let mut files = Files {
            diff_file: told.diff_file(),
            report: None,
        };
        if matches!(receipt.outcome, Outcome::Stopped(_)) {
            if let Some(path) = told.diff_file()
                && told.drop_diff_file()
            {
                files.diff_file = None;
                let path = path.display();
                screen.line(&format!(
                    "the diff file {path} was not written: it would not be whole"
                ));
            }
        } else if let Err(reason) = told.put_diff_file() {
            exit = exit.with_lost_output();
            files.diff_file = None;
            screen.line(&format!("error: {reason}"));
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use keyhaul_engine::compare::Listener;
    use keyhaul_engine::compare::options::{CompareCounts, KeyDiff, Mark};

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
            earlier: None,
            saved: None,
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
        }
    }

    fn told(folder: &std::path::Path, repairs: bool) -> Told {
        let place = OutputFile::check("--diff-file", &folder.join("d.txt")).unwrap();
        let told = Told::new(
            Some(place),
            Some(std::array::from_fn(|_| tempfile::tempfile().unwrap())),
            repairs,
        )
        .unwrap();
        told.found(KeyDiff {
            mark: Mark::Same,
            db: 0,
            key: Bytes::from_static(b"a"),
            what: String::new(),
            inside: Vec::new(),
        });
        told
    }

    #[test]
    fn files_are_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let diff_file = folder.path().join("d.txt");
        let stopped = || Outcome::Stopped("x".into());
        for (outcome, is_repairing, exit, text) in [
            (stopped(), false, Exit::Stopped, "older"),
            (stopped(), true, Exit::Stopped, "=\t0\ta\n"),
            (Outcome::Done, true, Exit::Done, "=\t0\ta\n"),
            (Outcome::Done, false, Exit::Done, "=\t0\ta\n"),
        ] {
            std::fs::write(&diff_file, "older").unwrap();
            let (results, told) = (results(folder.path()), told(folder.path(), is_repairing));
            if is_repairing {
                told.before_repair().unwrap();
            }
            let (got, files) = results.write_files(&receipt(outcome), &told, &Screen::new());
            assert_eq!((got, files.diff_file.is_some()), (exit, text != "older"));
            assert_eq!(std::fs::read_to_string(&diff_file).unwrap(), text);
            assert!(folder.path().join("r.json").exists());
            let kept = folder.path().join("d.txt.1");
            assert_eq!(kept.exists(), is_repairing);
            let _ = std::fs::remove_file(kept);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        }
    }

    #[test]
    fn a_lost_diff_file_is_no_success() {
        let folder = tempfile::tempdir().unwrap();
        let (results, told) = (results(folder.path()), told(folder.path(), false));
        // A folder of that name takes no file.
        std::fs::create_dir_all(folder.path().join("d.txt/x")).unwrap();
        let (exit, files) = results.write_files(&receipt(Outcome::Done), &told, &Screen::new());
        assert_eq!((exit, files.diff_file), (Exit::Stopped, None));
        let report = std::fs::read_to_string(folder.path().join("r.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(
            (&json["outcome"], &json["exit_code"]),
            (&"equal".into(), &5.into())
        );
    }
}

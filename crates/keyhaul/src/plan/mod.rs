//! `keyhaul plan`, and `keyhaul replicate --dry-run`: probe both ends, print what was found, and end as the
//! copy would begin.

mod json;
mod page;

use std::path::Path;

use keyhaul_engine::survey::{KeyReport, Survey, survey};
use tokio_util::sync::CancellationToken;

use crate::copy::{begin, lost_report, refused, stopped_early, write_stdout};
use crate::exit::Exit;
use crate::job::Request;
use crate::output_file::OutputFile;
use crate::receipt::Ends;
use crate::report::Report;
use crate::screen::Screen;
use crate::usage::UsageError;

/// Runs the command.
pub(crate) async fn plan(
    request: Request,
    screen: &Screen,
    stop: CancellationToken,
) -> anyhow::Result<Exit> {
    let (report, ends) = begin(&request, screen)?;
    let stats = request.stats.as_deref().map(load_stats).transpose()?;
    let surveying = survey(
        request.source,
        request.target,
        request.options,
        stats.as_ref(),
    );
    let survey = tokio::select! {
        survey = surveying => match survey {
            Ok(survey) => survey,
            Err(e) => return Err(refused(e, &ends, report.as_ref(), screen).into()),
        },
        () = stop.cancelled() => return Ok(stopped_early(&ends, report.as_ref(), screen)),
    };
    let text = match request.prints_json {
        true => serde_json::to_string_pretty(&json::of(&survey))?,
        false => page::text(&survey),
    };
    write_stdout(format!("{}\n", text.trim_end()).as_bytes())?;
    conclude(survey, &ends, report.as_ref(), screen)
}

fn load_stats(path: &Path) -> Result<KeyReport, UsageError> {
    KeyReport::load(path)
        .map_err(|e| UsageError::new(format!("--stats: cannot use {}: {e}", path.display())))
}

/// Writes the report, and ends as the copy would begin.
fn conclude(
    survey: Survey,
    ends: &Ends,
    report: Option<&OutputFile>,
    screen: &Screen,
) -> anyhow::Result<Exit> {
    match survey.outcome {
        Ok(_) => {
            let warnings: Vec<String> = survey.findings.iter().map(ToString::to_string).collect();
            if let Some(file) = report {
                file.write_json(&Report::of_plan(ends, &warnings))
                    .map_err(|e| anyhow::anyhow!(lost_report(file, &e)))?;
            }
            Ok(Exit::Done)
        }
        Err(refusal) => Err(refused(refusal, ends, report, screen).into()),
    }
}

/// What to do next, a plain line each.
fn next_steps(survey: &Survey) -> Vec<String> {
    let (source, target) = (&survey.source.endpoint, &survey.target.endpoint);
    if survey.outcome.is_err() {
        return vec![
            "mend what the verdict names, or accept it where it says how".into(),
            "keyhaul plan again, with the same options".into(),
        ];
    }
    let mut steps = Vec::new();
    if !survey.findings.is_empty() {
        steps.push("read the warnings: none of them keeps the copy from beginning".into());
    }
    if survey.warns_of("source-is-written") {
        steps.push("stop the writers of the source, if nothing may be missing".into());
    }
    steps.push(format!(
        "keyhaul replicate {source} {target}, with the same options"
    ));
    steps.push(format!(
        "keyhaul compare {source} {target}, to have every value compared"
    ));
    steps
}

/// The verdict, a plain line.
fn verdict(survey: &Survey) -> String {
    match (&survey.outcome, survey.findings.len()) {
        (Err(refusal), _) => format!("the copy would be refused: {refusal}"),
        (Ok(_), 0) => "the copy can begin, and nothing was found that is in its way".into(),
        (Ok(_), 1) => "the copy can begin; there is 1 warning".into(),
        (Ok(_), count) => format!("the copy can begin; there are {count} warnings"),
    }
}

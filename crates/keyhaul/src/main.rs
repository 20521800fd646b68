//! The keyhaul binary: what was typed goes in, an exit code comes out. All the work is the engine's.

mod args;
mod endpoint_args;
mod job;

mod duration;
mod size;

mod big_keys;
mod compare;
mod copy;
mod keystats;
mod live;
mod plan;
mod show_plan;

mod progress;
mod rates;
mod screen;
mod signals;
mod status;

mod output_file;
mod receipt;
mod report;

mod exit;
mod generate;
mod hints;
mod usage;

use std::process::ExitCode;

use clap::Parser;
use keyhaul_engine::plan::PlanError;
use tokio_util::sync::CancellationToken;

use crate::args::{Args, Command};
use crate::exit::Exit;
use crate::screen::Screen;
use crate::signals::{STOPPING, STOPPING_LIVE};

/// More than these would only wait: one task reads and one writes per connection, servers are slower.
const WORKER_THREADS_MAX: usize = 4;

fn main() -> ExitCode {
    let screen = Screen::new();
    let exit = match run(&screen) {
        Ok(exit) => exit,
        Err(e) => {
            let exit = Exit::of_error(&e);
            if exit != Exit::Done {
                let text = match e.downcast_ref::<PlanError>() {
                    Some(refusal) => hints::with_remedy(refusal),
                    None => keyhaul_client::chain(e.as_ref()),
                };
                screen.line(&format!("error: {text}"));
            }
            exit
        }
    };
    ExitCode::from(exit.code())
}

fn run(screen: &Screen) -> anyhow::Result<Exit> {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(e) if e.use_stderr() => return Err(usage::from_clap(&e).into()),
        // --help and --version.
        Err(e) => {
            e.print()?;
            return Ok(Exit::Done);
        }
    };
    match args.command {
        Command::Replicate(args) => {
            let request = job::replicate(&args, &job::Environment::of_process())?;
            let follows = request.options.live.is_some() && !request.is_dry_run;
            let stopping = if follows { STOPPING_LIVE } else { STOPPING };
            run_job(screen, stopping, |stop| async move {
                match request.is_dry_run {
                    true => plan::plan(request, screen, stop).await,
                    false => copy::copy(request, screen, stop).await,
                }
            })
        }
        Command::Plan(args) => {
            let request = job::plan(&args, &job::Environment::of_process())?;
            run_job(screen, STOPPING, |stop| plan::plan(request, screen, stop))
        }
        Command::BigKeys(args) => {
            let request = job::big_keys(&args, &job::Environment::of_process())?;
            run_job(screen, STOPPING, |stop| copy::copy(request, screen, stop))
        }
        Command::Compare(args) => {
            let request = compare::request(&args, &job::Environment::of_process())?;
            run_job(screen, STOPPING, |stop| {
                compare::compare(request, screen, stop)
            })
        }
        Command::Keystats(args) => {
            let request = keystats::request(&args, &job::Environment::of_process())?;
            run_job(screen, STOPPING, |stop| {
                keystats::keystats(request, screen, stop)
            })
        }
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { folder } => generate::man(folder.as_deref()),
    }
}

/// Runs a job until it ends, or a second signal ends it.
fn run_job<F>(
    screen: &Screen,
    stopping: &str,
    start: impl FnOnce(CancellationToken) -> F,
) -> anyhow::Result<Exit>
where
    F: Future<Output = anyhow::Result<Exit>>,
{
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(WORKER_THREADS_MAX))
        .enable_all()
        .build()?;
    let exit = runtime.block_on(async {
        let mut signals = signals::Signals::install()?;
        let stop = CancellationToken::new();
        tokio::select! {
            exit = start(stop.clone()) => exit,
            () = signals.twice(&stop, stopping, screen) => Ok(Exit::Stopped),
        }
    });
    // What still runs was told to end at once, or has nothing left to do.
    runtime.shutdown_background();
    exit
}

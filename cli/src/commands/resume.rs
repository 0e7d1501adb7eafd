//! `convoy resume`: a run goes on from its newest good checkpoint; a job of a coordinator goes on.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use convoy_coordinator::{Ready, RunDir};
use convoy_files::here;
use convoy_planning::unchanged;

use super::jobs::change::{self, Change, ChangeArgs};
use crate::endpoint::Endpoint;
use crate::error::CliError;
use crate::progress::counter;
use crate::runner::{self, Carry};

/// Go on with a run that was stopped or killed, or with a paused job; it ends in the very digest of the uninterrupted
/// run.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy resume runs/fashion-mnist-1\n  convoy resume fashion-mnist-3")]
pub struct ResumeArgs {
    /// The run folder; or a job of a coordinator, by name, number, or `last`.
    run: PathBuf,
    #[command(flatten)]
    carry: Carry,
    /// End with one JSON object on standard output.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Endpoint,
}

/// Lets the run, or the job, go on.
///
/// # Errors
/// When there is none, its data has changed, or it does not end as planned.
pub fn run(args: ResumeArgs) -> Result<ExitCode, CliError> {
    let text = args.run.to_string_lossy();
    if !args.run.exists() && !text.contains(std::path::MAIN_SEPARATOR) {
        let job = ChangeArgs { job: text.into_owned(), json: args.json, at: args.at };
        match change::run(job, Change::Resume) {
            // Then a run folder was meant, and it is not there.
            Err(CliError::Unreachable { .. }) => {}
            done => return done,
        }
    }
    let ready = ready(&args.run)?;
    args.carry.device.fits(&ready.plan)?;
    runner::train(ready, &args.carry, args.json)
}

/// The run in `folder`, after its data on this machine was compared with the manifest.
///
/// # Errors
/// When it is no run, or the data has changed.
pub fn ready(folder: &Path) -> Result<Ready, CliError> {
    let (dir, plan, manifest) = RunDir::open(folder)?;
    Ok(Ready::new(dir, unchanged(&*here(), plan, manifest, counter)?)?)
}

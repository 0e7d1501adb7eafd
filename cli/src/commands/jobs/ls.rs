//! `convoy ls`: all jobs.

use std::process::ExitCode;

use convoy_proto::v1;

use super::view::JobView;
use crate::endpoint::{Endpoint, read};
use crate::error::CliError;
use crate::out;
use crate::runtime::block_on;

/// List the jobs of a coordinator.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy ls --json")]
pub struct LsArgs {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Endpoint,
}

/// Prints a row for each job.
///
/// # Errors
/// When the coordinator refuses.
pub fn run(args: LsArgs) -> Result<ExitCode, CliError> {
    let jobs = block_on(async {
        let reply = args.at.connect().await?.list(v1::ListRequest {}).await;
        Ok(reply.map_err(|status| args.at.refused(&status))?.into_inner().json)
    })?;
    if args.json {
        jobs.iter().try_for_each(out::line)?;
        return Ok(ExitCode::SUCCESS);
    }
    if jobs.is_empty() {
        out::line("no jobs yet; `convoy submit SPEC` makes one")?;
        return Ok(ExitCode::SUCCESS);
    }
    out::line(format_args!("{:<32} {:<10} {:>11} {:>8} {:>8}  WAITING FOR", "JOB", "STATE", "STEP", "WORKERS", "ETA"))?;
    for json in jobs {
        let view: JobView = read(&json)?;
        out::line(view.row())?;
    }
    Ok(ExitCode::SUCCESS)
}

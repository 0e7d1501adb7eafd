//! `convoy ls`: all jobs; `convoy workers`: who is connected.

use std::process::ExitCode;

use convoy_proto::v1;
use serde::Deserialize;

use super::watch::View;
use crate::cluster::{Where, block_on, read};
use crate::error::CliError;
use crate::out;
use crate::progress::duration;

/// List the jobs of a coordinator.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy ls --json")]
pub struct Args {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Where,
}

pub fn run(args: Args) -> Result<ExitCode, CliError> {
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
        let view: View = read(&json)?;
        let (step, workers, eta) = match &view.status {
            Some(status) => (
                format!("{}/{}", status.step, status.steps),
                status.workers.to_string(),
                status.eta_seconds.map(duration).unwrap_or_default(),
            ),
            None => Default::default(),
        };
        let waiting = view.error.or(view.waiting_for).unwrap_or_default();
        out::line(format_args!("{:<32} {:<10} {step:>11} {workers:>8} {eta:>8}  {waiting}", view.job, view.state))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// List the workers that are connected to a coordinator.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy workers")]
pub struct WorkersArgs {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Where,
}

#[derive(Deserialize)]
struct Worker {
    worker: u32,
    name: String,
    threads: u32,
    job: Option<u64>,
    draining: bool,
}

pub fn workers(args: WorkersArgs) -> Result<ExitCode, CliError> {
    let workers = block_on(async {
        let reply = args.at.connect().await?.workers(v1::WorkersRequest {}).await;
        Ok(reply.map_err(|status| args.at.refused(&status))?.into_inner().json)
    })?;
    if args.json {
        workers.iter().try_for_each(out::line)?;
        return Ok(ExitCode::SUCCESS);
    }
    out::line(format_args!("{:<8} {:<32} {:>7}  JOB", "WORKER", "NAME", "THREADS"))?;
    for json in workers {
        let Worker { worker, name, threads, job, draining } = read(&json)?;
        let job = job.map_or_else(|| "-".to_owned(), |job| job.to_string());
        let leaving = if draining { " (leaving)" } else { "" };
        out::line(format_args!("{worker:<8} {name:<32} {threads:>7}  {job}{leaving}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

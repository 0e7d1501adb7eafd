//! `convoy stop`, `pause`, `resume` and `rm` of a job; `convoy health`.

use std::process::ExitCode;

use convoy_proto::v1;
use convoy_proto::v1::jobs_client::JobsClient;
use tonic::transport::Channel;

use super::watch::View;
use crate::cluster::{Where, block_on, read};
use crate::error::CliError;
use crate::out;

/// A job to change.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy stop last")]
pub struct Args {
    /// The job: its name, its number, or `last`.
    pub job: String,
    /// End with one JSON object on standard output: the job's record.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub at: Where,
}

/// What can be done to a job.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// End it.
    Stop,
    /// Let it wait.
    Pause,
    /// Let it go on.
    Resume,
    /// Remove it with its files.
    Remove,
}

pub fn run(args: Args, change: Change) -> Result<ExitCode, CliError> {
    let request = v1::JobRequest { job: args.job };
    let json = block_on(async {
        let mut client: JobsClient<Channel> = args.at.connect().await?;
        let reply = match change {
            Change::Stop => client.stop(request).await,
            Change::Pause => client.pause(request).await,
            Change::Resume => client.resume(request).await,
            Change::Remove => client.remove(request).await,
        };
        Ok(reply.map_err(|status| args.at.refused(&status))?.into_inner().json)
    })?;
    if args.json {
        out::line(json)?;
    } else {
        let view: View = read(&json)?;
        match change {
            Change::Remove => out::line(format_args!("{} removed", view.job))?,
            _ => out::line(format_args!("{} {}", view.job, view.state))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Ask whether a coordinator answers; for health checks.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy health --coordinator 127.0.0.1:7070")]
pub struct HealthArgs {
    #[command(flatten)]
    at: Where,
}

pub fn health(args: HealthArgs) -> Result<ExitCode, CliError> {
    let version = block_on(async {
        let reply = args.at.connect().await?.health(v1::HealthRequest {}).await;
        Ok(reply.map_err(|status| args.at.refused(&status))?.into_inner().version)
    })?;
    out::line(format_args!("Convoy {version} answers at {}", args.at.address()))?;
    Ok(ExitCode::SUCCESS)
}

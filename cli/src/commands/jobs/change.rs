//! `convoy stop`, `pause` and `rm` of a job, and `resume` where it means a job: one question each, and the job as it is
//! then.

use std::process::ExitCode;

use convoy_proto::v1;
use convoy_proto::v1::jobs_client::JobsClient;
use tonic::transport::Channel;

use super::view::JobView;
use crate::endpoint::{Endpoint, read};
use crate::error::CliError;
use crate::out;
use crate::runtime::block_on;

/// A job to change.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy stop last")]
pub struct ChangeArgs {
    /// The job: its name, its number, or `last`.
    pub job: String,
    /// End with one JSON object on standard output: the job's record.
    #[arg(long)]
    pub json: bool,
    /// Who keeps it.
    #[command(flatten)]
    pub at: Endpoint,
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

/// Changes a job and prints what it is then.
///
/// # Errors
/// When there is no such job, or its state does not allow the change.
pub fn run(args: ChangeArgs, change: Change) -> Result<ExitCode, CliError> {
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
        let view: JobView = read(&json)?;
        match change {
            Change::Remove => out::line(format_args!("{} removed", view.job))?,
            _ => out::line(format_args!("{} {}", view.job, view.state))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

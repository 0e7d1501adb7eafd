//! `convoy logs`: what was logged of a job.

use std::process::ExitCode;

use convoy_proto::v1;

use crate::endpoint::Endpoint;
use crate::error::CliError;
use crate::out;
use crate::runtime::block_on;

/// Print what the coordinator, or a worker, logged of a job.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy logs last -f")]
pub struct LogsArgs {
    /// The job: its name, its number, or `last`.
    #[arg(default_value = "last")]
    job: String,
    /// Go on until the job is over.
    #[arg(short, long)]
    follow: bool,
    /// A worker's log, by the worker's name; the coordinator's when absent.
    #[arg(long, value_name = "NAME", default_value = "")]
    worker: String,
    #[command(flatten)]
    at: Endpoint,
}

/// Prints the log.
///
/// # Errors
/// When there is no such job or worker.
pub fn run(args: LogsArgs) -> Result<ExitCode, CliError> {
    block_on(async {
        let mut client = args.at.connect().await?;
        let request = v1::LogsRequest { job: args.job, worker: args.worker, follow: args.follow };
        let refused = |status| args.at.refused(&status);
        let mut replies = client.logs(request).await.map_err(refused)?.into_inner();
        while let Some(reply) = replies.message().await.map_err(refused)? {
            out::lines(&reply.text)?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

//! `convoy logs`: what was logged of a job.

use std::io::Write;
use std::process::ExitCode;

use convoy_proto::v1;

use crate::cluster::{Where, block_on};
use crate::error::CliError;

/// Print what the coordinator, or a worker, logged of a job.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy logs last -f")]
pub struct Args {
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
    at: Where,
}

pub fn run(args: Args) -> Result<ExitCode, CliError> {
    block_on(async {
        let mut client = args.at.connect().await?;
        let request = v1::LogsRequest { job: args.job, worker: args.worker, follow: args.follow };
        let refused = |status| args.at.refused(&status);
        let mut replies = client.logs(request).await.map_err(refused)?.into_inner();
        while let Some(reply) = replies.message().await.map_err(refused)? {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(&reply.text).and_then(|()| stdout.flush()).map_err(|source| match source.kind() {
                std::io::ErrorKind::BrokenPipe => CliError::BrokenPipe,
                _ => CliError::Io { path: "standard output".into(), source },
            })?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

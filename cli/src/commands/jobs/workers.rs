//! `convoy workers`: who is connected.

use std::fmt;
use std::process::ExitCode;

use convoy_proto::v1;
use serde::Deserialize;

use crate::endpoint::{Endpoint, read};
use crate::error::CliError;
use crate::out;
use crate::runtime::block_on;

/// List the workers that are connected to a coordinator.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy workers")]
pub struct WorkersArgs {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Endpoint,
}

/// A worker, as the coordinator tells of it.
#[derive(Deserialize)]
struct WorkerRow {
    worker: u32,
    name: String,
    threads: u32,
    job: Option<u64>,
    draining: bool,
}

/// Prints a row for each worker.
///
/// # Errors
/// When the coordinator refuses.
pub fn run(args: WorkersArgs) -> Result<ExitCode, CliError> {
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
        out::line(read::<WorkerRow>(&json)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl fmt::Display for WorkerRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WorkerRow { worker, name, threads, job, draining } = self;
        let job = job.map_or_else(|| "-".to_owned(), |job| job.to_string());
        let leaving = if *draining { " (leaving)" } else { "" };
        write!(f, "{worker:<8} {name:<32} {threads:>7}  {job}{leaving}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_where_a_worker_is() {
        let row = |json: &str| read::<WorkerRow>(json).unwrap().to_string();
        assert_eq!(
            row(r#"{"worker":3,"name":"box-1","threads":8,"job":7,"draining":false}"#),
            "3        box-1                                  8  7"
        );
        assert_eq!(
            row(r#"{"worker":12,"name":"b","threads":16,"job":null,"draining":true}"#),
            "12       b                                     16  - (leaving)"
        );
    }
}

//! `convoy worker`: computes for a coordinator.

use std::process::ExitCode;
use std::time::Duration;

use convoy_worker::{Config, Ended};

use crate::device::Device;
use crate::error::CliError;
use crate::runner::loopback;
use crate::signals::Stop;

/// Compute for a coordinator until its run is over. Loopback only until connections are encrypted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy worker --coordinator 127.0.0.1:7070 --threads 4")]
pub struct Args {
    /// Address of the coordinator.
    #[arg(long, value_name = "HOST:PORT")]
    coordinator: String,
    /// Shards computed at a time; the machine's cores when absent.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// A name for people; the process number when absent.
    #[arg(long)]
    name: Option<String>,
    /// Seconds for which an unreachable coordinator is tried again; without it, for as long as it takes.
    #[arg(long, value_name = "SECONDS")]
    patience: Option<u64>,
    #[command(flatten)]
    device: Device,
}

pub fn run(args: Args) -> Result<ExitCode, CliError> {
    args.device.check()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let config = Config {
        coordinator: args.coordinator.clone(),
        name: args.name.unwrap_or_else(|| format!("process {}", std::process::id())),
        threads: args.threads.map_or(cores, |threads| threads as usize),
        data: None,
        patience: args.patience.map(Duration::from_secs),
    };
    loopback(&args.coordinator)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|source| CliError::Io { path: "tokio".into(), source })?;
    let (ended, stop) = runtime.block_on(async {
        let stop = Stop::listen("finishing what this worker holds; press Ctrl-C again to leave at once")
            .map_err(|source| CliError::Io { path: "signals".into(), source })?;
        let asked = stop.clone();
        let ended = convoy_worker::run(config, Box::pin(async move { asked.asked().await })).await?;
        Ok::<_, CliError>((ended, stop))
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(ExitCode::from(if ended == Ended::Drained { stop.exit_code() } else { 0 }))
}

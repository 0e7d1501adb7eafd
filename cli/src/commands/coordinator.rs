//! `convoy coordinator`: one run, for workers in processes of their own.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::CliError;
use crate::{job, runner};

/// Coordinate one run for workers that connect to it. Loopback only until connections are encrypted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy coordinator examples/fashion-mnist.toml --listen 127.0.0.1:7070\n  \
    convoy worker --coordinator 127.0.0.1:7070")]
pub struct Args {
    /// A spec (.toml) or a folder of images; or the folder of a run to go on with.
    job: PathBuf,
    /// Override a key of the spec: key.path=value. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// The run folder; runs/NAME-N when absent.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "HOST:PORT")]
    listen: String,
    /// End with one JSON object on standard output.
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode, CliError> {
    // First, as reading the data may take long.
    let listener = runner::bind(&args.listen)?;
    if args.job.join("plan.json").is_file() {
        if args.out.is_some() || !args.overrides.is_empty() {
            return Err(CliError::Usage("--out and --set do not go with a run folder; its plan is fixed".to_owned()));
        }
        return runner::coordinate(super::resume::ready(&args.job)?, listener, args.json);
    }
    let (job, _) = super::train::prepare(&args.job, &args.overrides)?;
    let folder = job::run_folder(args.out, &job.plan.spec.name);
    runner::coordinate(super::train::create(job, &folder)?, listener, args.json)
}

//! `convoy data preview`: a picture of what training will see.

use std::path::PathBuf;
use std::process::ExitCode;

use convoy_files::here;
use convoy_planning::Job;
use convoy_vision::{Dataset, preview};

use crate::error::CliError;
use crate::out;
use crate::progress::counter;

/// Write one picture of what training will see: the first samples of the first epoch, in their order, each as it is
/// and as it is augmented.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy data preview job.toml\n  \
    convoy data preview photos/ --count 64 --out photos.png")]
pub struct PreviewArgs {
    /// A spec (.toml), or a folder of images, a CSV, Parquet or npz file or tar archives, for which everything is
    /// chosen from the data.
    job: PathBuf,
    /// Where the picture goes.
    #[arg(long, value_name = "FILE", default_value = "preview.png")]
    out: PathBuf,
    /// How many samples; the first shard when absent.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    count: Option<u32>,
    /// Override a key of the spec: key.path=value. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

/// Writes the picture.
///
/// # Errors
/// When spec and data do not fit, or the picture cannot be written.
pub fn run(args: &PreviewArgs) -> Result<ExitCode, CliError> {
    let (job, choices) = Job::here(&args.job, &args.overrides, counter)?;
    if let Some(choices) = choices {
        out::line(choices)?;
    }
    let dataset = Dataset::open(&job.plan, job.scanned.manifest.train, here())?;
    let count = args.count.unwrap_or(job.plan.spec.train.shard);
    let picture = preview(&job.plan, &dataset, count)?;
    std::fs::write(&args.out, picture.to_png()).map_err(|source| CliError::Io { path: args.out.clone(), source })?;
    let (width, height) = (picture.width, picture.height);
    out::line(format!(
        "{} ({width}x{height}): on the left as it is, on the right as it is learned",
        args.out.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

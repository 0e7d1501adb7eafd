//! `convoy data check`: what is in data, and what is wrong with it.

use std::path::PathBuf;
use std::process::ExitCode;

use convoy_planning::{SpecFile, is_spec, survey_here, text_override};
use convoy_vision::check;

use crate::error::CliError;
use crate::out;
use crate::progress::counter;

/// Count classes; find broken, equal, rotated and odd images, images in both training and validation data, and
/// classes of very different size.
///
/// All of the data is looked at, whatever is found. The exit code is 1 when images are broken, missing, or in both
/// training and validation data, when rows make no sense, and when a class has no usable training image.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy data check photos/\n  convoy data check job.toml --json")]
pub struct CheckArgs {
    /// A folder of images, a CSV or TSV file, IDX files, tar archives, or a spec (.toml) that names them.
    data: PathBuf,
    /// Override a key of the spec: key.path=value. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Print a JSON object, with everything that was found.
    #[arg(long)]
    json: bool,
}

/// Looks at the data and prints what was found.
///
/// # Errors
/// When the data cannot be used at all.
pub fn run(args: &CheckArgs) -> Result<ExitCode, CliError> {
    let spec = if is_spec(&args.data) {
        SpecFile::read(Some(&args.data), &args.overrides)?.spec
    } else {
        let mut overrides = vec![text_override("data.train", &args.data.to_string_lossy())];
        overrides.extend_from_slice(&args.overrides);
        SpecFile::of_overrides(&overrides)?.spec
    };
    let report = check(&survey_here(&spec, counter)?);
    if args.json {
        out::json(&report)?;
    } else {
        out::line(report.to_string().trim_end())?;
    }
    let broken = report.splits.iter().any(|split| !split.broken.is_empty());
    let senseless = !report.problems.is_empty() || !report.empty_classes.is_empty();
    let bad = !report.leaks.is_empty() || broken || senseless;
    Ok(ExitCode::from(u8::from(bad)))
}

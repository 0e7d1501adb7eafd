//! `convoy spec`: what a spec says once every default is filled in.

use std::path::PathBuf;
use std::process::ExitCode;

use convoy_planning::SpecFile;

use crate::error::CliError;
use crate::out;

/// Print a spec with every default that is in force, or all defaults when no file is named.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy spec examples/fashion-mnist.toml\n  \
    convoy spec --set data.train=photos --set optimizer.kind=adamw > job.toml")]
pub struct SpecArgs {
    /// A spec (.toml).
    spec: Option<PathBuf>,
    /// Override a key: key.path=value. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Print JSON instead of TOML.
    #[arg(long)]
    json: bool,
}

/// Prints the spec.
///
/// # Errors
/// When the spec makes no sense.
pub fn run(args: SpecArgs) -> Result<ExitCode, CliError> {
    let mut overrides = args.overrides;
    if args.spec.is_none() && !overrides.iter().any(|given| given.starts_with("data.train=")) {
        overrides.push("data.train=DIR".to_owned());
    }
    let SpecFile { spec, .. } = SpecFile::read(args.spec.as_deref(), &overrides)?;
    if args.json {
        out::json(&spec)?;
    } else {
        out::line(convoy_common::spec::to_toml(&spec).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

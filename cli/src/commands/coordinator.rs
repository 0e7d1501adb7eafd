//! `convoy coordinator`: a queue of jobs, or one run, for workers in processes of their own.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::CliError;
use crate::{job, runner};

/// Coordinate: a queue of jobs with --state, or one run. Loopback only, unless `convoy cluster init` made the state
/// folder a cluster's; then everything is encrypted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy coordinator --state DIR\n  \
    convoy coordinator examples/fashion-mnist.toml --listen 127.0.0.1:7070\n  \
    convoy worker --coordinator 127.0.0.1:7070")]
pub struct Args {
    /// One run: a spec (.toml) or a folder of images; or the folder of a run to go on with.
    #[arg(required_unless_present = "state")]
    job: Option<PathBuf>,
    /// Keep a queue of jobs in this folder, for `convoy submit`.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["job", "overrides", "out", "json"])]
    state: Option<PathBuf>,
    /// A folder that workers see as well, for data whose path in a spec begins with `shared:`.
    #[arg(long, value_name = "DIR", requires = "state")]
    data: Option<PathBuf>,
    /// Override a key of the spec: key.path=value. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// The run folder; runs/NAME-N when absent.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Percent of all shards that are computed a second time, by another worker, and compared: so a machine that computes
    /// wrongly is found and put out. 0 for none; the first shard of each worker is always one of them otherwise.
    #[arg(long, default_value_t = 1.0, value_name = "PERCENT", value_parser = percent)]
    audit: f64,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "HOST:PORT")]
    listen: String,
    /// End with one JSON object on standard output.
    #[arg(long)]
    json: bool,
}

/// From none to every shard.
fn percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| "is no number".to_owned())?;
    match (0.0..=100.0).contains(&percent) {
        true => Ok(percent),
        false => Err("must be from 0 to 100".to_owned()),
    }
}

/// One in how many shards that is; 0 for none.
fn one_in(percent: f64) -> u32 {
    if percent > 0.0 { (100.0 / percent).round().min(f64::from(u32::MAX)) as u32 } else { 0 }
}

pub fn run(args: Args) -> Result<ExitCode, CliError> {
    // First, as reading the data may take long.
    let encrypted = args.state.as_ref().is_some_and(|state| convoy_coordinator::is_cluster(state));
    let audit_every = one_in(args.audit);
    let listener = runner::bind(&args.listen, encrypted)?;
    if let Some(state) = args.state {
        return runner::serve_jobs(state, args.data, audit_every, listener);
    }
    let job = args.job.ok_or_else(|| CliError::Usage("name a spec, a folder, or --state".to_owned()))?;
    if job.join("plan.json").is_file() {
        if args.out.is_some() || !args.overrides.is_empty() {
            return Err(CliError::Usage("--out and --set do not go with a run folder; its plan is fixed".to_owned()));
        }
        return runner::coordinate(super::resume::ready(&job::disk(), &job)?, audit_every, listener, args.json);
    }
    let (job, _) = super::train::prepare(&job, &args.overrides)?;
    let folder = job::run_folder(args.out, &job.plan.spec.name);
    runner::coordinate(super::train::create(job, &folder)?, audit_every, listener, args.json)
}

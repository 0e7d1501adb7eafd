//! `convoy coordinator`: a queue of jobs, or one run, for workers in processes of their own.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use convoy_coordinator::{ClusterConfig, JobLimits};

use crate::error::CliError;
use crate::planner::LocalPlanner;
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
    /// wrongly is found and evicted. 0 for none; the first shard of each worker is always one of them otherwise.
    #[arg(long, default_value_t = 1.0, value_name = "PERCENT", value_parser = percent)]
    audit: f64,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "HOST:PORT")]
    listen: String,
    /// End with one JSON object on standard output.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    limits: Limits,
    /// Life of the cluster's certificates: a number with s, m, h or d, at least 2s. Members and the coordinator renew
    /// theirs after two thirds of it, by themselves.
    #[arg(long, conflicts_with = "job", default_value = "1d", value_parser = life, value_name = "TIME")]
    certificate_life: Duration,
}

/// The most that a submitted job may ask for. It is refused otherwise; jobs that are queued already stay.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits on submitted jobs (with --state)")]
struct Limits {
    /// Elements of a network's parameters and buffers.
    #[arg(long, conflicts_with = "job", value_name = "N", default_value_t = JobLimits::default().parameters)]
    max_parameters: u64,
    /// Samples of a step (train.batch).
    #[arg(long, conflicts_with = "job", value_name = "N", default_value_t = JobLimits::default().batch)]
    max_batch: u64,
    /// Height and width of the network's input, in pixels (prepare.size).
    #[arg(long, conflicts_with = "job", value_name = "N", default_value_t = JobLimits::default().image_side)]
    max_image_side: u64,
    /// Width and height of images that are decoded to look at them, in pixels (data.max_image_side).
    #[arg(long, conflicts_with = "job", value_name = "N", default_value_t = JobLimits::default().decoded_side)]
    max_decoded_side: u64,
    /// Shards of a step, or of an evaluation (samples / train.shard).
    #[arg(long, conflicts_with = "job", value_name = "N", default_value_t = JobLimits::default().shards)]
    max_shards: u64,
    /// Steps of a whole run (train.epochs * samples / train.batch).
    #[arg(long, conflicts_with = "job", value_name = "N", default_value_t = JobLimits::default().steps)]
    max_steps: u64,
    /// Checkpoints that are kept of a run (checkpoint.keep).
    #[arg(long, conflicts_with = "job", value_name = "N", default_value_t = JobLimits::default().checkpoints)]
    max_checkpoints: u64,
    /// Memory that a run takes at the coordinator, as `convoy describe` estimates it.
    #[arg(long, conflicts_with = "job", value_name = "MIB", default_value_t = JobLimits::default().memory_mib)]
    max_memory_mib: u64,
    /// Jobs that are kept, those that are over included.
    #[arg(long, conflicts_with = "job", value_name = "N", default_value_t = JobLimits::default().jobs)]
    max_jobs: u64,
}

impl Limits {
    fn of_jobs(&self) -> JobLimits {
        JobLimits {
            parameters: self.max_parameters,
            batch: self.max_batch,
            image_side: self.max_image_side,
            decoded_side: self.max_decoded_side,
            shards: self.max_shards,
            steps: self.max_steps,
            checkpoints: self.max_checkpoints,
            memory_mib: self.max_memory_mib,
            jobs: self.max_jobs,
        }
    }
}

fn life(text: &str) -> Result<Duration, String> {
    let life = super::cluster::access::ttl(text)?;
    let allowed = Duration::from_secs(2)..=Duration::from_secs(365 * 24 * 3600);
    allowed.contains(&life).then_some(life).ok_or_else(|| "certificates live from 2s to 365d".to_owned())
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
        let limits = args.limits.of_jobs();
        let config = ClusterConfig {
            state,
            shared: args.data,
            audit_every,
            planner: Arc::new(LocalPlanner),
            limits,
            certificate_life: args.certificate_life,
        };
        return runner::serve_jobs(config, listener);
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

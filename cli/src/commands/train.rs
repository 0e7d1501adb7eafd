//! `convoy train`: a whole run in one process.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use convoy_coordinator::{Ready, RunDir};

use crate::error::CliError;
use crate::job::{self, Job};
use crate::runner::{self, Carry};
use crate::{out, recipe};

/// Train a network: a job spec, or a folder of images and no spec at all.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy train examples/fashion-mnist.toml\n  convoy train photos/\n  \
    convoy train job.toml --set optimizer.lr=0.1 --out runs/high-lr --json")]
pub struct Args {
    /// A spec (.toml), or a folder of images or CSV file, for which everything is chosen from the data.
    job: PathBuf,
    /// Override a key of the spec: key.path=value. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// The run folder; runs/NAME-N when absent.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    carry: Carry,
    /// End with one JSON object on standard output.
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode, CliError> {
    let overrides = args.carry.device.ask(&args.job, args.overrides)?;
    let (job, choices) = prepare(&args.job, &overrides)?;
    args.carry.device.fits(&job.plan)?;
    let folder = job::run_folder(args.out, &job.plan.spec.name);
    if !args.json {
        out::unless_closed(announce(&job, choices.as_deref(), &folder, &args.carry))?;
    }
    runner::train(create(job, &folder)?, &args.carry, args.json)
}

/// The job at `path`, and what was chosen for it when it is no spec.
pub fn prepare(path: &Path, overrides: &[String]) -> Result<(Job, Option<String>), CliError> {
    let is_spec = path.extension().is_some_and(|extension| extension == "toml");
    if is_spec || !path.exists() {
        let (spec, text) = job::read_spec(Some(path), overrides)?;
        let scanned = job::look_here(&spec)?;
        return Ok((Job::new(&job::disk(), spec, scanned, Some(path), &text)?, None));
    }
    let (spec, scanned, reasons) = recipe::choose(path, overrides)?;
    Ok((Job::new(&job::disk(), spec, scanned, None, "")?, Some(reasons)))
}

/// Makes the run folder of `job`.
pub fn create(job: Job, folder: &Path) -> Result<Ready, CliError> {
    let dir = RunDir::create(folder, &job.plan, &job.scanned.manifest)?;
    Ok(Ready { dir, plan: job.plan, network: job.network, manifest: job.scanned.manifest, initial: job.initial })
}

/// Says what is about to happen.
fn announce(job: &Job, choices: Option<&str>, folder: &Path, carry: &Carry) -> Result<(), CliError> {
    let (plan, spec) = (&job.plan, &job.plan.spec);
    let threads = carry.threads();
    if let Some(choices) = choices {
        out::line(choices)?;
    }
    let broken = |split: &convoy_common::manifest::Split| {
        let count = split.samples.iter().filter(|sample| sample.broken.is_some()).count();
        if count == 0 { String::new() } else { format!(" ({count} broken, left out)") }
    };
    let manifest = &job.scanned.manifest;
    let memory = convoy_model::memory_estimate(plan, &job.network, threads as u32);
    let total = memory.coordinator() + u64::from(carry.workers) * memory.worker();
    let network = if spec.network.layers.is_empty() { spec.network.zoo_name() } else { "network from layers" };
    out::line(format!(
        "data       {} training samples{}, {} validation samples{}, {} {}\n\
         input      {}x{}x{} (height, width, channels)\n\
         network    {network}, {} parameters\n\
         training   {} epochs of {} steps, batch {} in shards of {}\n\
         numerics   {}\n\
         carried by {} of {}\n\
         memory     about {} MiB besides images\n\
         run folder {}",
        plan.train_samples,
        broken(&manifest.train),
        plan.validation_samples,
        broken(&manifest.validation),
        plan.names.len(),
        if manifest.labels == convoy_common::manifest::LabelKind::Values { "targets" } else { "classes" },
        plan.input.height,
        plan.input.width,
        plan.input.channels,
        job.network.parameters,
        spec.train.epochs,
        plan.train_cut().steps(),
        spec.train.batch,
        spec.train.shard,
        spec.numerics,
        many(carry.workers as usize, "worker"),
        many(threads, "thread"),
        total.div_ceil(1 << 20),
        folder.display(),
    ))?;
    if let Some(init) = &job.init {
        out::line(format!(
            "starts from {}: {} tensors taken, new: {}",
            init.path.display(),
            init.taken,
            if init.replaced.is_empty() { "none".to_owned() } else { init.replaced.join(", ") }
        ))?;
    }
    Ok(())
}

/// `1 worker`, `2 workers`.
fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

//! `convoy train`: a whole run in one process.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use convoy_common::Plan;
use convoy_common::manifest::{LabelKind, Split};
use convoy_coordinator::{Ready, RunDir};
use convoy_planning::Job;

use crate::error::CliError;
use crate::out;
use crate::progress::counter;
use crate::runner::{self, Carry};

/// Train a network: a job spec, or a folder of images and no spec at all.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy train examples/fashion-mnist.toml\n  convoy train photos/\n  \
    convoy train job.toml --set optimizer.lr=0.1 --out runs/high-lr --json")]
pub struct TrainArgs {
    /// A spec (.toml), or a folder of images, a CSV, Parquet or npz file or tar archives, for which everything is
    /// chosen from the data.
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

/// Plans the job, says what is about to happen, and carries the run.
///
/// # Errors
/// When spec, data and network do not fit, or the run does not end as planned.
pub fn run(args: TrainArgs) -> Result<ExitCode, CliError> {
    let overrides = args.carry.device.ask(&args.job, args.overrides)?;
    let (job, choices) = Job::here(&args.job, &overrides, counter)?;
    args.carry.device.fits(&job.plan)?;
    let folder = run_folder(args.out, &job.plan.spec.name);
    if !args.json {
        let text = announcement(&job, &folder, args.carry.workers, args.carry.threads());
        let text = choices.map_or_else(|| text.clone(), |choices| format!("{choices}\n{text}"));
        out::unless_closed(out::line(text))?;
    }
    runner::train(create(job, &folder)?, &args.carry, args.json)
}

/// The folder for a new run: `given`, or the first free `runs/NAME-N`.
pub fn run_folder(given: Option<PathBuf>, name: &str) -> PathBuf {
    given.unwrap_or_else(|| {
        let name: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
        (1..)
            .map(|number| PathBuf::from(format!("runs/{name}-{number}")))
            .find(|path| !path.exists())
            .expect("numbers do not end")
    })
}

/// Makes the run folder of `job`.
pub fn create(job: Job, folder: &Path) -> Result<Ready, CliError> {
    let dir = RunDir::create(folder, &job.plan, &job.scanned.manifest)?;
    Ok(Ready { dir, plan: job.plan, network: job.network, manifest: job.scanned.manifest, initial: job.initial })
}

/// What is about to happen, for people.
fn announcement(job: &Job, folder: &Path, workers: u32, threads: usize) -> String {
    let (plan, spec, manifest) = (&job.plan, &job.plan.spec, &job.scanned.manifest);
    let memory = convoy_model::memory_estimate(plan, &job.network, threads as u32);
    let total = memory.coordinator() + u64::from(workers) * memory.worker();
    let network = if spec.network.layers.is_empty() { spec.network.zoo_name() } else { "network from layers" };
    let mut text = format!(
        "{}\n\
         data       {} training samples{}, {} validation samples{}, {} {}\n\
         input      {}x{}x{} (height, width, channels)\n\
         network    {network}, {} parameters\n\
         training   {} epochs of {} steps, batch {} in shards of {}\n\
         numerics   {}\n\
         carried by {} of {}\n\
         memory     about {} MiB besides images\n\
         run folder {}",
        job.scanned.taken,
        plan.train_samples,
        broken(&manifest.train),
        plan.validation_samples,
        broken(&manifest.validation),
        plan.names.len(),
        if manifest.labels == LabelKind::Values { "targets" } else { "classes" },
        plan.input.height,
        plan.input.width,
        plan.input.channels,
        job.network.parameters,
        spec.train.epochs,
        plan.train_cut().steps(),
        spec.train.batch,
        spec.train.shard,
        spec.numerics,
        many(workers as usize, "worker"),
        many(threads, "thread"),
        total.div_ceil(1 << 20),
        folder.display(),
    );
    if let Some(targets) = targets_of(plan) {
        text.push_str(&targets);
    }
    if let Some(init) = &job.init {
        text.push_str(&format!(
            "\nstarts from {}: {} tensors taken, new: {}",
            init.path.display(),
            init.taken,
            if init.replaced.is_empty() { "none".to_owned() } else { init.replaced.join(", ") }
        ));
    }
    text
}

/// The targets of a regression with mean and deviation, of the first few, and whether they are scaled.
fn targets_of(plan: &Plan) -> Option<String> {
    const SHOWN: usize = 8;
    let targets = plan.targets.as_ref()?;
    let each = plan.names.iter().zip(targets.mean.iter().zip(&targets.std)).take(SHOWN);
    let each: Vec<String> = each.map(|(name, (mean, std))| format!("{name} {mean} \u{b1} {std}")).collect();
    let more = if plan.names.len() > SHOWN { ", ..." } else { "" };
    let scaled = if plan.target_scale().is_some() { "scaled" } else { "not scaled" };
    Some(format!("\ntargets    {}{more} (mean \u{b1} deviation; {scaled} in training)", each.join(", ")))
}

/// ` (3 broken, left out)`; nothing where none is broken.
fn broken(split: &Split) -> String {
    let count = split.samples.iter().filter(|sample| sample.broken.is_some()).count();
    if count == 0 { String::new() } else { format!(" ({count} broken, left out)") }
}

/// `1 worker`, `2 workers`.
fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;
    use convoy_vision::Pixels;
    use expect_test::expect;

    use super::*;
    use crate::typed::{mistyped, typed};

    #[test]
    fn a_job_alone_is_enough() {
        let args: TrainArgs = typed(&["photos"]).unwrap();
        assert_eq!((args.job.as_path(), args.out, args.json), (Path::new("photos"), None, false));
        assert!(args.overrides.is_empty());
        assert_eq!((args.carry.workers, args.carry.threads), (1, None));
    }

    #[test]
    fn everything_can_be_said() {
        let words =
            ["j.toml", "--set", "a.b=1", "--set", "c=2", "--out", "o", "--workers", "3", "--threads", "2", "--json"];
        let args: TrainArgs = typed(&words).unwrap();
        assert_eq!(args.overrides, ["a.b=1", "c=2"]);
        assert_eq!((args.out, args.json), (Some("o".into()), true));
        assert_eq!((args.carry.workers, args.carry.threads()), (3, 2));
    }

    #[test]
    fn what_makes_no_sense_is_not_taken() {
        assert_eq!(mistyped::<TrainArgs>(&[]), ErrorKind::MissingRequiredArgument);
        for words in
            [["j", "--workers", "0"], ["j", "--workers", "257"], ["j", "--threads", "0"], ["j", "--threads", "x"]]
        {
            assert_eq!(mistyped::<TrainArgs>(&words), ErrorKind::ValueValidation, "{words:?}");
        }
        assert_eq!(mistyped::<TrainArgs>(&["j", "--device", "tpu"]), ErrorKind::ValueValidation);
    }

    #[test]
    fn a_run_folder_is_the_one_given_or_a_new_one() {
        assert_eq!(run_folder(Some("here".into()), "x"), Path::new("here"));
        assert_eq!(run_folder(None, "a b/c\u{fc}-1.2_3"), Path::new("runs/a-b-c--1.2_3-1"));
    }

    #[test]
    fn what_is_about_to_happen_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let image = |name: &str, value: u8| {
            let path = dir.path().join("data").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, Pixels::new(4, 4, 1, vec![value; 16]).to_png()).unwrap();
        };
        (0..3).for_each(|number| image(&format!("a/{number}.png"), number));
        (0..3).for_each(|number| image(&format!("b/{number}.png"), 100 + number));
        std::fs::write(dir.path().join("data/b/9.png"), "broken").unwrap();
        let spec = dir.path().join("job.toml");
        let text = "[data]\ntrain = \"data\"\nbad_images = \"quarantine\"\nvalidation_fraction = 0\n[train]\nepochs = 3\n\
                    batch = 2\nshard = 1\n[network]\nlayers = [{ type = \"flatten\" }, { type = \"linear\", out = 2 }]";
        std::fs::write(&spec, text).unwrap();
        let (job, _) = Job::here(&spec, &[], counter).unwrap();
        expect![[r#"
            source     class folders, DIR/data
            split      no validation data
            task       classes: each image belongs to the folder it lies in
            classes    2: a, b
            data       6 training samples (1 broken, left out), 0 validation samples, 2 classes
            input      4x4x1 (height, width, channels)
            network    network from layers, 34 parameters
            training   3 epochs of 3 steps, batch 2 in shards of 1
            numerics   cpu-f32-v1
            carried by 1 worker of 2 threads
            memory     about 1 MiB besides images
            run folder runs/x"#]]
        .assert_eq(&announcement(&job, Path::new("runs/x"), 1, 2).replace(dir.path().to_str().unwrap(), "DIR"));
    }
}

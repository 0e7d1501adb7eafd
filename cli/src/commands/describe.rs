//! `convoy describe`: what a network is and costs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use convoy_common::Plan;
use convoy_common::plan::Input;
use convoy_common::spec::Spec;
use convoy_model::{Network, describe, memory_estimate};

use crate::error::CliError;
use crate::job::{self, Job};
use crate::made_up::{self, InputSize};
use crate::model::Trained;
use crate::out;

/// Show the layers of a network: output shapes, parameters, FLOPs, memory.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy describe examples/fashion-mnist.toml\n  \
    convoy describe resnet50 --input 224x224x3 --classes 1000\n  convoy describe runs/photos-1/model --json")]
pub struct Args {
    /// A spec (.toml), a model or run folder, a model.safetensors, or the name of a network.
    network: PathBuf,
    /// Height, width and channels of a sample; asked of the data, 32x32x3 for the name of a network, when absent.
    #[arg(long, value_name = "HxWxC")]
    input: Option<InputSize>,
    /// Classes, or targets; asked of the data, 10 for the name of a network, when absent.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    classes: Option<u32>,
    /// Override a key of the spec: key.path=value. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Threads of each worker that memory is estimated for.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode, CliError> {
    let (plan, network) = find(&args)?;
    let description = describe(&network);
    let memory = memory_estimate(&plan, &network, args.threads);
    if args.json {
        out::json(&serde_json::json!({ "network": description, "memory": memory }))?;
    } else {
        let shard = plan.spec.train.shard;
        out::line(format!("{description}(figures for one sample)\n\ntraining with shards of {shard}:\n{memory}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn find(args: &Args) -> Result<(Arc<Plan>, Arc<Network>), CliError> {
    if args.network.extension().is_some_and(|extension| extension == "toml") {
        let (spec, text) = job::read_spec(Some(&args.network), &args.overrides)?;
        if args.input.is_some() || args.classes.is_some() {
            return without_data(spec, args, &text);
        }
        let scanned = job::look_here(&spec)?;
        let job = Job::new(&job::disk(), spec, scanned, Some(&args.network), &text)?;
        return Ok((job.plan, job.network));
    }
    if args.network.exists() {
        let trained = Trained::load(&args.network)?;
        return Ok((trained.plan, trained.network));
    }
    let (spec, text) = made_up::read(&args.network, &args.overrides, "a spec, a model")?;
    without_data(spec, args, &text)
}

/// The plan for made-up data.
fn without_data(spec: Spec, args: &Args, text: &str) -> Result<(Arc<Plan>, Arc<Network>), CliError> {
    let InputSize(input) = args.input.unwrap_or(InputSize(Input { height: 32, width: 32, channels: 3 }));
    made_up::plan(spec, input, args.classes.unwrap_or(10), &args.network, text)
}

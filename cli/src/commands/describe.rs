//! `convoy describe`: what a network is and costs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use convoy_common::manifest::LabelKind;
use convoy_common::plan::{DataFacts, Input, Normalization};
use convoy_common::spec::{Spec, Task};
use convoy_common::{Digest, Plan};
use convoy_model::{Network, describe, memory_estimate, zoo};

use crate::error::CliError;
use crate::job::{self, Job};
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
    input: Option<Size>,
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

/// `HxWxC`.
#[derive(Debug, Clone, Copy)]
struct Size(Input);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<u32>> = text.split('x').map(|part| part.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[height, width, channels @ (1 | 3)]) => Ok(Size(Input { height, width, channels })),
            _ => Err("give height, width and channels (1 or 3), such as 32x32x3".to_owned()),
        }
    }
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
    let name = args.network.to_string_lossy();
    if args.network.extension().is_some_and(|extension| extension == "toml") {
        let (spec, text) = job::read_spec(Some(&args.network), &args.overrides)?;
        if args.input.is_some() || args.classes.is_some() {
            return without_data(spec, args, Some(&args.network), &text);
        }
        let scanned = job::look_here(&spec)?;
        let job = Job::new(&job::disk(), spec, scanned, Some(&args.network), &text)?;
        return Ok((job.plan, job.network));
    }
    if args.network.exists() {
        let trained = Trained::load(&args.network)?;
        return Ok((trained.plan, trained.network));
    }
    if name.contains(['/', '.']) {
        let hint = format!("name a spec, a model, or one of {}", zoo::NAMES.join(", "));
        return Err(CliError::NotFound { path: args.network.clone(), hint });
    }
    let mut overrides = vec!["data.train=\"-\"".to_owned(), format!("network.name={}", job::toml_string(&name))];
    overrides.extend_from_slice(&args.overrides);
    let (spec, text) = job::read_spec(None, &overrides)?;
    without_data(spec, args, None, &text)
}

/// The plan for made-up data, since a network does not depend on what images show.
fn without_data(
    mut spec: Spec,
    args: &Args,
    file: Option<&Path>,
    text: &str,
) -> Result<(Arc<Plan>, Arc<Network>), CliError> {
    let Size(input) = args.input.unwrap_or(Size(Input { height: 32, width: 32, channels: 3 }));
    let count = args.classes.unwrap_or(10);
    let labels = match spec.task {
        Task::Regression => LabelKind::Values,
        Task::Multilabel => LabelKind::Set,
        Task::Auto | Task::Multiclass | Task::Binary => LabelKind::Class,
    };
    spec.network.init = None;
    let any = |channels: u32| Normalization { mean: vec![0.5; channels as usize], std: vec![0.25; channels as usize] };
    let samples = spec.train.batch.max(count);
    let facts = DataFacts {
        names: (0..count).map(|class| class.to_string()).collect(),
        labels,
        train_samples: samples,
        validation_samples: 0,
        class_counts: if labels == LabelKind::Class { vec![1; count as usize] } else { Vec::new() },
        size: [input.height, input.width],
        channels: input.channels,
        measured: Some(any(input.channels)),
        measured_global: Some(any(input.channels)),
        manifest: Digest::default(),
        init: None,
    };
    let plan = Plan::resolve(spec, &facts)
        .map_err(|error| CliError::Spec { file: file.map(Path::to_owned), error: error.located(text) })?;
    let network = Network::of(&plan)?;
    Ok((Arc::new(plan), Arc::new(network)))
}

//! `convoy describe`: what a network is and costs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use convoy_common::Plan;
use convoy_model::{Network, describe, memory_estimate};
use convoy_planning::{Assumed, Job, SpecFile, disk, is_spec, look_here, plan_without_data, spec_or_network};

use crate::error::CliError;
use crate::inference::Trained;
use crate::input_size::InputSize;
use crate::looking::LookArgs;
use crate::out;

/// Show the layers of a network: output shapes, parameters, FLOPs, memory.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy describe examples/fashion-mnist.toml\n  \
    convoy describe resnet50 --input 224x224x3 --classes 1000\n  convoy describe runs/photos-1/model --json")]
pub struct DescribeArgs {
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

/// Prints what the network is and costs.
///
/// # Errors
/// When there is no such network, or it does not fit its data.
pub fn run(args: DescribeArgs) -> Result<ExitCode, CliError> {
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

fn find(args: &DescribeArgs) -> Result<(Arc<Plan>, Arc<Network>), CliError> {
    if is_spec(&args.network) {
        let file = SpecFile::read(Some(&args.network), &args.overrides)?;
        if args.input.is_some() || args.classes.is_some() {
            return without_data(file, args);
        }
        let looking = LookArgs::default().looking();
        let scanned = look_here(&file.spec, &looking)?;
        let job = Job::new(&disk(), file, scanned, &looking)?;
        return Ok((job.plan, job.network));
    }
    if args.network.exists() {
        let trained = Trained::load(&args.network)?;
        return Ok((trained.plan, trained.network));
    }
    without_data(spec_or_network(&args.network, &args.overrides, "a spec, a model")?, args)
}

/// The plan for data that nobody looks at.
fn without_data(file: SpecFile, args: &DescribeArgs) -> Result<(Arc<Plan>, Arc<Network>), CliError> {
    let unknown = Assumed::default();
    let input = args.input.map_or(unknown.input, |InputSize(input)| input);
    let classes = args.classes.unwrap_or(unknown.classes);
    Ok(plan_without_data(file, Assumed { input, classes })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::typed::typed;

    fn found(words: &[&str]) -> (Arc<Plan>, Arc<Network>) {
        find(&typed(words).unwrap()).unwrap()
    }

    #[test]
    fn a_network_is_described_for_the_data_that_is_said() {
        let (plan, network) = found(&["lenet5"]);
        assert_eq!((plan.input.height, plan.input.channels, network.outputs), (32, 3, 10));
        let (plan, network) = found(&["lenet5", "--input", "28x28x1", "--classes", "7"]);
        assert_eq!((plan.input.height, plan.input.channels, network.outputs), (28, 1, 7));
    }

    #[test]
    fn a_spec_is_described_without_its_data_where_that_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let spec = dir.path().join("job.toml");
        std::fs::write(&spec, "[data]\ntrain = \"nowhere\"\n[network]\nname = \"lenet5\"\n").unwrap();
        let spec = spec.display().to_string();
        assert_eq!(find(&typed(&[&spec]).unwrap()).unwrap_err().exit_code(), 3);
        assert_eq!(found(&[&spec, "--classes", "5"]).1.outputs, 5);
    }

    #[test]
    fn what_is_no_network_is_said_to_be_none() {
        let error = find(&typed(&["runs/none"]).unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("runs/none does not exist; name a spec, a model, or one of"), "{error}");
        assert_eq!(error.exit_code(), 3);
        assert_eq!(find(&typed(&["lenet6"]).unwrap()).unwrap_err().exit_code(), 2);
    }
}

//! `convoy digest`: the digest of parameters, wherever they lie.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use convoy_coordinator::checkpoint;

use crate::error::CliError;
use crate::out;

/// Print the digest of the parameters in a checkpoint, a model folder or file, or a run's last checkpoint.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy digest runs/fashion-mnist-1/model")]
pub struct Args {
    /// A checkpoint, a model file, a model folder or a run folder.
    path: PathBuf,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode, CliError> {
    let file = file_of(&args.path)?;
    let digest = checkpoint::parameters_digest(&file)?;
    if args.json {
        out::json(&serde_json::json!({ "file": file, "parameters_digest": digest }))?;
    } else {
        out::line(digest)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn file_of(path: &Path) -> Result<PathBuf, CliError> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let model = path.join(convoy_model::model_dir::TENSORS);
    if model.is_file() {
        return Ok(model);
    }
    let newest = checkpoint::list(&path.join("checkpoints")).pop().or_else(|| checkpoint::list(path).pop());
    newest.map(|(_, file)| file).ok_or_else(|| CliError::NotFound {
        path: model,
        hint: "name a checkpoint, a model, or the folder of a run or model".to_owned(),
    })
}

//! `convoy digest`: the digest of parameters, wherever they lie.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use convoy_coordinator::checkpoint;

use crate::error::CliError;
use crate::out;

/// Print the digest of the parameters in a checkpoint, a model folder or file, or a run's last checkpoint.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy digest runs/fashion-mnist-1/model")]
pub struct DigestArgs {
    /// A checkpoint, a model file, a model folder or a run folder.
    path: PathBuf,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

/// Prints the digest.
///
/// # Errors
/// When there are no parameters, or their file is damaged.
pub fn run(args: DigestArgs) -> Result<ExitCode, CliError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_means_its_model_or_its_newest_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let missing = file_of(dir.path()).unwrap_err();
        assert_eq!(missing.exit_code(), 3);
        std::fs::create_dir(at("checkpoints")).unwrap();
        let names = [2, 10].map(checkpoint::file_name);
        names.iter().for_each(|name| std::fs::write(at("checkpoints").join(name), "").unwrap());
        assert_eq!(file_of(dir.path()).unwrap(), at("checkpoints").join(&names[1]));
        assert_eq!(file_of(&at("checkpoints")).unwrap(), at("checkpoints").join(&names[1]));
        std::fs::write(at("model.safetensors"), "").unwrap();
        assert_eq!(file_of(dir.path()).unwrap(), at("model.safetensors"));
        assert_eq!(file_of(&at("no file")).unwrap(), at("no file"), "whoever reads it says that it is not there");
    }
}

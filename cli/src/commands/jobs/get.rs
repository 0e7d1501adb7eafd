//! `convoy get`: a job's files.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use convoy_proto::v1;

use crate::endpoint::Endpoint;
use crate::error::CliError;
use crate::out;
use crate::runtime::block_on;

/// Fetch the model and the run folder of a job.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy get last --out runs/from-cluster")]
pub struct GetArgs {
    /// The job: its name, its number, or `last`.
    #[arg(default_value = "last")]
    job: String,
    /// Where to put the files; files of the same names are replaced.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// With checkpoints, journal, plan and manifest, so that `convoy resume DIR` can go on with it here.
    #[arg(long)]
    all: bool,
    /// End with one JSON object on standard output: folder, files, bytes.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Endpoint,
}

/// Fetches the files.
///
/// # Errors
/// When there is no such job, or a file cannot be written.
pub fn run(args: GetArgs) -> Result<ExitCode, CliError> {
    let request = v1::FetchRequest { job: args.job.clone(), all: args.all, files: Vec::new() };
    let (files, bytes) = block_on(fetch(&args.at, request, &args.out))?;
    if args.json {
        out::json(&serde_json::json!({ "folder": args.out, "files": files, "bytes": bytes }))?;
    } else {
        let model = args.out.join("model");
        out::line(format_args!("{files} files, {bytes} bytes in {}", args.out.display()))?;
        if model.is_dir() {
            out::line(format_args!("\nnext:  convoy predict {} IMAGE...", model.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Fetches files of a job into `folder`; how many, and their bytes.
///
/// # Errors
/// When the coordinator refuses or a file cannot be written.
pub async fn fetch(at: &Endpoint, request: v1::FetchRequest, folder: &Path) -> Result<(u64, u64), CliError> {
    let mut client = at.connect().await?;
    let refused = |status| at.refused(&status);
    let mut pieces = client.fetch(request).await.map_err(refused)?.into_inner();
    let (mut current, mut files, mut bytes) = (None, 0u64, 0u64);
    while let Some(piece) = pieces.message().await.map_err(refused)? {
        if !piece.path.is_empty() {
            current = Some(create(folder, &piece.path)?);
            files += 1;
        }
        if let Some((path, file)) = &mut current {
            let fail = |source| CliError::Io { path: path.clone(), source };
            File::write_all(file, &piece.data).map_err(fail)?;
            bytes += piece.data.len() as u64;
        }
    }
    Ok((files, bytes))
}

/// Opens a file under `folder`; nothing leaves it.
fn create(folder: &Path, path: &str) -> Result<(PathBuf, File), CliError> {
    let relative = Path::new(path);
    if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(CliError::Answer { code: 1, message: format!("the coordinator sent a file named `{path}`") });
    }
    let path = folder.join(relative);
    let fail = |source| CliError::Io { path: path.clone(), source };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(fail)?;
    }
    let file = File::create(&path).map_err(fail)?;
    Ok((path, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_to_lie_under_the_folder_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut file) = create(dir.path(), "model/config.json").unwrap();
        file.write_all(b"{}").unwrap();
        assert_eq!(path, dir.path().join("model/config.json"));
        assert_eq!(fs::read(&path).unwrap(), b"{}");
        for name in ["../x", "/etc/x", "a/../../x", "./../x"] {
            let error = create(dir.path(), name).unwrap_err();
            assert!(error.to_string().ends_with(&format!("a file named `{name}`")), "{error}");
            assert_eq!(error.exit_code(), 1);
        }
    }
}

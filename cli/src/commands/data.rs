//! `convoy data`: looking at data before training on it; data sets that a coordinator keeps.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use convoy_common::data_place::DataName;
use convoy_common::spec::BadImage;
use convoy_coordinator::DataSet;
use convoy_proto::v1;
use convoy_vision::{Dataset, Disk, check, preview};

use super::train::prepare;
use crate::cluster::{Where, block_on, read};
use crate::error::CliError;
use crate::{job, out, push};

/// Look at data before training on it; keep data sets with a coordinator.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Check(CheckArgs),
    Preview(PreviewArgs),
    Push(PushArgs),
    Ls(LsArgs),
    Rm(RmArgs),
}

/// Count classes; find broken, equal, rotated and odd images, images in both training and validation data, and
/// classes of very different size.
///
/// The exit code is 1 when images are broken or in both training and validation data.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy data check photos/\n  convoy data check job.toml --json")]
pub struct CheckArgs {
    /// A folder of images, a CSV file, IDX files, or a spec (.toml) that names them.
    data: PathBuf,
    /// Override a key of the spec: key.path=value. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Print a JSON object, with everything that was found.
    #[arg(long)]
    json: bool,
}

/// Write one picture of what training will see: the first samples of the first epoch, in their order, each as it is
/// and as it is augmented.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy data preview job.toml\n  \
    convoy data preview photos/ --count 64 --out photos.png")]
pub struct PreviewArgs {
    /// A spec (.toml), or a folder of images or CSV file, for which everything is chosen from the data.
    job: PathBuf,
    /// Where the picture goes.
    #[arg(long, value_name = "FILE", default_value = "preview.png")]
    out: PathBuf,
    /// How many samples; the first shard when absent.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    count: Option<u32>,
    /// Override a key of the spec: key.path=value. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

/// Push a folder to a coordinator, which keeps it as a data set: specs name it `dataset:NAME` from then on.
///
/// Files that the coordinator has already, from this or another data set, are not sent again, so that a push that was
/// interrupted goes on when it is repeated.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy data push photos/ flowers\n  \
    convoy submit job.toml --set data.train=dataset:flowers/train")]
pub struct PushArgs {
    /// The folder; hidden files are left out.
    folder: PathBuf,
    /// What the data set is called: a-z, 0-9, `.`, `_` and `-`.
    name: DataName,
    /// Take the place of another data set of that name.
    #[arg(long)]
    replace: bool,
    /// End with one JSON object on standard output: the data set's record.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Where,
}

/// List the data sets that a coordinator keeps.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy data ls")]
pub struct LsArgs {
    /// Print one JSON object for each data set.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Where,
}

/// Remove a data set that no unfinished job needs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy data rm flowers")]
pub struct RmArgs {
    /// The data set.
    name: DataName,
    /// End with one JSON object on standard output: the data set's record.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Where,
}

fn run_push(args: &PushArgs) -> Result<ExitCode, CliError> {
    let files = push::below(&args.folder)?;
    let set = block_on(push::push(&args.at, &files, Some(&args.name), args.replace))?;
    print_set(&set, args.json, "pushed")
}

fn run_ls(args: &LsArgs) -> Result<ExitCode, CliError> {
    let sets = block_on(async {
        let mut client = args.at.data().await?;
        let reply = client.list_data(v1::ListDataRequest {}).await.map_err(|status| args.at.refused(&status))?;
        Ok(reply.into_inner().json)
    })?;
    if args.json {
        for set in sets {
            out::line(set)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    out::line(format_args!("{:<28} {:>9} {:>12}  PUSHED", "NAME", "FILES", "BYTES"))?;
    for set in sets {
        let set: DataSet = read(&set)?;
        out::line(format_args!("{:<28} {:>9} {:>12}  {}", set.name, set.files, set.bytes, set.pushed))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn run_rm(args: &RmArgs) -> Result<ExitCode, CliError> {
    let set = block_on(async {
        let mut client = args.at.data().await?;
        let request = v1::RemoveDataRequest { name: args.name.to_string() };
        let reply = client.remove_data(request).await.map_err(|status| args.at.refused(&status))?;
        read::<DataSet>(&reply.into_inner().json)
    })?;
    print_set(&set, args.json, "removed")
}

fn print_set(set: &DataSet, json: bool, done: &str) -> Result<ExitCode, CliError> {
    match json {
        true => out::json(set)?,
        false => out::line(format_args!("{done} {}: {} files, {} bytes", set.name, set.files, set.bytes))?,
    }
    Ok(ExitCode::SUCCESS)
}

pub fn run(command: Command) -> Result<ExitCode, CliError> {
    match command {
        Command::Check(args) => run_check(&args),
        Command::Preview(args) => run_preview(&args),
        Command::Push(args) => run_push(&args),
        Command::Ls(args) => run_ls(&args),
        Command::Rm(args) => run_rm(&args),
    }
}

fn run_check(args: &CheckArgs) -> Result<ExitCode, CliError> {
    let is_spec = args.data.extension().is_some_and(|extension| extension == "toml");
    let (mut spec, _) = if is_spec {
        job::read_spec(Some(&args.data), &args.overrides)?
    } else {
        let mut overrides = vec![format!("data.train={}", job::toml_string(&args.data.to_string_lossy()))];
        overrides.extend_from_slice(&args.overrides);
        job::read_spec(None, &overrides)?
    };
    // All broken files are to be seen, not only the first.
    spec.data.bad_images = BadImage::Quarantine;
    let report = check(&job::look_here(&spec)?);
    if args.json {
        out::json(&report)?;
    } else {
        out::line(report.to_string().trim_end())?;
    }
    let bad = !report.leaks.is_empty() || report.splits.iter().any(|split| !split.broken.is_empty());
    Ok(ExitCode::from(u8::from(bad)))
}

fn run_preview(args: &PreviewArgs) -> Result<ExitCode, CliError> {
    let (job, choices) = prepare(&args.job, &args.overrides)?;
    if let Some(choices) = choices {
        out::line(choices)?;
    }
    let dataset = Dataset::open(&job.plan, job.scanned.manifest.train, Arc::new(Disk))?;
    let count = args.count.unwrap_or(job.plan.spec.train.shard);
    let picture = preview(&job.plan, &dataset, count)?;
    std::fs::write(&args.out, picture.to_png()).map_err(|source| CliError::Io { path: args.out.clone(), source })?;
    let (width, height) = (picture.width, picture.height);
    out::line(format!(
        "{} ({width}x{height}): on the left as it is, on the right as it is learned",
        args.out.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

//! `convoy data push`, `ls` and `rm`: data sets that a coordinator keeps.

use std::path::PathBuf;
use std::process::ExitCode;

use convoy_common::data_place::DataName;
use convoy_coordinator::DataSet;
use convoy_proto::v1;

use crate::endpoint::{Endpoint, read};
use crate::error::CliError;
use crate::push_links::FollowLinks;
use crate::runtime::block_on;
use crate::{out, push};

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
    links: FollowLinks,
    #[command(flatten)]
    at: Endpoint,
}

/// List the data sets that a coordinator keeps.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy data ls")]
pub struct LsSetsArgs {
    /// Print one JSON object for each data set.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Endpoint,
}

/// Remove a data set that no unfinished job needs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy data rm flowers")]
pub struct RmSetArgs {
    /// The data set.
    name: DataName,
    /// End with one JSON object on standard output: the data set's record.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Endpoint,
}

/// Pushes a folder.
///
/// # Errors
/// When a file cannot be read, or the coordinator refuses.
pub fn push_set(args: &PushArgs) -> Result<ExitCode, CliError> {
    let files = push::below(&args.folder)?;
    args.links.check(&args.folder, files.values())?;
    let set = block_on(push::push(&args.at, &files, Some(&args.name), args.replace))?;
    print_set(&set, args.json, "pushed")
}

/// Lists data sets.
///
/// # Errors
/// When the coordinator refuses.
pub fn list_sets(args: &LsSetsArgs) -> Result<ExitCode, CliError> {
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
        let damaged = match set.damaged {
            0 => String::new(),
            damaged => format!("  ({damaged} files are damaged at the coordinator; push it again)"),
        };
        out::line(format_args!("{:<28} {:>9} {:>12}  {}{damaged}", set.name, set.files, set.bytes, set.pushed))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes a data set.
///
/// # Errors
/// When the coordinator refuses.
pub fn remove_set(args: &RmSetArgs) -> Result<ExitCode, CliError> {
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

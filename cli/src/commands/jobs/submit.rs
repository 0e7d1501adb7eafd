//! `convoy submit`: queues a job, and follows it.

use std::path::PathBuf;
use std::process::ExitCode;

use convoy_common::data_place::DataPlace;
use convoy_common::spec::to_toml;
use convoy_planning::{SpecFile, spec_here};
use convoy_proto::{VERSION, v1};

use super::view::JobView;
use super::watch;
use crate::endpoint::{Endpoint, read};
use crate::error::CliError;
use crate::looking::LookArgs;
use crate::push_links::FollowLinks;
use crate::runtime::block_on;
use crate::{out, push};

/// Submit a job to a coordinator, and follow it to its end. Data that the spec names by a path of this machine is
/// pushed first, unless the coordinator has it already.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy submit examples/fashion-mnist.toml\n  convoy submit photos/\n  \
    convoy submit job.toml --set optimizer.lr=0.1 --priority 5 --detach")]
pub struct SubmitArgs {
    /// The spec (.toml), or a folder of images, a CSV, Parquet or npz file or tar archives, for which everything is
    /// chosen from the data.
    spec: PathBuf,
    /// Override a key of the spec: key.path=value. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Jobs of higher priority go first.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// Workers without which the job does not start.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    min_workers: u32,
    /// Workers beyond which the job gets no more.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    max_workers: Option<u32>,
    /// Return as soon as the job is queued.
    #[arg(long)]
    detach: bool,
    /// End with one JSON object on standard output: the job's record.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    links: FollowLinks,
    #[command(flatten)]
    at: Endpoint,
}

/// Queues the job, and follows it unless told otherwise.
///
/// # Errors
/// When the coordinator refuses the job; as [`watch::follow`] then.
pub fn run(args: SubmitArgs) -> Result<ExitCode, CliError> {
    let (SpecFile { spec, .. }, choices) = spec_here(&args.spec, &args.overrides, &LookArgs::default().looking())?;
    choices.iter().for_each(out::note);
    let is_here = DataPlace::parse(&spec.data.train).is_ok_and(|place| place.is_local());
    block_on(async {
        let spec = push::with_data(&args.at, spec, args.links).await?;
        let request = v1::SubmitRequest {
            version: VERSION.to_owned(),
            spec: to_toml(&spec),
            priority: args.priority,
            min_workers: args.min_workers,
            max_workers: args.max_workers.unwrap_or(0),
        };
        let mut client = args.at.connect().await?;
        let reply = client.submit(request).await.map_err(|status| args.at.refused(&status))?.into_inner();
        let view: JobView = read(&reply.json)?;
        // What was taken of data of this machine was said before it was pushed.
        view.taken.iter().filter(|_| !is_here).for_each(out::note);
        if args.detach {
            if args.json {
                out::line(reply.json)?;
            } else {
                out::line(format_args!("{}\n\nnext:  convoy watch {}", view.job, view.job))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        if !args.json {
            out::line(&view.job)?;
        }
        watch::follow(&args.at, &view.job, args.json).await
    })
}

//! `convoy data`: looking at data before training on it (`check`, `preview`) and at what a run has (`manifest`);
//! filling class folders from a camera (`record`); data sets that a coordinator keeps
//! (`push`, `ls` and `rm`, all three in `sets`).

mod check;
mod manifest;
mod preview;
mod record;
mod sets;

use std::process::ExitCode;

use crate::error::CliError;

/// Look at data before training on it, or at what a run has; record pictures of a camera; keep data sets with a
/// coordinator.
#[derive(Debug, clap::Subcommand)]
pub enum DataCommand {
    Check(check::CheckArgs),
    Manifest(manifest::ManifestArgs),
    Preview(preview::PreviewArgs),
    Record(record::RecordArgs),
    Push(sets::PushArgs),
    Ls(sets::LsSetsArgs),
    Rm(sets::RmSetArgs),
}

/// Does what was asked for.
///
/// # Errors
/// As the command says.
pub fn run(command: DataCommand) -> Result<ExitCode, CliError> {
    match command {
        DataCommand::Check(args) => check::run(&args),
        DataCommand::Manifest(args) => manifest::run(&args),
        DataCommand::Preview(args) => preview::run(&args),
        DataCommand::Record(args) => record::run(&args),
        DataCommand::Push(args) => sets::push_set(&args),
        DataCommand::Ls(args) => sets::list_sets(&args),
        DataCommand::Rm(args) => sets::remove_set(&args),
    }
}

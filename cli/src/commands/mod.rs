//! The commands, one file each: what was typed, then what it does.

mod coordinator;
mod data;
mod describe;
mod digest;
mod eval;
mod predict;
mod resume;
mod spec;
mod train;
mod worker;

use std::process::ExitCode;

use crate::error::CliError;

/// What `convoy` can do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Train(train::Args),
    Resume(resume::Args),
    Eval(eval::Args),
    Predict(predict::Args),
    Describe(describe::Args),
    #[command(subcommand)]
    Data(data::Command),
    Spec(spec::Args),
    Digest(digest::Args),
    Coordinator(coordinator::Args),
    Worker(worker::Args),
}

/// Does what was asked for.
///
/// # Errors
/// As the command says.
pub fn run(command: Command) -> Result<ExitCode, CliError> {
    match command {
        Command::Train(args) => train::run(args),
        Command::Resume(args) => resume::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Predict(args) => predict::run(args),
        Command::Describe(args) => describe::run(args),
        Command::Data(command) => data::run(command),
        Command::Spec(args) => spec::run(args),
        Command::Digest(args) => digest::run(args),
        Command::Coordinator(args) => coordinator::run(args),
        Command::Worker(args) => worker::run(args),
    }
}

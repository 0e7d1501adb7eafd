//! The commands, one file each: what was typed, then what it does.

mod audit;
mod bench;
mod cluster;
mod coordinator;
mod data;
mod describe;
mod digest;
mod eval;
mod predict;
pub mod resume;
mod spec;
mod train;
mod worker;

use std::process::ExitCode;

use crate::error::CliError;
use cluster::change::Change;

/// What `convoy` can do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Train(train::Args),
    Resume(resume::Args),
    Eval(eval::Args),
    Predict(predict::Args),
    Describe(describe::Args),
    Bench(bench::Args),
    #[command(subcommand)]
    Data(data::Command),
    Spec(spec::Args),
    Digest(digest::Args),
    Coordinator(coordinator::Args),
    Worker(worker::Args),
    Submit(cluster::submit::Args),
    Ls(cluster::list::Args),
    Workers(cluster::list::WorkersArgs),
    Watch(cluster::watch::Args),
    Logs(cluster::logs::Args),
    /// End a job; its run saves first.
    Stop(cluster::change::Args),
    /// Let a job's run save and wait.
    Pause(cluster::change::Args),
    /// Remove a job that is over, with its files.
    Rm(cluster::change::Args),
    Get(cluster::fetch::Args),
    Audit(audit::Args),
    Health(cluster::change::HealthArgs),
    Login(cluster::access::LoginArgs),
    #[command(subcommand)]
    Cluster(cluster::access::Command),
    #[command(subcommand)]
    Token(cluster::access::TokenCommand),
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
        Command::Bench(args) => bench::run(args),
        Command::Data(command) => data::run(command),
        Command::Spec(args) => spec::run(args),
        Command::Digest(args) => digest::run(args),
        Command::Coordinator(args) => coordinator::run(args),
        Command::Worker(args) => worker::run(args),
        Command::Submit(args) => cluster::submit::run(args),
        Command::Ls(args) => cluster::list::run(args),
        Command::Workers(args) => cluster::list::workers(args),
        Command::Watch(args) => cluster::watch::run(args),
        Command::Logs(args) => cluster::logs::run(args),
        Command::Stop(args) => cluster::change::run(args, Change::Stop),
        Command::Pause(args) => cluster::change::run(args, Change::Pause),
        Command::Rm(args) => cluster::change::run(args, Change::Remove),
        Command::Get(args) => cluster::fetch::run(args),
        Command::Audit(args) => audit::run(&args),
        Command::Health(args) => cluster::change::health(args),
        Command::Login(args) => cluster::access::login(args),
        Command::Cluster(command) => cluster::access::cluster(command),
        Command::Token(command) => cluster::access::token(command),
    }
}

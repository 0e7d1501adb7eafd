//! The commands, one file each but where a file says what it groups: what was typed, then what it does.

mod access;
mod audit;
mod bench;
mod coordinator;
mod data;
mod describe;
mod digest;
mod eval;
mod jobs;
mod predict;
mod resume;
mod spec;
mod train;
mod worker;

use std::process::ExitCode;

use crate::error::CliError;
use jobs::change::Change;

/// What `convoy` can do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Train(train::TrainArgs),
    Resume(resume::ResumeArgs),
    Eval(eval::EvalArgs),
    Predict(predict::PredictArgs),
    Describe(describe::DescribeArgs),
    Bench(bench::BenchArgs),
    #[command(subcommand)]
    Data(data::DataCommand),
    Spec(spec::SpecArgs),
    Digest(digest::DigestArgs),
    Coordinator(coordinator::CoordinatorArgs),
    Worker(worker::WorkerArgs),
    Submit(jobs::submit::SubmitArgs),
    Ls(jobs::ls::LsArgs),
    Workers(jobs::workers::WorkersArgs),
    Watch(jobs::watch::WatchArgs),
    Logs(jobs::logs::LogsArgs),
    /// End a job; its run saves first.
    Stop(jobs::change::ChangeArgs),
    /// Let a job's run save and wait.
    Pause(jobs::change::ChangeArgs),
    /// Remove a job that is over, with its files.
    Rm(jobs::change::ChangeArgs),
    Get(jobs::get::GetArgs),
    Audit(audit::AuditArgs),
    Health(jobs::health::HealthArgs),
    Login(access::login::LoginArgs),
    #[command(subcommand)]
    Cluster(access::cluster::ClusterCommand),
    #[command(subcommand)]
    Token(access::token::TokenCommand),
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
        Command::Submit(args) => jobs::submit::run(args),
        Command::Ls(args) => jobs::ls::run(args),
        Command::Workers(args) => jobs::workers::run(args),
        Command::Watch(args) => jobs::watch::run(args),
        Command::Logs(args) => jobs::logs::run(args),
        Command::Stop(args) => jobs::change::run(args, Change::Stop),
        Command::Pause(args) => jobs::change::run(args, Change::Pause),
        Command::Rm(args) => jobs::change::run(args, Change::Remove),
        Command::Get(args) => jobs::get::run(args),
        Command::Audit(args) => audit::run(&args),
        Command::Health(args) => jobs::health::run(args),
        Command::Login(args) => access::login::run(args),
        Command::Cluster(command) => access::cluster::run(command),
        Command::Token(command) => access::token::run(command),
    }
}

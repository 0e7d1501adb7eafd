//! `convoy`: distributed data-parallel training of convolutional networks. One file per command.

mod cluster;
mod commands;
mod device;
mod error;
mod job;
mod logging;
mod made_up;
mod member;
mod model;
mod out;
mod planner;
mod progress;
mod push;
mod recipe;
mod runner;
mod signals;

use std::process::ExitCode;

use clap::Parser;

use crate::error::CliError;
use crate::logging::LogFormat;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Distributed data-parallel training of CNNs, with the same bits for any number of workers.
#[derive(Debug, Parser)]
#[command(name = "convoy", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Example:\n  convoy train examples/fashion-mnist.toml\n\n\
    Exit codes: 0 ok, 1 run failed, 2 usage or invalid spec, 3 not found, 4 not allowed, 5 cancelled,\n\
    75 try again later, 130 interrupted, 143 terminated.")]
struct Cli {
    #[command(subcommand)]
    command: commands::Command,
    /// How log lines look on standard error; RUST_LOG chooses which are shown (default: warn).
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Pretty)]
    log: LogFormat,
}

fn main() -> ExitCode {
    compute_on_own_threads_only();
    let cli = Cli::parse();
    logging::start(cli.log);
    match commands::run(cli.command) {
        Ok(code) => code,
        Err(CliError::BrokenPipe) => ExitCode::SUCCESS,
        Err(error) => {
            out::note(format_args!("error: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Keeps candle from sharing single additions out over threads of its own, which spin on the cores that compute
/// shards. Candle can only be told by the environment, before its first use.
#[allow(unsafe_code)]
fn compute_on_own_threads_only() {
    // SAFETY: nothing else runs yet that could read the environment at the same time.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
}

//! `convoy`: distributed data-parallel training of convolutional networks. `commands/` has what can be typed; the other
//! files are what commands share. It is a library so that it is compiled beside the crates it calls; the binary is
//! `main.rs`.

mod address;
mod camera;
mod camera_error;
mod commands;
mod device;
mod endpoint;
mod environment;
mod error;
mod inference;
mod input_size;
mod logging;
mod looking;
mod member;
mod metric_lines;
mod out;
mod progress;
mod push;
mod push_links;
mod runner;
mod runtime;
mod signals;
mod time;
#[cfg(test)]
mod typed;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::error::CliError;
use crate::logging::LogFormat;

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

/// Does what a command line says, the program's name first. The answer is the code to exit with; help, `--version` and
/// a command line that cannot be understood end the process here.
///
/// ```
/// use std::process::ExitCode;
///
/// assert_eq!(convoy_cli::run(["convoy", "spec"]), ExitCode::SUCCESS);
/// ```
pub fn run<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> ExitCode {
    let cli = Cli::parse_from(arguments);
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_and_an_example() {
        for command in Cli::command().get_subcommands().filter(|command| !command.has_subcommands()) {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name}");
            // These three share the help of one.
            let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(example.contains("Example"), "{name}: {example}");
        }
    }

    #[test]
    fn logs_are_for_people_unless_asked_otherwise() {
        let log = |words: &[&str]| Cli::try_parse_from([&["convoy"], words].concat()).map(|cli| cli.log);
        assert_eq!(log(&["ls"]).unwrap(), LogFormat::Pretty);
        assert_eq!(log(&["ls", "--log", "json"]).unwrap(), LogFormat::Json);
        assert_eq!(log(&["--log", "json", "health"]).unwrap(), LogFormat::Json);
        assert_eq!(log(&["ls", "--log", "xml"]).unwrap_err().kind(), ErrorKind::InvalidValue);
        assert_eq!(log(&["lss"]).unwrap_err().kind(), ErrorKind::InvalidSubcommand);
        assert_eq!(log(&[]).unwrap_err().kind(), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand);
    }
}

//! `convoy login`: joining a cluster, for commands on this machine.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::CliError;
use crate::member::{self, Home, JoinError};
use crate::out;
use crate::runtime::block_on;

/// Join a cluster with a token, for commands on this machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "The identity is kept in $CONVOY_HOME, by default ~/.config/convoy.\n\
    Example:\n  convoy login gpu-box.lan:7070 --token-file submitter.token")]
pub struct LoginArgs {
    /// The coordinator.
    #[arg(value_name = "HOST:PORT")]
    coordinator: String,
    /// The file that holds the token; - for standard input.
    #[arg(long, value_name = "FILE", env = "CONVOY_TOKEN_FILE")]
    token_file: PathBuf,
    /// A name for people.
    #[arg(long, env = "USER", default_value = "somebody")]
    name: String,
}

/// Joins the cluster and keeps the identity.
///
/// # Errors
/// When the token is not taken, or the identity cannot be kept.
pub fn run(args: LoginArgs) -> Result<ExitCode, CliError> {
    let token = member::read_token(&args.token_file)?;
    let signed = block_on(async {
        member::join(&args.coordinator, &token, &args.name).await.map_err(|error| match error {
            JoinError::Unreachable(reason) => CliError::Unreachable { address: args.coordinator.clone(), reason },
            JoinError::Fatal(error) => error,
        })
    })?;
    let home = Home { coordinator: args.coordinator, cluster: token.pin, renew_at: signed.renew_at() };
    let folder = Home::folder();
    home.save(&folder, &signed.identity)?;
    out::line(format_args!("logged in to {} as {}; kept in {}", home.coordinator, signed.role, folder.display()))?;
    Ok(ExitCode::SUCCESS)
}

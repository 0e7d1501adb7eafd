//! `convoy health`: whether a coordinator answers.

use std::process::ExitCode;

use convoy_proto::v1;

use crate::endpoint::Endpoint;
use crate::error::CliError;
use crate::out;
use crate::runtime::block_on;

/// Ask whether a coordinator answers; for health checks.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy health --coordinator 127.0.0.1:7070")]
pub struct HealthArgs {
    #[command(flatten)]
    at: Endpoint,
}

/// Asks the coordinator for its version.
///
/// # Errors
/// When nobody answers.
pub fn run(args: HealthArgs) -> Result<ExitCode, CliError> {
    let version = block_on(async {
        let reply = args.at.connect().await?.health(v1::HealthRequest {}).await;
        Ok(reply.map_err(|status| args.at.refused(&status))?.into_inner().version)
    })?;
    out::line(format_args!("Convoy {version} answers at {}", args.at.address()))?;
    Ok(ExitCode::SUCCESS)
}

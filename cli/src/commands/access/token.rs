//! `convoy token create`, `ls` and `rm`: what admits workers and people.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use convoy_proto::v1;
use convoy_security::Role;
use serde::Deserialize;

use crate::endpoint::{Endpoint, read};
use crate::error::CliError;
use crate::out;
use crate::runtime::block_on;
use crate::time::{date, life};

/// Make, list and remove tokens, which admit workers and people.
#[derive(Debug, clap::Subcommand)]
pub enum TokenCommand {
    Create(CreateTokenArgs),
    Ls(LsTokensArgs),
    Rm(RmTokenArgs),
}

/// Make a token and print it. It is shown once; only its hash is kept.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy token create --role worker --ttl 7d --uses 20 > worker.token")]
pub struct CreateTokenArgs {
    /// worker, submitter, viewer or admin.
    #[arg(long)]
    role: Role,
    /// How long it can be used: a number with s, m, h or d.
    #[arg(long, default_value = "1h", value_parser = life)]
    ttl: Duration,
    /// How often it can be used; 0 for any number of times.
    #[arg(long, default_value_t = 1)]
    uses: u32,
    #[command(flatten)]
    at: Endpoint,
}

/// List tokens that can still be used, without their secrets.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy token ls")]
pub struct LsTokensArgs {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Endpoint,
}

/// Remove a token; who has joined with it stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy token rm 1f3a5c7e")]
pub struct RmTokenArgs {
    /// The token's id.
    id: String,
    #[command(flatten)]
    at: Endpoint,
}

/// Does what was asked for.
///
/// # Errors
/// When the coordinator refuses.
pub fn run(command: TokenCommand) -> Result<ExitCode, CliError> {
    match command {
        TokenCommand::Create(args) => create(&args)?,
        TokenCommand::Ls(args) => ls(&args)?,
        TokenCommand::Rm(args) => rm(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn create(args: &CreateTokenArgs) -> Result<(), CliError> {
    let request =
        v1::CreateTokenRequest { role: args.role.to_string(), ttl_seconds: args.ttl.as_secs(), uses: args.uses };
    let token = block_on(async {
        let reply = args.at.access().await?.create_token(request).await;
        Ok(reply.map_err(|status| args.at.refused(&status))?.into_inner().token)
    })?;
    out::line(token)
}

fn rm(args: &RmTokenArgs) -> Result<(), CliError> {
    let request = v1::RemoveTokenRequest { id: args.id.clone() };
    block_on(async {
        let reply = args.at.access().await?.remove_token(request).await;
        reply.map(|_| ()).map_err(|status| args.at.refused(&status))
    })?;
    out::line(format_args!("token {} removed", args.id))
}

/// A token, as the coordinator tells of it.
#[derive(Deserialize)]
struct TokenRow {
    id: String,
    role: Role,
    expires_at: u64,
    uses_left: Option<u32>,
}

fn ls(args: &LsTokensArgs) -> Result<(), CliError> {
    let tokens = block_on(async {
        let reply = args.at.access().await?.list_tokens(v1::ListTokensRequest {}).await;
        Ok(reply.map_err(|status| args.at.refused(&status))?.into_inner().json)
    })?;
    if args.json {
        return tokens.iter().try_for_each(out::line);
    }
    out::line(format_args!("{:<10} {:<10} {:>5}  EXPIRES", "TOKEN", "ROLE", "USES"))?;
    for json in tokens {
        out::line(read::<TokenRow>(&json)?)?;
    }
    Ok(())
}

impl fmt::Display for TokenRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TokenRow { id, role, expires_at, uses_left } = self;
        let uses = uses_left.map_or_else(|| "any".to_owned(), |left| left.to_string());
        write!(f, "{id:<10} {role:<10} {uses:>5}  {}", date(*expires_at))
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;
    use crate::typed::{mistyped, typed};

    #[test]
    fn a_token_is_for_one_use_within_an_hour_unless_said_otherwise() {
        let args: CreateTokenArgs = typed(&["--role", "worker"]).unwrap();
        assert_eq!((args.role, args.ttl, args.uses), (Role::Worker, Duration::from_secs(3600), 1));
        let args: CreateTokenArgs = typed(&["--role", "admin", "--ttl", "7d", "--uses", "0"]).unwrap();
        assert_eq!((args.role, args.ttl, args.uses), (Role::Admin, Duration::from_secs(604_800), 0));
        assert_eq!(mistyped::<CreateTokenArgs>(&[]), ErrorKind::MissingRequiredArgument);
        assert_eq!(mistyped::<CreateTokenArgs>(&["--role", "king"]), ErrorKind::ValueValidation);
        assert_eq!(mistyped::<CreateTokenArgs>(&["--role", "admin", "--ttl", "7"]), ErrorKind::ValueValidation);
    }

    #[test]
    fn a_row_tells_how_often_a_token_can_be_used() {
        let row = |json: &str| read::<TokenRow>(json).unwrap().to_string();
        assert_eq!(
            row(r#"{"id":"1f3a5c7e","role":"worker","expires_at":0,"uses_left":20}"#),
            "1f3a5c7e   worker        20  1970-01-01T00:00:00Z"
        );
        assert_eq!(
            row(r#"{"id":"1f3a5c7e","role":"viewer","expires_at":0,"uses_left":null}"#),
            "1f3a5c7e   viewer       any  1970-01-01T00:00:00Z"
        );
    }
}

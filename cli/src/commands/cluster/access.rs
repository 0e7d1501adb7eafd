//! `convoy cluster`, `convoy token` and `convoy login`: who belongs to a cluster.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use convoy_coordinator::{MemberRecord, init_cluster};
use convoy_proto::v1;
use convoy_security::Role;
use serde::Deserialize;

use crate::cluster::{Where, block_on, read};
use crate::error::CliError;
use crate::member::{self, Home, JoinError};
use crate::out;

/// Life of the token that `cluster init` makes.
const WORKER_TOKEN_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Make a cluster, see its members, put one out.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Init(InitArgs),
    Members(MembersArgs),
    Revoke(RevokeArgs),
}

/// Make a cluster: its authority, and an identity that may do everything, kept where `convoy login` keeps one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy cluster init --state /srv/convoy --host gpu-box.lan --host 192.168.1.5\n  \
    convoy coordinator --state /srv/convoy --listen 0.0.0.0:7070")]
pub struct InitArgs {
    /// The folder of the coordinator's state.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// A name or IP address under which workers and people reach the coordinator. May be repeated; localhost is always
    /// one.
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// Where commands on this machine shall find the coordinator.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7070")]
    coordinator: String,
    /// Write a token with the role worker to this file, good for any number of workers and ten years.
    #[arg(long, value_name = "FILE")]
    worker_token: Option<PathBuf>,
    /// Do nothing, and succeed, when the cluster is there already; a token's file that is missing is made.
    #[arg(long)]
    if_needed: bool,
}

/// List the members of the cluster.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy cluster members")]
pub struct MembersArgs {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Where,
}

/// Put a member out, now and for good.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy cluster revoke 7")]
pub struct RevokeArgs {
    /// The member's number or name.
    member: String,
    #[command(flatten)]
    at: Where,
}

/// Make, list and remove tokens, which admit workers and people.
#[derive(Debug, clap::Subcommand)]
pub enum TokenCommand {
    Create(CreateArgs),
    Ls(TokensArgs),
    Rm(RemoveArgs),
}

/// Make a token and print it. It is shown once; only its hash is kept.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy token create --role worker --ttl 7d --uses 20 > worker.token")]
pub struct CreateArgs {
    /// worker, submitter, viewer or admin.
    #[arg(long)]
    role: Role,
    /// How long it can be used: a number with s, m, h or d.
    #[arg(long, default_value = "1h", value_parser = ttl)]
    ttl: Duration,
    /// How often it can be used; 0 for any number of times.
    #[arg(long, default_value_t = 1)]
    uses: u32,
    #[command(flatten)]
    at: Where,
}

/// List tokens that can still be used, without their secrets.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy token ls")]
pub struct TokensArgs {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Where,
}

/// Remove a token; who has joined with it stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy token rm 1f3a5c7e")]
pub struct RemoveArgs {
    /// The token's id.
    id: String,
    #[command(flatten)]
    at: Where,
}

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

/// `90s`, `15m`, `12h`, `7d`.
pub fn ttl(text: &str) -> Result<Duration, String> {
    let seconds = |digits: &str, unit: u64| digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit));
    let found = match text.char_indices().next_back() {
        Some((at, 's')) => seconds(&text[..at], 1),
        Some((at, 'm')) => seconds(&text[..at], 60),
        Some((at, 'h')) => seconds(&text[..at], 3600),
        Some((at, 'd')) => seconds(&text[..at], 24 * 3600),
        _ => None,
    };
    found.map(Duration::from_secs).ok_or_else(|| "a time is a number with s, m, h or d: 90s, 12h, 7d".to_owned())
}

pub fn cluster(command: Command) -> Result<ExitCode, CliError> {
    match command {
        Command::Init(args) => init(args),
        Command::Members(args) => members(args),
        Command::Revoke(args) => revoke(args),
    }
}

fn init(args: InitArgs) -> Result<ExitCode, CliError> {
    if args.if_needed && convoy_coordinator::is_cluster(&args.state) {
        if let Some(path) = args.worker_token.filter(|path| !path.exists()) {
            write_worker_token(&args.state, &path)?;
        }
        out::line(format_args!("{} holds a cluster already", args.state.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let identity = init_cluster(&args.state, &args.hosts)?;
    let home = Home { coordinator: args.coordinator, cluster: identity.pin(), renew_at: u64::MAX };
    let folder = Home::folder();
    home.save(&folder, &identity)?;
    if let Some(path) = &args.worker_token {
        write_worker_token(&args.state, path)?;
    }
    out::line(format_args!(
        "cluster    {}\nauthority  {}\nadmin      {}\n\nnext:  convoy coordinator --state {} --listen 0.0.0.0:7070\n       \
         convoy token create --role worker --ttl 1d --uses 0 > worker.token",
        home.cluster,
        args.state.join("ca").display(),
        folder.display(),
        args.state.display(),
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Makes a token for workers while no coordinator runs, in a file that only its owner reads.
fn write_worker_token(state: &Path, path: &Path) -> Result<(), CliError> {
    let token = convoy_coordinator::create_token(state, Role::Worker, WORKER_TOKEN_LIFE, None)?;
    member::write_secret(path, &token.expose())
}

fn members(args: MembersArgs) -> Result<ExitCode, CliError> {
    let members = block_on(async {
        let reply = args.at.access().await?.list_members(v1::ListMembersRequest {}).await;
        Ok(reply.map_err(|status| args.at.refused(&status))?.into_inner().json)
    })?;
    if args.json {
        members.iter().try_for_each(out::line)?;
        return Ok(ExitCode::SUCCESS);
    }
    out::line(format_args!("{:<7} {:<32} {:<10} EXPIRES", "MEMBER", "NAME", "ROLE"))?;
    for json in members {
        let MemberRecord { id, name, role, expires_at, revoked, .. } = read(&json)?;
        let expires = if revoked { "revoked".to_owned() } else { time(expires_at) };
        out::line(format_args!("{id:<7} {name:<32} {role:<10} {expires}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn revoke(args: RevokeArgs) -> Result<ExitCode, CliError> {
    let json = block_on(async {
        let reply = args.at.access().await?.revoke(v1::RevokeRequest { member: args.member }).await;
        Ok(reply.map_err(|status| args.at.refused(&status))?.into_inner().json)
    })?;
    let member: MemberRecord = read(&json)?;
    out::line(format_args!("{} ({}, {}) is put out", member.name, member.id, member.role))?;
    Ok(ExitCode::SUCCESS)
}

pub fn token(command: TokenCommand) -> Result<ExitCode, CliError> {
    match command {
        TokenCommand::Create(args) => {
            let request = v1::CreateTokenRequest {
                role: args.role.to_string(),
                ttl_seconds: args.ttl.as_secs(),
                uses: args.uses,
            };
            let token = block_on(async {
                let reply = args.at.access().await?.create_token(request).await;
                Ok(reply.map_err(|status| args.at.refused(&status))?.into_inner().token)
            })?;
            out::line(token)?;
        }
        TokenCommand::Ls(args) => tokens(args)?,
        TokenCommand::Rm(args) => {
            let request = v1::RemoveTokenRequest { id: args.id.clone() };
            block_on(async {
                let reply = args.at.access().await?.remove_token(request).await;
                reply.map(|_| ()).map_err(|status| args.at.refused(&status))
            })?;
            out::line(format_args!("token {} removed", args.id))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Deserialize)]
struct TokenRow {
    id: String,
    role: Role,
    expires_at: u64,
    uses_left: Option<u32>,
}

fn tokens(args: TokensArgs) -> Result<(), CliError> {
    let tokens = block_on(async {
        let reply = args.at.access().await?.list_tokens(v1::ListTokensRequest {}).await;
        Ok(reply.map_err(|status| args.at.refused(&status))?.into_inner().json)
    })?;
    if args.json {
        return tokens.iter().try_for_each(out::line);
    }
    out::line(format_args!("{:<10} {:<10} {:>5}  EXPIRES", "TOKEN", "ROLE", "USES"))?;
    for json in tokens {
        let TokenRow { id, role, expires_at, uses_left } = read(&json)?;
        let uses = uses_left.map_or_else(|| "any".to_owned(), |left| left.to_string());
        out::line(format_args!("{id:<10} {role:<10} {uses:>5}  {}", time(expires_at)))?;
    }
    Ok(())
}

fn time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "never".to_owned(), |time| time.to_string())
}

pub fn login(args: LoginArgs) -> Result<ExitCode, CliError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live_are_read() {
        let read = |text| ttl(text).map(|ttl| ttl.as_secs());
        assert_eq!([read("90s"), read("15m"), read("12h"), read("7d")], [90, 900, 43_200, 604_800].map(Ok));
        assert!(["", "7", "d", "-1d", "1w", "99999999999999999999d"].iter().all(|text| ttl(text).is_err()));
    }
}

//! `convoy cluster init`, `members` and `revoke`: a cluster and who belongs to it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use convoy_coordinator::{MemberRecord, init_cluster, keep_private};
use convoy_proto::v1;
use convoy_security::Role;

use crate::endpoint::{Endpoint, read};
use crate::error::CliError;
use crate::member::{Home, write_secret};
use crate::out;
use crate::runtime::block_on;
use crate::time::date;

/// Life of the token that `cluster init` makes.
const WORKER_TOKEN_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Make a cluster, see its members, revoke one.
#[derive(Debug, clap::Subcommand)]
pub enum ClusterCommand {
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
    at: Endpoint,
}

/// Put a member out, now and for good.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "All calls of the member end at once, and it does not come back: its certificates are refused, the \
    token that it came by is closed if nobody else came by it, and lets nobody of its name in otherwise.\n\n\
    Example:\n  convoy cluster revoke 7\n  convoy cluster revoke 7 --token"
)]
pub struct RevokeArgs {
    /// The member's number, or a name that only one has.
    member: String,
    /// Close the token that it came by, also where others came by the same: who is a member stays one, and nobody joins
    /// with it any more.
    #[arg(long)]
    token: bool,
    #[command(flatten)]
    at: Endpoint,
}

/// Makes a cluster, lists its members or puts one out.
///
/// # Errors
/// When the state folder cannot be used, or the coordinator refuses.
pub fn run(command: ClusterCommand) -> Result<ExitCode, CliError> {
    match command {
        ClusterCommand::Init(args) => init(args),
        ClusterCommand::Members(args) => members(args),
        ClusterCommand::Revoke(args) => revoke(args),
    }
}

fn init(args: InitArgs) -> Result<ExitCode, CliError> {
    keep_private();
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
    write_secret(path, &token.expose())
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
        out::line(row(&read(&json)?))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn revoke(args: RevokeArgs) -> Result<ExitCode, CliError> {
    let v1::RevokeReply { json, token } = block_on(async {
        let request = v1::RevokeRequest { member: args.member, token: args.token };
        Ok(args.at.access().await?.revoke(request).await.map_err(|status| args.at.refused(&status))?.into_inner())
    })?;
    let member: MemberRecord = read(&json)?;
    out::line(format_args!("{} ({}, {}) is revoked; {token}", member.name, member.id, member.role))?;
    Ok(ExitCode::SUCCESS)
}

fn row(member: &MemberRecord) -> String {
    let MemberRecord { id, name, role, expires_at, revoked, .. } = member;
    let expires = if *revoked { "revoked".to_owned() } else { date(*expires_at) };
    format!("{id:<7} {name:<32} {role:<10} {expires}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::typed::typed;

    #[test]
    fn a_row_tells_until_when_a_member_is_one() {
        let member = |revoked: bool| {
            let fingerprint = "00".repeat(32);
            let json = format!(
                r#"{{"id":7,"name":"box-1","role":"worker","fingerprint":"{fingerprint}","expires_at":0,"revoked":{revoked}}}"#
            );
            row(&read(&json).unwrap())
        };
        assert_eq!(member(false), "7       box-1                            worker     1970-01-01T00:00:00Z");
        assert_eq!(member(true), "7       box-1                            worker     revoked");
    }

    #[test]
    fn a_cluster_that_is_there_already_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let args = |more: &[&str]| {
            let words = ["--state", state.to_str().expect("a name in ASCII")];
            typed::<InitArgs>(&[&words[..], more].concat()).unwrap()
        };
        init_cluster(&state, &[]).unwrap();
        let token = dir.path().join("token");
        let words = ["--if-needed", "--worker-token", token.to_str().expect("a name in ASCII")];
        init(args(&words)).unwrap();
        let text = std::fs::read_to_string(&token).unwrap();
        assert!(text.starts_with("cvy1."), "{text}");
        init(args(&words)).unwrap();
        assert_eq!(std::fs::read_to_string(&token).unwrap(), text, "a token that is there stays");
        let error = init(args(&[])).unwrap_err();
        assert!(error.to_string().contains("holds a cluster's authority already"), "{error}");
        assert_eq!(error.exit_code(), 4);
    }
}

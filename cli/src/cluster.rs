//! Talking to a coordinator of jobs: where it is, who one is there, what its answers mean.

use std::future::Future;

use convoy_proto::channel::Link;
use convoy_proto::v1::access_client::AccessClient;
use convoy_proto::v1::data_client::DataClient;
use convoy_proto::v1::jobs_client::JobsClient;
use convoy_security::ConnectError;
use serde::de::DeserializeOwned;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::error::CliError;
use crate::member::{self, Home};
use crate::runner::is_loopback;

const DEFAULT: &str = "127.0.0.1:7070";

/// Which coordinator is meant.
#[derive(Debug, Clone, clap::Args)]
pub struct Where {
    /// The coordinator; without it the one that `convoy login` was told, or 127.0.0.1:7070.
    #[arg(long = "coordinator", value_name = "HOST:PORT", env = "CONVOY_COORDINATOR")]
    given: Option<String>,
}

impl Where {
    /// Opens a connection for commands about jobs.
    ///
    /// # Errors
    /// When nobody answers there, or one may not ask.
    pub async fn connect(&self) -> Result<JobsClient<Channel>, CliError> {
        let link = self.link().await?;
        link.jobs().await.map_err(|error| failed(&link.address, error))
    }

    /// Opens a connection for commands about data sets.
    ///
    /// # Errors
    /// As [`Where::connect`].
    pub async fn data(&self) -> Result<DataClient<Channel>, CliError> {
        let link = self.link().await?;
        link.data().await.map_err(|error| failed(&link.address, error))
    }

    /// Opens a connection for commands about members and tokens.
    ///
    /// # Errors
    /// As [`Where::connect`].
    pub async fn access(&self) -> Result<AccessClient<Channel>, CliError> {
        let link = self.link().await?;
        link.access().await.map_err(|error| failed(&link.address, error))
    }

    /// Where the coordinator is, as far as that is known.
    pub fn address(&self) -> String {
        let home = || Home::load(&Home::folder()).ok().flatten().map(|(home, _)| home.coordinator);
        self.given.clone().or_else(home).unwrap_or_else(|| DEFAULT.to_owned())
    }

    /// How it is reached. A certificate that gets old is renewed on the way.
    async fn link(&self) -> Result<Link, CliError> {
        let folder = Home::folder();
        let Some((mut home, identity)) = Home::load(&folder)? else { return self.plain() };
        if self.given.as_ref().is_some_and(|given| *given != home.coordinator) {
            return self.plain();
        }
        let mut link = Link { address: home.coordinator.clone(), cluster: Some((home.cluster, Some(identity))) };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        if now.as_secs() >= home.renew_at
            && let Ok(signed) = member::renew(&link).await
        {
            home.renew_at = signed.renew_at();
            home.save(&folder, &signed.identity)?;
            link.cluster = Some((home.cluster, Some(signed.identity)));
        }
        Ok(link)
    }

    fn plain(&self) -> Result<Link, CliError> {
        let address = self.given.clone().unwrap_or_else(|| DEFAULT.to_owned());
        match is_loopback(&address)? {
            true => Ok(Link::plain(address)),
            false => Err(CliError::NotMember { address }),
        }
    }

    /// What an answer that is none means.
    pub fn refused(&self, status: &Status) -> CliError {
        // Not an answer: what is there does not speak gRPC, at least not in the clear, or it went away.
        if std::error::Error::source(status).is_some() && ConnectError::find(status).is_none() {
            let (address, reason) = (self.address(), status.message());
            return self.unreachable(format!(
                "{reason}; if it is a cluster's, join it with `convoy login {address} --token-file FILE`"
            ));
        }
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Aborted => self.unreachable(status.message().to_owned()),
            _ => answer(status),
        }
    }

    /// Nobody answers.
    pub fn unreachable(&self, reason: String) -> CliError {
        CliError::Unreachable { address: self.address(), reason }
    }
}

fn failed(address: &str, error: ConnectError) -> CliError {
    match error {
        ConnectError::Unreachable(reason) => CliError::Unreachable { address: address.to_owned(), reason },
        ConnectError::TimedOut => CliError::Unreachable { address: address.to_owned(), reason: error.to_string() },
        error => error.into(),
    }
}

/// What the coordinator said, with the exit code that it means.
pub fn answer(status: &Status) -> CliError {
    // A certificate that is not accepted shows itself in the first call.
    if let Some(error) = ConnectError::find(status) {
        return error.into();
    }
    CliError::Answer { code: exit_code(status.code()), message: status.message().to_owned() }
}

/// The exit code that an answer of the coordinator means.
fn exit_code(code: Code) -> u8 {
    match code {
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => 2,
        Code::NotFound => 3,
        Code::PermissionDenied | Code::Unauthenticated => 4,
        Code::Cancelled => 5,
        Code::ResourceExhausted => 75,
        _ => 1,
    }
}

/// Runs a command that talks to a coordinator.
///
/// # Errors
/// Those of the command.
pub fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| CliError::Io { path: "tokio".into(), source })?;
    runtime.block_on(work)
}

/// Reads an object that the coordinator sent.
///
/// # Errors
/// When it comes from another version.
pub fn read<T: DeserializeOwned>(json: &str) -> Result<T, CliError> {
    serde_json::from_str(json).map_err(|error| CliError::Answer {
        code: 1,
        message: format!("the coordinator's answer makes no sense: {error}; install the same version on both"),
    })
}

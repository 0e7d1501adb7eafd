//! Talking to a coordinator of jobs: where it is, what its answers mean.

use std::future::Future;

use convoy_proto::channel::connect_jobs;
use convoy_proto::v1::jobs_client::JobsClient;
use serde::de::DeserializeOwned;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::error::CliError;
use crate::runner::loopback;

/// Which coordinator is meant.
#[derive(Debug, Clone, clap::Args)]
pub struct Where {
    /// The coordinator.
    #[arg(long, value_name = "HOST:PORT", env = "CONVOY_COORDINATOR", default_value = "127.0.0.1:7070")]
    pub coordinator: String,
}

impl Where {
    /// Opens a connection for commands.
    ///
    /// # Errors
    /// When nobody answers there, or it may not be asked.
    pub async fn connect(&self) -> Result<JobsClient<Channel>, CliError> {
        loopback(&self.coordinator)?;
        connect_jobs(&self.coordinator).await.map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            self.unreachable(cause.unwrap_or_else(|| error.to_string()))
        })
    }

    /// What an answer that is none means.
    pub fn refused(&self, status: &Status) -> CliError {
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Aborted | Code::ResourceExhausted => {
                self.unreachable(status.message().to_owned())
            }
            code => CliError::Answer { code: exit_code(code), message: status.message().to_owned() },
        }
    }

    /// Nobody answers.
    pub fn unreachable(&self, reason: String) -> CliError {
        CliError::Unreachable { address: self.coordinator.clone(), reason }
    }
}

/// The exit code that an answer of the coordinator means.
fn exit_code(code: Code) -> u8 {
    match code {
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => 2,
        Code::NotFound => 3,
        Code::PermissionDenied | Code::Unauthenticated => 4,
        Code::Cancelled => 5,
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

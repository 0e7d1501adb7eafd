//! Talking to a coordinator of jobs: where it is, who one is there, what its answers mean.

use convoy_proto::channel::Link;
use convoy_proto::v1::access_client::AccessClient;
use convoy_proto::v1::data_client::DataClient;
use convoy_proto::v1::jobs_client::JobsClient;
use convoy_security::ConnectError;
use serde::de::DeserializeOwned;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::address::is_loopback;
use crate::error::{CliError, answer};
use crate::member::{self, Home};

const DEFAULT: &str = "127.0.0.1:7070";

/// Which coordinator is meant.
#[derive(Debug, Clone, clap::Args)]
pub struct Endpoint {
    /// The coordinator; without it the one that `convoy login` was told, or 127.0.0.1:7070.
    #[arg(long = "coordinator", value_name = "HOST:PORT", env = "CONVOY_COORDINATOR")]
    given: Option<String>,
}

impl Endpoint {
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
    /// As [`Endpoint::connect`].
    pub async fn data(&self) -> Result<DataClient<Channel>, CliError> {
        let link = self.link().await?;
        link.data().await.map_err(|error| failed(&link.address, error))
    }

    /// Opens a connection for commands about members and tokens.
    ///
    /// # Errors
    /// As [`Endpoint::connect`].
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
        let mut link = Link::member(home.coordinator.clone(), home.cluster, Some(identity));
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
            true => Ok(Link::local(address, member::user_secret(&Home::folder())?)),
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;

    fn at(address: &str) -> Endpoint {
        Endpoint { given: Some(address.to_owned()) }
    }

    #[test]
    fn only_this_machine_is_talked_to_in_the_clear() {
        let link = at("127.0.0.1:9").plain().unwrap();
        assert_eq!((link.address.as_str(), link.cluster.is_none()), ("127.0.0.1:9", true));
        assert_eq!(Endpoint { given: None }.plain().unwrap().address, DEFAULT);
        let error = at("192.0.2.1:9").plain().unwrap_err();
        assert!(error.to_string().contains("convoy login 192.0.2.1:9 --token-file FILE"), "{error}");
        assert_eq!(error.exit_code(), 4);
    }

    #[test]
    fn an_answer_is_told_from_none() {
        let refused = |status: Status| at("box:9").refused(&status);
        for status in [Status::unavailable("gone"), Status::deadline_exceeded("late"), Status::aborted("again")] {
            let error = refused(status);
            assert!(matches!(&error, CliError::Unreachable { address, .. } if address == "box:9"), "{error}");
        }
        let error = refused(Status::not_found("there is no job `x`"));
        assert_eq!((error.exit_code(), error.to_string().as_str()), (3, "there is no job `x`"));
        let mut broken = Status::unknown("transport error");
        broken.set_source(Arc::new(io::Error::other("reset")));
        let error = refused(broken);
        assert!(error.to_string().contains("join it with `convoy login box:9"), "{error}");
        let mut expired = Status::unknown("transport error");
        expired.set_source(Arc::new(ConnectError::Expired));
        assert!(matches!(refused(expired), CliError::Connect(ConnectError::Expired)));
    }

    #[test]
    fn connections_fail_because_nobody_is_there_or_because_of_trust() {
        assert_eq!(failed("a:1", ConnectError::Unreachable("refused".into())).exit_code(), 75);
        assert_eq!(failed("a:1", ConnectError::TimedOut).exit_code(), 75);
        assert_eq!(failed("a:1", ConnectError::WrongPin).exit_code(), 4);
    }

    #[test]
    fn objects_of_another_version_make_no_sense() {
        assert_eq!(read::<u32>("7").unwrap(), 7);
        let error = read::<u32>("\"seven\"").unwrap_err();
        assert!(error.to_string().ends_with("install the same version on both"), "{error}");
        assert_eq!(error.exit_code(), 1);
    }
}

//! Why a connection or a membership does not begin.

use convoy_security::ConnectError;
use tonic::{Code, Status};

use crate::error::WorkerError;

/// Why a connection or a membership could not be opened.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// Trying again would not help.
    Fatal(WorkerError),
    /// The coordinator is not there, or something else runs by now.
    Unreachable(String),
}

impl From<WorkerError> for OpenError {
    fn from(error: WorkerError) -> Self {
        OpenError::Fatal(error)
    }
}

impl From<Status> for OpenError {
    fn from(status: Status) -> Self {
        // A certificate that is not accepted shows itself in the first call.
        if let Some(error) = ConnectError::find(&status) {
            return error.into();
        }
        match status.code() {
            Code::FailedPrecondition | Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated => {
                OpenError::Fatal(WorkerError::Refused { reason: status.message().to_owned() })
            }
            _ => OpenError::Unreachable(status.message().to_owned()),
        }
    }
}

impl From<ConnectError> for OpenError {
    fn from(error: ConnectError) -> Self {
        match error {
            // A coordinator that is being started, or whose name is not known yet.
            ConnectError::Unreachable(reason) => OpenError::Unreachable(reason),
            ConnectError::TimedOut => OpenError::Unreachable(error.to_string()),
            error => OpenError::Fatal(WorkerError::Connect(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_final_and_anything_else_is_tried_again() {
        for code in [Code::FailedPrecondition, Code::InvalidArgument, Code::PermissionDenied, Code::Unauthenticated] {
            let OpenError::Fatal(WorkerError::Refused { reason }) = Status::new(code, "another version").into() else {
                panic!("{code:?} is tried again")
            };
            assert_eq!(reason, "another version");
        }
        for code in [Code::Unavailable, Code::Internal, Code::NotFound, Code::Unknown, Code::ResourceExhausted] {
            let error = OpenError::from(Status::new(code, "later"));
            assert!(matches!(&error, OpenError::Unreachable(reason) if reason == "later"), "{code:?}: {error:?}");
        }
    }

    #[test]
    fn a_coordinator_that_is_not_there_is_tried_again_and_one_that_is_not_trusted_is_not() {
        let absent = [ConnectError::Unreachable("refused".to_owned()), ConnectError::TimedOut];
        for error in absent {
            assert!(matches!(OpenError::from(error), OpenError::Unreachable(_)));
        }
        for error in [ConnectError::WrongPin, ConnectError::Expired, ConnectError::Refused("unknown".to_owned())] {
            assert!(matches!(OpenError::from(error), OpenError::Fatal(WorkerError::Connect(_))));
        }
    }
}

//! Every way a command can fail, and the one table of exit codes.

use std::io::ErrorKind;
use std::path::PathBuf;

use convoy_common::durable::WriteError;
use convoy_coordinator::{AccessError, ChangeError, ClusterError, ReadyError, RunDirError, RunError, StoreError};
use convoy_model::{LoadError, ReadError};
use convoy_nn::ComputeError;
use convoy_planning::PlanningError;
use convoy_security::{AuthorityError, ConnectError, KeyError};
use convoy_vision::ScanError;
use convoy_worker::WorkerError;
use tonic::{Code, Status};

use crate::camera_error::CameraError;

/// What a command says when it fails.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line makes no sense beyond what clap sees.
    #[error("{0}")]
    Usage(String),
    /// Something named on the command line is not there.
    #[error("{} does not exist; {hint}", path.display())]
    NotFound {
        /// What was named.
        path: PathBuf,
        /// What could have been meant.
        hint: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Spec, data, network or initial model do not make a job.
    #[error(transparent)]
    Planning(#[from] PlanningError),
    /// Plan and initial model do not make a run.
    #[error(transparent)]
    Ready(#[from] ReadyError),
    /// Data that is looked at without a spec.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Loading an image.
    #[error(transparent)]
    Image(#[from] convoy_vision::LoadError),
    /// A model to use.
    #[error(transparent)]
    Model(#[from] LoadError),
    /// A file of tensors.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file to be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Running a network.
    #[error(transparent)]
    Compute(#[from] ComputeError),
    /// The run folder.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// A run that has begun and shall go on otherwise.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The data of a run that shall go on.
    #[error("{error}; {hint}")]
    Resume {
        /// What is wrong with it.
        error: PlanningError,
        /// What to do about it.
        hint: String,
    },
    /// The run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A worker.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// An address that is not allowed.
    #[error(
        "{address} is not a loopback address, and without a cluster nothing is encrypted; `convoy cluster init --state DIR` \
         makes one, and `convoy coordinator --state DIR` then serves every address"
    )]
    NotLoopback {
        /// What was given.
        address: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another port with --listen, or stop what uses it")]
    Listen {
        /// What was given.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The coordinator of jobs.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The cluster's authority, members or tokens.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// An identity.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The other end is not trusted, or does not trust us.
    #[error("the coordinator is not talked to: {0}")]
    Connect(#[from] ConnectError),
    /// Only members talk to a coordinator on another machine.
    #[error(
        "{address} is not on this machine; join its cluster first: `convoy login {address} --token-file FILE` for commands, --token-file for a worker"
    )]
    NotMember {
        /// Where the coordinator is.
        address: String,
    },
    /// The coordinator said no.
    #[error("{message}")]
    Answer {
        /// The exit code that it means.
        code: u8,
        /// What it said.
        message: String,
    },
    /// The coordinator does not answer.
    #[error(
        "no coordinator answers at {address}: {reason}; start one with `convoy coordinator --state DIR`, or name it with --coordinator"
    )]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What went wrong.
        reason: String,
    },
    /// A worker of this process ended by a panic.
    #[error("a worker of this process crashed: {0}; this is a defect of Convoy, please report it")]
    Crashed(String),
    /// A camera.
    #[error(transparent)]
    Camera(#[from] CameraError),
    /// The device is not there.
    #[error("{0}")]
    Device(String),
    /// Whoever read standard output has gone.
    #[error("standard output was closed")]
    BrokenPipe,
}

impl CliError {
    /// 0 ok, 1 run failed, 2 usage or invalid spec, 3 not found, 4 not allowed, 75 try again later.
    pub fn exit_code(&self) -> u8 {
        match self {
            CliError::BrokenPipe => 0,
            CliError::Answer { code, .. } => *code,
            CliError::Usage(_) | CliError::Ready(_) | CliError::Device(_) => 2,
            CliError::NotFound { .. } => 3,
            CliError::NotLoopback { .. } | CliError::NotMember { .. } => 4,
            CliError::Unreachable { .. } => 75,
            CliError::Image(_) | CliError::Compute(_) | CliError::Crashed(_) | CliError::Run(_) | CliError::Key(_) => 1,
            CliError::Io { source, .. } => io_code(source),
            CliError::Write(error) => io_code(&error.source),
            CliError::Read(error) | CliError::Model(LoadError::Read(error)) => read_code(error),
            CliError::Model(LoadError::NoModel { .. }) => 3,
            CliError::Model(_) => 1,
            CliError::Scan(error) => scan_code(error),
            CliError::Planning(error) => planning_code(error),
            CliError::RunDir(error) | CliError::Change(ChangeError::Folder(error)) => run_dir_code(error),
            CliError::Change(_) => 2,
            CliError::Resume { error, .. } => planning_code(error),
            CliError::Listen { source, .. } if source.kind() == ErrorKind::PermissionDenied => 4,
            CliError::Listen { .. } => 75,
            CliError::Worker(WorkerError::Refused { .. }) => 4,
            CliError::Worker(WorkerError::Unreachable { .. }) => 75,
            CliError::Worker(_) => 1,
            CliError::Cluster(ClusterError::Store(StoreError::InUse(_))) => 75,
            CliError::Cluster(ClusterError::Io { source, .. }) => io_code(source),
            CliError::Cluster(_) => 1,
            CliError::Connect(ConnectError::Address(_)) => 2,
            CliError::Connect(ConnectError::Unreachable(_) | ConnectError::TimedOut) => 75,
            CliError::Connect(_) => 4,
            CliError::Access(error) => access_code(error),
            CliError::Camera(error) => error.exit_code(),
        }
    }
}

fn planning_code(error: &PlanningError) -> u8 {
    match error {
        PlanningError::DataChanged { .. } => 1,
        PlanningError::Spec { .. }
        | PlanningError::KeptElsewhere { .. }
        | PlanningError::Network(_)
        | PlanningError::Init(_) => 2,
        PlanningError::Missing { .. } => 3,
        PlanningError::Io { source, .. } => io_code(source),
        PlanningError::Scan(error) => scan_code(error),
    }
}

fn scan_code(error: &ScanError) -> u8 {
    match error {
        ScanError::Missing { .. } => 3,
        ScanError::Io { source, .. } => io_code(source),
        _ => 2,
    }
}

fn run_dir_code(error: &RunDirError) -> u8 {
    match error {
        RunDirError::Damaged { .. } => 1,
        RunDirError::NotARun { .. } => 3,
        RunDirError::Taken(_) => 4,
        RunDirError::Locked(_) => 75,
        RunDirError::Io { source, .. } => io_code(source),
        RunDirError::Write(error) => io_code(&error.source),
    }
}

fn read_code(error: &ReadError) -> u8 {
    match error {
        ReadError::Io { source, .. } => io_code(source),
        _ => 1,
    }
}

fn access_code(error: &AccessError) -> u8 {
    match error {
        AccessError::Authority(AuthorityError::Bad { .. }) => 2,
        AccessError::Authority(AuthorityError::Exists(_)) => 4,
        AccessError::Authority(AuthorityError::Io { source, .. }) | AccessError::Io { source, .. } => io_code(source),
        _ => 1,
    }
}

fn io_code(error: &std::io::Error) -> u8 {
    match error.kind() {
        ErrorKind::NotFound => 3,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => 4,
        _ => 1,
    }
}

/// What the coordinator said, with the exit code that it means.
pub fn answer(status: &Status) -> CliError {
    // A certificate that is not accepted shows itself in the first call.
    if let Some(error) = ConnectError::find(status) {
        return error.into();
    }
    CliError::Answer { code: answer_code(status.code()), message: status.message().to_owned() }
}

fn answer_code(code: Code) -> u8 {
    match code {
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => 2,
        Code::NotFound => 3,
        Code::PermissionDenied | Code::Unauthenticated => 4,
        Code::Cancelled => 5,
        Code::ResourceExhausted => 75,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use convoy_common::spec::SpecError;
    use convoy_security::TokenError;

    use super::*;

    fn io_error(kind: ErrorKind) -> io::Error {
        kind.into()
    }

    fn path() -> PathBuf {
        "x".into()
    }

    /// Every error is made of the system's one, and has its exit code.
    fn check_io(error: impl Fn(io::Error) -> CliError) {
        let code = |kind| error(io_error(kind)).exit_code();
        let kinds =
            [ErrorKind::NotFound, ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem, ErrorKind::TimedOut];
        assert_eq!(kinds.map(code), [3, 4, 4, 1], "{}", error(io_error(ErrorKind::TimedOut)));
    }

    fn check(code: u8, errors: &[CliError]) {
        errors.iter().for_each(|error| assert_eq!(error.exit_code(), code, "{error:?}"));
    }

    #[test]
    fn what_the_system_says_decides() {
        check_io(|source| CliError::Io { path: path(), source });
        check_io(|source| WriteError { path: path(), source }.into());
        check_io(|source| ReadError::Io { path: path(), source }.into());
        check_io(|source| LoadError::Read(ReadError::Io { path: path(), source }).into());
        check_io(|source| ScanError::Io { path: path(), source }.into());
        check_io(|source| PlanningError::Io { path: path(), source }.into());
        check_io(|source| PlanningError::Scan(ScanError::Io { path: path(), source }).into());
        check_io(|source| RunDirError::Io { path: path(), source }.into());
        check_io(|source| RunDirError::Write(WriteError { path: path(), source }).into());
        check_io(|source| ClusterError::Io { path: path(), source }.into());
        check_io(|source| AccessError::Io { path: path(), source }.into());
        check_io(|source| AccessError::Authority(AuthorityError::Io { path: path(), source }).into());
    }

    #[test]
    fn nobody_reading_is_no_failure() {
        check(0, &[CliError::BrokenPipe]);
    }

    #[test]
    fn what_failed_is_1() {
        let no_image = || convoy_vision::LoadError::Io { path: path(), source: io_error(ErrorKind::NotFound) };
        check(
            1,
            &[
                no_image().into(),
                CliError::Crashed(String::new()),
                KeyError::Bad(String::new()).into(),
                RunError::Socket(String::new()).into(),
                WorkerError::Data(no_image()).into(),
                RunDirError::Damaged { path: path(), problem: String::new() }.into(),
                PlanningError::DataChanged { difference: String::new() }.into(),
                CliError::Resume {
                    error: PlanningError::DataChanged { difference: String::new() },
                    hint: String::new(),
                },
                ClusterError::Socket(String::new()).into(),
                ClusterError::Store(StoreError::Io { path: path(), problem: String::new() }).into(),
                AccessError::UnknownMember(String::new()).into(),
                AccessError::Token(TokenError::Expired).into(),
                AccessError::Authority(AuthorityError::Missing(path())).into(),
            ],
        );
    }

    #[test]
    fn what_makes_no_sense_is_2() {
        let error = SpecError::Override { given: String::new() };
        check(
            2,
            &[
                CliError::Usage(String::new()),
                CliError::Device(String::new()),
                PlanningError::Spec { file: None, error }.into(),
                ChangeError::Done { epochs: 1, done: 2, per_epoch: 1, least: 2 }.into(),
                PlanningError::KeptElsewhere { key: "data.train", path: String::new() }.into(),
                PlanningError::Scan(ScanError::UnknownFormat { path: path() }).into(),
                ScanError::UnknownFormat { path: path() }.into(),
                ConnectError::Address(String::new()).into(),
                AccessError::Authority(AuthorityError::Bad { what: String::new(), problem: String::new() }).into(),
            ],
        );
    }

    #[test]
    fn what_is_not_there_is_3() {
        check(
            3,
            &[
                CliError::NotFound { path: path(), hint: String::new() },
                PlanningError::Missing { path: path(), hint: String::new() }.into(),
                PlanningError::Scan(ScanError::Missing { path: path(), key: "data.train" }).into(),
                ScanError::Missing { path: path(), key: "data.train" }.into(),
                RunDirError::NotARun { path: path(), hint: String::new() }.into(),
                LoadError::NoModel { path: path() }.into(),
            ],
        );
    }

    #[test]
    fn what_is_not_allowed_is_4() {
        check(
            4,
            &[
                CliError::NotLoopback { address: String::new() },
                CliError::NotMember { address: String::new() },
                CliError::Listen { address: String::new(), source: io_error(ErrorKind::PermissionDenied) },
                RunDirError::Taken(path()).into(),
                WorkerError::Refused { reason: String::new() }.into(),
                ConnectError::WrongPin.into(),
                ConnectError::Refused(String::new()).into(),
                AccessError::Authority(AuthorityError::Exists(path())).into(),
            ],
        );
    }

    #[test]
    fn what_may_go_better_later_is_75() {
        check(
            75,
            &[
                CliError::Unreachable { address: String::new(), reason: String::new() },
                CliError::Listen { address: String::new(), source: io_error(ErrorKind::AddrInUse) },
                RunDirError::Locked(path()).into(),
                WorkerError::Unreachable { address: String::new(), reason: String::new() }.into(),
                ClusterError::Store(StoreError::InUse(String::new())).into(),
                ConnectError::Unreachable(String::new()).into(),
                ConnectError::TimedOut.into(),
            ],
        );
    }

    #[test]
    fn answers_have_the_codes_of_what_they_mean() {
        let code = |code| answer(&Status::new(code, "said")).exit_code();
        let table = [
            (Code::Cancelled, 5),
            (Code::Unknown, 1),
            (Code::InvalidArgument, 2),
            (Code::DeadlineExceeded, 1),
            (Code::NotFound, 3),
            (Code::AlreadyExists, 1),
            (Code::PermissionDenied, 4),
            (Code::ResourceExhausted, 75),
            (Code::FailedPrecondition, 1),
            (Code::Aborted, 1),
            (Code::OutOfRange, 2),
            (Code::Unimplemented, 2),
            (Code::Internal, 1),
            (Code::Unavailable, 1),
            (Code::DataLoss, 1),
            (Code::Unauthenticated, 4),
        ];
        table.into_iter().for_each(|(status, expected)| assert_eq!(code(status), expected, "{status:?}"));
        assert_eq!(answer(&Status::not_found("said")).to_string(), "said");
    }

    #[test]
    fn a_certificate_that_is_not_accepted_is_no_answer() {
        let mut status = Status::unknown("a broken connection");
        status.set_source(std::sync::Arc::new(ConnectError::Expired));
        let error = answer(&status);
        assert!(matches!(error, CliError::Connect(ConnectError::Expired)), "{error}");
        assert_eq!(error.exit_code(), 4);
    }
}

//! Every way a command can fail, and the one table of exit codes.

use std::io::ErrorKind;
use std::path::PathBuf;

use convoy_common::spec::SpecError;
use convoy_coordinator::{AccessError, ClusterError, RunDirError, RunError, StoreError};
use convoy_model::{InitError, LoadError, NetworkError, ReadError, WriteError};
use convoy_nn::ComputeError;
use convoy_security::{AuthorityError, ConnectError, KeyError};
use convoy_vision::ScanError;
use convoy_worker::WorkerError;

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
    /// The spec.
    #[error("{}{error}", file.as_ref().map(|file| format!("{}: ", file.display())).unwrap_or_default())]
    Spec {
        /// Its file.
        file: Option<PathBuf>,
        /// What is wrong.
        error: SpecError,
    },
    /// The data.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Loading an image.
    #[error(transparent)]
    Image(#[from] convoy_vision::LoadError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The initial model.
    #[error(transparent)]
    Init(#[from] InitError),
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
    /// The run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A worker.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The data is not what it was when the run began.
    #[error("the data has changed since the run began: {difference}; put it back to resume, or start a new run")]
    DataChanged {
        /// The first difference.
        difference: String,
    },
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
            CliError::Usage(_)
            | CliError::Spec { .. }
            | CliError::Network(_)
            | CliError::Init(_)
            | CliError::Device(_) => 2,
            CliError::NotFound { .. } | CliError::RunDir(RunDirError::NotARun(_)) => 3,
            CliError::Model(LoadError::NoModel { .. }) => 3,
            CliError::Io { source, .. } | CliError::Read(ReadError::Io { source, .. }) => io_code(source),
            CliError::Scan(ScanError::Missing { .. }) => 3,
            CliError::NotLoopback { .. } | CliError::RunDir(RunDirError::Taken(_)) => 4,
            CliError::Worker(WorkerError::Refused { .. }) => 4,
            CliError::Listen { source, .. } if source.kind() == ErrorKind::PermissionDenied => 4,
            CliError::Scan(ScanError::Io { source, .. }) => io_code(source),
            CliError::Model(LoadError::Read(ReadError::Io { source, .. })) => io_code(source),
            CliError::Scan(_) => 2,
            CliError::Listen { .. } | CliError::RunDir(RunDirError::Locked(_)) => 75,
            CliError::Worker(WorkerError::Unreachable { .. }) => 75,
            CliError::RunDir(RunDirError::Io { source, .. }) => io_code(source),
            CliError::RunDir(RunDirError::Write(error)) | CliError::Write(error) => io_code(&error.source),
            CliError::Image(_)
            | CliError::Model(_)
            | CliError::Read(_)
            | CliError::Compute(_)
            | CliError::Crashed(_)
            | CliError::RunDir(_)
            | CliError::Run(_)
            | CliError::Worker(_)
            | CliError::DataChanged { .. } => 1,
            CliError::Answer { code, .. } => *code,
            CliError::Unreachable { .. } | CliError::Cluster(ClusterError::Store(StoreError::InUse(_))) => 75,
            CliError::Cluster(ClusterError::Io { source, .. }) => io_code(source),
            CliError::Cluster(_) | CliError::Key(_) => 1,
            CliError::NotMember { .. } => 4,
            CliError::Connect(ConnectError::Address(_)) => 2,
            CliError::Connect(ConnectError::Unreachable(_) | ConnectError::TimedOut) => 75,
            CliError::Connect(_) => 4,
            CliError::Access(AccessError::Authority(AuthorityError::Exists(_))) => 4,
            CliError::Access(AccessError::Authority(AuthorityError::Bad { .. })) => 2,
            CliError::Access(AccessError::Io { source, .. }) => io_code(source),
            CliError::Access(AccessError::Authority(AuthorityError::Io { source, .. })) => io_code(source),
            CliError::Access(_) => 1,
            CliError::BrokenPipe => 0,
        }
    }
}

fn io_code(error: &std::io::Error) -> u8 {
    match error.kind() {
        ErrorKind::NotFound => 3,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => 4,
        _ => 1,
    }
}

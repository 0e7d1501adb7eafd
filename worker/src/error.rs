//! Why a worker gives up.

use convoy_model::bytes;
use convoy_proto::v1::DeclineCause;
use convoy_security::ConnectError;

/// Why a worker gave up.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Nobody answers.
    #[error(
        "no coordinator answers at {address}: {reason}; check the address and that `convoy coordinator` runs there"
    )]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// The coordinator is not trusted, or does not trust this worker.
    #[error("the coordinator is not talked to: {0}")]
    Connect(ConnectError),
    /// The coordinator does not want it.
    #[error("the coordinator refused this worker: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// The plan or the manifest makes no sense.
    #[error("the coordinator sent {what} that makes no sense: {reason}; both must run the same version of Convoy")]
    Nonsense {
        /// What it sent.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The data is not there.
    #[error("the run's data: {0}")]
    Data(#[from] convoy_vision::LoadError),
    /// The job needs more memory than there is.
    #[error(
        "it needs {} of memory on one thread, and {} are there; give the worker more, or lower the job's train.shard or prepare.size",
        bytes(*need),
        bytes(*there)
    )]
    Memory {
        /// Bytes that it needs on one thread.
        need: u64,
        /// Bytes that there are.
        there: u64,
    },
    /// There is not the memory to add gradients for other workers.
    #[error(
        "adding gradients of this job for others takes about {}, and this worker may have {}; give it more memory",
        bytes(*need),
        bytes(*there)
    )]
    MemoryToAdd {
        /// Bytes that it needs.
        need: u64,
        /// Bytes that there are.
        there: u64,
    },
    /// Parameters were fetched twice, and were others in this machine's memory than the coordinator's both times.
    #[error(
        "the parameters of step {step} came twice and had another digest in this machine's memory each time; look at the machine's memory before it takes part again"
    )]
    BadMemory {
        /// The step that is computed with them.
        step: u64,
    },
    /// It cannot listen for other workers.
    #[error("cannot listen for other workers at {address}: {source}; choose another --peer-listen")]
    PeerListen {
        /// Where.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no key for connections to other workers.
    #[error("no key for connections to other workers: {0}")]
    PeerKey(String),
    /// The bits of the run's class are others on this machine.
    #[error(
        "this machine does not give the bits of cpu-bf16-v1 with its {level} instructions; look at its processor and virtual machine, or set CONVOY_CPU=portable"
    )]
    WrongBits {
        /// The instructions of the kernels.
        level: &'static str,
    },
    /// The network cannot be computed.
    #[error("the run's network cannot be computed: {0}")]
    Compute(#[from] convoy_nn::ComputeError),
}

impl WorkerError {
    /// The coordinator sent something that cannot be meant.
    pub(crate) fn nonsense(what: &'static str, reason: impl ToString) -> Self {
        WorkerError::Nonsense { what, reason: reason.to_string() }
    }

    /// What a coordinator is told to be amiss when this keeps the worker from a job.
    pub(crate) fn cause(&self) -> DeclineCause {
        match self {
            WorkerError::Data(_) => DeclineCause::Data,
            WorkerError::Memory { .. } | WorkerError::MemoryToAdd { .. } => DeclineCause::Memory,
            WorkerError::BadMemory { .. } | WorkerError::WrongBits { .. } => DeclineCause::Faulty,
            WorkerError::Unreachable { .. }
            | WorkerError::Connect(_)
            | WorkerError::Refused { .. }
            | WorkerError::Nonsense { .. }
            | WorkerError::PeerListen { .. }
            | WorkerError::PeerKey(_)
            | WorkerError::Compute(_) => DeclineCause::Unspecified,
        }
    }
}

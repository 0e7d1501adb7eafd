//! Which run a worker computes for.

use convoy_proto::v1;

/// A worker's assignment to a job: what its requests are signed with, so that a coordinator can refuse those of an
/// earlier connection, another job or an earlier start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// The worker's number, which stands for one connection.
    pub(crate) worker: u32,
    /// The job's number.
    pub(crate) job: u64,
    /// How often the coordinator has started the job's run.
    pub(crate) generation: u64,
}

impl Assignment {
    /// Asks for plan and manifest.
    pub(crate) fn plan(self) -> v1::PlanRequest {
        v1::PlanRequest { worker: self.worker, job: self.job, generation: self.generation }
    }

    /// Asks for the parameters of `step`.
    pub(crate) fn parameters(self, step: u64, held: Option<u64>) -> v1::ParametersRequest {
        v1::ParametersRequest { worker: self.worker, job: self.job, generation: self.generation, step, held }
    }

    /// Asks for files by their numbers in the manifest.
    pub(crate) fn files(self, files: Vec<u32>) -> v1::FilesRequest {
        v1::FilesRequest { worker: self.worker, job: self.job, generation: self.generation, files }
    }
}

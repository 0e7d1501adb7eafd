//! Which run a worker computes for.

use convoy_proto::v1;
use convoy_scheduler::{Opening, OwnersVersion};

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
        let Assignment { worker, job, generation } = self;
        v1::ParametersRequest { worker, job, generation, step, held, chunks: Vec::new() }
    }

    /// Asks for what the owner of chunks begins `step` with.
    pub(crate) fn state(self, step: u64, chunks: Vec<usize>) -> v1::StateRequest {
        let Assignment { worker, job, generation } = self;
        v1::StateRequest { worker, job, generation, step, chunks: numbers(chunks) }
    }

    /// Announces sums of an opening.
    pub(crate) fn roots(self, opening: Opening) -> v1::RootsHeader {
        let Assignment { worker, job, generation } = self;
        v1::RootsHeader { worker, job, generation, opening: opening.0 }
    }

    /// Announces chunks for another worker.
    pub(crate) fn push(self, opening: Opening, version: OwnersVersion) -> v1::PushHeader {
        let Assignment { worker, job, generation } = self;
        v1::PushHeader { worker, job, generation, opening: opening.0, version: version.0 }
    }

    /// Asks another worker for parameters that it makes in an opening.
    pub(crate) fn slices(self, opening: Opening, chunks: Vec<usize>, changes: bool) -> v1::SlicesRequest {
        let Assignment { worker, job, generation } = self;
        v1::SlicesRequest { worker, job, generation, opening: opening.0, chunks: numbers(chunks), changes }
    }

    /// Announces chunks of what is kept.
    pub(crate) fn kept(self, opening: Opening, chunk: u32) -> v1::KeptHeader {
        let Assignment { worker, job, generation } = self;
        v1::KeptHeader { worker, job, generation, opening: opening.0, chunk }
    }

    /// Answers what was brought.
    pub(crate) fn brought(self, question: u64, brought: Vec<v1::BroughtDigest>) -> v1::BroughtDigests {
        let Assignment { worker, job, generation } = self;
        v1::BroughtDigests { worker, job, generation, question, brought }
    }

    /// Asks for files by their numbers in the manifest.
    pub(crate) fn files(self, files: Vec<u32>) -> v1::FilesRequest {
        v1::FilesRequest { worker: self.worker, job: self.job, generation: self.generation, files }
    }
}

fn numbers(chunks: Vec<usize>) -> Vec<u32> {
    chunks.into_iter().map(|index| index as u32).collect()
}

//! What others reach an open run by.

use std::sync::Arc;

use bytes::Bytes;
use convoy_common::Plan;
use convoy_common::file_tree::Files;
use convoy_common::manifest::Manifest;
use convoy_common::spec::Compression;
use convoy_model::Network;
use convoy_reduce::{FrozenChunks, ParameterBoard};
use convoy_scheduler::RunGeneration;

use super::brought_questions::BroughtQuestions;
use super::delivery::Delivery;
use super::folder::worker_logs::WorkerLogs;
use super::leases::Leases;
use super::reduction::reducer_queue::ReducerQueue;
use super::run_inputs::RunInput;
use crate::queue::QueueSender;

/// An open run, for those who answer its workers.
///
/// Many fields: each is another part of the run, or a way to it.
#[derive(Debug)]
pub(crate) struct RunHandle {
    /// The plan as JSON.
    pub(crate) plan_json: Bytes,
    /// The manifest as workers get it.
    pub(crate) manifest_bytes: Bytes,
    /// The plan.
    pub(crate) plan: Arc<Plan>,
    /// The manifest.
    pub(crate) manifest: Arc<Manifest>,
    /// Where the manifest's files are read.
    pub(crate) files: Arc<dyn Files>,
    /// The start of the coordinator.
    pub(crate) generation: RunGeneration,
    /// What of the flat vector travels.
    pub(crate) vector: FlatVector,
    /// To the loop.
    pub(crate) inputs: QueueSender<RunInput>,
    /// To the reducer.
    pub(crate) reducer: ReducerQueue,
    /// Parameters on their way out.
    pub(crate) board: Arc<ParameterBoard>,
    /// What is lent.
    pub(crate) leases: Arc<Leases>,
    /// Whether workers have the chunks of nodes.
    pub(crate) delivery: Arc<Delivery>,
    /// What owners are asked about what they were brought.
    pub(crate) questions: Arc<BroughtQuestions>,
    /// What workers log.
    pub(crate) worker_logs: WorkerLogs,
}

/// A run's parameters and buffers, as far as who takes in chunks of them has to know.
#[derive(Debug)]
pub(crate) struct FlatVector {
    /// How many elements there are.
    pub(crate) elements: usize,
    /// Chunks that nobody sends.
    pub(crate) frozen: FrozenChunks,
    /// How exact nodes and sums are.
    pub(crate) compression: Compression,
}

impl FlatVector {
    /// Those of a plan and its network.
    pub(crate) fn of(plan: &Plan, network: &Network) -> Self {
        let (frozen, compression) = (FrozenChunks::of(plan, network), plan.spec.train.compression);
        FlatVector { elements: network.len(), frozen, compression }
    }
}

/// The run takes nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the run is over")]
pub(crate) struct RunOver;

impl RunHandle {
    /// Tells the run's loop.
    ///
    /// # Errors
    /// When the loop has ended.
    pub(crate) fn tell(&self, input: RunInput) -> Result<(), RunOver> {
        if self.inputs.send(input) { Ok(()) } else { Err(RunOver) }
    }
}

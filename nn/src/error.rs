//! What can go wrong while a shard is computed.

use convoy_kernels::ShapeError;
use convoy_kernels::loss::LossError;
use thiserror::Error;

use crate::DeviceError;

/// Why a shard could not be computed. The executor stays usable.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ComputeError {
    /// A buffer that came in has another length than plan and network say.
    #[error("{what}: {actual} numbers, but {expected} are needed")]
    Length {
        /// Which buffer.
        what: &'static str,
        /// Its length.
        actual: usize,
        /// What its length should be.
        expected: usize,
    },
    /// The targets are of another kind than the task's.
    #[error("the batch holds {found}, but the task `{task}` needs {needed}")]
    Targets {
        /// What the batch holds.
        found: &'static str,
        /// The task.
        task: &'static str,
        /// What the task needs.
        needed: &'static str,
    },
    /// A label that names no class.
    #[error("{0}")]
    Loss(#[from] LossError),
    /// A layer that does not fit its input.
    #[error("layer \"{layer}\": {problem}")]
    Layer {
        /// Its name.
        layer: String,
        /// What does not fit, and what to do.
        problem: ShapeError,
    },
    /// A batch norm that sees one value per channel, whose variance says nothing.
    #[error(
        "layer \"{layer}\" would normalise each channel by a single value; use larger shards or a larger input, \
         or leave the layer out"
    )]
    SingleValue {
        /// Its name.
        layer: String,
    },
    /// The device cannot be had.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A tensor operation was refused.
    #[error("a tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// An operation panicked; a defect of the program, which costs this shard only.
    #[error("an operation panicked: {message}")]
    Panicked {
        /// What it said.
        message: String,
    },
    /// The thread that computes could not be started.
    #[error("the compute thread could not be started: {0}")]
    Thread(String),
}

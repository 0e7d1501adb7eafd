//! What a pass is for, and where its random numbers are looked up.

use convoy_model::{Role, Tensor};

/// How layers that know training from use behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Everything learns: dropout draws its masks, batch norms measure the shard.
    Train,
    /// Only the head learns: dropout draws its masks, batch norms use running statistics.
    TrainHead,
    /// Nothing learns: no dropout, running statistics.
    Evaluate,
}

impl Mode {
    /// Whether batch norms normalise by the statistics of the shard; by running ones otherwise.
    pub fn measures_shard(self) -> bool {
        self == Mode::Train
    }

    /// Whether dropout draws its masks; it is the identity otherwise.
    pub fn draws_masks(self) -> bool {
        self != Mode::Evaluate
    }

    /// Whether the gradient of `tensor` is wanted.
    pub fn learns(self, tensor: &Tensor) -> bool {
        let parameter = matches!(tensor.role, Role::Parameter { .. });
        match self {
            Mode::Train => parameter,
            Mode::TrainHead => parameter && tensor.head,
            Mode::Evaluate => false,
        }
    }
}

/// Where the random numbers of a training shard are looked up: two shards with one address draw the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct ShardAddress {
    /// Seed of the run.
    pub seed: u64,
    /// Epoch, from 0.
    pub epoch: u32,
    /// Index of each sample in its split.
    pub samples: Vec<u32>,
}

/// A shard that is trained on.
#[derive(Debug)]
pub(crate) struct TrainingShard<'a> {
    /// The samples, NHWC, one after the other.
    pub x_nhwc: &'a [f32],
    /// [`Mode::Train`] or [`Mode::TrainHead`].
    pub mode: Mode,
    /// Which samples these are.
    pub address: ShardAddress,
}

impl TrainingShard<'_> {
    /// Samples.
    pub fn count(&self) -> usize {
        self.address.samples.len()
    }
}

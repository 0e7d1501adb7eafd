//! Batch norm, as `torch.nn.functional.batch_norm`.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use convoy_kernels::norm::{self, Affine, Grads, Stats};

use super::{output, tracked, values, with_values};

/// Mean and biased variance of each channel over a shard.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchStatistics {
    /// Mean.
    pub mean: Vec<f32>,
    /// Variance, divided by the number of values.
    pub var: Vec<f32>,
}

/// Which statistics normalise.
pub enum Statistics {
    /// The shard's own, which the forward pass leaves here.
    Measured(Arc<OnceLock<BatchStatistics>>),
    /// Running ones, which do not depend on x.
    Given(BatchStatistics),
}

/// x with channels as its last axis, gamma `(c)` and beta `(c)`, to the shape of x.
pub struct BatchNorm {
    /// Added to the variance.
    pub eps: f32,
    /// Which statistics normalise.
    pub statistics: Statistics,
}

impl BatchNorm {
    fn statistics(&self) -> &BatchStatistics {
        match &self.statistics {
            Statistics::Measured(measured) => measured.get().expect("the forward pass comes first"),
            Statistics::Given(given) => given,
        }
    }
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "batch norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        gamma: &CpuStorage,
        lg: &Layout,
        beta: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = values(x, lx)?;
        let affine = Affine { gamma: values(gamma, lg)?, beta: values(beta, lb)? };
        Ok(output(x.len(), lx.shape().clone(), |y| match &self.statistics {
            Statistics::Measured(measured) => {
                let channels = affine.gamma.len();
                let (mut mean, mut var) = (vec![0.0; channels], vec![0.0; channels]);
                norm::forward_train(x, affine, self.eps, y, &mut mean, &mut var);
                measured.set(BatchStatistics { mean, var }).expect("an operation runs forward once");
            }
            Statistics::Given(BatchStatistics { mean, var }) => {
                norm::forward_eval(x, Stats { mean, var }, affine, self.eps, y);
            }
        }))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let BatchStatistics { mean, var } = self.statistics();
        let backward = match self.statistics {
            Statistics::Measured(_) => norm::backward_train,
            Statistics::Given(_) => norm::backward_eval,
        };
        let channels = mean.len();
        let (mut dx, mut dgamma, mut dbeta) = (vec![0.0; x.elem_count()], vec![0.0; channels], vec![0.0; channels]);
        with_values([x, dy, gamma], |[x, dy, gamma]| {
            let grads = Grads { dx: &mut dx, dgamma: &mut dgamma, dbeta: &mut dbeta };
            backward(x, dy, Stats { mean, var }, gamma, self.eps, grads);
        })?;
        Ok((tracked(x, dx)?, tracked(gamma, dgamma)?, tracked(beta, dbeta)?))
    }
}

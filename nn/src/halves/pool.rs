//! Pooling, alone.

use std::fmt;

use convoy_kernels::bf16::Blocks;
use convoy_kernels::bf16::elementwise::{self, PoolKind};
use convoy_kernels::pool::PoolShape;
use convoy_model::Op;

use super::buffers::HalfBuffers;
use super::rows::{HalfLayer, tensor_of_rows};
use crate::ComputeError;
use crate::lowering::pool_shape;
use crate::ops::{Keeps, Operation, Ports, Wanted, window};

/// Maximum or mean over windows.
pub(super) struct HalfPool {
    kind: PoolKind,
    shape: PoolShape,
}

impl HalfPool {
    /// For the layer's input.
    ///
    /// # Errors
    /// When the geometry makes no sense.
    pub fn resolve(layer: &HalfLayer<'_>) -> Result<Self, ComputeError> {
        let kind = match layer.node().op {
            Op::MaxPool { .. } => PoolKind::Max,
            _ => PoolKind::Average,
        };
        Ok(HalfPool { kind, shape: pool_shape(layer.network, layer.node(), layer.kind.images)? })
    }
}

impl fmt::Display for HalfPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name(), window(&self.shape))
    }
}

impl Operation<HalfBuffers> for HalfPool {
    fn name(&self) -> &'static str {
        match self.kind {
            PoolKind::Max => "max pool",
            PoolKind::Average => "average pool",
        }
    }

    fn keeps(&self) -> Keeps {
        Keeps { input: self.kind == PoolKind::Max, output: false }
    }

    fn forward(&self, buffers: &mut HalfBuffers, ports: &Ports) {
        let y = tensor_of_rows(buffers, self.shape.y_blocks(), |buffers, rows, y| {
            elementwise::pool_rows(self.kind, self.shape, rows, buffers.values.output(ports.inputs[0]), y);
        });
        buffers.values.set_output(ports.output, y);
    }

    fn backward(&self, buffers: &mut HalfBuffers, ports: &Ports, _wanted: Wanted) {
        let dy = buffers.gradients.take(ports.output);
        let dx = tensor_of_rows(buffers, self.shape.x_blocks(), |buffers, rows, dx| {
            let x = match self.kind {
                PoolKind::Max => buffers.values.output(ports.inputs[0]),
                PoolKind::Average => &[],
            };
            elementwise::pool_gradient_rows(self.kind, self.shape, rows, x, &dy, dx);
        });
        buffers.gradients.add(ports.inputs[0], dx, &mut buffers.pool);
        buffers.pool.give(dy);
    }
}

/// Mean over all pixels.
pub(super) struct HalfGlobalPool {
    /// Of x.
    shape: Blocks,
}

impl HalfGlobalPool {
    /// For the layer's input.
    ///
    /// # Errors
    /// When it is too large.
    pub fn resolve(layer: &HalfLayer<'_>) -> Result<Self, ComputeError> {
        Ok(HalfGlobalPool { shape: layer.input()? })
    }
}

impl fmt::Display for HalfGlobalPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "global average pool of {} pixels", self.shape.h * self.shape.w)
    }
}

impl Operation<HalfBuffers> for HalfGlobalPool {
    fn name(&self) -> &'static str {
        "global average pool"
    }

    fn forward(&self, buffers: &mut HalfBuffers, ports: &Ports) {
        let mut y = buffers.pool.take(Blocks { h: 1, w: 1, ..self.shape }.len());
        elementwise::global_average(self.shape, buffers.values.output(ports.inputs[0]), &mut y);
        buffers.values.set_output(ports.output, y);
    }

    fn backward(&self, buffers: &mut HalfBuffers, ports: &Ports, _wanted: Wanted) {
        let dy = buffers.gradients.take(ports.output);
        let dx = tensor_of_rows(buffers, self.shape, |_, rows, dx| {
            elementwise::global_average_gradient_rows(self.shape, rows, &dy, dx);
        });
        buffers.gradients.add(ports.inputs[0], dx, &mut buffers.pool);
        buffers.pool.give(dy);
    }
}

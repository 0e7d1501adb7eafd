//! Softmax over the last axis, as `torch.softmax(x, -1)`.

use std::fmt;

use convoy_kernels::softmax;

use super::operation::{Keeps, Layer, Operation, Ports, Wanted};
use super::units::{Units, compute, propagate};
use crate::pass_buffers::PassBuffers;

/// Softmax of rows of `classes` numbers.
pub(super) struct Softmax {
    /// Numbers in a row.
    pub classes: usize,
}

impl Softmax {
    /// For the layer's input.
    pub fn resolve(layer: &Layer<'_>) -> Self {
        Softmax { classes: layer.input().channels() as usize }
    }

    fn rows(&self, values: &[f32]) -> Units {
        Units { count: values.len() / self.classes, x: self.classes, y: self.classes }
    }
}

impl fmt::Display for Softmax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "softmax of {}", self.classes)
    }
}

impl Operation for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn keeps(&self) -> Keeps {
        Keeps { input: false, output: true }
    }

    fn forward(&self, buffers: &mut PassBuffers, ports: &Ports) {
        let rows = self.rows(buffers.values.output(ports.inputs[0]));
        compute(buffers, ports, rows, |_, x, y| softmax::forward(x, self.classes, y));
    }

    fn backward(&self, buffers: &mut PassBuffers, ports: &Ports, _wanted: Wanted) {
        let rows = self.rows(buffers.values.output(ports.output));
        propagate(buffers, ports, rows, |values, rows, dy, dx| {
            let y = &values.output(ports.output)[rows.start * self.classes..rows.end * self.classes];
            softmax::backward(y, dy, self.classes, dx);
        });
    }
}

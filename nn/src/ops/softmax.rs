//! Softmax over the last axis, as `torch.softmax(x, -1)`.

use convoy_kernels::softmax;

use super::{Keeps, Operation, Ports, Wanted, compute, propagate};
use crate::flow::Flow;

/// Softmax of rows of `classes` numbers.
pub(crate) struct Softmax {
    /// Numbers in a row.
    pub classes: usize,
}

impl Operation for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn keeps(&self) -> Keeps {
        Keeps { input: false, output: true }
    }

    fn forward(&self, flow: &mut Flow, at: &Ports) {
        let len = flow.numbers.value(at.inputs[0]).len();
        compute(flow, at, len, |x, y| softmax::forward(x, self.classes, y));
    }

    fn backward(&self, flow: &mut Flow, at: &Ports, _wanted: Wanted) {
        let len = flow.numbers.value(at.output).len();
        propagate(flow, at, len, |flow, dy, dx| {
            softmax::backward(flow.numbers.value(at.output), dy, self.classes, dx);
        });
    }
}

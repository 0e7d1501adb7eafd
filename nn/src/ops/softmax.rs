//! Softmax over the last axis, as `torch.softmax(x, -1)`.

use convoy_kernels::softmax;

use super::{Keeps, Operation, Ports, Units, Wanted, compute, propagate};
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
        let rows = self.rows(flow.numbers.value(at.inputs[0]));
        compute(flow, at, rows, |_, x, y| softmax::forward(x, self.classes, y));
    }

    fn backward(&self, flow: &mut Flow, at: &Ports, _wanted: Wanted) {
        let rows = self.rows(flow.numbers.value(at.output));
        propagate(flow, at, rows, |numbers, rows, dy, dx| {
            let y = &numbers.value(at.output)[rows.start * self.classes..rows.end * self.classes];
            softmax::backward(y, dy, self.classes, dx);
        });
    }
}

impl Softmax {
    fn rows(&self, values: &[f32]) -> Units {
        Units { count: values.len() / self.classes, x: self.classes, y: self.classes }
    }
}

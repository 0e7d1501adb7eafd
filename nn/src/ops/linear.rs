//! Fully connected layers, as `torch.nn.functional.linear`.

use convoy_kernels::linear::{self, LinearShape};

use super::{Keeps, Operation, Ports, Wanted};
use crate::flow::Flow;

/// x `(samples, inputs)`, weight `(outputs, inputs)` and perhaps bias `(outputs)`, to `(samples, outputs)`.
pub(crate) struct Linear {
    /// Its shape; must make sense ([`LinearShape::checked`]).
    pub shape: LinearShape,
    /// Index of the weight in the network.
    pub weight: usize,
    /// Index of the bias.
    pub bias: Option<usize>,
}

impl Operation for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn keeps(&self) -> Keeps {
        Keeps { input: true, output: false }
    }

    fn forward(&self, flow: &mut Flow, at: &Ports) {
        let mut y = flow.memory.take(self.shape.samples * self.shape.outputs);
        let numbers = &flow.numbers;
        let (w, bias) = (numbers.weight(self.weight), self.bias.map(|bias| numbers.weight(bias)));
        linear::forward(self.shape, numbers.value(at.inputs[0]), w, bias, &mut y);
        flow.set_value(at.output, y);
    }

    fn backward(&self, flow: &mut Flow, at: &Ports, wanted: Wanted) {
        let dy = flow.take_gradient(at.output);
        if wanted.parameters {
            let x = flow.numbers.value(at.inputs[0]);
            flow.sum.write(self.weight, |dw| linear::backward_weight(self.shape, x, &dy, dw));
            if let Some(bias) = self.bias {
                flow.sum.write(bias, |db| linear::backward_bias(self.shape, &dy, db));
            }
        }
        if wanted.inputs[0] {
            let mut dx = flow.memory.take(self.shape.samples * self.shape.inputs);
            linear::backward_data(self.shape, &dy, flow.numbers.weight(self.weight), &mut dx);
            flow.add_gradient(at.inputs[0], dx);
        }
        flow.memory.give(dy);
    }
}

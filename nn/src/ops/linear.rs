//! Fully connected layers, as `torch.nn.functional.linear`.

use std::ops::Range;

use convoy_kernels::linear::{self, LinearShape};

use super::{Keeps, Operation, Ports, Wanted};
use crate::flow::Flow;
use crate::team::{cut, ranges};

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
        let x = numbers.value(at.inputs[0]);
        let LinearShape { inputs, outputs, .. } = self.shape;
        let lanes = flow.team.lanes(w.len(), outputs);
        if lanes.count() == 1 {
            linear::forward(self.shape, x, w, bias, &mut y);
        } else {
            let part = |range: Range<usize>| {
                let shape = self.of(&range);
                let mut y = vec![0.0; shape.samples * shape.outputs];
                let w = &w[range.start * inputs..range.end * inputs];
                linear::forward(shape, x, w, bias.map(|bias| &bias[range.clone()]), &mut y);
                (range, y)
            };
            for (range, part) in lanes.map(ranges(outputs, lanes.count()), part) {
                for (y, part) in y.chunks_exact_mut(outputs).zip(part.chunks_exact(range.len())) {
                    y[range.clone()].copy_from_slice(part);
                }
            }
        }
        drop(lanes);
        flow.set_value(at.output, y);
    }

    fn backward(&self, flow: &mut Flow, at: &Ports, wanted: Wanted) {
        let dy = flow.take_gradient(at.output);
        if wanted.parameters {
            let x = flow.numbers.value(at.inputs[0]);
            let LinearShape { inputs, outputs, .. } = self.shape;
            let lanes = flow.team.lanes(inputs * outputs, outputs);
            flow.sum.write(self.weight, |dw| match lanes.count() {
                1 => linear::backward_weight(self.shape, x, &dy, dw),
                count => lanes.each(cut(dw, inputs, ranges(outputs, count)), |(range, dw)| {
                    let dy = dy.chunks_exact(outputs).flat_map(|dy| &dy[range.clone()]).copied();
                    linear::backward_weight(self.of(&range), x, &dy.collect::<Vec<f32>>(), dw);
                }),
            });
            drop(lanes);
            if let Some(bias) = self.bias {
                flow.sum.write(bias, |db| linear::backward_bias(self.shape, &dy, db));
            }
        }
        if wanted.inputs[0] {
            let LinearShape { samples, inputs, outputs } = self.shape;
            let mut dx = flow.memory.take(samples * inputs);
            let w = flow.numbers.weight(self.weight);
            let lanes = flow.team.lanes(w.len(), samples);
            lanes.each(cut(&mut dx, inputs, ranges(samples, lanes.count())), |(range, dx)| {
                let shape = LinearShape { samples: range.len(), ..self.shape };
                linear::backward_data(shape, &dy[range.start * outputs..range.end * outputs], w, dx);
            });
            drop(lanes);
            flow.add_gradient(at.inputs[0], dx);
        }
        flow.memory.give(dy);
    }
}

impl Linear {
    /// With some of the outputs.
    fn of(&self, outputs: &Range<usize>) -> LinearShape {
        LinearShape { outputs: outputs.len(), ..self.shape }
    }
}

//! Fully connected layers, as `torch.nn.functional.linear`.

use std::fmt;
use std::ops::Range;

use convoy_kernels::linear::{self, LinearShape};

use super::operation::{Keeps, Layer, Operation, Ports, Wanted};
use crate::ComputeError;
use crate::lowering::linear_shape;
use crate::pass_buffers::PassBuffers;
use crate::thread_team::{cut, ranges};

/// x `(samples, inputs)`, weight `(outputs, inputs)` and perhaps bias `(outputs)`, to `(samples, outputs)`.
pub(super) struct Linear {
    /// Its shape; must make sense ([`LinearShape::checked`]).
    pub shape: LinearShape,
    /// Index of the weight in the network.
    pub weight: usize,
    /// Index of the bias.
    pub bias: Option<usize>,
}

impl Linear {
    /// For the layer's input, with its weight and bias.
    ///
    /// # Errors
    /// When the shape makes no sense.
    pub fn resolve(layer: &Layer<'_>, weight: usize, bias: Option<usize>) -> Result<Self, ComputeError> {
        Ok(Linear { shape: linear_shape(layer.network, layer.node(), layer.images)?, weight, bias })
    }

    /// With some of the outputs.
    fn of(&self, outputs: &Range<usize>) -> LinearShape {
        LinearShape { outputs: outputs.len(), ..self.shape }
    }
}

impl fmt::Display for Linear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linear {}->{}", self.shape.inputs, self.shape.outputs)
    }
}

impl Operation for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn keeps(&self) -> Keeps {
        Keeps { input: true, output: false }
    }

    fn forward(&self, buffers: &mut PassBuffers, ports: &Ports) {
        let mut y = buffers.pool.take(self.shape.samples * self.shape.outputs);
        let values = &buffers.values;
        let (w, bias) = (values.weight(self.weight), self.bias.map(|bias| values.weight(bias)));
        let x = values.output(ports.inputs[0]);
        let LinearShape { inputs, outputs, .. } = self.shape;
        let threads = buffers.team.threads(w.len(), outputs);
        if threads.count() == 1 {
            linear::forward(self.shape, x, w, bias, &mut y);
        } else {
            let part = |range: Range<usize>| {
                let shape = self.of(&range);
                let mut y = vec![0.0; shape.samples * shape.outputs];
                let w = &w[range.start * inputs..range.end * inputs];
                linear::forward(shape, x, w, bias.map(|bias| &bias[range.clone()]), &mut y);
                (range, y)
            };
            for (range, part) in threads.map(ranges(outputs, threads.count()), part) {
                for (y, part) in y.chunks_exact_mut(outputs).zip(part.chunks_exact(range.len())) {
                    y[range.clone()].copy_from_slice(part);
                }
            }
        }
        drop(threads);
        buffers.values.set_output(ports.output, y);
    }

    fn backward(&self, buffers: &mut PassBuffers, ports: &Ports, wanted: Wanted) {
        let dy = buffers.take_gradient(ports.output);
        if wanted.parameters {
            let x = buffers.values.output(ports.inputs[0]);
            let LinearShape { inputs, outputs, .. } = self.shape;
            let threads = buffers.team.threads(inputs * outputs, outputs);
            buffers.shard_gradient.write(self.weight, |dw| match threads.count() {
                1 => linear::backward_weight(self.shape, x, &dy, dw),
                count => threads.each(cut(dw, inputs, ranges(outputs, count)), |(range, dw)| {
                    let dy = dy.chunks_exact(outputs).flat_map(|dy| &dy[range.clone()]).copied();
                    linear::backward_weight(self.of(&range), x, &dy.collect::<Vec<f32>>(), dw);
                }),
            });
            drop(threads);
            if let Some(bias) = self.bias {
                buffers.shard_gradient.write(bias, |db| linear::backward_bias(self.shape, &dy, db));
            }
        }
        if wanted.inputs[0] {
            let LinearShape { samples, inputs, outputs } = self.shape;
            let mut dx = buffers.pool.take(samples * inputs);
            let w = buffers.values.weight(self.weight);
            let threads = buffers.team.threads(w.len(), samples);
            threads.each(cut(&mut dx, inputs, ranges(samples, threads.count())), |(range, dx)| {
                let shape = LinearShape { samples: range.len(), ..self.shape };
                linear::backward_data(shape, &dy[range.start * outputs..range.end * outputs], w, dx);
            });
            drop(threads);
            buffers.add_gradient(ports.inputs[0], dx);
        }
        buffers.pool.give(dy);
    }
}

//! Activations, as the modules of the same names in `torch.nn`.

use std::fmt;

use convoy_kernels::activation::Activation;

use super::operation::{Keeps, Operation, Ports, Wanted};
use super::units::{Units, compute};
use crate::pass_buffers::PassBuffers;
use crate::thread_team::{cut, ranges};

/// An activation function, element by element, for any shape.
pub(super) struct Activate(pub Activation);

impl fmt::Display for Activate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl Operation for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn keeps(&self) -> Keeps {
        Keeps { input: true, output: self.0.slope_reads_output() }
    }

    fn forward(&self, buffers: &mut PassBuffers, ports: &Ports) {
        let units = Units::elements(buffers.values.output(ports.inputs[0]).len());
        compute(buffers, ports, units, |_, x, y| self.0.forward(x, y));
    }

    fn backward(&self, buffers: &mut PassBuffers, ports: &Ports, _wanted: Wanted) {
        let mut d = buffers.take_gradient(ports.output);
        let x = buffers.values.output(ports.inputs[0]);
        let y = if self.0.slope_reads_output() { buffers.values.output(ports.output) } else { x };
        let threads = buffers.team.threads(d.len(), d.len());
        threads.each(cut(&mut d, 1, ranges(x.len(), threads.count())), |(range, d)| {
            self.0.apply_slope(&x[range.clone()], &y[range], d);
        });
        drop(threads);
        buffers.add_gradient(ports.inputs[0], d);
    }
}

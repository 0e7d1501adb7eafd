//! Activations, as the modules of the same names in `torch.nn`.

use convoy_kernels::activation::Activation;

use super::{Keeps, Operation, Ports, Units, Wanted, compute};
use crate::flow::Flow;
use crate::team::{cut, ranges};

/// An activation function, element by element, for any shape.
pub(crate) struct Activate(pub Activation);

impl Operation for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn keeps(&self) -> Keeps {
        Keeps { input: true, output: self.0.slope_reads_output() }
    }

    fn forward(&self, flow: &mut Flow, at: &Ports) {
        let units = Units { count: flow.numbers.value(at.inputs[0]).len(), x: 1, y: 1 };
        compute(flow, at, units, |_, x, y| self.0.forward(x, y));
    }

    fn backward(&self, flow: &mut Flow, at: &Ports, _wanted: Wanted) {
        let mut d = flow.take_gradient(at.output);
        let x = flow.numbers.value(at.inputs[0]);
        let y = if self.0.slope_reads_output() { flow.numbers.value(at.output) } else { x };
        let lanes = flow.team.lanes(d.len(), d.len());
        lanes.each(cut(&mut d, 1, ranges(x.len(), lanes.count())), |(range, d)| {
            self.0.apply_slope(&x[range.clone()], &y[range], d);
        });
        drop(lanes);
        flow.add_gradient(at.inputs[0], d);
    }
}

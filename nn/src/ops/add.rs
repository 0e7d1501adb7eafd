//! Sums of two inputs of one shape.

use convoy_kernels::tree::add_into;

use super::{Operation, Ports, Wanted};
use crate::flow::Flow;
use crate::team::{cut, ranges};

/// `y = first + second`.
pub(crate) struct Add;

impl Operation for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn forward(&self, flow: &mut Flow, at: &Ports) {
        let [first, second] = [at.inputs[0], at.inputs[1]].map(|input| flow.numbers.value(input));
        let mut y = flow.memory.take(first.len());
        let lanes = flow.team.lanes(y.len(), y.len());
        lanes.each(cut(&mut y, 1, ranges(first.len(), lanes.count())), |(range, y)| {
            y.copy_from_slice(&first[range.clone()]);
            add_into(y, &second[range]);
        });
        drop(lanes);
        flow.set_value(at.output, y);
    }

    fn backward(&self, flow: &mut Flow, at: &Ports, wanted: Wanted) {
        let d = flow.take_gradient(at.output);
        if wanted.inputs[1] {
            flow.copy_gradient(at.inputs[1], &d);
        }
        if wanted.inputs[0] {
            flow.add_gradient(at.inputs[0], d);
        } else {
            flow.memory.give(d);
        }
    }
}

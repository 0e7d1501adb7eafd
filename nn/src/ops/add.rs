//! Sums of two inputs of one shape.

use std::fmt;

use convoy_kernels::tree::add_into;

use super::operation::{Operation, Ports, Wanted};
use crate::pass_buffers::PassBuffers;
use crate::thread_team::{cut, ranges};

/// `y = first + second`, number by number.
pub(super) struct Add;

impl fmt::Display for Add {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sum")
    }
}

impl Operation for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn forward(&self, buffers: &mut PassBuffers, ports: &Ports) {
        let [first, second] = [ports.inputs[0], ports.inputs[1]].map(|input| buffers.values.output(input));
        let mut y = buffers.pool.take(first.len());
        let threads = buffers.team.threads(y.len(), y.len());
        threads.each(cut(&mut y, 1, ranges(first.len(), threads.count())), |(range, y)| {
            y.copy_from_slice(&first[range.clone()]);
            add_into(y, &second[range]);
        });
        drop(threads);
        buffers.values.set_output(ports.output, y);
    }

    fn backward(&self, buffers: &mut PassBuffers, ports: &Ports, wanted: Wanted) {
        let d = buffers.take_gradient(ports.output);
        if wanted.inputs[1] {
            buffers.copy_gradient(ports.inputs[1], &d);
        }
        if wanted.inputs[0] {
            buffers.add_gradient(ports.inputs[0], d);
        } else {
            buffers.pool.give(d);
        }
    }
}

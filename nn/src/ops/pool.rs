//! Pooling, as `torch.nn.functional.max_pool2d`, `avg_pool2d` and `adaptive_avg_pool2d(x, 1)`.

use convoy_kernels::pool::{
    PoolShape, avg_backward, avg_forward, global_avg_backward, global_avg_forward, max_backward, max_forward,
};

use super::{Keeps, Operation, Ports, Wanted, compute, propagate};
use crate::flow::Flow;

/// Maximum over windows: `(n, h, w, c)` to `(n, oh, ow, c)`. Its geometry must make sense ([`PoolShape::checked`]).
pub(crate) struct MaxPool(pub PoolShape);

impl Operation for MaxPool {
    fn name(&self) -> &'static str {
        "max pool"
    }

    fn keeps(&self) -> Keeps {
        Keeps { input: true, output: false }
    }

    fn forward(&self, flow: &mut Flow, at: &Ports) {
        compute(flow, at, self.0.y_len(), |x, y| max_forward(self.0, x, y));
    }

    fn backward(&self, flow: &mut Flow, at: &Ports, _wanted: Wanted) {
        propagate(flow, at, self.0.x_len(), |flow, dy, dx| {
            max_backward(self.0, flow.numbers.value(at.inputs[0]), dy, dx);
        });
    }
}

/// Mean over windows, padding counted: `(n, h, w, c)` to `(n, oh, ow, c)`. Its geometry must make sense.
pub(crate) struct AvgPool(pub PoolShape);

impl Operation for AvgPool {
    fn name(&self) -> &'static str {
        "average pool"
    }

    fn forward(&self, flow: &mut Flow, at: &Ports) {
        compute(flow, at, self.0.y_len(), |x, y| avg_forward(self.0, x, y));
    }

    fn backward(&self, flow: &mut Flow, at: &Ports, _wanted: Wanted) {
        propagate(flow, at, self.0.x_len(), |_, dy, dx| avg_backward(self.0, dy, dx));
    }
}

/// Mean over all pixels: `(n, h, w, c)` to `(n, 1, 1, c)`.
pub(crate) struct GlobalAvgPool {
    /// Images.
    pub n: usize,
    /// Height times width.
    pub pixels: usize,
    /// Channels.
    pub c: usize,
}

impl Operation for GlobalAvgPool {
    fn name(&self) -> &'static str {
        "global average pool"
    }

    fn forward(&self, flow: &mut Flow, at: &Ports) {
        let &GlobalAvgPool { n, pixels, c } = self;
        compute(flow, at, n * c, |x, y| global_avg_forward(n, pixels, c, x, y));
    }

    fn backward(&self, flow: &mut Flow, at: &Ports, _wanted: Wanted) {
        let &GlobalAvgPool { n, pixels, c } = self;
        propagate(flow, at, n * pixels * c, |_, dy, dx| global_avg_backward(n, pixels, c, dy, dx));
    }
}

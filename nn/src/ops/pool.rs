//! Pooling, as `torch.nn.functional.max_pool2d`, `avg_pool2d` and `adaptive_avg_pool2d(x, 1)`.

use std::ops::Range;

use convoy_kernels::pool::{
    PoolShape, avg_backward, avg_forward, global_avg_backward, global_avg_forward, max_backward, max_forward,
};

use super::{Keeps, Operation, Ports, Units, Wanted, compute, propagate};
use crate::flow::Flow;

fn images(shape: PoolShape) -> Units {
    Units { count: shape.n, x: shape.x_len() / shape.n, y: shape.y_len() / shape.n }
}

/// Some of the images.
fn of(shape: PoolShape, images: Range<usize>) -> PoolShape {
    PoolShape { n: images.len(), ..shape }
}

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
        compute(flow, at, images(self.0), |range, x, y| max_forward(of(self.0, range), x, y));
    }

    fn backward(&self, flow: &mut Flow, at: &Ports, _wanted: Wanted) {
        let Units { x: len, .. } = images(self.0);
        propagate(flow, at, images(self.0), |numbers, range, dy, dx| {
            let x = &numbers.value(at.inputs[0])[range.start * len..range.end * len];
            max_backward(of(self.0, range), x, dy, dx);
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
        compute(flow, at, images(self.0), |range, x, y| avg_forward(of(self.0, range), x, y));
    }

    fn backward(&self, flow: &mut Flow, at: &Ports, _wanted: Wanted) {
        propagate(flow, at, images(self.0), |_, range, dy, dx| avg_backward(of(self.0, range), dy, dx));
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
        let units = Units { count: n, x: pixels * c, y: c };
        compute(flow, at, units, |images, x, y| global_avg_forward(images.len(), pixels, c, x, y));
    }

    fn backward(&self, flow: &mut Flow, at: &Ports, _wanted: Wanted) {
        let &GlobalAvgPool { n, pixels, c } = self;
        let units = Units { count: n, x: pixels * c, y: c };
        propagate(flow, at, units, |_, images, dy, dx| global_avg_backward(images.len(), pixels, c, dy, dx));
    }
}

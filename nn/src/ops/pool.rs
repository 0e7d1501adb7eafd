//! Pooling, as `torch.nn.functional.max_pool2d`, `avg_pool2d` and `adaptive_avg_pool2d(x, 1)`.

use std::fmt;
use std::ops::Range;

use convoy_kernels::pool::{
    PoolShape, avg_backward, avg_forward, global_avg_backward, global_avg_forward, max_backward, max_forward,
};

use super::operation::{Keeps, Layer, Operation, Ports, Wanted};
use super::units::{Units, compute, propagate};
use crate::ComputeError;
use crate::lowering::{pixels_and_channels, pool_shape};
use crate::pass_buffers::PassBuffers;

fn images(shape: PoolShape) -> Units {
    Units { count: shape.n, x: shape.x_len() / shape.n, y: shape.y_len() / shape.n }
}

/// Size and stride of the windows, for people.
pub(crate) fn window(shape: &PoolShape) -> String {
    let ([height, width], [down, right]) = (shape.kernel, shape.stride);
    format!("{height}x{width}, stride {down}x{right}")
}

/// Some of the images.
fn of(shape: PoolShape, images: Range<usize>) -> PoolShape {
    PoolShape { n: images.len(), ..shape }
}

/// Maximum over windows: `(n, h, w, c)` to `(n, oh, ow, c)`. Its geometry must make sense ([`PoolShape::checked`]).
pub(super) struct MaxPool(pub PoolShape);

impl MaxPool {
    /// For the layer's input.
    ///
    /// # Errors
    /// When the geometry makes no sense.
    pub fn resolve(layer: &Layer<'_>) -> Result<Self, ComputeError> {
        pool_shape(layer.network, layer.node(), layer.images).map(MaxPool)
    }
}

impl fmt::Display for MaxPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "max pool {}", window(&self.0))
    }
}

impl Operation for MaxPool {
    fn name(&self) -> &'static str {
        "max pool"
    }

    fn keeps(&self) -> Keeps {
        Keeps { input: true, output: false }
    }

    fn forward(&self, buffers: &mut PassBuffers, ports: &Ports) {
        compute(buffers, ports, images(self.0), |range, x, y| max_forward(of(self.0, range), x, y));
    }

    fn backward(&self, buffers: &mut PassBuffers, ports: &Ports, _wanted: Wanted) {
        let Units { x: len, .. } = images(self.0);
        propagate(buffers, ports, images(self.0), |values, range, dy, dx| {
            let x = &values.output(ports.inputs[0])[range.start * len..range.end * len];
            max_backward(of(self.0, range), x, dy, dx);
        });
    }
}

/// Mean over windows, padding counted: `(n, h, w, c)` to `(n, oh, ow, c)`. Its geometry must make sense.
pub(super) struct AvgPool(pub PoolShape);

impl AvgPool {
    /// For the layer's input.
    ///
    /// # Errors
    /// When the geometry makes no sense.
    pub fn resolve(layer: &Layer<'_>) -> Result<Self, ComputeError> {
        pool_shape(layer.network, layer.node(), layer.images).map(AvgPool)
    }
}

impl fmt::Display for AvgPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "average pool {}", window(&self.0))
    }
}

impl Operation for AvgPool {
    fn name(&self) -> &'static str {
        "average pool"
    }

    fn forward(&self, buffers: &mut PassBuffers, ports: &Ports) {
        compute(buffers, ports, images(self.0), |range, x, y| avg_forward(of(self.0, range), x, y));
    }

    fn backward(&self, buffers: &mut PassBuffers, ports: &Ports, _wanted: Wanted) {
        propagate(buffers, ports, images(self.0), |_, range, dy, dx| avg_backward(of(self.0, range), dy, dx));
    }
}

/// Mean over all pixels: `(n, h, w, c)` to `(n, 1, 1, c)`.
pub(super) struct GlobalAvgPool {
    /// Images.
    pub n: usize,
    /// Height times width.
    pub pixels: usize,
    /// Channels.
    pub c: usize,
}

impl GlobalAvgPool {
    /// For the layer's input.
    pub fn resolve(layer: &Layer<'_>) -> Self {
        let (pixels, c) = pixels_and_channels(layer.input());
        GlobalAvgPool { n: layer.images, pixels, c }
    }

    fn images(&self) -> Units {
        Units { count: self.n, x: self.pixels * self.c, y: self.c }
    }
}

impl fmt::Display for GlobalAvgPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "global average pool of {} pixels", self.pixels)
    }
}

impl Operation for GlobalAvgPool {
    fn name(&self) -> &'static str {
        "global average pool"
    }

    fn forward(&self, buffers: &mut PassBuffers, ports: &Ports) {
        let &GlobalAvgPool { pixels, c, .. } = self;
        compute(buffers, ports, self.images(), |images, x, y| global_avg_forward(images.len(), pixels, c, x, y));
    }

    fn backward(&self, buffers: &mut PassBuffers, ports: &Ports, _wanted: Wanted) {
        let &GlobalAvgPool { pixels, c, .. } = self;
        propagate(buffers, ports, self.images(), |_, images, dy, dx| {
            global_avg_backward(images.len(), pixels, c, dy, dx);
        });
    }
}

//! What all ways to compute a convolution begin with.

use convoy_kernels::conv::ConvShape;

use crate::ops::operation::{Ports, Wanted};
use crate::values::Values;

/// x `(n, h, w, ci)`, weight `(co, ci / groups, kh, kw)` and perhaps bias `(co)`, to y `(n, oh, ow, co)`.
pub(in crate::ops) struct ConvLayer {
    /// Its geometry; must make sense ([`ConvShape::checked`]).
    pub shape: ConvShape,
    /// Index of the weight in the network.
    pub weight: usize,
    /// Index of the bias.
    pub bias: Option<usize>,
}

impl ConvLayer {
    /// The numbers of weight and bias.
    pub fn weights<'a>(&self, values: &'a Values) -> (&'a [f32], Option<&'a [f32]>) {
        (values.weight(self.weight), self.bias.map(|bias| values.weight(bias)))
    }
}

/// What a backward pass is asked for.
pub(super) struct Backward<'a> {
    /// Between which nodes.
    pub ports: &'a Ports,
    /// Which gradients.
    pub wanted: Wanted,
    /// Of y.
    pub dy: &'a mut [f32],
    /// Of x, to be written; none if it is not wanted.
    pub dx: Option<&'a mut [f32]>,
}

/// Values of one image of x and of y.
pub(super) fn image_lengths(shape: ConvShape) -> [usize; 2] {
    [shape.x_len(), shape.y_len()].map(|len| len / shape.n)
}

//! The block and its forward pass.

use super::curves::by_curve;
use super::rows;
use crate::activation::Activation;
use crate::cpu::dispatch;
use crate::norm::{Affine, Normalize, Stats, few_rows};
use crate::pool::{PoolShape, max_forward};
use crate::scratch::{Scratch, scratch};
use crate::shape::expect_len;
use crate::tree::add_into;

/// A batch norm over the last axis of `x` and the activation that follows it.
#[derive(Clone, Copy, Debug)]
pub struct NormBlock<'a> {
    /// Rows of as many values as there are channels.
    pub x: &'a [f32],
    /// Mean and variance, each of as many values as there are channels: of the batch in training, running ones
    /// otherwise.
    pub stats: Stats<'a>,
    /// γ and β, each of as many values as there are channels.
    pub affine: Affine<'a>,
    /// Added to the variance.
    pub eps: f32,
    /// f; the identity if there is none.
    pub activation: Option<Activation>,
}

impl<'a> NormBlock<'a> {
    /// `y = f(u)`, or `f(u + residual)`; both of the length of x.
    ///
    /// # Panics
    /// If a slice does not fit.
    pub fn forward(&self, residual: Option<&[f32]>, y: &mut [f32]) {
        expect_len("y", y.len(), self.x.len());
        if let Some(residual) = residual {
            expect_len("residual", residual.len(), self.x.len());
        }
        self.forward_rows(&self.norm(), self.x, residual, y);
    }

    /// `y = max_pool(f(u))` for x `(n, h, w, c)` and y `(n, oh, ow, c)`, where the windows of `shape` do not overlap
    /// and there is no padding.
    ///
    /// # Panics
    /// If a slice does not fit, or the windows overlap or are padded.
    pub fn forward_pooled(&self, shape: PoolShape, y: &mut [f32]) {
        let Strips { strip, x_len, y_len, .. } = self.strips(shape, y.len());
        let (norm, mut v) = (self.norm(), scratch(x_len));
        for (i, y) in y.chunks_exact_mut(y_len).enumerate() {
            self.forward_rows(&norm, self.strip(shape, i, x_len), None, &mut v);
            max_forward(strip, &v, y);
        }
    }

    /// To be computed a few rows at a time, where they are read.
    pub(crate) fn reader(self) -> NormReader<'a> {
        NormReader { norm: self.norm(), block: self }
    }

    /// `y = f(u)` of some rows of x, or `f(u + residual)`.
    pub(super) fn forward_rows(&self, norm: &Normalize<'_>, x: &[f32], residual: Option<&[f32]>, y: &mut [f32]) {
        by_curve!(self.activation, |curve| dispatch(rows::ForwardRows { norm, curve, x, residual, y }), |activation| {
            let len = few_rows(norm.mean.len());
            for (i, (x, y)) in x.chunks(len).zip(y.chunks_mut(len)).enumerate() {
                norm.apply(x, y);
                if let Some(residual) = residual {
                    add_into(y, &residual[i * len..][..y.len()]);
                }
                activation.apply(y);
            }
        });
    }

    /// u of x.
    pub(super) fn norm(&self) -> Normalize<'a> {
        let channels = self.stats.mean.len();
        assert!(channels > 0 && self.x.len().is_multiple_of(channels), "{} are not rows of {channels}", self.x.len());
        Normalize::new(self.stats, self.affine, self.eps)
    }

    /// The images of x cut into strips for the windows of `shape`.
    pub(super) fn strips(&self, shape: PoolShape, y_len: usize) -> Strips {
        assert!(shape.kernel == shape.stride && shape.padding == [0, 0], "{shape:?}: windows overlap or are padded");
        expect_len("x", self.x.len(), shape.x_len());
        expect_len("the output or its gradient", y_len, shape.y_len());
        expect_len("mean", self.stats.mean.len(), shape.c);
        let strip = PoolShape { n: 1, h: shape.kernel[0], ..shape };
        Strips { strip, x_len: strip.x_len(), y_len: strip.y_len(), per_image: shape.oh() }
    }

    /// Strip `index`, counted image by image.
    fn strip(&self, shape: PoolShape, index: usize, x_len: usize) -> &'a [f32] {
        let (image, row) = (index / shape.oh(), index % shape.oh());
        &self.x[image * shape.h * shape.w * shape.c + row * x_len..][..x_len]
    }
}

/// A block without a residual whose output is computed where it is read, and never lies in memory as a whole.
pub(crate) struct NormReader<'a> {
    block: NormBlock<'a>,
    norm: Normalize<'a>,
}

impl NormReader<'_> {
    /// Writes the values of y from value `first` on, whole rows.
    pub fn read(&self, first: usize, to: &mut [f32]) {
        self.block.forward_rows(&self.norm, &self.block.x[first..][..to.len()], None, to);
    }
}

/// Images cut into strips, each of the rows of pixels under one row of windows.
pub(super) struct Strips {
    /// The pooling of one strip.
    pub strip: PoolShape,
    /// Values of a strip of x.
    pub x_len: usize,
    /// Values of its row of windows.
    pub y_len: usize,
    /// Strips of an image; rows of pixels below the last one are in no window.
    pub per_image: usize,
}

/// Working memory to compute the slope of a costly activation for a few rows.
pub(super) struct SlopeWork {
    u: Scratch,
    y: Scratch,
}

impl SlopeWork {
    /// For at most `len` values at a time.
    pub fn new(len: usize) -> Self {
        SlopeWork { u: scratch(len), y: scratch(len) }
    }

    /// `d` from dy to d, for the rows `x`.
    pub fn apply(&mut self, activation: Activation, norm: &Normalize<'_>, x: &[f32], d: &mut [f32]) {
        let u = &mut self.u[..x.len()];
        norm.apply(x, u);
        if activation.slope_reads_output() {
            activation.forward(u, &mut self.y[..x.len()]);
            activation.apply_slope(u, &self.y[..x.len()], d);
        } else {
            activation.apply_slope(u, u, d);
        }
    }
}

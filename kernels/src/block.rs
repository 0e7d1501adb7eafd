//! Batch norm with what often follows it: the addition of a residual, an activation, a pooling.
//!
//! With an activation as cheap as relu everything is done for a value while it is in a register; with others, and with
//! a pooling, for a few rows at a time, which stay in the first-level cache from one function to the next. The bits are
//! those of the functions of [`crate::norm`], [`crate::activation`] and [`crate::pool`] one after another.

mod rows;

use crate::activation::{Activation, Identity, Relu, Relu6};
use crate::cpu::dispatch;
use crate::norm::{Affine, Normalize, Stats, Sums, Terms, few_rows};
use crate::pool::{PoolShape, max_forward};
use crate::scratch::{Scratch, scratch};
use crate::shape::expect_len;
use crate::tree::add_into;

/// `$body` with `$curve` for what the activation is, or `$other` if it is not cheap.
macro_rules! by_curve {
    ($activation:expr, |$curve:ident| $body:expr, |$costly:ident| $other:expr) => {
        match $activation {
            None => {
                let $curve = Identity;
                $body
            }
            Some(Activation::Relu) => {
                let $curve = Relu;
                $body
            }
            Some(Activation::Relu6) => {
                let $curve = Relu6;
                $body
            }
            Some($costly) => $other,
        }
    };
}

// After the macro that it uses.
mod sums;

pub use sums::BackwardSums;

/// A batch norm over the last axis of `x` and the activation behind it.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// Rows of as many values as there are channels.
    pub x: &'a [f32],
    /// Statistics: of the batch in training, running ones otherwise.
    pub stats: Stats<'a>,
    /// Learned scale and shift.
    pub affine: Affine<'a>,
    /// Added to the variance.
    pub eps: f32,
    /// What follows the norm, and the residual if there is one.
    pub activation: Option<Activation>,
}

/// Where a backward pass writes the gradients of gamma and beta, and whether the statistics are those of `x` itself.
#[derive(Debug)]
pub struct Parameters<'a> {
    /// Of gamma.
    pub dgamma: &'a mut [f32],
    /// Of beta.
    pub dbeta: &'a mut [f32],
    /// Whether the statistics are those of x ([`crate::norm::backward_train`]) or given
    /// ([`crate::norm::backward_eval`]).
    pub training: bool,
}

/// What is left to do of a backward pass.
pub struct InputGradient<'a> {
    block: Block<'a>,
    terms: Terms<'a>,
    /// Whether the activation's slope is yet to be applied.
    sloped: bool,
}

impl InputGradient<'_> {
    /// Turns `d`, what [`BackwardSums`] left or took, into the gradient of the norm's input.
    ///
    /// # Panics
    /// If the length is not that of the input.
    pub fn apply(&self, d: &mut [f32]) {
        expect_len("d", d.len(), self.block.x.len());
        self.apply_from(0, d);
    }

    /// [`InputGradient::apply`] for whole rows that begin with value `first`.
    ///
    /// # Panics
    /// If there are no such rows.
    pub fn apply_from(&self, first: usize, d: &mut [f32]) {
        self.rows(first, None, d);
    }

    /// As [`InputGradient::apply_from`], from `dy` to `d`.
    ///
    /// # Panics
    /// If there are no such rows, or the lengths differ.
    pub fn write_from(&self, first: usize, dy: &[f32], d: &mut [f32]) {
        expect_len("d", d.len(), dy.len());
        self.rows(first, Some(dy), d);
    }

    fn rows(&self, first: usize, from: Option<&[f32]>, d: &mut [f32]) {
        let (x, activation) = (&self.block.x[first..][..d.len()], self.block.activation);
        let (terms, norm) = (&self.terms, &self.block.norm());
        by_curve!(
            activation.filter(|_| !self.sloped),
            |curve| dispatch(rows::InputGradient { norm, curve, terms, x, from, d }),
            |activation| {
                if let Some(dy) = from {
                    d.copy_from_slice(dy);
                }
                let len = few_rows(norm.mean.len());
                let mut work = Work::new(len);
                for (x, d) in x.chunks(len).zip(d.chunks_mut(len)) {
                    work.slope(activation, norm, x, d);
                    terms.apply(x, d);
                }
            }
        );
    }
}

impl<'a> Block<'a> {
    /// `y = activation(norm(x) + residual)`.
    ///
    /// # Panics
    /// If a slice does not fit.
    pub fn forward(&self, residual: Option<&[f32]>, y: &mut [f32]) {
        expect_len("y", y.len(), self.x.len());
        if let Some(residual) = residual {
            expect_len("residual", residual.len(), self.x.len());
        }
        self.rows_forward(&self.norm(), self.x, residual, y);
    }

    /// To be computed a few rows at a time.
    pub(crate) fn rows(self) -> Rows<'a> {
        Rows { norm: self.norm(), block: self }
    }

    fn rows_forward(&self, norm: &Normalize<'_>, x: &[f32], residual: Option<&[f32]>, y: &mut [f32]) {
        by_curve!(self.activation, |curve| dispatch(rows::Forward { norm, curve, x, residual, y }), |activation| {
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

    /// `y = max_pool(activation(norm(x)))`, where the windows of `shape` do not overlap and there is no padding.
    ///
    /// # Panics
    /// If a slice does not fit, or the windows overlap or are padded.
    pub fn forward_pooled(&self, shape: PoolShape, y: &mut [f32]) {
        let Strips { strip, x_len, y_len, .. } = self.strips(shape, y.len());
        let (norm, mut u) = (self.norm(), scratch(x_len));
        for (i, y) in y.chunks_exact_mut(y_len).enumerate() {
            self.rows_forward(&norm, self.strip(shape, i, x_len), None, &mut u);
            max_forward(strip, &u, y);
        }
    }

    /// Writes the gradients of gamma and beta from `dy`, that of [`Block::forward`]'s output without a residual.
    /// `dy` is what [`InputGradient::apply`] turns into dx.
    ///
    /// # Panics
    /// If a slice does not fit.
    pub fn backward(&self, dy: &[f32], to: Parameters<'_>) -> InputGradient<'a> {
        expect_len("dy", dy.len(), self.x.len());
        let mut sums = BackwardSums::new(self.stats.mean.len());
        sums.add(self, dy);
        self.rest(sums, to)
    }

    /// As [`Block::backward`], from sums that have taken in all of x by [`BackwardSums::add`].
    ///
    /// # Panics
    /// If a slice does not fit.
    pub fn rest(&self, sums: BackwardSums, to: Parameters<'_>) -> InputGradient<'a> {
        self.input_gradient(sums.0, to, false)
    }

    /// The same from sums that have taken in all of x by [`BackwardSums::add_residual`] or [`BackwardSums::add_pooled`]. It
    /// is what these left in `d` that is turned into dx.
    ///
    /// # Panics
    /// If a slice does not fit.
    pub fn rest_sloped(&self, sums: BackwardSums, to: Parameters<'_>) -> InputGradient<'a> {
        self.input_gradient(sums.0, to, true)
    }

    fn norm(&self) -> Normalize<'a> {
        let channels = self.stats.mean.len();
        assert!(channels > 0 && self.x.len().is_multiple_of(channels), "{} are not rows of {channels}", self.x.len());
        Normalize::new(self.stats, self.affine, self.eps)
    }

    fn strips(&self, shape: PoolShape, y_len: usize) -> Strips {
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

    fn input_gradient(&self, sums: Sums, to: Parameters<'_>, sloped: bool) -> InputGradient<'a> {
        let rows = (self.x.len() / self.stats.mean.len()) as f64;
        let share = if to.training { 1.0 / rows } else { 0.0 };
        let Parameters { dgamma, dbeta, .. } = to;
        let terms = Terms::new(sums, self.stats, self.affine.gamma, self.eps, share, dgamma, dbeta);
        InputGradient { block: *self, terms, sloped }
    }
}

/// A block without a residual whose output is computed where it is read.
pub(crate) struct Rows<'a> {
    block: Block<'a>,
    norm: Normalize<'a>,
}

impl Rows<'_> {
    /// Writes the output's values from `first` on, whole rows.
    pub fn read(&self, first: usize, to: &mut [f32]) {
        self.block.rows_forward(&self.norm, &self.block.x[first..][..to.len()], None, to);
    }
}

/// An image cut into rows of windows.
struct Strips {
    strip: PoolShape,
    x_len: usize,
    y_len: usize,
    per_image: usize,
}

/// What an activation sees and makes of a few rows.
struct Work {
    u: Scratch,
    y: Scratch,
}

impl Work {
    fn new(len: usize) -> Self {
        Work { u: scratch(len), y: scratch(len) }
    }

    /// `d` times the slope of the activation behind the norm of `x`.
    fn slope(&mut self, activation: Activation, norm: &Normalize<'_>, x: &[f32], d: &mut [f32]) {
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

#[cfg(test)]
mod tests;

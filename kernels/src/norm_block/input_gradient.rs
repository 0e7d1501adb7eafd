//! From the sums of a backward pass to the gradients.

use super::block::{NormBlock, SlopeWork};
use super::curves::by_curve;
use super::rows;
use super::sums::BackwardSums;
use crate::cpu::dispatch;
use crate::norm::{Scaling, Terms, few_rows};
use crate::shape::expect_len;

/// Where a backward pass writes the gradients of γ and β, and which of the two formulas of dx holds.
#[derive(Debug)]
pub struct AffineGradients<'a> {
    /// dγ, one for each channel.
    pub dgamma: &'a mut [f32],
    /// dβ, one for each channel.
    pub dbeta: &'a mut [f32],
    /// Whether the statistics are those of x itself, as in training ([`crate::norm::backward_train`]), or given
    /// ([`crate::norm::backward_eval`]).
    pub training: bool,
}

/// What is left to do of a backward pass once both sums are there: dx, for whole rows in any parts.
///
/// It is computed from dy if the sums came by [`BackwardSums::add`], and from d if by the other functions, which wrote
/// d.
pub struct InputGradient<'a> {
    block: NormBlock<'a>,
    terms: Terms<'a>,
    /// Whether it begins with d, else with dy.
    from_d: bool,
}

impl InputGradient<'_> {
    /// `d`, of the length of x, from dy or d to dx.
    ///
    /// # Panics
    /// If the length is not that of x.
    pub fn apply(&self, d: &mut [f32]) {
        expect_len("d", d.len(), self.block.x.len());
        self.apply_from(0, d);
    }

    /// [`InputGradient::apply`] for the whole rows that begin with value `first` of x.
    ///
    /// # Panics
    /// If there are no such rows.
    pub fn apply_from(&self, first: usize, d: &mut [f32]) {
        self.rows(first, None, d);
    }

    /// As [`InputGradient::apply_from`], but reads dy or d in `from` and writes dx to `dx`, which have one length.
    ///
    /// # Panics
    /// If there are no such rows, or the lengths differ.
    pub fn write_from(&self, first: usize, from: &[f32], dx: &mut [f32]) {
        expect_len("dx", dx.len(), from.len());
        self.rows(first, Some(from), dx);
    }

    fn rows(&self, first: usize, from: Option<&[f32]>, d: &mut [f32]) {
        let (x, activation) = (&self.block.x[first..][..d.len()], self.block.activation);
        let (terms, norm) = (&self.terms, &self.block.norm());
        by_curve!(
            activation.filter(|_| !self.from_d),
            |curve| dispatch(rows::InputGradientRows { norm, curve, terms, x, from, d }),
            |activation| {
                if let Some(dy) = from {
                    d.copy_from_slice(dy);
                }
                let len = few_rows(norm.mean.len());
                let mut work = SlopeWork::new(len);
                for (x, d) in x.chunks(len).zip(d.chunks_mut(len)) {
                    work.apply(activation, norm, x, d);
                    terms.apply(x, d);
                }
            }
        );
    }
}

impl<'a> NormBlock<'a> {
    /// dγ and dβ from `dy`, the gradient of the output of [`NormBlock::forward`] without a residual, of the length of
    /// x. The answer turns `dy` into dx.
    ///
    /// # Panics
    /// If a slice does not fit.
    pub fn backward(&self, dy: &[f32], to: AffineGradients<'_>) -> InputGradient<'a> {
        expect_len("dy", dy.len(), self.x.len());
        let mut sums = BackwardSums::new(self.stats.mean.len());
        sums.add(self, dy);
        self.finish(sums, to)
    }

    /// dγ and dβ from sums that have taken in all rows of x. Rounded once, from f64.
    ///
    /// # Panics
    /// If a slice does not fit.
    pub fn finish(&self, sums: BackwardSums, to: AffineGradients<'_>) -> InputGradient<'a> {
        let AffineGradients { dgamma, dbeta, training } = to;
        let rows = (self.x.len() / self.stats.mean.len()) as f64;
        let share = if training { 1.0 / rows } else { 0.0 };
        let from_d = sums.wrote_d();
        let by = Scaling { stats: self.stats, gamma: self.affine.gamma, eps: self.eps };
        let terms = Terms::new(sums.sums, by, share, dgamma, dbeta);
        InputGradient { block: *self, terms, from_d }
    }
}

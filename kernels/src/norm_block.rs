//! Batch norm with what often follows it: the addition of a residual, an activation, a max pooling.
//!
//! # Terms
//!
//! `x` is rows of `channels` values, NHWC or `(samples, features)`; every formula holds for each channel apart, and
//! `mean()` is taken over the channel's column. With the norm's statistics and its learned scale γ and shift β
//!
//! | | | |
//! |---|---|---|
//! | r | 1 / √(var + eps) | inverse deviation |
//! | x̂ | (x − mean) r | normalised input |
//! | u | γ x̂ + β | output of the norm |
//! | y | f(u), or f(u + residual) | output of the block; f is the activation |
//! | dy | | gradient of y |
//! | d | dy f′(u) | gradient of u, and of the residual |
//! | dβ | Σ d | |
//! | dγ | Σ d x̂ | |
//! | dx | γ r (d − mean(d) − x̂ mean(d x̂)) | statistics of x itself: training |
//! | dx | γ r d | statistics that are given |
//!
//! So a backward pass reads x twice: for the two sums ([`BackwardSums`]), and then for dx ([`InputGradient`]). Both
//! halves take whole rows in any parts, so that a caller may do them where x and dy are in the caches anyway.
//!
//! # How
//!
//! With an activation as cheap as relu everything is done for a value while it is in a register; with others, and with
//! a pooling, for a few rows at a time, which stay in the first-level cache from one function to the next. d is
//! computed again for dx rather than stored, unless somebody wants it (a residual) or it is there anyway (a pooling).
//!
//! # Bits
//!
//! They are those of the functions of [`crate::norm`], [`crate::activation`] and [`crate::pool`] one after another,
//! however the rows are cut: both sums take the rows in order, in f32 over each [`BackwardSums::ROWS`] of them, and
//! over those in f64.

mod block;
pub(crate) mod curves;
mod input_gradient;
mod rows;
mod sums;

pub use block::NormBlock;
pub(crate) use block::NormReader;
pub use input_gradient::{AffineGradients, InputGradient};
pub use sums::BackwardSums;

#[cfg(test)]
mod tests;

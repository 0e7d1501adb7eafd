//! The two sums over rows that a backward pass begins with.

use super::block::{NormBlock, SlopeWork, Strips};
use super::curves::by_curve;
use super::rows;
use crate::cpu::dispatch;
use crate::norm::{CHUNK, RowSums, few_rows};
use crate::pool::{PoolShape, max_backward};
use crate::scratch::scratch;
use crate::shape::expect_len;

/// Σ d and Σ d (x − mean) of each channel, as they take in some rows of a block after the others.
///
/// Rows are added in order, in f32 over each [`BackwardSums::ROWS`] of them, and over those in f64. All rows come by
/// the same function: [`add`](BackwardSums::add), [`add_residual`](BackwardSums::add_residual) or
/// [`add_pooled`](BackwardSums::add_pooled). Which one decides what [`InputGradient`](super::InputGradient) then turns
/// into dx: dy after the first, d after the others.
#[derive(Clone)]
pub struct BackwardSums {
    pub(super) sums: RowSums,
    /// Whether d was written as the rows were added; not known before the first.
    writes_d: Option<bool>,
}

impl BackwardSums {
    /// Rows that are summed in f32. A [part](BackwardSums::part) begins at a multiple of it.
    pub const ROWS: usize = CHUNK;

    /// Sums of no rows.
    pub fn new(channels: usize) -> Self {
        BackwardSums { sums: RowSums::new(channels), writes_d: None }
    }

    /// Sums of no rows, for rows in the middle: to be [appended](BackwardSums::append) to those of the rows before.
    pub fn part(channels: usize) -> Self {
        BackwardSums { sums: RowSums::part(channels), writes_d: None }
    }

    /// Takes in the rows that `part` has taken in, with the bits of taking them in one by one.
    ///
    /// # Panics
    /// If `part` is none, does not begin at a multiple of [`BackwardSums::ROWS`], or took its rows in by another
    /// function.
    pub fn append(&mut self, part: BackwardSums) {
        if let Some(writes_d) = part.writes_d {
            self.begin(writes_d);
        }
        self.sums.append(part.sums);
    }

    /// Takes in the next rows, those of the block's x, of [`NormBlock::forward`] without a residual; `dy` has the
    /// length of x.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add(&mut self, block: &NormBlock<'_>, dy: &[f32]) {
        self.begin(false);
        expect_len("dy", dy.len(), block.x.len());
        let (norm, x, sums) = (&block.norm(), block.x, &mut self.sums);
        by_curve!(
            block.activation,
            |curve| sums.take_in(dy.len(), |part, sums| {
                dispatch(rows::SumRows { norm, curve, x: &x[part.clone()], dy: &dy[part], sums });
            }),
            |activation| {
                let len = few_rows(norm.mean.len());
                let (mut work, mut d) = (SlopeWork::new(len), scratch(len));
                for (x, dy) in x.chunks(len).zip(dy.chunks(len)) {
                    let d = &mut d[..dy.len()];
                    d.copy_from_slice(dy);
                    work.apply(activation, norm, x, d);
                    sums.add(x, Some(d), norm.mean);
                }
            }
        );
    }

    /// Takes in the next rows, those of the block's x, of [`NormBlock::forward`] with a residual, and writes `d`, which
    /// is the residual's gradient. `y`, the block's output, `dy` and `d` have the length of x. The activation's slope
    /// must be one of the output ([`Activation::slope_of_output`](crate::activation::Activation::slope_of_output)):
    /// f′(u) is computed from y.
    ///
    /// # Panics
    /// If a slice does not fit, or the slope is not one of the output.
    pub fn add_residual(&mut self, block: &NormBlock<'_>, y: &[f32], dy: &[f32], d: &mut [f32]) {
        self.begin(true);
        expect_len("d", d.len(), block.x.len());
        expect_len("dy", dy.len(), block.x.len());
        expect_len("y", y.len(), block.x.len());
        self.add_by_output(block, block.x, y, dy, d);
    }

    /// Takes in the next rows, those of the block's x `(n, h, w, c)`, of [`NormBlock::forward_pooled`] by `shape`, and
    /// writes `d` for all of x: max_pool's gradient of `dy` `(n, oh, ow, c)`, times f′(u); 0 below and right of the
    /// last windows.
    ///
    /// # Panics
    /// If a slice does not fit, or the windows overlap or are padded.
    pub fn add_pooled(&mut self, block: &NormBlock<'_>, shape: PoolShape, dy: &[f32], d: &mut [f32]) {
        self.begin(true);
        expect_len("d", d.len(), block.x.len());
        let Strips { strip, x_len, y_len, per_image } = block.strips(shape, dy.len());
        let (norm, mean) = (block.norm(), block.stats.mean);
        let [mut u, mut v, mut dv] = [0, 1, 2].map(|_| scratch(x_len));
        let costly = block.activation.filter(|activation| !activation.slope_of_output());
        let image_len = shape.h * shape.w * shape.c;
        for (image, (d, x)) in d.chunks_exact_mut(image_len).zip(block.x.chunks_exact(image_len)).enumerate() {
            let (strips, rest) = d.split_at_mut(per_image * x_len);
            for (row, (d, x)) in strips.chunks_exact_mut(x_len).zip(x.chunks_exact(x_len)).enumerate() {
                let dy = &dy[(image * per_image + row) * y_len..][..y_len];
                let Some(activation) = costly else {
                    block.forward_rows(&norm, x, None, &mut v);
                    max_backward(strip, &v, dy, &mut dv);
                    self.add_by_output(block, x, &v, &dv, d);
                    continue;
                };
                norm.apply(x, &mut u);
                activation.forward(&u, &mut v);
                max_backward(strip, &v, dy, &mut dv);
                activation.backward(&u, &v, &dv, d);
                self.sums.add(x, Some(d), mean);
            }
            rest.fill(0.0);
            self.sums.add(&x[strips.len()..], Some(rest), mean);
        }
    }

    /// Whether d was written as the rows were added.
    pub(super) fn wrote_d(&self) -> bool {
        self.writes_d.unwrap_or(false)
    }

    fn begin(&mut self, writes_d: bool) {
        assert!(*self.writes_d.get_or_insert(writes_d) == writes_d, "all rows are taken in by one function");
    }

    fn add_by_output(&mut self, block: &NormBlock<'_>, x: &[f32], y: &[f32], dy: &[f32], d: &mut [f32]) {
        let mean = block.stats.mean;
        by_curve!(
            block.activation,
            |curve| self.sums.take_in(d.len(), |at, sums| {
                let (x, y, dy) = (&x[at.clone()], &y[at.clone()], &dy[at.clone()]);
                dispatch(rows::SumRowsOfOutput { mean, curve, x, y, dy, d: &mut d[at], sums });
            }),
            |activation| panic!("{activation:?}: the slope cannot be told from y")
        );
    }
}

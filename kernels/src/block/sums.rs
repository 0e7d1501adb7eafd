//! The sums over rows that backward passes begin with.

use super::{Block, Strips, Work, rows};
use crate::activation::{Activation, Identity, Relu, Relu6};
use crate::cpu::dispatch;
use crate::norm::{CHUNK, Sums, few_rows};
use crate::pool::{PoolShape, max_backward};
use crate::scratch::scratch;
use crate::shape::expect_len;

/// Sums that take in some rows of a block after the others.
#[derive(Clone)]
pub struct BackwardSums(pub(super) Sums);

impl BackwardSums {
    /// Rows that are summed in f32. A [part](BackwardSums::part) begins at a multiple of it.
    pub const ROWS: usize = CHUNK;

    /// Sums of nothing.
    pub fn new(channels: usize) -> Self {
        BackwardSums(Sums::new(channels))
    }

    /// Sums of nothing, for rows in the middle: to be [appended](BackwardSums::append) to those of the rows before.
    pub fn part(channels: usize) -> Self {
        BackwardSums(Sums::part(channels))
    }

    /// Takes in the rows that `part` has taken in, with the bits of taking them in one by one.
    ///
    /// # Panics
    /// If `part` is none, or does not begin at a multiple of [`BackwardSums::ROWS`].
    pub fn append(&mut self, part: BackwardSums) {
        self.0.append(part.0);
    }

    /// Takes in the next rows: those of the block's x, with the gradient of the output of [`Block::forward`] without a
    /// residual.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add(&mut self, block: &Block<'_>, dy: &[f32]) {
        expect_len("dy", dy.len(), block.x.len());
        let (norm, x, sums) = (&block.norm(), block.x, &mut self.0);
        by_curve!(
            block.activation,
            |curve| sums.take_in(dy.len(), |part, sums| {
                dispatch(rows::Sums { norm, curve, x: &x[part.clone()], dy: &dy[part], sums });
            }),
            |activation| {
                let len = few_rows(norm.mean.len());
                let (mut work, mut d) = (Work::new(len), scratch(len));
                for (x, dy) in x.chunks(len).zip(dy.chunks(len)) {
                    let d = &mut d[..dy.len()];
                    d.copy_from_slice(dy);
                    work.slope(activation, norm, x, d);
                    sums.add(x, Some(d), norm.mean);
                }
            }
        );
    }

    /// The same for [`Block::forward`] with a residual, whose output is `y`: also writes `d`, the gradient of the residual.
    /// The activation's slope must be one of the output ([`Activation::slope_of_output`]).
    ///
    /// # Panics
    /// If a slice does not fit.
    pub fn add_residual(&mut self, block: &Block<'_>, y: &[f32], dy: &[f32], d: &mut [f32]) {
        expect_len("d", d.len(), block.x.len());
        expect_len("dy", dy.len(), block.x.len());
        expect_len("y", y.len(), block.x.len());
        self.add_by_output(block, block.x, y, dy, d);
    }

    fn add_by_output(&mut self, block: &Block<'_>, x: &[f32], y: &[f32], dy: &[f32], d: &mut [f32]) {
        let mean = block.stats.mean;
        by_curve!(
            block.activation,
            |curve| self.0.take_in(d.len(), |at, sums| {
                let (x, y, dy) = (&x[at.clone()], &y[at.clone()], &dy[at.clone()]);
                dispatch(rows::SumsOfOutput { mean, curve, x, y, dy, d: &mut d[at], sums });
            }),
            |activation| panic!("{activation:?}: the slope cannot be told from y")
        );
    }

    /// The same for [`Block::forward_pooled`] of whole images: also writes `d`, the gradient of the norm's output.
    ///
    /// # Panics
    /// If a slice does not fit, or the windows overlap or are padded.
    pub fn add_pooled(&mut self, block: &Block<'_>, shape: PoolShape, dy: &[f32], d: &mut [f32]) {
        expect_len("d", d.len(), block.x.len());
        let Strips { strip, x_len, y_len, per_image } = block.strips(shape, dy.len());
        let (norm, mean) = (block.norm(), block.stats.mean);
        let (mut work, mut pooled, mut dv) = (Work::new(x_len), scratch(x_len), scratch(x_len));
        let costly = block.activation.filter(|activation| !activation.slope_of_output());
        let image_len = shape.h * shape.w * shape.c;
        for (image, (d, x)) in d.chunks_exact_mut(image_len).zip(block.x.chunks_exact(image_len)).enumerate() {
            let (strips, rest) = d.split_at_mut(per_image * x_len);
            for (row, (d, x)) in strips.chunks_exact_mut(x_len).zip(x.chunks_exact(x_len)).enumerate() {
                let dy = &dy[(image * per_image + row) * y_len..][..y_len];
                let Some(activation) = costly else {
                    block.rows_forward(&norm, x, None, &mut pooled);
                    max_backward(strip, &pooled, dy, &mut dv);
                    self.add_by_output(block, x, &pooled, &dv, d);
                    continue;
                };
                norm.apply(x, &mut work.u);
                activation.forward(&work.u, &mut pooled);
                max_backward(strip, &pooled, dy, &mut dv);
                activation.backward(&work.u, &pooled, &dv, d);
                self.0.add(x, Some(d), mean);
            }
            // Rows below the last window.
            rest.fill(0.0);
            self.0.add(&x[strips.len()..], Some(rest), mean);
        }
    }
}

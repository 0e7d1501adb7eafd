use std::ops::Range;

use super::Bf16;
use crate::conv::ConvShape;
use crate::cpu::{self, Kernel};
use crate::shape::{ShapeError, countable, expect_len, positive};

/// Channels side by side in memory, terms of a block of a sum, and images of a group.
pub(super) const BLOCK: usize = 32;

/// The images of a shard, in blocks of channels: `[group][h][w][c / 32][lanes][32]`. A *group* is of 32 images; fewer
/// than that are one group, in as many *lanes* as the next power of two. Lanes without an image and channels beyond the
/// last are +0.0, always: kernels write them so and rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Images.
    pub n: usize,
    /// Height.
    pub h: usize,
    /// Width.
    pub w: usize,
    /// Channels.
    pub c: usize,
}

impl Blocks {
    /// The same shape, if it makes sense: sizes of at least one, at most 2^32 - 1 elements with what is padded.
    ///
    /// # Errors
    /// The first of these that does not hold.
    pub fn checked(self) -> Result<Self, ShapeError> {
        positive([("batch", self.n), ("height", self.h), ("width", self.w), ("channels", self.c)])?;
        let images = self.n.checked_next_multiple_of(self.lanes()).unwrap_or(usize::MAX);
        let channels = self.c.checked_next_multiple_of(BLOCK).unwrap_or(usize::MAX);
        countable("tensor in blocks of 32 channels", &[images, self.h, self.w, channels])?;
        Ok(self)
    }

    /// Images of a group, with those that are padding.
    pub fn lanes(&self) -> usize {
        if self.n >= BLOCK { BLOCK } else { self.n.next_power_of_two() }
    }

    /// Groups of images.
    pub fn groups(&self) -> usize {
        self.n.div_ceil(self.lanes())
    }

    /// Images in a group that are not padding.
    pub(super) fn images(&self, group: usize) -> usize {
        (self.n - group * self.lanes()).min(self.lanes())
    }

    /// Blocks of channels.
    pub fn channel_blocks(&self) -> usize {
        self.c.div_ceil(BLOCK)
    }

    /// Rows of pixels of all groups, the outermost index of the memory: those of the first group, top to bottom, then
    /// those of the next.
    pub fn rows(&self) -> usize {
        self.groups() * self.h
    }

    /// Values of one of [`Blocks::rows`].
    pub fn row_len(&self) -> usize {
        self.w * self.pixel_len()
    }

    /// Values at one position, of all images of a group.
    pub(super) fn pixel_len(&self) -> usize {
        self.channel_blocks() * self.lanes() * BLOCK
    }

    /// Values of the tensor, with those that are padding.
    pub fn len(&self) -> usize {
        self.rows() * self.row_len()
    }

    /// Whether there are none, which no shape that makes sense has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the value of this image, row, column and channel lies.
    #[inline(always)]
    pub fn at(&self, image: usize, row: usize, column: usize, channel: usize) -> usize {
        let lanes = self.lanes();
        let pixel = (image / lanes * self.h + row) * self.w + column;
        ((pixel * self.channel_blocks() + channel / BLOCK) * lanes + image % lanes) * BLOCK + channel % BLOCK
    }

    /// Rounds images `[n, h, w, c]` into blocks, and writes the padding.
    ///
    /// # Panics
    /// If a slice does not fit.
    pub fn from_nhwc(&self, nhwc: &[f32], blocks: &mut [Bf16]) {
        expect_len("nhwc", nhwc.len(), self.n * self.h * self.w * self.c);
        expect_len("blocks", blocks.len(), self.len());
        cpu::dispatch(FromNhwc { shape: self, nhwc, blocks });
    }

    /// The images `[n, h, w, c]` in these blocks.
    ///
    /// # Panics
    /// If a slice does not fit.
    pub fn to_nhwc(&self, blocks: &[Bf16], nhwc: &mut [f32]) {
        expect_len("blocks", blocks.len(), self.len());
        expect_len("nhwc", nhwc.len(), self.n * self.h * self.w * self.c);
        cpu::dispatch(ToNhwc { shape: self, blocks, nhwc });
    }

    /// The group, and the rows of it, of each group that `rows` of all groups have rows of.
    pub(super) fn rows_by_group(&self, rows: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
        let h = self.h;
        let groups = rows.start / h..rows.end.div_ceil(h);
        groups.map(move |group| {
            let first = group * h;
            (group, rows.start.saturating_sub(first)..(rows.end - first).min(h))
        })
    }
}

impl ConvShape {
    /// The input, in blocks.
    pub fn x_blocks(&self) -> Blocks {
        Blocks { n: self.n, h: self.h, w: self.w, c: self.ci }
    }

    /// The output, in blocks.
    ///
    /// # Panics
    /// As [`ConvShape::oh`].
    pub fn y_blocks(&self) -> Blocks {
        Blocks { n: self.n, h: self.oh(), w: self.ow(), c: self.co }
    }
}

struct FromNhwc<'a> {
    shape: &'a Blocks,
    nhwc: &'a [f32],
    blocks: &'a mut [Bf16],
}

impl Kernel for FromNhwc<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        let Blocks { n, h, w, c } = *self.shape;
        let (lanes, blocks) = (self.shape.lanes(), self.shape.channel_blocks());
        for (row, to) in self.blocks.chunks_exact_mut(lanes * BLOCK).enumerate() {
            let (pixel, first) = (row / blocks, row % blocks * BLOCK);
            let (group, pixel) = (pixel / (h * w), pixel % (h * w));
            let width = BLOCK.min(c - first);
            for (lane, to) in to.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
                let image = group * lanes + lane;
                if image >= n {
                    *to = [Bf16::ZERO; BLOCK];
                    continue;
                }
                let from = &self.nhwc[(image * h * w + pixel) * c + first..][..width];
                if let Some(from) = from.first_chunk::<BLOCK>() {
                    *to = from.map(Bf16::from_f32);
                } else {
                    *to = [Bf16::ZERO; BLOCK];
                    to.iter_mut().zip(from).for_each(|(to, from)| *to = Bf16::from_f32(*from));
                }
            }
        }
    }
}

struct ToNhwc<'a> {
    shape: &'a Blocks,
    blocks: &'a [Bf16],
    nhwc: &'a mut [f32],
}

impl Kernel for ToNhwc<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        let Blocks { h, w, c, .. } = *self.shape;
        for (pixel, to) in self.nhwc.chunks_exact_mut(c).enumerate() {
            let (image, pixel) = (pixel / (h * w), pixel % (h * w));
            for (block, to) in to.chunks_mut(BLOCK).enumerate() {
                let from = &self.blocks[self.shape.at(image, pixel / w, pixel % w, block * BLOCK)..];
                to.iter_mut().zip(from).for_each(|(to, from)| *to = from.to_f32());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive::indices;

    #[test]
    fn images_come_back_and_padding_is_zero() {
        for (n, h, w, c) in [(1, 2, 3, 5), (3, 1, 2, 33), (20, 2, 1, 32), (32, 1, 1, 64), (70, 2, 2, 3), (8, 1, 1, 1)] {
            let shape = Blocks { n, h, w, c };
            let nhwc: Vec<f32> = (1..=n * h * w * c).map(|i| Bf16::from_f32(i as f32).to_f32()).collect();
            let mut blocks = vec![Bf16::from_f32(f32::NAN); shape.len()];
            shape.from_nhwc(&nhwc, &mut blocks);
            let mut back = vec![0.0; nhwc.len()];
            shape.to_nhwc(&blocks, &mut back);
            assert_eq!(back, nhwc, "{shape:?}");
            for ([image, y, x, channel], value) in indices([n, h, w, c]).zip(&nhwc) {
                assert_eq!(blocks[shape.at(image, y, x, channel)].to_f32(), *value);
            }
            let zeros = blocks.iter().filter(|v| **v == Bf16::ZERO).count();
            assert_eq!(zeros, shape.len() - nhwc.len(), "{shape:?}");
        }
    }

    #[test]
    fn lanes_are_a_power_of_two_and_at_most_a_block() {
        let lanes = |n| Blocks { n, h: 1, w: 1, c: 1 }.lanes();
        assert_eq!([1, 2, 3, 8, 9, 16, 20, 32, 33, 100].map(lanes), [1, 2, 4, 8, 16, 16, 32, 32, 32, 32]);
        assert_eq!(Blocks { n: 100, h: 3, w: 1, c: 1 }.rows(), 12);
    }

    #[test]
    fn rows_of_all_groups_are_cut_by_group() {
        let shape = Blocks { n: 96, h: 4, w: 1, c: 1 };
        let cut: Vec<_> = shape.rows_by_group(3..9).collect();
        assert_eq!(cut, [(0, 3..4), (1, 0..4), (2, 0..1)]);
        assert_eq!(shape.rows_by_group(4..4).count(), 0);
    }

    #[test]
    fn shapes_without_sense_are_refused() {
        let refused = |n, h, w, c| Blocks { n, h, w, c }.checked().expect_err("no sense").to_string();
        assert_eq!(refused(1, 1, 0, 1), "width is 0; it must be at least 1");
        assert!(refused(1, 1 << 14, 1 << 14, 1).contains("blocks of 32 channels"));
        assert!(refused(usize::MAX, 1, 1, usize::MAX).contains("blocks of 32 channels"));
    }
}

//! The two ways in which images lie in memory.

use super::Bf16;
use super::blocks::Blocks;
use super::operand::TermBlocks;
use super::weight_steps::is_chain;
use crate::conv::{ConvShape, geometry};
use crate::shape::expect_len;

/// What a convolution reads.
#[derive(Clone, Copy, Debug)]
pub enum Images<'a> {
    /// Images in [`Blocks`].
    Blocks(&'a [Bf16]),
    /// Images as they came, `[n, h, w, c]`, for a convolution that [`reads_nhwc`]: of three channels a tenth of what
    /// blocks of them are.
    Nhwc(&'a [Bf16]),
}

impl<'a> From<&'a [Bf16]> for Images<'a> {
    fn from(blocks: &'a [Bf16]) -> Self {
        Images::Blocks(blocks)
    }
}

impl<'a> From<&'a Vec<Bf16>> for Images<'a> {
    fn from(blocks: &'a Vec<Bf16>) -> Self {
        Images::Blocks(blocks)
    }
}

/// Whether forward pass and weight gradient of a convolution can read images that do not lie in blocks: it has one
/// group and several taps of fewer than 32 channels. The bits are the same.
///
/// # Panics
/// If the shape makes no sense.
pub fn reads_nhwc(shape: ConvShape) -> bool {
    shape.expect_checked();
    shape.groups == 1 && !is_chain(&shape) && TermBlocks::new(&geometry::forward(&shape)).flattened
}

impl<'a> Images<'a> {
    /// The values, wherever they lie.
    pub(super) fn values(self) -> &'a [Bf16] {
        match self {
            Images::Blocks(values) | Images::Nhwc(values) => values,
        }
    }

    /// The values, in blocks.
    pub(super) fn blocks(self) -> &'a [Bf16] {
        match self {
            Images::Blocks(values) => values,
            Images::Nhwc(_) => unreachable!("only terms of several taps are taken from images as they came"),
        }
    }

    /// Panics unless it is all of x of the convolution, in a way that this can read.
    #[track_caller]
    pub(super) fn expect_x(self, shape: ConvShape) {
        match self {
            Images::Blocks(values) => expect_len("x", values.len(), shape.x_blocks().len()),
            Images::Nhwc(values) => {
                expect_len("x", values.len(), shape.x_len());
                assert!(reads_nhwc(shape), "{shape:?} reads blocks");
            }
        }
    }

    /// Those of one group of the images that lie so in blocks.
    pub(super) fn of_group(self, all: &Blocks, group: usize) -> Images<'a> {
        match self {
            Images::Blocks(values) => Images::Blocks(&values[group * all.h * all.row_len()..][..all.h * all.row_len()]),
            Images::Nhwc(values) => {
                let image = all.h * all.w * all.c;
                Images::Nhwc(&values[group * all.lanes() * image..][..all.images(group) * image])
            }
        }
    }
}

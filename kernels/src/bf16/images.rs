//! What a convolution reads: images, in one of two ways in memory, and how their values make blocks of terms.

use super::Bf16;
use super::blocks::{BLOCK, Blocks};
use super::weight_steps::is_chain;
use crate::conv::ConvShape;
use crate::conv::geometry::{self, Correlation, Tap};
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

/// The blocks of terms of one correlation.
#[derive(Clone, Copy, Debug)]
pub(super) struct TermBlocks {
    /// Whether a block takes its terms from several taps, because a tap has fewer than 32.
    pub flattened: bool,
    /// Blocks of a tap; all, if flattened.
    pub count: usize,
}

impl TermBlocks {
    /// Those of a correlation.
    pub fn new(of: &Correlation) -> TermBlocks {
        let flattened = of.depth() < BLOCK && of.taps() > 1;
        let terms = if flattened { of.terms() } else { of.depth() };
        TermBlocks { flattened, count: terms.div_ceil(BLOCK) }
    }

    /// Rows and columns of taps, as the blocks know them: one, if flattened.
    pub fn taps<'a>(&self, of: &'a Correlation) -> [&'a [Tap]; 2] {
        const ONE: &[Tap] = &[Tap { offset: 0, index: 0 }];
        if self.flattened { [ONE, ONE] } else { [&of.rows.taps, &of.cols.taps] }
    }
}

/// What an operand is taken from: some channels of a group of images.
#[derive(Clone, Copy)]
pub(super) struct SourceImages<'a> {
    /// Of the group.
    pub values: Images<'a>,
    pub shape: Blocks,
    /// First channel of those that are looked at.
    pub channel: usize,
    /// How many of them there are.
    pub depth: usize,
}

impl SourceImages<'_> {
    /// Whether blocks of these channels are blocks of the images.
    pub fn is_aligned(&self) -> bool {
        let end = self.channel + self.depth;
        self.channel.is_multiple_of(BLOCK) && (end == self.shape.c || end.is_multiple_of(BLOCK))
    }
}

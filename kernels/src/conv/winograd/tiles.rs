//! Where tiles lie in images.

use std::ops::Range;

use super::super::ConvShape;
use super::transform::{IN, OUT};

/// Images of an input and an output, cut into tiles of the output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiling {
    /// Images.
    pub n: usize,
    /// Height and width of the input.
    pub source: [usize; 2],
    /// Height and width of the output.
    pub target: [usize; 2],
    /// Zeros above and left of the input.
    pub padding: [usize; 2],
    pub source_channels: usize,
    pub target_channels: usize,
}

/// First output row and column of a tile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    pub image: usize,
    pub row: usize,
    pub column: usize,
}

impl Tiling {
    /// From x to y.
    pub fn forward(s: &ConvShape) -> Tiling {
        Tiling {
            n: s.n,
            source: [s.h, s.w],
            target: [s.oh(), s.ow()],
            padding: s.padding,
            source_channels: s.ci,
            target_channels: s.co,
        }
    }

    /// From dy to dx.
    pub fn backward(s: &ConvShape) -> Tiling {
        Tiling {
            n: s.n,
            source: [s.oh(), s.ow()],
            target: [s.h, s.w],
            padding: s.padding.map(|padding| 2 - padding),
            source_channels: s.co,
            target_channels: s.ci,
        }
    }

    /// Tiles of all images, counted image by image, row by row.
    pub fn tiles(&self) -> usize {
        self.n * self.target[0].div_ceil(OUT) * self.target[1].div_ceil(OUT)
    }

    /// The tile with this number.
    #[inline(always)]
    pub fn tile(&self, index: usize) -> Tile {
        let [rows, columns] = self.target.map(|size| size.div_ceil(OUT));
        Tile { image: index / columns / rows, row: index / columns % rows * OUT, column: index % columns * OUT }
    }

    /// The input pixels that a tile reads; `zeros` stands for each outside.
    #[inline(always)]
    pub fn input<'a>(&self, tile: Tile, source: &'a [f32], zeros: &'a [f32]) -> Patch<'a, IN> {
        let corner = [tile.row as isize - self.padding[0] as isize, tile.column as isize - self.padding[1] as isize];
        patch(source, self.source, self.source_channels, tile.image, corner, zeros)
    }

    /// The pixels of a tile in `target`, a gradient of the output; `zeros` stands for each outside.
    #[inline(always)]
    pub fn output<'a>(&self, tile: Tile, target: &'a [f32], zeros: &'a [f32]) -> Patch<'a, OUT> {
        let corner = [tile.row as isize, tile.column as isize];
        patch(target, self.target, self.target_channels, tile.image, corner, zeros)
    }
}

/// Consecutive tiles.
#[derive(Clone, Debug)]
pub(super) struct TileRange<'a> {
    pub of: &'a Tiling,
    pub range: Range<usize>,
}

impl<'a> TileRange<'a> {
    /// All tiles in order, cut into ranges of `size`; the last may have fewer.
    pub fn groups(of: &'a Tiling, size: usize) -> impl Iterator<Item = TileRange<'a>> {
        let tiles = of.tiles();
        (0..tiles).step_by(size).map(move |first| TileRange { of, range: first..(first + size).min(tiles) })
    }

    /// Whether the first of all tiles is in it.
    pub fn is_first(&self) -> bool {
        self.range.start == 0
    }

    /// Whether the last of all tiles is in it.
    pub fn is_last(&self) -> bool {
        self.range.end == self.of.tiles()
    }
}

/// The channels of a square of pixels.
pub(super) type Patch<'a, const SIDE: usize> = [[&'a [f32]; SIDE]; SIDE];

#[inline(always)]
fn patch<'a, const SIDE: usize>(
    values: &'a [f32],
    [height, width]: [usize; 2],
    channels: usize,
    image: usize,
    [top, left]: [isize; 2],
    zeros: &'a [f32],
) -> Patch<'a, SIDE> {
    let mut patch = [[&zeros[..channels]; SIDE]; SIDE];
    for (y, line) in patch.iter_mut().enumerate() {
        let row = top + y as isize;
        if row < 0 || row as usize >= height {
            continue;
        }
        let first = (image * height + row as usize) * width;
        for (x, pixel) in line.iter_mut().enumerate() {
            let column = left + x as isize;
            if column >= 0 && (column as usize) < width {
                *pixel = &values[(first + column as usize) * channels..][..channels];
            }
        }
    }
    patch
}

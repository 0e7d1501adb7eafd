//! Tiles of images to products, and products to tiles.

use std::ops::Range;

use super::tiles::{Patch, Tile, TileRange, Tiling};
use super::transform::{
    Half, IN, InputTransform, LANES, OUT, OutputGradientTransform, OutputTransform, PLANES, both_sides,
};
use crate::cpu::simd;
use crate::simd_lanes::{Lanes, chunk, chunk_mut, for_lanes};

/// How products lie in memory: plane p begins at `p * plane_len`, and in it there is a row of channels for each tile,
/// one every `row_len` values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planes {
    pub row_len: usize,
    pub plane_len: usize,
}

simd! {
    /// `B^T d B` of the input d of each of the tiles. `zeros` has a value for each source channel.
    pub(super) fn input(tiles: &TileRange<'_>, source: &[f32], zeros: &[f32], to: &mut [f32], planes: Planes) {
        let Planes { row_len, plane_len } = planes;
        let of = tiles.of;
        let mut half = Box::new([0.0; PLANES * LANES]);
        for (i, tile) in tiles.range.clone().enumerate() {
            let patch = of.input(of.tile(tile), source, zeros);
            let mut work = FromInput { half: &mut half, patch: &patch, to: &mut to[i * row_len..], plane_len };
            for_lanes::<LANES>(of.source_channels, &mut work);
        }
    }
}

struct FromInput<'a> {
    half: &'a mut Half,
    patch: &'a Patch<'a, IN>,
    to: &'a mut [f32],
    plane_len: usize,
}

impl Lanes for FromInput<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        both_sides::<InputTransform, IN, IN, W>(
            self.half,
            |row, column| chunk(self.patch[row][column], first),
            |row, column, done| *chunk_mut(self.to, (row * IN + column) * self.plane_len + first) = done,
        );
    }
}

simd! {
    /// `A^T m A + start` for each of the tiles and the channels from `channel` on that `start` has. Pixels outside of
    /// the target are left out.
    pub(super) fn output(
        tiles: &TileRange<'_>,
        from: &[f32],
        planes: Planes,
        channel: usize,
        start: &[f32],
        target: &mut [f32],
    ) {
        let Planes { row_len, plane_len } = planes;
        let of = tiles.of;
        let mut half = Box::new([0.0; PLANES * LANES]);
        for (i, tile) in tiles.range.clone().enumerate() {
            let from = &from[i * row_len..];
            let tile = of.tile(tile);
            let mut work = ToOutput { half: &mut half, of, tile, from, plane_len, channel, start, target };
            for_lanes::<LANES>(start.len(), &mut work);
        }
    }
}

struct ToOutput<'a> {
    half: &'a mut Half,
    of: &'a Tiling,
    tile: Tile,
    from: &'a [f32],
    plane_len: usize,
    channel: usize,
    start: &'a [f32],
    target: &'a mut [f32],
}

impl Lanes for ToOutput<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let [height, width] = self.of.target;
        let start: &[f32; W] = chunk(self.start, first);
        let at = (self.tile.image * height + self.tile.row) * width + self.tile.column;
        let [rows, columns] = [height - self.tile.row, width - self.tile.column];
        both_sides::<OutputTransform, IN, OUT, W>(
            self.half,
            |row, column| chunk(self.from, (row * IN + column) * self.plane_len + first),
            |row, column, mut done| {
                if row < rows && column < columns {
                    for lane in 0..W {
                        done[lane] += start[lane];
                    }
                    let pixel = at + row * width + column;
                    *chunk_mut(self.target, pixel * self.of.target_channels + self.channel + first) = done;
                }
            },
        );
    }
}

simd! {
    /// `A dy A^T` of some channels for each of the tiles: in each plane, for each panel of as many channels as a row is
    /// long, a row for each tile. Lanes beyond the last channel are left as they are.
    pub(super) fn output_gradient(
        tiles: &TileRange<'_>,
        channels: Range<usize>,
        dy: &[f32],
        zeros: &[f32],
        to: &mut [f32],
        planes: Planes,
    ) {
        let Planes { row_len: size, plane_len } = planes;
        let mut half = Box::new([0.0; PLANES * LANES]);
        let of = tiles.of;
        let panel_len = tiles.range.len() * size;
        for (i, tile) in tiles.range.clone().enumerate() {
            let patch = of.output(of.tile(tile), dy, zeros);
            let to = &mut to[i * size..];
            let start = channels.start;
            let mut work = FromOutput { half: &mut half, patch: &patch, start, to, size, panel_len, plane_len };
            for_lanes::<LANES>(channels.len(), &mut work);
        }
    }
}

struct FromOutput<'a> {
    half: &'a mut Half,
    patch: &'a Patch<'a, OUT>,
    start: usize,
    to: &'a mut [f32],
    size: usize,
    panel_len: usize,
    plane_len: usize,
}

impl Lanes for FromOutput<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let at = first / self.size * self.panel_len + first % self.size;
        both_sides::<OutputGradientTransform, OUT, IN, W>(
            self.half,
            |row, column| chunk(self.patch[row][column], self.start + first),
            |row, column, done| *chunk_mut(self.to, (row * IN + column) * self.plane_len + at) = done,
        );
    }
}

//! The forward pass and the input gradient.

use super::super::matmul::Product;
use super::images::{self, Planes};
use super::tiles::{TileRange, Tiling};
use super::transform::PLANES;
use super::weights::{TargetPanel, WinogradLayout};
use crate::cpu;
use crate::scratch::{Scratch, scratch};

/// Tiles whose products are computed at once, so that they stay in the cache: full rows of the register tile. It is no
/// part of the bits.
const GROUP: usize = 66;

/// `target = correlation of source with weight + start`.
pub(super) fn correlate(
    of: &Tiling,
    layout: WinogradLayout,
    source: &[f32],
    weight: &[f32],
    start: Option<&[f32]>,
    target: &mut [f32],
) {
    let size = cpu::panel();
    let (depth, channels, tiles) = (of.source_channels, of.target_channels, of.tiles());
    let panels: Vec<TargetPanel> =
        (0..channels).step_by(size).map(|first| TargetPanel::new(first, size, channels)).collect();
    let group = GROUP.min(tiles);
    // With one group only, a panel is used right after it was transformed.
    let slots = if group == tiles { 1 } else { panels.len() };
    let mut work = GroupWork::new(group, depth, slots, size);
    let mut zeros = scratch(depth.max(channels));
    zeros.fill(0.0);
    let start = start.unwrap_or(&zeros[..channels]);

    for tiles in TileRange::groups(of, group) {
        let input_planes = Planes { row_len: depth, plane_len: work.inputs_len };
        images::input(&tiles, source, &zeros, &mut work.inputs, input_planes);
        for panels in panels.chunks(slots) {
            if tiles.is_first() {
                for (slot, &panel) in panels.iter().enumerate() {
                    layout.transform(weight, panel, &mut work.weights[slot * depth * size..], work.weights_len);
                }
            }
            work.multiply(tiles.range.len(), panels.len());
            let product_planes = Planes { row_len: size, plane_len: work.products_len };
            for (slot, panel) in panels.iter().enumerate() {
                let (from, start) = (&work.products[slot * group * size..], &start[panel.first..][..panel.width]);
                images::output(&tiles, from, product_planes, panel.first, start, target);
            }
        }
    }
}

/// The planes of one group of tiles: transformed inputs, transformed weights of the panel in each slot, and their
/// products.
// Scratch memory is dropped in the reverse order of how it was taken, so that the next call gets each piece for the
// same use.
struct GroupWork {
    /// Most tiles of a group.
    group: usize,
    /// Source channels.
    depth: usize,
    /// Lanes of a panel.
    size: usize,
    /// Each plane `[slots, group, size]`, one every `products_len` values.
    products: Scratch,
    products_len: usize,
    /// Each plane `[group, depth]`, one every `inputs_len` values.
    inputs: Scratch,
    inputs_len: usize,
    /// Each plane `[slots, depth, size]`, one every `weights_len` values.
    weights: Scratch,
    weights_len: usize,
}

impl GroupWork {
    fn new(group: usize, depth: usize, slots: usize, size: usize) -> GroupWork {
        // One row more keeps the planes from lying a power of two apart.
        let weights_len = (slots * depth + 1) * size;
        let inputs_len = (group + 1) * depth;
        let products_len = (slots * group + 1) * size;
        let weights = scratch(PLANES * weights_len);
        let inputs = scratch(PLANES * inputs_len);
        let products = scratch(PLANES * products_len);
        GroupWork { group, depth, size, products, products_len, inputs, inputs_len, weights, weights_len }
    }

    /// Multiplies the inputs of the first `tiles` tiles by the weights in the first `slots` slots, plane by plane.
    fn multiply(&mut self, tiles: usize, slots: usize) {
        let GroupWork { group, depth, size, inputs_len, weights_len, products_len, .. } = *self;
        let (inputs, weights) = (&self.inputs, &self.weights);
        let a = |plane: usize| &inputs[plane * inputs_len..][..group * depth];
        let b = |plane: usize, slot: usize| &weights[plane * weights_len + slot * depth * size..][..depth * size];
        for plane in 0..PLANES {
            for slot in 0..slots {
                let next = match (slot + 1 < slots, plane + 1 < PLANES) {
                    (true, _) => [b(plane, slot + 1), &[]],
                    (false, true) => [b(plane + 1, 0), a(plane + 1)],
                    (false, false) => [&[][..]; 2],
                };
                cpu::dispatch(Product {
                    a: a(plane),
                    a_row: depth,
                    rows: tiles,
                    depth,
                    add: false,
                    next,
                    b: b(plane, slot),
                    c: &mut self.products[plane * products_len + slot * group * size..][..group * size],
                });
            }
        }
    }
}

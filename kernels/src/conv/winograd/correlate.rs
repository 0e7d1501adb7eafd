//! The forward pass and the input gradient.

use super::super::dense::Product;
use super::images::{self, Planes};
use super::tiles::Tiling;
use super::transform::PLANES;
use super::weights::Layout;
use crate::cpu;
use crate::scratch::scratch;

/// Tiles whose products are computed at once, so that they stay in the cache: full rows of the register tile. It is no
/// part of the bits.
const GROUP: usize = 66;

/// `target = correlation of source with weight + start`.
pub(super) fn correlate(
    of: &Tiling,
    layout: Layout,
    source: &[f32],
    weight: &[f32],
    start: Option<&[f32]>,
    target: &mut [f32],
) {
    let size = cpu::panel();
    let (depth, channels, tiles) = (of.source_channels, of.target_channels, of.tiles());
    let firsts: Vec<usize> = (0..channels).step_by(size).collect();
    let group = GROUP.min(tiles);
    // With one group only, a panel is used right after it was transformed.
    let slots = if group == tiles { 1 } else { firsts.len() };
    let panel = |first: usize| [first, size.min(channels - first), size];

    // One row more keeps the planes from lying a power of two apart.
    let weights_len = (slots * depth + 1) * size;
    let inputs_len = (group + 1) * depth;
    let products_len = (slots * group + 1) * size;
    let mut weights = scratch(PLANES * weights_len);
    let mut inputs = scratch(PLANES * inputs_len);
    let mut products = scratch(PLANES * products_len);
    let mut zeros = scratch(depth.max(channels));
    zeros.fill(0.0);
    let start = start.unwrap_or(&zeros[..channels]);

    let input_planes = Planes { row_len: depth, plane_len: inputs_len };
    let product_planes = Planes { row_len: size, plane_len: products_len };

    for first_tile in (0..tiles).step_by(group) {
        let tiles = first_tile..(first_tile + group).min(tiles);
        images::input(of, tiles.clone(), source, &zeros, &mut inputs, input_planes);
        for firsts in firsts.chunks(slots) {
            if first_tile == 0 {
                for (slot, &first) in firsts.iter().enumerate() {
                    layout.transform(weight, panel(first), &mut weights[slot * depth * size..], weights_len);
                }
            }
            let a = |plane: usize| &inputs[plane * inputs_len..][..group * depth];
            let b = |plane: usize, slot: usize| &weights[plane * weights_len + slot * depth * size..][..depth * size];
            for plane in 0..PLANES {
                for slot in 0..firsts.len() {
                    let next = match (slot + 1 < firsts.len(), plane + 1 < PLANES) {
                        (true, _) => [b(plane, slot + 1), &[]],
                        (false, true) => [b(plane + 1, 0), a(plane + 1)],
                        (false, false) => [&[][..]; 2],
                    };
                    cpu::dispatch(Product {
                        a: a(plane),
                        a_row: depth,
                        rows: tiles.len(),
                        depth,
                        add: false,
                        next,
                        b: b(plane, slot),
                        c: &mut products[plane * products_len + slot * group * size..][..group * size],
                    });
                }
            }
            for (slot, &first) in firsts.iter().enumerate() {
                let [_, width, _] = panel(first);
                let (from, start) = (&products[slot * group * size..], &start[first..][..width]);
                images::output(of, tiles.clone(), from, product_planes, first, start, target);
            }
        }
    }
}

//! The weight gradient.

use std::ops::Range;

use super::super::dense::Outer;
use super::images::{self, Planes};
use super::tiles::Tiling;
use super::transform::PLANES;
use super::weights::Layout;
use crate::cpu;
use crate::scratch::scratch;

/// Tiles per group. It bounds the length of a plain sum, so it is part of the bits.
pub(super) const GROUP: usize = 64;
/// Values between the rows of the inputs, which a sum reads one above the other: they should not lie a power of two
/// apart.
const GAP: usize = 16;

/// `dw` of some output channels, the products summed over tiles in order within groups of [`GROUP`], the groups' sums
/// added in order.
pub(super) fn weight_gradient(
    of: &Tiling,
    layout: Layout,
    channels: Range<usize>,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
) {
    let size = cpu::panel();
    let (depth, tiles) = (of.source_channels, of.tiles());
    let panels = channels.len().div_ceil(size);
    let group = GROUP.min(tiles);
    let row_len = depth + GAP;

    // With one group only, a panel's sums are done before those of the next begin.
    let slots = if group == tiles { 1 } else { panels };

    // One row more keeps the planes from lying a power of two apart.
    let sums_len = (slots * depth + 1) * size;
    let inputs_len = group * row_len + GAP;
    let outputs_len = (panels * group + 1) * size;
    let mut sums = scratch(PLANES * sums_len);
    let mut inputs = scratch(PLANES * inputs_len);
    let mut outputs = scratch(PLANES * outputs_len);
    let mut zeros = scratch(depth.max(of.target_channels));
    zeros.fill(0.0);

    for first_tile in (0..tiles).step_by(group) {
        let range = first_tile..(first_tile + group).min(tiles);
        let panel_len = range.len() * size;
        images::input(of, range.clone(), x, &zeros, &mut inputs, Planes { row_len, plane_len: inputs_len });
        let planes = Planes { row_len: size, plane_len: outputs_len };
        images::output_gradient(of, range.clone(), channels.clone(), dy, &zeros, &mut outputs, planes);
        for first_panel in (0..panels).step_by(slots) {
            if first_tile == 0 {
                sums.fill(0.0);
            }
            for plane in 0..PLANES {
                for slot in 0..slots {
                    cpu::dispatch(Outer {
                        a: &inputs[plane * inputs_len..][..inputs_len],
                        a_row: row_len,
                        b: &outputs[plane * outputs_len + (first_panel + slot) * panel_len..][..panel_len],
                        sums: &mut sums[plane * sums_len + slot * depth * size..][..depth * size],
                    });
                }
            }
            if range.end == tiles {
                for slot in 0..slots {
                    let first = (first_panel + slot) * size;
                    let lanes = [first, size.min(channels.len() - first), size];
                    layout.gradient(&sums[slot * depth * size..], sums_len, lanes, dw);
                }
            }
        }
    }
}

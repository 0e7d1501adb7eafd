//! The weight gradient.

use std::ops::Range;

use super::super::matmul::Outer;
use super::images::{self, Planes};
use super::tiles::{TileRange, Tiling};
use super::transform::PLANES;
use super::weights::{TargetPanel, WinogradLayout};
use crate::cpu;
use crate::scratch::{Scratch, scratch};

/// Tiles per group. It bounds the length of a plain sum, so it is part of the bits.
pub(super) const GROUP: usize = 64;
/// Values between the rows of the inputs, which a sum reads one above the other: they should not lie a power of two
/// apart.
const GAP: usize = 16;

/// `dw` of some output channels, the products summed over tiles in order within groups of [`GROUP`], the groups' sums
/// added in order.
pub(super) fn weight_gradient(
    of: &Tiling,
    layout: WinogradLayout,
    channels: Range<usize>,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
) {
    let size = cpu::panel();
    let (depth, tiles) = (of.source_channels, of.tiles());
    let panels = channels.len().div_ceil(size);
    let group = GROUP.min(tiles);
    // With one group only, a panel's sums are done before those of the next begin.
    let slots = if group == tiles { 1 } else { panels };
    let mut work = GradientWork::new(group, depth, panels, slots, size);
    let mut zeros = scratch(depth.max(of.target_channels));
    zeros.fill(0.0);

    for tiles in TileRange::groups(of, group) {
        let input_planes = Planes { row_len: work.row_len, plane_len: work.inputs_len };
        images::input(&tiles, x, &zeros, &mut work.inputs, input_planes);
        let output_planes = Planes { row_len: size, plane_len: work.outputs_len };
        images::output_gradient(&tiles, channels.clone(), dy, &zeros, &mut work.outputs, output_planes);
        for first_panel in (0..panels).step_by(slots) {
            if tiles.is_first() {
                work.sums.fill(0.0);
            }
            work.accumulate(tiles.range.len(), first_panel..first_panel + slots);
            if !tiles.is_last() {
                continue;
            }
            for slot in 0..slots {
                let panel = TargetPanel::new((first_panel + slot) * size, size, channels.len());
                layout.gradient(&work.sums[slot * depth * size..], work.sums_len, panel, dw);
            }
        }
    }
}

/// The planes of one group of tiles, and the sums over all groups of the panel in each slot.
// Scratch memory is dropped in the reverse order of how it was taken, so that the next call gets each piece for the
// same use.
struct GradientWork {
    /// Source channels.
    depth: usize,
    /// Lanes of a panel.
    size: usize,
    /// Transformed dy: each plane `[panels, tiles, size]`, one every `outputs_len` values.
    outputs: Scratch,
    outputs_len: usize,
    /// Transformed x: each plane has a row of `depth` values for each tile, one every `row_len` values.
    inputs: Scratch,
    row_len: usize,
    inputs_len: usize,
    /// Each plane `[slots, depth, size]`, one every `sums_len` values.
    sums: Scratch,
    sums_len: usize,
}

impl GradientWork {
    fn new(group: usize, depth: usize, panels: usize, slots: usize, size: usize) -> GradientWork {
        let row_len = depth + GAP;
        // One row more keeps the planes from lying a power of two apart.
        let sums_len = (slots * depth + 1) * size;
        let inputs_len = group * row_len + GAP;
        let outputs_len = (panels * group + 1) * size;
        let sums = scratch(PLANES * sums_len);
        let inputs = scratch(PLANES * inputs_len);
        let outputs = scratch(PLANES * outputs_len);
        GradientWork { depth, size, outputs, outputs_len, inputs, row_len, inputs_len, sums, sums_len }
    }

    /// Adds the products of the first `tiles` tiles to the sums, those of the first of `panels` in the first slot.
    fn accumulate(&mut self, tiles: usize, panels: Range<usize>) {
        let GradientWork { depth, size, row_len, inputs_len, outputs_len, sums_len, .. } = *self;
        let panel_len = tiles * size;
        for plane in 0..PLANES {
            for (slot, panel) in panels.clone().enumerate() {
                cpu::dispatch(Outer {
                    a: &self.inputs[plane * inputs_len..][..inputs_len],
                    a_row: row_len,
                    b: &self.outputs[plane * outputs_len + panel * panel_len..][..panel_len],
                    sums: &mut self.sums[plane * sums_len + slot * depth * size..][..depth * size],
                });
            }
        }
    }
}

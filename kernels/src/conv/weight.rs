//! The weight gradient.

use super::band::{Position, Source, bands};
use super::depthwise;
use super::geometry::Correlation;
use super::pack::{Layout, Panel, panels};
use super::tile::Accumulate;
use crate::cpu;
use crate::scratch::scratch;

/// Positions per band. It bounds the length of a plain sum, so it is part of the bits.
pub(super) const BAND_POSITIONS: usize = 256;

/// `dw`, summed over positions in order within bands of about [`BAND_POSITIONS`], the bands' sums added in order.
pub(super) fn weight_gradient(of: &Correlation, layout: Layout, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    if of.is_depthwise() {
        return depthwise::weight_gradient(of, x, dy, dw);
    }
    let size = cpu::panel();
    let panels = panels(of, size);
    let panel_len = of.terms() * size;
    let mut sums = scratch(panels.len() * panel_len);
    sums.fill(0.0);
    let mut packed = scratch(0);
    let mut source = Source::new(of, x);
    let runs = source.runs();
    let mut positions = Vec::new();
    for band in &bands(of, BAND_POSITIONS) {
        let source = source.load(band, &mut positions);
        packed.resize(positions.len() * size);
        for (&panel, sums) in panels.iter().zip(sums.chunks_exact_mut(panel_len)) {
            pack_positions(of, panel, size, &positions, dy, &mut packed);
            cpu::dispatch(Accumulate {
                source: &source[panel.group * of.depth()..],
                runs: &runs,
                positions: &positions,
                dy: &packed,
                sums,
            });
        }
    }
    for (&panel, sums) in panels.iter().zip(sums.chunks_exact(panel_len)) {
        layout.unpack(of, panel, size, sums, dw);
    }
}

/// The panel's channels of dy at all positions, side by side.
fn pack_positions(of: &Correlation, panel: Panel, size: usize, positions: &[Position], dy: &[f32], packed: &mut [f32]) {
    let channel = panel.group * (of.target_channels / of.groups) + panel.first;
    for (to, position) in packed.chunks_exact_mut(size).zip(positions) {
        to[..panel.width].copy_from_slice(&dy[position.target + channel..][..panel.width]);
    }
}

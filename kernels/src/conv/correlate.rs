//! The forward pass and the input gradient.

use super::band::{Source, bands};
use super::depthwise;
use super::geometry::Correlation;
use super::pack::{Layout, panels};
use super::tile::Multiply;
use crate::cpu;
use crate::scratch::scratch;

/// Source values per band, to stay in the second-level cache.
pub(super) const BAND_VALUES: usize = 64 * 1024;

/// `target = correlation of source with weight + start`, each sum starting from `start` (one value per channel, or 0)
/// and taking the taps row by row, and for each tap the source channels, in order.
pub(super) fn correlate(
    of: &Correlation,
    layout: Layout,
    source: &[f32],
    weight: &[f32],
    start: Option<&[f32]>,
    target: &mut [f32],
) {
    if of.is_depthwise() {
        return depthwise::correlate(of, source, weight, start, target);
    }
    let size = cpu::panel();
    let panels = panels(of, size);
    let bands = bands(of, (BAND_VALUES / of.source_channels).max(96));
    // With one band only, a panel is used right after it was packed.
    let slots = if bands.len() == 1 { 1 } else { panels.len() };
    let panel_len = of.terms() * size;
    let mut packed = scratch(slots * panel_len);
    let mut source = Source::new(of, source);
    let runs = source.runs();
    let mut positions = Vec::new();
    for (i, band) in bands.iter().enumerate() {
        let source = source.load(band, &mut positions);
        for (j, &panel) in panels.iter().enumerate() {
            let weights = &mut packed[j % slots * panel_len..][..panel_len];
            if i == 0 {
                layout.pack(of, panel, size, weight, weights);
            }
            let channel = panel.group * (of.target_channels / of.groups) + panel.first;
            cpu::dispatch(Multiply {
                source: &source[panel.group * of.depth()..],
                runs: &runs,
                positions: &positions,
                weights,
                start: start.map(|start| &start[channel..][..panel.width]),
                target: &mut target[channel..],
                width: panel.width,
            });
        }
    }
}

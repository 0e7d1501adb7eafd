//! The forward pass and the input gradient.

use super::band::{Input, Source, Span, bands};
use super::geometry::Correlation;
use super::pack::{WeightLayout, panels};
use super::tile::{Multiply, Start};
use crate::cpu;
use crate::scratch::scratch;

/// Source values of a band that is computed panel by panel, to stay in the second-level cache.
pub(super) const BAND_VALUES: usize = 64 * 1024;
/// Values of a band's source and target together, likewise.
const BOTH_VALUES: usize = 48 * 1024;

/// `target = correlation of source with weight + start`, each sum starting from `start` (one value per channel, or 0)
/// and taking the taps row by row, and for each tap the source channels, in order.
pub(super) fn correlate(
    of: &Correlation,
    layout: WeightLayout,
    source: Input<'_>,
    weight: &[f32],
    start: Option<&[f32]>,
    target: &mut [f32],
) {
    let size = cpu::panel();
    let panels = panels(of, size);
    let positions = BOTH_VALUES / (of.source_channels + of.target_channels);
    let bands = bands(of, positions.clamp(96, (BAND_VALUES / of.source_channels).max(96)));
    // With one band only, a panel is used right after it was packed.
    let slots = if bands.len() == 1 { 1 } else { panels.len() };
    let panel_len = of.terms() * size;
    let mut packed = scratch(slots * panel_len);
    let mut source = Source::new(of, source);
    let pieces = pieces(source.spans());
    let mut positions = Vec::new();
    for (i, band) in bands.iter().enumerate() {
        let source = source.load(band, &mut positions);
        let next = bands.get(i + 1).map_or(0..0, |next| of.target_range(next));
        let share = next.len().div_ceil(panels.len() * pieces.len());
        let mut next = next.step_by(share.max(1)).map(|first| first..first + share);
        for (j, &panel) in panels.iter().enumerate() {
            let weights = &mut packed[j % slots * panel_len..][..panel_len];
            if i == 0 {
                layout.pack(of, panel, size, weight, weights);
            }
            let channel = panel.group * (of.target_channels / of.groups) + panel.first;
            let mut from = start.map_or(Start::Zero, |start| Start::Values(&start[channel..][..panel.width]));
            let mut weights = &weights[..];
            for piece in &pieces {
                let (now, rest) = weights.split_at(piece.iter().map(|span| span.len).sum::<usize>() * size);
                weights = rest;
                cpu::dispatch(Multiply {
                    source: &source[panel.group * of.depth()..],
                    spans: piece,
                    positions: &positions,
                    weights: now,
                    start: std::mem::replace(&mut from, Start::Target),
                    target,
                    channel,
                    width: panel.width,
                    next: next.next().unwrap_or(0..0),
                });
            }
        }
    }
}

/// Terms whose weights stay in the first-level cache while the positions of a band pass over them.
const PIECE: usize = 256;

/// The spans in pieces of about as many terms, as few as possible; a single empty one if there are no terms.
fn pieces(spans: Vec<Span>) -> Vec<Vec<Span>> {
    let terms: usize = spans.iter().map(|span| span.len).sum();
    let size = terms.div_ceil(terms.div_ceil(PIECE).max(1)).max(1);
    let (mut pieces, mut room) = (vec![Vec::new()], size);
    for mut span in spans {
        while span.len > 0 {
            if room == 0 {
                pieces.push(Vec::new());
                room = size;
            }
            let len = span.len.min(room);
            pieces.last_mut().expect("there is one").push(Span { offset: span.offset, len });
            room -= len;
            span = Span { offset: span.offset + len, len: span.len - len };
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_all_terms_in_order() {
        let spans = vec![Span { offset: 3, len: 500 }, Span { offset: 900, len: 100 }];
        let span = |offset, len| Span { offset, len };
        assert_eq!(pieces(spans), [vec![span(3, 200)], vec![span(203, 200)], vec![span(403, 100), span(900, 100)]]);
        assert_eq!(pieces(Vec::new()), [vec![]]);
    }
}

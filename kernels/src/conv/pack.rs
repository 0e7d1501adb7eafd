//! Weights as the kernels read them: for each panel of target channels, term by term, the panel's channels side by
//! side. What stands in place of channels beyond the last is of no account: nobody reads what is computed from it.

use super::geometry::Correlation;
use crate::cpu::{self, Kernel, prefetch};
use crate::simd_lanes::{chunk, chunk_mut};

/// Target channels that are computed at once, all of one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panel {
    pub group: usize,
    /// First target channel, counted within the group.
    pub first: usize,
    /// How many of the panel's channels exist.
    pub width: usize,
}

/// The panels of `size` channels of all groups, in the order of their channels.
pub(super) fn panels(of: &Correlation, size: usize) -> Vec<Panel> {
    let channels = of.target_channels / of.groups;
    let firsts = move |group| {
        (0..channels).step_by(size).map(move |first| Panel { group, first, width: size.min(channels - first) })
    };
    (0..of.groups).flat_map(firsts).collect()
}

/// How an OIHW weight lies in memory, seen from a correlation.
#[derive(Clone, Copy, Debug)]
pub(super) struct WeightLayout {
    /// Distance between target channels.
    lane: usize,
    /// Distance between source channels.
    depth: usize,
    /// Distance between groups.
    group: usize,
    /// Whether a target channel's terms lie side by side, taps in the order of the sums.
    in_order: bool,
}

impl WeightLayout {
    /// For the forward pass and the weight gradient: y is the target.
    pub fn forward(shape: &super::ConvShape) -> WeightLayout {
        let (taps, inputs) = (shape.kh * shape.kw, shape.ci / shape.groups);
        WeightLayout {
            lane: inputs * taps,
            depth: taps,
            group: shape.co / shape.groups * inputs * taps,
            in_order: true,
        }
    }

    /// For the input gradient: dx is the target.
    pub fn backward(shape: &super::ConvShape) -> WeightLayout {
        let forward = WeightLayout::forward(shape);
        WeightLayout { lane: forward.depth, depth: forward.lane, in_order: false, ..forward }
    }

    /// Fills one packed panel, `[terms, size]`, from the weight.
    pub fn pack(self, of: &Correlation, panel: Panel, size: usize, weight: &[f32], packed: &mut [f32]) {
        if self.lane == 1 {
            return self.pack_rows(of, panel, size, weight, packed);
        }
        if self.in_order {
            let (depth, first) = (of.depth(), panel.group * self.group + panel.first * self.lane);
            return cpu::dispatch(Pack {
                weight: &weight[first..],
                terms: self.lane,
                depth,
                width: panel.width,
                packed,
            });
        }
        // A few source channels at a time, so that both sides stay in the cache.
        let block = (288 / of.taps().max(1)).max(8);
        let origin = panel.group * self.group + panel.first * self.lane;
        for first in (0..of.depth()).step_by(block) {
            for (tap, index) in of.tap_indices().enumerate() {
                for lane in 0..panel.width {
                    let from = weight[origin + index + first * self.depth + lane * self.lane..].iter();
                    let to = packed[(tap * of.depth() + first) * size + lane..].iter_mut().step_by(size);
                    for (to, from) in to.zip(from.step_by(self.depth)).take(block.min(of.depth() - first)) {
                        *to = *from;
                    }
                }
            }
        }
    }

    /// Where the weight's lanes lie side by side already, whole rows are copied.
    fn pack_rows(self, of: &Correlation, panel: Panel, size: usize, weight: &[f32], packed: &mut [f32]) {
        let mut rows = packed.chunks_exact_mut(size);
        for index in of.tap_indices() {
            let first = panel.group * self.group + panel.first + index;
            for (depth, row) in rows.by_ref().take(of.depth()).enumerate() {
                row[..panel.width].copy_from_slice(&weight[first + depth * self.depth..][..panel.width]);
            }
        }
    }

    /// Writes one packed panel, `[terms, panel size]`, to the weight.
    pub fn unpack(self, of: &Correlation, panel: Panel, packed: &[f32], weight: &mut [f32]) {
        let (depth, first) = (of.depth(), panel.group * self.group + panel.first * self.lane);
        let weight = &mut weight[first..];
        cpu::dispatch(Unpack { packed, terms: self.lane, depth, width: panel.width, weight });
    }
}

/// The row of a panel in which a term stands that is `k`th in the weight: there the taps of one source channel lie side
/// by side, in a panel the source channels of one tap.
#[inline(always)]
fn row(k: usize, taps: usize, depth: usize) -> usize {
    if taps == 1 { k } else { k % taps * depth + k / taps }
}

/// Fills one packed panel from a weight whose terms lie side by side for each of its channels.
struct Pack<'a> {
    /// Begins with the panel's first channel.
    weight: &'a [f32],
    /// Of one channel.
    terms: usize,
    /// Terms of each tap.
    depth: usize,
    /// How many channels of the panel exist.
    width: usize,
    packed: &'a mut [f32],
}

/// Rows and columns that are turned at once.
const BLOCK: usize = 8;
/// So many terms ahead the weight is asked for: the hardware does not follow as many streams as there are channels.
const AHEAD: usize = 64;

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        let Pack { weight, terms, depth, width, .. } = self;
        let packed = self.packed.as_chunks_mut::<PANEL>().0;
        let taps = terms / depth;
        let (lanes, columns) = (width / BLOCK * BLOCK, terms / BLOCK * BLOCK);
        for k in (0..columns).step_by(BLOCK) {
            for lane in (0..lanes).step_by(BLOCK) {
                let mut block = [[0.0; BLOCK]; BLOCK];
                for (i, block) in block.iter_mut().enumerate() {
                    *block = *chunk(weight, (lane + i) * terms + k);
                    prefetch::<1>(weight, (lane + i) * terms + k + AHEAD);
                }
                for (i, block) in turned(&block).iter().enumerate() {
                    *chunk_mut(&mut packed[row(k + i, taps, depth)], lane) = *block;
                }
            }
        }
        for lane in 0..width {
            for k in if lane < lanes { columns } else { 0 }..terms {
                packed[row(k, taps, depth)][lane] = weight[lane * terms + k];
            }
        }
    }
}

/// [`Pack`] the other way round.
struct Unpack<'a> {
    packed: &'a [f32],
    terms: usize,
    depth: usize,
    width: usize,
    weight: &'a mut [f32],
}

impl Kernel for Unpack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        let Unpack { terms, depth, width, weight, .. } = self;
        let packed = self.packed.as_chunks::<PANEL>().0;
        let taps = terms / depth;
        let (lanes, columns) = (width / BLOCK * BLOCK, terms / BLOCK * BLOCK);
        for k in (0..columns).step_by(BLOCK) {
            for lane in (0..lanes).step_by(BLOCK) {
                let mut block = [[0.0; BLOCK]; BLOCK];
                for (i, block) in block.iter_mut().enumerate() {
                    *block = *chunk(&packed[row(k + i, taps, depth)], lane);
                }
                for (i, block) in turned(&block).iter().enumerate() {
                    *chunk_mut(weight, (lane + i) * terms + k) = *block;
                    prefetch::<1>(weight, (lane + i) * terms + k + AHEAD);
                }
            }
        }
        for lane in 0..width {
            for k in if lane < lanes { columns } else { 0 }..terms {
                weight[lane * terms + k] = packed[row(k, taps, depth)][lane];
            }
        }
    }
}

#[inline(always)]
fn turned(block: &[[f32; BLOCK]; BLOCK]) -> [[f32; BLOCK]; BLOCK] {
    let mut turned = [[0.0; BLOCK]; BLOCK];
    for i in 0..BLOCK {
        for j in 0..BLOCK {
            turned[j][i] = block[i][j];
        }
    }
    turned
}
